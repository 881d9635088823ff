//! What a sidecar has besides its windows: triggers and incidents, limits on itself, metrics and a
//! log, as the options and the configuration file say it.
//!
//! Not here: windows and the spool (`cli::sidecar`).

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use super::{
    advice,
    args::{SidecarArgs, parse_cpu, parse_duration, parse_size, parse_time},
    snapshot,
};
use crate::{
    capture::{Request, Stop},
    serve::{self, Access, Address, Door, Status},
    sidecar::{
        Options,
        care::{Care, health},
        config::Config,
        hook::Hook,
        incident::Store,
        limits::Limits,
        log::{Log, LogForm},
        metrics::{self, Metrics},
        recorder::RATE_HZ,
        triggers::Trigger,
        watcher::{self, Part, Requests, Watcher},
    },
};

/// Defaults of options.
const RING: Duration = Duration::from_secs(300);
const COOLDOWN: Duration = Duration::from_secs(600);
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the processes of an incident are sampled.
const SNAPSHOT: Duration = Duration::from_secs(5);
/// Incidents may take this part of the spool's size, and this if the spool has no limit.
const INCIDENT_PART: u64 = 4;
const INCIDENT_BYTES: u64 = 1 << 30;
/// The ring may take this part of the memory limit.
const RING_PART: u64 = 4;
/// How long a check of a running sidecar may take.
const CHECK_WITHIN: Duration = Duration::from_secs(3);

/// The keys of the configuration file.
pub const KEYS: &[&str] =
    &["on", "ring", "cooldown", "max-cpu", "max-memory", "hook", "hook-timeout", "incident-size"];

/// What the options and the configuration file say.
pub struct CareOptions {
    triggers: Vec<Trigger>,
    ring: Duration,
    cooldown: Duration,
    hook: Option<Hook>,
    limits: Limits,
    incident_bytes: u64,
}

impl CareOptions {
    /// Combines the options and the file; an option has precedence. Errors: a value is wrong.
    pub fn combine(arguments: &SidecarArgs, file: &Config, spool_bytes: u64) -> Result<CareOptions> {
        let triggers = match &arguments.triggers[..] {
            [] => file.all("on", str::parse)?,
            triggers => triggers.to_vec(),
        };
        let default_ring = if triggers.is_empty() { Duration::ZERO } else { RING };
        let command = file.one("hook", parse_command)?;
        let timeout = file.one("hook-timeout", parse_duration)?.unwrap_or(HOOK_TIMEOUT);
        let default_incident_bytes = match spool_bytes {
            0 => INCIDENT_BYTES,
            bytes => bytes / INCIDENT_PART,
        };
        let unlimited = |cores: f64| if cores == 0.0 { f64::INFINITY } else { cores };
        let defaults = Limits::default();
        let memory_bytes = arguments.max_memory.or(file.one("max-memory", parse_size)?);
        Ok(CareOptions {
            triggers,
            ring: arguments.ring.or(file.one("ring", parse_time)?).unwrap_or(default_ring),
            cooldown: arguments.cooldown.or(file.one("cooldown", parse_duration)?).unwrap_or(COOLDOWN),
            hook: command.map(|command| Hook { command, timeout }),
            limits: Limits {
                cpu_share: arguments
                    .max_cpu
                    .or(file.one("max-cpu", parse_cpu)?)
                    .map_or(defaults.cpu_share, unlimited),
                memory_bytes: match memory_bytes.unwrap_or(defaults.memory_bytes) {
                    0 => u64::MAX,
                    bytes => bytes,
                },
            },
            incident_bytes: file.one("incident-size", parse_size)?.unwrap_or(default_incident_bytes),
        })
    }

    /// The most memory of rprof in bytes; 0: no limit.
    pub fn max_memory_bytes(&self) -> u64 {
        if self.limits.memory_bytes == u64::MAX { 0 } else { self.limits.memory_bytes }
    }
}

/// Parses a list of words in JSON: `["/usr/local/bin/upload", "--now"]`.
fn parse_command(text: &str) -> Result<Vec<String>, String> {
    let words: Vec<String> = serde_json::from_str(text).map_err(|_| WRONG_COMMAND.to_owned())?;
    match words.first() {
        Some(program) if Path::new(program).is_absolute() => Ok(words),
        _ => Err(WRONG_COMMAND.to_owned()),
    }
}

const WRONG_COMMAND: &str = "must be a list of words in JSON, the first of which is an absolute path: \
                             [\"/usr/local/bin/upload\", \"--now\"]; it is run without a shell";

/// What runs beside the main loop.
pub struct Running {
    /// The companion of the main loop.
    pub care: Care,
    server: Option<JoinHandle<()>>,
}

impl Running {
    /// Waits until the server has ended, which `stop` causes.
    pub fn end(self) {
        drop(self.care);
        if let Some(server) = self.server {
            let _ = server.join();
        }
    }
}

/// Starts the watcher, the log and the server.
pub fn start(arguments: &SidecarArgs, care: CareOptions, options: &Options, stop: &Stop) -> Result<Running> {
    let metrics = Arc::<Metrics>::default();
    let form = arguments.log.map(LogForm::from);
    let log = Arc::new(match form {
        Some(form) => Log::new(form, super::say),
        None => Log::new(LogForm::Text, |_| {}),
    });
    let requests = Requests::default();
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&requests.signal))?;
    let store = Store::new(&options.spool, care.incident_bytes);
    let ring_bytes = usize::try_from(care.limits.memory_bytes.min(1 << 30) / RING_PART).unwrap_or(0);
    let watcher_options = watcher::Options {
        triggers: care.triggers,
        ring: care.ring,
        ring_bytes,
        cooldown: care.cooldown,
        store,
        hook: care.hook,
        request: options.request.clone(),
    };
    let writer = incident_writer(&options.request, stop);
    let watcher =
        Watcher::start(watcher_options, requests.clone(), writer, Arc::clone(&metrics), Arc::clone(&log))?;
    let server = serve(arguments, options.every, &metrics, requests, stop)?;
    Ok(Running { care: Care::new(care.limits, Some(watcher), metrics, log), server })
}

/// Writes incidents as `rprof snapshot` does; one that is being collected ends soon after `stop`.
fn incident_writer(request: &Request, stop: &Stop) -> Box<watcher::Writer> {
    let request = Request { duration: Some(SNAPSHOT), frequency_hz: 99, ..request.clone() };
    let stop = stop.clone();
    Box::new(move |path: &Path, pids: &[u32], parts: Vec<Part>| {
        // A capture that ends early sets its own flag, which must not end the sidecar.
        let (own, is_done) = (Stop::default(), Arc::new(AtomicBool::new(false)));
        let relay = (stop.clone(), own.clone(), Arc::clone(&is_done));
        thread::spawn(move || {
            let (stop, own, is_done) = relay;
            while !is_done.load(Ordering::Relaxed) {
                if stop.is_set() {
                    return own.set();
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        let request = Request { stop: own, ..request.clone() };
        let written = snapshot::write_incident(path, pids, request, parts);
        is_done.store(true, Ordering::Relaxed);
        written.map_err(|error| advice::explain(&error))
    })
}

/// Serves `--listen` on a thread of its own. Errors: the address cannot be used.
fn serve(
    arguments: &SidecarArgs,
    every: Duration,
    metrics: &Arc<Metrics>,
    requests: Requests,
    stop: &Stop,
) -> Result<Option<JoinHandle<()>>> {
    let Some(address) = arguments.listen.clone() else { return Ok(None) };
    let token = arguments.token_file.as_deref().map(Access::read_token).transpose()?;
    let door = Door::new(address, Access { token, ..Access::default() });
    let (for_text, for_health) = (Arc::clone(metrics), Arc::clone(metrics));
    let status = Status {
        metrics: Box::new(move || (metrics::CONTENT_TYPE, for_text.text())),
        health: Box::new(move || health(&for_health, every)),
        trigger: Box::new(move |pid| match requests.request(pid) {
            true => Ok(()),
            false => Err("too many incidents wait to be written: retry later".to_owned()),
        }),
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    let (stop, is_quiet) = (stop.clone(), arguments.quiet);
    let server = thread::Builder::new().name("rprof-http".into()).spawn(move || {
        let started = sender.clone();
        let result = serve::status(status, door, &stop, |address| {
            if !is_quiet {
                super::say(&listening(address));
            }
            let _ = started.send(Ok(()));
        });
        let _ = sender.send(result);
    })?;
    // The first message says whether it listens.
    receiver.recv().map_err(|_| anyhow!("the server has ended"))??;
    Ok(Some(server))
}

fn listening(address: &Address) -> String {
    match address {
        Address::Tcp(address) => format!("metrics on http://{address}/metrics"),
        Address::Unix(path) => format!("metrics on unix:{} (/metrics)", path.display()),
    }
}

/// Checks the health of a running sidecar.
///
/// # Errors
/// It does not respond, or something does not work.
pub fn check(address: &Address) -> Result<()> {
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut response = Vec::new();
    let context = || format!("the sidecar on {address} does not respond");
    match address {
        Address::Tcp(to) => {
            let mut stream = TcpStream::connect_timeout(to, CHECK_WITHIN).with_context(context)?;
            stream.set_read_timeout(Some(CHECK_WITHIN))?;
            stream.write_all(request.as_bytes()).with_context(context)?;
            stream.take(64 << 10).read_to_end(&mut response).with_context(context)?;
        }
        Address::Unix(path) => {
            let mut stream = std::os::unix::net::UnixStream::connect(path).with_context(context)?;
            stream.set_read_timeout(Some(CHECK_WITHIN))?;
            stream.write_all(request.as_bytes()).with_context(context)?;
            stream.take(64 << 10).read_to_end(&mut response).with_context(context)?;
        }
    }
    let text = String::from_utf8_lossy(&response);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    // With a token, that it refuses the request shows that it works.
    match head.split(' ').nth(1) {
        Some("200" | "401") => Ok(()),
        _ => bail!("the sidecar on {address} does not work: {}", body.trim()),
    }
}

/// The rate of continuous sampling before incidents, for the first line.
pub fn about(care: &CareOptions) -> String {
    match care.triggers.len() {
        0 => String::new(),
        _ if care.ring.is_zero() => String::from("; incidents have nothing of the time before (--ring)"),
        count => format!(
            "; {} ({RATE_HZ} Hz of the last {} are kept)",
            crate::text::counted(count, "trigger"),
            humantime::format_duration(care.ring)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_a_list_of_words_with_an_absolute_program() {
        assert_eq!(parse_command(r#"["/bin/cp", "a b"]"#), Ok(vec!["/bin/cp".into(), "a b".into()]));
        for bad in ["/bin/cp a", "[]", "[\"cp\"]", "[1]", "{}", ""] {
            assert_eq!(parse_command(bad), Err(WRONG_COMMAND.to_owned()), "{bad}");
        }
    }
}

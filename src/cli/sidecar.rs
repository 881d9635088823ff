//! `rprof sidecar`: profiles are taken all the time and kept on disk.
//!
//! The options and the configuration file have the same keys; this module combines them. What runs
//! is `crate::sidecar`.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context, Result};
use regex::Regex;

use super::{
    args::{SidecarArgs, is_sidecar_kind, parse_duration, parse_frequency, parse_share, parse_size},
    sampling,
    sidecar_care::{self, CareOptions},
    signals,
};
use crate::{
    capture::{
        FrameChoice, LabelKeys, Request,
        kinds::{self, Kind, KindRow},
    },
    process::{Identity, identify},
    sidecar::{
        Companion, Event, Options,
        config::{self, Config},
        labels::Given,
        rounds,
        select::Rules,
    },
    spool::Limits,
    text::counted_as,
};

/// Defaults of options.
const EVERY: Duration = Duration::from_secs(60);
const FREQUENCY_HZ: u32 = 19;
const SPOOL_BYTES: u64 = 1 << 30;
const SPOOL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
const LABEL_VALUES: usize = 100;

/// The keys of the configuration file.
const KEYS: &[&str] = &[
    "name",
    "container",
    "cgroup",
    "unit",
    "any-user",
    "exclude-name",
    "exclude-cgroup",
    "exclude-namespace",
    "opt-in",
    "share",
    "service",
    "every",
    "for",
    "kinds",
    "frequency",
    "per-process",
    "label-values",
    "spool-size",
    "spool-age",
];

/// Runs the verb until a signal ends it.
pub fn run(arguments: SidecarArgs) -> Result<()> {
    if let Some(address) = &arguments.check {
        return sidecar_care::check(address);
    }
    sampling::check_debug_options(&arguments.debug)?;
    let reload = Arc::new(AtomicBool::new(false));
    let stop = signals::stop_or_reload_on_signals(&reload)?;
    for pid in &arguments.processes.pid {
        // A process that does not exist now is a mistake; later it may end.
        identify(*pid)?;
    }
    let (options, care) = options(&arguments)?;
    // With a log, that has the events.
    let mut printer = Printer { is_quiet: arguments.quiet, is_silent: arguments.log.is_some() };
    if !arguments.quiet && arguments.log.is_none() {
        super::say(&format!("{}{}", start_line(&options), sidecar_care::about(&care)));
    }
    let mut running = sidecar_care::start(&arguments, care, &options, &stop)?;
    let mut read_again = || match self::options(&arguments) {
        Ok((options, _)) => Ok(options),
        Err(error) => Err(format!("{error:#}")),
    };
    let companions: &mut [&mut dyn Companion] = &mut [&mut printer, &mut running.care];
    let result = rounds::run(options, companions, (&reload, &mut read_again), &stop);
    stop.set();
    running.end();
    Ok(result?)
}

fn start_line(options: &Options) -> String {
    let kinds = kinds::list(&options.kinds);
    let window = match options.window < options.every {
        true => format!("{} every {}", time(options.window), time(options.every)),
        false => format!("windows of {}", time(options.every)),
    };
    format!(
        "profiling {kinds} into {}: {window}, {} Hz   (Ctrl-C ends)",
        options.spool.display(),
        options.request.frequency_hz
    )
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// What the options and the configuration file say. Errors: a value is wrong.
fn options(arguments: &SidecarArgs) -> Result<(Options, CareOptions)> {
    let keys: Vec<&str> = KEYS.iter().chain(sidecar_care::KEYS).copied().collect();
    let file = match &arguments.config {
        Some(path) => {
            Config(config::read(path, &keys).with_context(|| format!("--config {}", path.display()))?)
        }
        None => Config(Vec::new()),
    };
    let with_file = || arguments.config.as_deref().map(Path::display).map(|path| format!("--config {path}"));
    combine(arguments, &file).with_context(|| with_file().unwrap_or_default())
}

fn combine(arguments: &SidecarArgs, file: &Config) -> Result<(Options, CareOptions)> {
    let every = arguments.every.or(file.one("every", parse_duration)?).unwrap_or(EVERY);
    let window = arguments.window.or(file.one("for", parse_duration)?).unwrap_or(every);
    let kinds = match &arguments.kinds[..] {
        [] => file.one("kinds", parse_kinds)?.unwrap_or_else(|| vec![kinds::DEFAULT]),
        kinds => kinds.to_vec(),
    };
    let frequency = arguments.frequency.or(file.one("frequency", parse_frequency)?);
    let limits = Limits {
        bytes: arguments.spool_size.or(file.one("spool-size", parse_size)?).unwrap_or(SPOOL_BYTES),
        age: arguments.spool_age.or(file.one("spool-age", parse_duration)?).unwrap_or(SPOOL_AGE),
    };
    let care = CareOptions::combine(arguments, file, limits.bytes)?;
    let options = Options {
        rules: rules(arguments, file)?,
        every,
        window,
        kinds,
        request: Request {
            frequency_hz: frequency.unwrap_or(FREQUENCY_HZ),
            sampler: sampling::sampler_choice(arguments.sampler),
            kernel: !arguments.no_kernel,
            frames: FrameChoice::from(arguments.frames),
            labels: LabelKeys { pid: true, tid: false, process: true },
            symbolize: sampling::symbolize_options(&arguments.debug),
            max_memory_bytes: care.max_memory_bytes(),
            ..Request::default()
        },
        spool: arguments.spool.clone().unwrap_or_default(),
        limits,
        per_process: arguments.per_process || file.is_on("per-process")?,
        label_values: arguments
            .label_values
            .or(file.one("label-values", str::parse)?)
            .unwrap_or(LABEL_VALUES),
    };
    Ok((options, care))
}

fn rules(arguments: &SidecarArgs, file: &Config) -> Result<Rules> {
    let selectors = &arguments.processes;
    let mut filter = selectors.filter();
    if filter.is_empty() && selectors.pid.is_empty() {
        filter.name = file.one("name", Regex::new)?;
        filter.container = file.one("container", text)?;
        filter.cgroup = file.one("cgroup", text)?.map(PathBuf::from);
        filter.unit = file.one("unit", text)?;
    }
    let mut exclude_names = file.all("exclude-name", Regex::new)?;
    exclude_names.extend(arguments.exclude_name.iter().cloned());
    let mut exclude_cgroups: Vec<PathBuf> =
        file.all("exclude-cgroup", text)?.into_iter().map(PathBuf::from).collect();
    exclude_cgroups.extend(arguments.exclude_cgroup.iter().cloned());
    let mut exclude_namespaces = file.all("exclude-namespace", text)?;
    exclude_namespaces.extend(arguments.exclude_namespace.iter().cloned());
    Ok(Rules {
        filter,
        pids: selectors.pid.clone(),
        children: selectors.children,
        any_user: arguments.any_user || file.is_on("any-user")?,
        exclude_names,
        exclude_cgroups,
        exclude_namespaces,
        only_opted_in: arguments.opt_in || file.is_on("opt-in")?,
        share: arguments.share.or(file.one("share", parse_share)?).unwrap_or_default(),
        given: Given {
            service: arguments.service.clone().or(file.one("service", text)?),
            host: arguments.host.clone().unwrap_or_else(host_name),
        },
    })
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn text(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("must not be empty".to_owned()) } else { Ok(value.to_owned()) }
}

fn parse_kinds(text: &str) -> Result<Vec<Kind>, String> {
    let kind = |name: &str| {
        let known = KindRow::named(name.trim()).filter(|kind| is_sidecar_kind(kind));
        known.ok_or_else(|| format!("there is no kind `{}`", name.trim()))
    };
    text.split(',').map(kind).collect()
}

/// Prints what happens.
struct Printer {
    is_quiet: bool,
    /// Nothing at all is printed.
    is_silent: bool,
}

impl Printer {
    fn note(&self, text: &str) {
        if !self.is_quiet {
            super::say(text);
        }
    }
}

impl Companion for Printer {
    fn event(&mut self, event: &Event<'_>) {
        if self.is_silent {
            return;
        }
        match event {
            Event::Opened(recovery) => {
                for (path, why) in &recovery.torn {
                    super::say(&format!("damaged file set aside: {}: {why}", path.display()));
                }
                if recovery.damaged_lines > 0 || recovery.missing > 0 {
                    super::say(&format!(
                        "the index of the spool was built again: {} of it damaged, {} missing",
                        counted_as(recovery.damaged_lines, "line", "lines"),
                        counted_as(recovery.missing, "file", "files")
                    ));
                }
            }
            Event::Watching(process) => {
                let service = process.labels.service();
                self.note(&format!("watching {} as service {service}", who(&process.identity)));
            }
            Event::Gone(process) => self.note(&format!("not watching {} any more", who(&process.identity))),
            Event::Refused { process, error } => {
                super::say(&format!("cannot profile {}: {error}", who(&process.identity)));
            }
            Event::KindRefused { kind, error } => super::say(&format!("no {} profile: {error}", kind.name)),
            Event::Saved { path, samples: (samples, lost), .. } => {
                let lost = if *lost > 0 { format!(", {lost} lost") } else { String::new() };
                self.note(&format!("wrote {} ({samples} samples{lost})", path.display()));
            }
            Event::NotSaved(error) => super::say(&format!("a profile is lost: {error}")),
            Event::Removed(count) => {
                self.note(&format!(
                    "removed {} from the spool",
                    counted_as(*count, "old profile", "old profiles")
                ));
            }
            Event::Reloaded => self.note("the configuration was read again"),
            Event::ReloadFailed(why) => {
                super::say(&format!("the old configuration stays: {why}"));
            }
            Event::WindowEnded { .. } | Event::Applied(_) => {}
        }
    }
}

fn who(identity: &Identity) -> String {
    format!("{} {}", identity.pid, identity.display_name())
}

//! Watches for incidents and writes them: reads the processes, evaluates the triggers, keeps the
//! ring of what came before, and passes each incident to the writer and then to the hook.
//!
//! Two threads: one reads and evaluates; the other writes, which takes seconds. Not here: which
//! processes are watched (`rounds`), the profiles of an incident (the command line).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;

use super::{
    hook::Hook,
    incident::{BEFORE, Incident, Store},
    log::Log,
    metrics::Metrics,
    recorder::{RATE_HZ, Recorder},
    triggers::{Engine, Firing, ProcessKey, Reader, Target, Trigger},
};
use crate::{capture::Request, process::identity::monotonic_ns};

/// How many incidents may wait to be written.
const MAX_WAITING: usize = 4;
/// The most processes in one incident that was requested for all.
const MAX_PROCESSES: usize = 16;
/// How long the end of the ring may take at an incident.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
/// How often requests are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many processes' last incidents are remembered.
const MAX_REMEMBERED: usize = 1000;

/// A file in the archive of an incident.
pub type Part = (String, Vec<u8>);

/// Writes an incident to a path: a snapshot of the processes with these PIDs, which may be none,
/// and these parts. The error is a text for the log.
pub type Writer = dyn Fn(&Path, &[u32], Vec<Part>) -> Result<(), String> + Send + Sync;

/// When incidents are written, and what they contain.
pub struct Options {
    /// The triggers.
    pub triggers: Vec<Trigger>,
    /// How much of what came before an incident has; zero: nothing is sampled before.
    pub ring: Duration,
    /// The memory for that, in bytes.
    pub ring_bytes: usize,
    /// How long the same trigger does not fire again for the same service.
    pub cooldown: Duration,
    /// Where incidents are written.
    pub store: Store,
    /// What is run after each incident.
    pub hook: Option<Hook>,
    /// How the ring is sampled; processes, kinds, rate and labels are set here.
    pub request: Request,
}

/// Requests for incidents from outside: a signal, or an HTTP request.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// Set by a signal handler.
    pub signal: Arc<AtomicBool>,
    /// PIDs that HTTP requests name; 0: all watched processes.
    http: Arc<Mutex<Vec<u32>>>,
}

impl Requests {
    /// Requests an incident of a process, or of all watched ones. Returns false if there are too
    /// many requests.
    pub fn request(&self, pid: Option<u32>) -> bool {
        let mut waiting = lock(&self.http);
        let has_room = waiting.len() < MAX_WAITING;
        if has_room {
            waiting.push(pid.unwrap_or(0));
        }
        has_room
    }
}

/// The running watcher. Dropping it ends it; an incident that is being written is completed.
pub struct Watcher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    targets: Mutex<Vec<Target>>,
    recorder: Option<Recorder>,
    requests: Requests,
    store: Store,
    hook: Option<Hook>,
    stop: AtomicBool,
    metrics: Arc<Metrics>,
    log: Arc<Log>,
    /// The last incident of each process.
    last: Mutex<HashMap<ProcessKey, String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    /// Starts to watch. `write` writes incidents. Errors: a thread cannot be started.
    pub fn start(
        options: Options,
        requests: Requests,
        write: Box<Writer>,
        metrics: Arc<Metrics>,
        log: Arc<Log>,
    ) -> std::io::Result<Watcher> {
        let recorder = match options.ring.is_zero() {
            true => None,
            false => Some(Recorder::start(
                options.request,
                options.ring,
                options.ring_bytes,
                Arc::clone(&metrics),
                Arc::clone(&log),
            )?),
        };
        let shared = Arc::new(Shared {
            targets: Mutex::default(),
            recorder,
            requests,
            store: options.store,
            hook: options.hook,
            stop: AtomicBool::new(false),
            metrics,
            log,
            last: Mutex::default(),
        });
        let (sender, receiver) = sync_channel(MAX_WAITING);
        let (reads, writes) = (Arc::clone(&shared), Arc::clone(&shared));
        let reader = Reader::new(&options.triggers);
        let engine = Engine::new(options.triggers, options.cooldown);
        let threads = vec![
            thread::Builder::new()
                .name("rprof-triggers".into())
                .spawn(move || watch(&reads, reader, engine, &sender))?,
            thread::Builder::new()
                .name("rprof-incident".into())
                .spawn(move || write_all(&writes, &receiver, &*write))?,
        ];
        Ok(Watcher { shared, threads })
    }

    /// Sets the processes to watch.
    pub fn set_targets(&self, targets: Vec<Target>) {
        if let Some(recorder) = &self.shared.recorder {
            recorder.set_processes(targets.iter().map(|target| target.process));
        }
        *lock(&self.shared.targets) = targets;
    }

    /// Sets the rate and the depth of continuous sampling; rate 0 pauses it.
    pub fn set_effort(&self, rate_hz: u32, stack_bytes: u32) {
        if let Some(recorder) = &self.shared.recorder {
            recorder.set_effort(rate_hz, stack_bytes);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Reads and evaluates until the watcher is dropped.
fn watch(shared: &Shared, mut reader: Reader, mut engine: Engine, sender: &SyncSender<Incident>) {
    let mut read_at = Instant::now();
    // Processes that ended are no longer read, also while the list still has them.
    let mut ended: Vec<ProcessKey> = Vec::new();
    while !shared.stop.load(Ordering::SeqCst) {
        requested(shared, sender);
        if Instant::now() >= read_at && !engine.triggers().is_empty() {
            let mut targets = lock(&shared.targets).clone();
            ended.retain(|key| targets.iter().any(|target| target.process == *key));
            targets.retain(|target| !ended.contains(&target.process));
            let readings = reader.read(&mut targets);
            ended.extend(readings.iter().filter(|one| one.usage.is_none()).map(|one| one.process));
            let evaluation = engine.evaluate(monotonic_ns(), &readings);
            shared.metrics.triggers_suppressed.add(evaluation.suppressed);
            for firing in evaluation.firings {
                fired(shared, firing, sender);
            }
            read_at = Instant::now() + reader.interval();
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn fired(shared: &Shared, firing: Firing, sender: &SyncSender<Incident>) {
    shared.metrics.triggers_fired.add(1);
    shared.log.warn(
        "trigger_fired",
        &[
            ("trigger", json!(firing.trigger)),
            ("service", json!(firing.service)),
            ("pid", json!(firing.process.pid)),
            ("value", json!(firing.value)),
        ],
    );
    let incident = Incident {
        trigger: firing.trigger,
        value: firing.value,
        service: firing.service,
        processes: vec![firing.process],
        more: 0,
        has_ended: firing.has_ended,
        at: SystemTime::now(),
        previous: None,
    };
    submit(shared, incident, sender);
}

/// Incidents that a signal or an HTTP request asks for.
fn requested(shared: &Shared, sender: &SyncSender<Incident>) {
    let signal = shared.requests.signal.swap(false, Ordering::SeqCst).then_some((0, "SIGUSR1"));
    let http: Vec<u32> = std::mem::take(&mut *lock(&shared.requests.http));
    for (pid, trigger) in signal.into_iter().chain(http.into_iter().map(|pid| (pid, "http"))) {
        let mut targets = lock(&shared.targets).clone();
        targets.retain(|target| pid == 0 || target.process.pid == pid);
        shared.metrics.triggers_fired.add(1);
        if targets.is_empty() {
            shared.log.warn("trigger_without_process", &[("trigger", json!(trigger)), ("pid", json!(pid))]);
            continue;
        }
        let more = targets.len().saturating_sub(MAX_PROCESSES);
        targets.truncate(MAX_PROCESSES);
        let incident = Incident {
            trigger: trigger.to_owned(),
            value: String::new(),
            service: targets[0].service.clone(),
            processes: targets.iter().map(|target| target.process).collect(),
            more,
            has_ended: false,
            at: SystemTime::now(),
            previous: None,
        };
        shared.log.info("trigger_fired", &[("trigger", json!(trigger)), ("processes", json!(targets.len()))]);
        submit(shared, incident, sender);
    }
}

fn submit(shared: &Shared, incident: Incident, sender: &SyncSender<Incident>) {
    if let Err(error) = sender.try_send(incident) {
        let why = "too many incidents wait to be written";
        shared.metrics.incident_errors.add(1);
        shared.log.warn("incident_dropped", &[("why", json!(why)), ("error", json!(error.to_string()))]);
    }
}

/// Writes incidents until all senders are gone.
fn write_all(shared: &Shared, receiver: &Receiver<Incident>, write: &Writer) {
    for mut incident in receiver {
        incident.previous = lock(&shared.last).get(&incident.processes[0]).cloned();
        let began = Instant::now();
        match write_one(shared, &incident, write) {
            Ok(path) => {
                shared.metrics.incidents_written.add(1);
                let fields = [
                    ("path", json!(path.display().to_string())),
                    ("trigger", json!(incident.trigger)),
                    ("seconds", json!(began.elapsed().as_secs_f64())),
                ];
                shared.log.info("incident_written", &fields);
                run_hook(shared, &incident, &path);
            }
            Err(why) => {
                shared.metrics.incident_errors.add(1);
                let fields = [("trigger", json!(incident.trigger)), ("why", json!(why))];
                shared.log.event(super::log::Level::Error, "incident_failed", &fields);
            }
        }
    }
}

fn write_one(shared: &Shared, incident: &Incident, write: &Writer) -> Result<PathBuf, String> {
    let pids: Vec<u32> = incident.processes.iter().map(|process| process.pid).collect();
    let before = shared.recorder.as_ref().map(|recorder| {
        recorder.flush(FLUSH_WITHIN);
        recorder.before(&pids)
    });
    let about = incident.to_json(before.as_ref(), RATE_HZ);
    let about = serde_json::to_vec_pretty(&about).map_err(|error| error.to_string())?;
    let mut parts = vec![("incident.json".to_owned(), about)];
    parts.extend(before.and_then(|before| before.merged).map(|bytes| (BEFORE.to_owned(), bytes)));
    shared.store.create().map_err(|error| format!("cannot create the directory of incidents: {error}"))?;
    let path = shared.store.path_of(incident);
    let running = if incident.has_ended { &[] } else { &pids[..] };
    write(&path, running, parts)?;
    shared.store.retain();
    remember(shared, incident, &path);
    Ok(path)
}

fn remember(shared: &Shared, incident: &Incident, path: &Path) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let targets = lock(&shared.targets).clone();
    let mut last = lock(&shared.last);
    if last.len() > MAX_REMEMBERED {
        last.retain(|key, _| targets.iter().any(|target| target.process == *key));
    }
    incident.processes.iter().for_each(|process| drop(last.insert(*process, name.clone())));
}

fn run_hook(shared: &Shared, incident: &Incident, path: &Path) {
    let Some(hook) = &shared.hook else { return };
    let pid = incident.processes.first().map_or(0, |process| process.pid);
    let variables = [
        ("RPROF_TRIGGER", incident.trigger.clone()),
        ("RPROF_SERVICE", incident.service.clone()),
        ("RPROF_PID", pid.to_string()),
    ];
    match hook.run(path, &variables) {
        Ok(()) => shared.log.info("hook_ended", &[]),
        Err(error) => {
            shared.metrics.hook_errors.add(1);
            shared.log.warn("hook_failed", &[("why", json!(error.to_string()))]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{process::identify, sidecar::log::LogForm};

    type Written = Arc<Mutex<Vec<(PathBuf, Vec<u32>, Vec<Part>)>>>;

    /// A watcher without a ring, whose incidents are kept in memory.
    fn watcher(triggers: &[&str], requests: &Requests, spool: &Path) -> (Watcher, Written, Arc<Metrics>) {
        let written = Written::default();
        let sink = Arc::clone(&written);
        let metrics = Arc::<Metrics>::default();
        let options = Options {
            triggers: triggers.iter().map(|text| text.parse().expect("a trigger")).collect(),
            ring: Duration::ZERO,
            ring_bytes: 0,
            cooldown: Duration::from_secs(600),
            store: Store::new(spool, 0),
            hook: Some(Hook { command: vec!["touch".into()], timeout: Duration::from_secs(10) }),
            request: Request::default(),
        };
        let write = move |path: &Path, pids: &[u32], parts: Vec<Part>| {
            lock(&sink).push((path.with_extension("hooked"), pids.to_vec(), parts));
            Ok(())
        };
        let log = Arc::new(Log::new(LogForm::Text, |_| {}));
        let watcher = Watcher::start(options, requests.clone(), Box::new(write), Arc::clone(&metrics), log);
        (watcher.expect("started"), written, metrics)
    }

    fn wait_for(count: usize, written: &Written) {
        let until = Instant::now() + Duration::from_secs(20);
        while lock(written).len() < count && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(lock(written).len(), count);
    }

    #[test]
    fn an_exit_writes_one_incident_and_runs_the_hook() {
        let spool = tempfile::tempdir().expect("a folder");
        let (watcher, written, metrics) = watcher(&["exit"], &Requests::default(), spool.path());
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let start_ticks = identify(child.id()).expect("it runs").start_ticks;
        let process = ProcessKey { pid: child.id(), start_ticks };
        watcher.set_targets(vec![Target { process, service: "app".into() }]);
        thread::sleep(Duration::from_millis(700));
        child.kill().and_then(|()| child.wait()).expect("killed");
        wait_for(1, &written);
        // The list still has the process: it does not end again.
        thread::sleep(Duration::from_millis(1200));
        drop(watcher);
        let written = lock(&written);
        let (_, pids, parts) = &written[0];
        assert!(pids.is_empty(), "nothing can be read of a process that has ended");
        let about: serde_json::Value = serde_json::from_slice(&parts[0].1).expect("JSON");
        assert_eq!((&about["trigger"], &about["has_ended"]), (&json!("exit"), &json!(true)));
        assert_eq!((metrics.incidents_written.get(), metrics.triggers_suppressed.get()), (1, 0));
        let names: Vec<_> =
            std::fs::read_dir(spool.path().join("incidents")).expect("listed").flatten().collect();
        assert!(names.len() == 1 && metrics.hook_errors.get() == 0, "the hook has got the path: {names:?}");
    }

    #[test]
    fn requests_write_incidents_of_all_or_of_one_process() {
        let spool = tempfile::tempdir().expect("a folder");
        let requests = Requests::default();
        let (watcher, written, metrics) = watcher(&[], &requests, spool.path());
        let target = |pid| Target { process: ProcessKey { pid, start_ticks: 1 }, service: "app".into() };
        watcher.set_targets((1..=20).map(target).collect());
        requests.signal.store(true, Ordering::SeqCst);
        wait_for(1, &written);
        assert!(requests.request(Some(7)));
        wait_for(2, &written);
        assert!(requests.request(Some(99)), "a process that is not watched is reported in the log");
        drop(watcher);
        let written = lock(&written);
        assert_eq!((written[0].1.len(), &written[1].1[..]), (MAX_PROCESSES, &[7][..]));
        assert!(metrics.triggers_fired.get() >= 2);
    }
}

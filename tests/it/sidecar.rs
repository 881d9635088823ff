//! `rprof sidecar`: windows of processes that come and go, in a spool; excluded processes are not
//! opened.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rprof::spool::{Catalog, Query};

use crate::harness::{
    Fixture, Rprof, Skip, Target, alone, installed, is_root, open_folder, skip, wait_until,
};

/// A busy program that runs until the test ends.
fn busy() -> std::path::PathBuf {
    Fixture::c(&["ratio.c"]).with(&["-DLIFETIME_SECONDS=100000"]).build()
}

fn catalog(spool: &Path) -> Option<Catalog> {
    Catalog::read(spool).ok()
}

fn count(spool: &Path, service: &str) -> usize {
    let query = Query { service: Some(service.to_owned()), ..Query::default() };
    catalog(spool).map_or(0, |catalog| catalog.entries(&query).count())
}

#[test]
fn processes_that_come_and_go_are_profiled_in_windows_and_each_service_has_its_files() {
    let _alone = alone();
    let folder = open_folder();
    let spool = folder.path().join("spool");
    let program = busy();
    let first = Target::start(&program);
    let name = program.file_name().expect("a name").to_string_lossy().into_owned();
    let running = Rprof::verb("sidecar")
        .args(&["--name", &format!("/{}$", regex::escape(&name)), "--every", "1s", "-F", "99", "--spool"])
        .args(&[&spool.to_string_lossy()])
        .start();
    let own = first_service(&spool);
    let second = Target::spawn(Command::new(&program).env("OTEL_SERVICE_NAME", "shop"));
    let is_done = wait_until(20, || count(&spool, "shop") >= 2);
    drop((first, second));
    running.signal("INT");
    let outcome = running.wait();
    assert!(is_done && outcome.code == Some(0), "{}", outcome.stderr);
    assert!(count(&spool, &own) >= 2, "{}", outcome.stderr);

    let source = spool.to_string_lossy().into_owned();
    let top = Rprof::verb("top").args(&[&source, "--since", "1h", "--service", "shop"]).run();
    assert!(top.printed().contains("sixty"), "{}{}", top.printed(), top.stderr);
    let tags = Rprof::verb("pprof").args(&["-tags", &format!("{source}?service=shop")]).run();
    assert!(
        tags.printed().contains(" service: Total") && tags.printed().contains(": shop"),
        "{}",
        tags.printed()
    );
    let none = Rprof::verb("top").args(&[&source, "--service", "other"]).run();
    none.assert_refused(1, &["no profile of the spool matches", "shop cpu"]);
}

/// The service of the first profile.
fn first_service(spool: &Path) -> String {
    let service = || Some(catalog(spool)?.series(&Query::default()).first()?.service.clone());
    assert!(wait_until(20, || service().is_some()), "no window was written");
    service().expect("it is there")
}

/// The files of a process that a trace of rprof names: `maps`, `task/7/stat` …
fn named_files(trace: &str, pid: u32) -> BTreeSet<String> {
    let start = format!("\"/proc/{pid}/");
    let rest = trace.split(&start).skip(1).filter_map(|rest| rest.split('"').next());
    rest.map(str::to_owned).collect()
}

#[test]
fn an_excluded_process_is_never_opened() {
    let _alone = alone();
    let Some(strace) = installed("strace") else { return skip(Skip::NotInstalled("strace")) };
    let folder = open_folder();
    let program = busy();
    let watched = Target::start(&program);
    let opted_out = Target::spawn(Command::new(&program).env("RPROF", "off"));
    let (trace, spool) = (folder.path().join("trace"), folder.path().join("spool"));
    let mut sidecar = Command::new(strace)
        .args(["-f", "-qq", "-e", "trace=%file,process_vm_readv,ptrace", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_rprof"))
        .args(["sidecar", "--every", "1s", "-F", "49", "--pid", &watched.pid().to_string()])
        .args(["--pid", &opted_out.pid().to_string(), "--spool"])
        .arg(&spool)
        .stderr(Stdio::null())
        .spawn()
        .expect("strace runs");
    let is_done = wait_until(30, || catalog(&spool).is_some_and(|found| found.last().is_some()));
    end(&mut sidecar);
    assert!(is_done, "no window was written");
    let text = String::from_utf8_lossy(&fs::read(&trace).expect("a trace")).into_owned();
    assert!(named_files(&text, watched.pid()).contains("maps"), "the watched process is read");
    let pid = opted_out.pid();
    let task = format!("task/{pid}/stat");
    let allowed = ["environ", "status", "stat", "cgroup", "exe", "comm", "cmdline", &task];
    let opened = named_files(&text, pid);
    let wrong: Vec<&String> = opened.iter().filter(|file| !allowed.contains(&file.as_str())).collect();
    assert!(opened.contains("environ") && wrong.is_empty(), "{wrong:?}");
    assert!(!text.contains(&format!("process_vm_readv({pid},")));
}

/// Ends a traced sidecar as Ctrl-C does.
fn end(child: &mut Child) {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
    for pid in children.split_whitespace() {
        let _ = Command::new("kill").args(["-INT", pid]).status();
    }
    if !wait_until(20, || child.try_wait().is_ok_and(|status| status.is_some())) {
        let _ = child.kill();
    }
    let _ = child.wait();
}

/// What a sidecar takes at one time.
#[derive(Debug)]
struct Taken {
    memory_kib: f64,
    descriptors: f64,
    disk_bytes: f64,
}

fn taken(pid: u32, spool: &Path) -> Option<Taken> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let series = catalog(spool)?.series(&Query::default());
    Some(Taken {
        memory_kib: field("RssAnon:")? + field("RssShmem:")?,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as f64,
        disk_bytes: series.iter().map(|series| series.bytes as f64).sum(),
    })
}

fn median(all: &[Taken], figure: fn(&Taken) -> f64) -> f64 {
    let mut all: Vec<f64> = all.iter().map(figure).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The limit of the spool in the long test.
const SPOOL_KIB: f64 = 512.0;

#[test]
#[ignore = "runs for a minute or longer: scripts/soak sidecar"]
fn a_sidecar_keeps_its_memory_descriptors_and_disk_while_processes_come_and_go() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let seconds = std::env::var("RPROF_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let folder = open_folder();
    let spool = folder.path().join("spool");
    let program = busy();
    let name = program.file_name().expect("a name").to_string_lossy().into_owned();
    let _steady = Target::start(&program);
    let running = Rprof::verb("sidecar")
        .args(&["--name", &format!("/{}$", regex::escape(&name)), "--every", "2s", "-F", "49", "--quiet"])
        .args(&["--kinds", "cpu,offcpu", "--spool-size", &format!("{SPOOL_KIB}KiB"), "--spool"])
        .args(&[&spool.to_string_lossy()])
        .start();
    let (began, mut all, mut started) = (Instant::now(), Vec::new(), 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        // Each lives for a second, and every other one is a service of its own.
        let service = format!("service-{}", started % 40);
        let comes_and_goes = Target::spawn(Command::new(&program).env("OTEL_SERVICE_NAME", service));
        started += 1;
        sleep(Duration::from_secs(1));
        drop(comes_and_goes);
        all.extend(taken(running.pid(), &spool));
    }
    running.signal("INT");
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(all.len() >= 20, "only {} readings in {seconds} s", all.len());
    // The first third fills caches.
    let part = all.len() / 3;
    let (first, last) = (&all[part..2 * part], &all[2 * part..]);
    let memory = [first, last].map(|part| median(part, |taken| taken.memory_kib));
    let descriptors = [first, last].map(|part| median(part, |taken| taken.descriptors));
    let disk = all.iter().map(|taken| taken.disk_bytes).fold(0.0, f64::max);
    println!(
        "{started} processes in {seconds} s; memory {:.1} -> {:.1} MiB; descriptors {} -> {}; disk at most {:.0} KiB",
        memory[0] / 1024.0,
        memory[1] / 1024.0,
        descriptors[0],
        descriptors[1],
        disk / 1024.0
    );
    assert!(memory[1] <= memory[0] * 1.1 + 1024.0, "memory grew");
    assert!(descriptors[1] <= descriptors[0] + 2.0, "descriptors grew");
    assert!(disk <= SPOOL_KIB * 1024.0, "the spool is larger than its limit");
}

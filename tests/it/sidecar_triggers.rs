//! `rprof sidecar --on`: incidents, and what they have of the time before. Metrics and health.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::harness::{
    Cgroup, Fixture, Rprof, Running, Skip, Stacks, Target, alone, is_root, open_folder, skip,
    wait_for_cpu_time, wait_until,
};

/// A sidecar that watches one process; more CPU time than by default is for a busy machine.
fn sidecar(pid: u32, spool: &Path, arguments: &[&str]) -> Running {
    let sidecar = Rprof::verb("sidecar").args(&["--pid", &pid.to_string(), "--spool"]);
    sidecar
        .args(&[spool.to_str().expect("UTF-8"), "--max-cpu", "100%", "--log", "text"])
        .args(arguments)
        .start()
}

/// Waits for the incident of a trigger, and unpacks it into `folder`.
#[track_caller]
fn incident(spool: &Path, trigger: &str, folder: &Path) -> PathBuf {
    let mut found = None;
    let is_written = || {
        let files = fs::read_dir(spool.join("incidents")).into_iter().flatten().flatten();
        let names = files.filter_map(|file| file.file_name().into_string().ok());
        found = names.into_iter().find(|name| name.ends_with(&format!("-{trigger}.tar.gz")));
        found.is_some()
    };
    assert!(wait_until(20, is_written), "no incident of {trigger}");
    let name = found.expect("found");
    let unpacked = Command::new("tar")
        .arg("-C")
        .arg(folder)
        .arg("-xzf")
        .arg(spool.join("incidents").join(&name))
        .status();
    assert!(unpacked.expect("tar runs").success());
    folder.join(name.trim_end_matches(".tar.gz"))
}

fn about(incident: &Path) -> serde_json::Value {
    let text = fs::read_to_string(incident.join("incident.json")).expect("every incident has it");
    serde_json::from_str(&text).expect("JSON")
}

/// The profile of what came before, which has the function `work`.
#[track_caller]
fn assert_has_work(incident: &Path) {
    let before = Stacks::read(&incident.join("before.pb.gz")).expect("a profile");
    let share = before.count(|stack| stack.has_in_order(&["main", "work"])) as f64 / before.samples() as f64;
    assert!(before.samples() >= 5 && share > 0.8, "{share} of {} samples", before.samples());
}

#[test]
fn an_oom_kill_writes_what_came_before_although_the_process_is_gone() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let (folder, spool) = (open_folder(), open_folder());
    let starts = folder.path().join("leak");
    let arguments = [starts.to_str().expect("UTF-8")];
    let mut target = Target::start_with(&Fixture::c(&["leaks.c"]).build(), &arguments);
    let Some(_group) = Cgroup::with_memory(target.pid(), 48 << 20) else {
        return skip(Skip::Forbidden("a control group with a memory limit"));
    };
    let sidecar = sidecar(target.pid(), &spool.path().join("spool"), &["--on", "oom", "--on", "exit"]);
    sidecar.wait_until_sampled(target.pid(), Duration::from_millis(800));
    fs::write(starts, "").expect("own folder");
    let found = incident(&spool.path().join("spool"), "oom", folder.path());
    let about = about(&found);
    assert_eq!((&about["trigger"], &about["has_ended"]), (&"oom".into(), &true.into()));
    assert_has_work(&found);
    assert!(!found.join("threads.txt").exists(), "nothing can be read of a process that is gone");
    incident(&spool.path().join("spool"), "exit", folder.path());
    assert_eq!(target.exit_code(5), None, "it was killed");
    sidecar.signal("TERM");
    let outcome = sidecar.wait();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

/// The status and the body of a request.
fn request(address: SocketAddr, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a response");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, text.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

#[test]
fn a_posted_request_writes_an_incident_and_metrics_count_it() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["leaks.c"]).build());
    let (folder, spool) = (open_folder(), open_folder());
    let arguments = ["--on", "rss>1TiB", "--listen", "127.0.0.1:0"];
    let sidecar = sidecar(target.pid(), &spool.path().join("spool"), &arguments);
    let mut address = None;
    let is_listening = || {
        let printed = sidecar.said();
        address = printed.split("http://").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
        address.is_some()
    };
    assert!(wait_until(20, is_listening), "{}", sidecar.said());
    let address = address.expect("an address");
    wait_for_cpu_time(target.pid(), Duration::from_millis(1500));
    assert_eq!(request(address, "GET /healthz"), (200, "ok\n".to_owned()));
    assert_eq!(request(address, "POST /trigger").0, 202);
    assert_eq!(request(address, "GET /trigger").0, 405);
    let found = incident(&spool.path().join("spool"), "http", folder.path());
    assert_eq!(about(&found)["has_ended"], false);
    assert_has_work(&found);
    assert!(fs::read_to_string(found.join("threads.txt")).expect("threads").contains("main"));
    assert!(found.join("cpu.pb.gz").exists());
    let (status, metrics) = request(address, "GET /metrics");
    for line in ["rprof_triggers_fired_total 1", "rprof_incidents_written_total 1", "rprof_processes 1"] {
        assert!(status == 200 && metrics.lines().any(|found| found == line), "{line}:\n{metrics}");
    }
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait().code, Some(0));
    target.assert_unhurt();
}

//! Programs on a file system that does not answer: a FUSE program that leaves requests open.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::harness::{Fixture, Rprof, Skip, Target, alone, is_root, open_folder, skip};

/// A program that runs from a FUSE file system, and the folder in which a file makes that hang.
fn on_fuse() -> (Target, tempfile::TempDir) {
    let folder = open_folder();
    let mounted = folder.path().join("mounted");
    fs::create_dir(&mounted).expect("own folder");
    let mut server = Command::new(Fixture::c(&["hangs.c"]).build());
    server.arg(Fixture::c(&["ratio.c"]).build()).arg(folder.path()).arg(&mounted);
    (Target::spawn(&mut server).descendant(), folder)
}

fn fuse_is_available() -> bool {
    let mount = ["--mount", "--propagation", "private", "true"];
    let can_mount = Command::new("unshare").args(mount).status().is_ok_and(|status| status.success());
    is_root() && can_mount && Path::new("/dev/fuse").exists()
}

#[test]
fn a_file_system_that_does_not_answer_costs_names_but_no_time_and_no_sample() {
    let _alone = alone();
    if !fuse_is_available() {
        return skip(if is_root() { Skip::Forbidden("FUSE") } else { Skip::NeedsRoot });
    }
    let usual = Target::start(&Fixture::c(&["ratio.c"]).build());
    for flag in ["hang-open", "hang-read"] {
        let (mut target, folder) = on_fuse();
        fs::write(folder.path().join(flag), "").expect("own folder");
        let runs: [&dyn Fn(&Target) -> Rprof; 4] = [
            &|target| Rprof::attach(target).seconds(2),
            &|target| Rprof::attach(target).seconds(2).sampler("ptrace"),
            &|target| Rprof::attach(target).seconds(2).args(&["--kind", "wall"]),
            &|target| Rprof::verb("dump").args(&["--pid", &target.pid().to_string()]),
        ];
        for (number, run) in runs.iter().enumerate() {
            let (plain, hung) = (run(&usual).run(), run(&target).run());
            assert_eq!(hung.code, Some(0), "{flag} {number}: {}", hung.stderr);
            let late = hung.elapsed.saturating_sub(plain.elapsed);
            assert!(late < Duration::from_secs(3), "{flag} {number}: {late:?} later");
            assert!(hung.stderr.contains("does not answer"), "{flag} {number}: {}", hung.stderr);
            if number < 3 {
                hung.profile().assert_at_least(5);
            }
            target.assert_unhurt();
        }
    }
}

#[test]
fn a_signal_ends_rprof_while_a_file_system_does_not_answer() {
    let _alone = alone();
    if !fuse_is_available() {
        return skip(if is_root() { Skip::Forbidden("FUSE") } else { Skip::NeedsRoot });
    }
    for flag in ["hang-open", "hang-read"] {
        let (mut target, folder) = on_fuse();
        fs::write(folder.path().join(flag), "").expect("own folder");
        let run = Rprof::attach(&target).seconds(30).start();
        std::thread::sleep(Duration::from_millis(500));
        let began = std::time::Instant::now();
        run.signal("TERM");
        let outcome = run.wait();
        let took = began.elapsed();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(took < Duration::from_secs(2), "{flag}: {took:?}");
        target.assert_unhurt();
    }
}

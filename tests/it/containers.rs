//! Targets in other PID and mount namespaces, whose files rprof cannot see by their paths.

use std::process::Command;

use crate::{
    harness::{Fixture, Rprof, Skip, Stacks, Target, alone, installed, is_root, skip},
    shares::allowed_tiers,
};

/// A program that runs in namespaces of its own, from a file system that only it has mounted.
pub fn start_inside(program: &std::path::Path) -> Option<Target> {
    if !is_root() {
        skip(Skip::NeedsRoot);
        return None;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]);
        command
    };
    if installed("unshare").is_none() || !unshare().arg("true").status().is_ok_and(|status| status.success())
    {
        skip(Skip::NoNamespaces);
        return None;
    }
    let script = "mount -t tmpfs none /mnt && cp \"$0\" /mnt/inside && exec /mnt/inside";
    Some(Target::spawn(unshare().args(["sh", "-c", script]).arg(program)).descendant())
}

#[track_caller]
fn assert_ratio(profile: &Stacks) {
    profile.assert_at_least(300);
    profile.assert_share("sixty", 60.0, 2.0);
    profile.assert_nearly_all(99.5, "main > outer > middle", |stack| {
        stack.has_chain(&["main", "outer", "middle"])
    });
    profile.assert_whole(&["_start"]);
}

#[test]
fn a_target_in_another_pid_and_mount_namespace_is_named_and_whole_in_every_tier() {
    let _alone = alone();
    let program = Fixture::c(&["ratio.c"]).build();
    let Some(mut target) = start_inside(&program) else { return };
    assert!(!std::path::Path::new("/mnt/inside").exists(), "the file was to be visible inside only");
    for tier in allowed_tiers() {
        let profile = Rprof::attach(&target).sampler(tier).profile();
        assert_ratio(&profile);
        let name = profile.profile.string(profile.profile.mapping[0].filename);
        assert!(name.ends_with("/inside"), "{name}");
        target.assert_unhurt();
    }
}

#[test]
fn rprof_finds_its_target_when_rprof_itself_is_in_a_pid_namespace() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    if installed("unshare").is_none() {
        return skip(Skip::NoNamespaces);
    }
    // Inside, the target is some small PID; BPF and perf number processes differently there.
    let folder = crate::harness::open_folder();
    let output = folder.path().join("profile.pb.gz");
    let program = Fixture::c(&["ratio.c"]).build();
    for tier in allowed_tiers() {
        let script = format!(
            "'{}' >/dev/null & target=$!; sleep 0.2; '{}' attach --pid $target -d 3s -F 999 --sampler {tier} -o '{}'; \
             code=$?; kill -9 $target; exit $code",
            program.display(),
            env!("CARGO_BIN_EXE_rprof"),
            output.display()
        );
        let run = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", &script])
            .output()
            .expect("unshare is installed");
        let words = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{tier}: {words}");
        assert_ratio(&Stacks::read(&output).unwrap_or_else(|error| panic!("{tier}: {error}\n{words}")));
    }
}

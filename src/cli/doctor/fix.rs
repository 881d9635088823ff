//! What allows a data source that does not work, derived from the kernel's error, the machine's
//! settings, and the permissions of rprof and of the process.

use crate::{
    process::host::{Container, Host, Rights},
    sampler::checks::{Barrier, Check, Source},
};

/// Alternatives that allow it, the simplest first; empty if nothing is needed.
pub fn fixes(check: &Check, all: &[Check], host: &Host, rights: Option<&Rights>) -> Vec<String> {
    match check.source {
        Source::PerfThread | Source::PerfCpu | Source::KernelFrames => perf(check, host, rights),
        Source::Tracepoints => tracepoints(check, host),
        Source::Uprobes => match check.errno {
            Some(libc::ENOENT) => vec!["a kernel with CONFIG_UPROBE_EVENTS".into()],
            _ => capability(host, "SYS_ADMIN", "cap_sys_admin", "(Linux before 6.16: CAP_PERFMON is enough)"),
        },
        Source::BpfCpu
        | Source::BpfForks
        | Source::BpfThreadCreate
        | Source::BpfWaits
        | Source::BpfTrace
        | Source::BpfThreads
        | Source::BpfWalker
        | Source::BpfKernelNames => bpf(check, host),
        Source::MapFiles => {
            let note = "(needed only for programs that were deleted or replaced while running)";
            capability(host, "CHECKPOINT_RESTORE", "cap_checkpoint_restore", note)
        }
        Source::ProcessVmReadv if works(all, Source::ProcMem) => {
            vec!["nothing: /proc/PID/mem is used instead (a seccomp filter forbids the call)".into()]
        }
        Source::Ptrace | Source::ProcessVmReadv | Source::ProcMem | Source::Maps | Source::ThreadState => {
            ptrace_rights(check, host, rights)
        }
    }
}

fn works(all: &[Check], source: Source) -> bool {
    all.iter().any(|check| check.source == source && check.result.is_ok())
}

/// How to give rprof a capability: a flag of the container, or file capabilities.
fn capability(host: &Host, name: &str, file: &str, note: &str) -> Vec<String> {
    let note = if note.is_empty() { String::new() } else { format!(" {note}") };
    match host.container {
        Some(Container::Kubernetes) => {
            vec![format!(
                "securityContext: {{capabilities: {{add: [{name}]}}}} in the pod's specification{note}"
            )]
        }
        Some(container) => {
            let tool = if container == Container::Podman { "podman" } else { "docker" };
            let old = match name {
                "PERFMON" | "BPF" | "CHECKPOINT_RESTORE" => ", or --cap-add SYS_ADMIN (Docker before 23)",
                _ => "",
            };
            let root = if host.uid == 0 { "" } else { " --user 0" };
            vec![format!("{tool} run --cap-add {name}{root} …{old}{note}")]
        }
        None if host.in_user_namespace => {
            vec![format!("run outside the user namespace: CAP_{name} inside it does not apply here{note}")]
        }
        None => vec![
            format!("sudo rprof …{note}"),
            format!("sudo setcap {file}+ep \"$(command -v rprof)\"   (CAP_{name})"),
        ],
    }
}

fn perf(check: &Check, host: &Host, rights: Option<&Rights>) -> Vec<String> {
    let source = check.source;
    if check.barrier == Some(Barrier::Seccomp) {
        let mut fixes = capability(host, "PERFMON", "cap_perfmon", "");
        fixes.push("or --security-opt seccomp=unconfined".into());
        return fixes;
    }
    if check.barrier == Some(Barrier::SecurityModule) {
        return module(host);
    }
    let mut fixes = Vec::new();
    let foreign = rights.filter(|rights| rights.uid != host.uid || rights.non_dumpable);
    if let Some(rights) = foreign.filter(|_| source == Source::PerfThread) {
        fixes.push(format!("sudo -u '#{}' rprof …   (as the process's user)", rights.uid));
    } else {
        let level = match source {
            Source::PerfThread => 2,
            Source::KernelFrames => 1,
            _ => 0,
        };
        fixes.push(format!("sudo sysctl kernel.perf_event_paranoid={level}"));
    }
    fixes.extend(capability(host, "PERFMON", "cap_perfmon", ""));
    fixes
}

fn tracepoints(check: &Check, host: &Host) -> Vec<String> {
    if check.barrier == Some(Barrier::Tracefs) {
        return match host.container {
            Some(_) => vec!["-v /sys/kernel/tracing:/sys/kernel/tracing:ro for the container".into()],
            None => vec![
                "sudo mount -t tracefs none /sys/kernel/tracing   (if it is not mounted)".into(),
                "root, or CAP_DAC_READ_SEARCH and CAP_PERFMON   (its files belong to root)".into(),
            ],
        };
    }
    capability(host, "PERFMON", "cap_perfmon", "")
}

fn bpf(check: &Check, host: &Host) -> Vec<String> {
    match check.barrier {
        Some(Barrier::LockedMemory) => {
            return vec![
                "ulimit -l unlimited   (as root), or root, or CAP_SYS_RESOURCE: rprof then lifts the limit"
                    .into(),
                "Linux 5.11 or later, which does not count BPF as locked memory".into(),
            ];
        }
        Some(Barrier::Seccomp | Barrier::Capability) => {
            let mut fixes = capability(host, "BPF", "cap_bpf,cap_perfmon", "");
            if host.container.is_some() {
                fixes.extend(capability(host, "PERFMON", "cap_perfmon", ""));
            }
            return fixes;
        }
        Some(Barrier::SecurityModule) => return module(host),
        Some(Barrier::KernelTypes) => {
            return vec!["a kernel that describes its types: CONFIG_DEBUG_INFO_BTF".into()];
        }
        Some(Barrier::Tracefs) | None => {}
    }
    if check.log.is_some() && check.source != Source::BpfKernelNames {
        return vec![
            "nothing on this machine: please report the kernel's release and the verifier's log (`rprof doctor -v`)"
                .into(),
        ];
    }
    let needed = match check.source {
        Source::BpfKernelNames => "Linux 5.13 (until then /proc/kallsyms is read instead)",
        _ => "Linux 5.10 or later",
    };
    vec![needed.into()]
}

fn module(host: &Host) -> Vec<String> {
    let named = host.security_profile.as_ref().map(|profile| format!("security profile `{profile}`"));
    let lockdown =
        host.lockdown.as_ref().filter(|level| *level != "none").map(|level| format!("lockdown={level}"));
    let what = named.or(lockdown).unwrap_or_else(|| "a security module".into());
    vec![format!(
        "{what} forbids it: see `dmesg` or /var/log/audit/audit.log for the rule, and ask the administrator"
    )]
}

/// Sources that require the access rights of ptrace(2).
fn ptrace_rights(check: &Check, host: &Host, rights: Option<&Rights>) -> Vec<String> {
    let Some(rights) = rights else { return vec!["give a process with --pid".into()] };
    if let Some(tracer) = rights.tracer.filter(|_| check.source == Source::Ptrace) {
        return vec![format!(
            "process {tracer} traces it, and only one process can: detach that debugger (dump works without)"
        )];
    }
    if host.has("CAP_SYS_PTRACE")
        && host.container.is_some()
        && host.seccomp
        && check.source == Source::Ptrace
    {
        return vec![
            "--security-opt seccomp=unconfined, or a runtime that allows ptrace with CAP_SYS_PTRACE".into(),
        ];
    }
    let mut fixes = Vec::new();
    match host.yama_scope {
        Some(3) => {
            return vec![
                "kernel.yama.ptrace_scope is 3: ptrace is forbidden until the machine is rebooted".into(),
            ];
        }
        Some(scope @ (1 | 2)) if !host.has("CAP_SYS_PTRACE") && rights.uid == host.uid => {
            fixes.push(format!("sudo sysctl kernel.yama.ptrace_scope=0   (it is {scope})"));
        }
        _ => {}
    }
    if rights.uid != host.uid && host.container.is_none() {
        fixes.push(format!("sudo -u '#{}' rprof …   (as the process's user)", rights.uid));
    }
    let reason = match () {
        () if rights.non_dumpable => "(the process is not dumpable)",
        () if rights.more_capabilities => "(the process has capabilities that rprof lacks)",
        () if rights.other_namespaces.contains(&"user") => {
            "(the process is in another user namespace: the capability must be held there)"
        }
        () => "",
    };
    fixes.extend(capability(host, "SYS_PTRACE", "cap_sys_ptrace", reason));
    if check.source == Source::ThreadState && host.has("CAP_SYS_PTRACE") {
        fixes.insert(0, "CAP_DAC_READ_SEARCH as well: only its owner may read the file".into());
    }
    fixes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: Source, barrier: Option<Barrier>) -> Check {
        let result = Err("refused".to_owned());
        Check { source, result, barrier, errno: Some(libc::EPERM), log: None }
    }

    fn of(uid: u32) -> Rights {
        Rights {
            uid,
            non_dumpable: false,
            other_namespaces: Vec::new(),
            more_capabilities: false,
            tracer: None,
        }
    }

    fn first(check: &Check, host: &Host, rights: &Rights) -> String {
        fixes(check, std::slice::from_ref(check), host, Some(rights)).first().cloned().unwrap_or_default()
    }

    #[test]
    fn each_refusal_comes_with_the_setting_that_allows_it() {
        let docker = Host { uid: 7, container: Some(Container::Docker), seccomp: true, ..Host::default() };
        let kubernetes = Host { container: Some(Container::Kubernetes), ..docker.clone() };
        let plain = Host { uid: 7, ..Host::default() };
        let yama = Host { yama_scope: Some(1), ..plain.clone() };
        let seccomp = Some(Barrier::Seccomp);
        let cases = [
            (refused(Source::PerfThread, seccomp), &docker, "docker run --cap-add PERFMON"),
            (
                refused(Source::PerfThread, seccomp),
                &kubernetes,
                "securityContext: {capabilities: {add: [PERFMON]}}",
            ),
            (refused(Source::PerfCpu, None), &plain, "sudo sysctl kernel.perf_event_paranoid=0"),
            (refused(Source::Ptrace, None), &yama, "sudo sysctl kernel.yama.ptrace_scope=0"),
            (refused(Source::Ptrace, None), &docker, "docker run --cap-add SYS_PTRACE"),
            (refused(Source::BpfCpu, Some(Barrier::Capability)), &plain, "sudo rprof"),
            (refused(Source::BpfCpu, Some(Barrier::LockedMemory)), &plain, "ulimit -l unlimited"),
            (refused(Source::BpfKernelNames, None), &plain, "Linux 5.13"),
            (refused(Source::Tracepoints, Some(Barrier::Tracefs)), &docker, "-v /sys/kernel/tracing"),
            (refused(Source::MapFiles, None), &plain, "sudo rprof"),
        ];
        for (check, host, expected) in &cases {
            let found = first(check, host, &of(7));
            assert!(found.starts_with(expected), "{check:?}: {found}");
        }
    }

    #[test]
    fn a_program_that_the_verifier_refuses_is_a_mistake_to_report() {
        let log = Some("R3 unbounded memory access".to_owned());
        let check = Check { log, ..refused(Source::BpfWaits, None) };
        assert!(first(&check, &Host::default(), &of(7)).contains("please report"));
    }

    #[test]
    fn another_users_process_a_tracer_and_a_substitute_are_reported() {
        let plain = Host { uid: 7, ..Host::default() };
        let check = refused(Source::ProcMem, None);
        assert!(first(&check, &plain, &of(8)).starts_with("sudo -u '#8' rprof"));
        let traced = Rights { tracer: Some(99), ..of(7) };
        assert!(first(&refused(Source::Ptrace, None), &plain, &traced).contains("process 99 traces it"));
        let mem = Check {
            source: Source::ProcMem,
            result: Ok(String::new()),
            barrier: None,
            errno: None,
            log: None,
        };
        let readv = refused(Source::ProcessVmReadv, None);
        let found = fixes(&readv, &[readv.clone(), mem], &plain, Some(&of(7)));
        assert!(found[0].starts_with("nothing: /proc/PID/mem is used"), "{found:?}");
    }
}

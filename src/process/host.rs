//! The machine and rprof's rights on it: kernel settings that decide which processes may be read,
//! rprof's capabilities, and whether it runs in a container.
//!
//! Not here: testing what works (`sampler::checks`), advice.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use crate::sys::{capabilities, limits, proc::read_text};

/// Kernel settings and rprof's own rights. `None`: not known, or the kernel has no such setting.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// `uname -r`.
    pub kernel_release: Option<String>,
    /// rprof's effective user ID.
    pub uid: u32,
    /// Names of rprof's effective capabilities that a profiler uses.
    pub capabilities: Vec<&'static str>,
    /// Whether a seccomp filter is in force.
    pub seccomp: bool,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
    /// `kernel.perf_event_mlock_kb`.
    pub perf_event_mlock_kib: Option<u64>,
    /// RLIMIT_MEMLOCK, soft, in bytes; `u64::MAX`: unlimited.
    pub locked_memory_bytes: Option<u64>,
    /// RLIMIT_NOFILE, soft; `u64::MAX`: unlimited.
    pub open_files: Option<u64>,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<i32>,
    /// `kernel.yama.ptrace_scope`.
    pub yama_scope: Option<i32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<i32>,
    /// Security modules in force.
    pub security_modules: Option<String>,
    /// The security module's profile that rprof runs under.
    pub security_profile: Option<String>,
    /// `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// Whether rprof is not in the machine's first user namespace.
    pub in_user_namespace: bool,
    /// Whether rprof is not in the machine's first PID namespace.
    pub in_pid_namespace: bool,
    /// The kind of container that rprof runs in; `None`: none.
    pub container: Option<Container>,
}

/// A kind of container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// A pod of Kubernetes.
    Kubernetes,
    /// Another kind, such as LXC.
    Other,
}

/// The properties of a process that decide whether rprof may read it.
#[derive(Clone, Debug)]
pub struct Rights {
    /// Its effective user id.
    pub uid: u32,
    /// Whether it is non-dumpable or has changed its user, so that its /proc folder belongs to
    /// root.
    pub non_dumpable: bool,
    /// Its namespaces that differ from rprof's: `user`, `pid`, `mnt`.
    pub other_namespaces: Vec<&'static str>,
    /// Whether it has permitted capabilities that rprof lacks: reading it then needs
    /// CAP_SYS_PTRACE.
    pub more_capabilities: bool,
    /// The process that traces it.
    pub tracer: Option<u32>,
}

/// Inode numbers of the first user and PID namespaces (linux/proc_ns.h).
const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

impl Host {
    /// Reads all settings; parts that cannot be read are `None`.
    pub fn read() -> Host {
        let held = capabilities::effective();
        let known = capabilities::NAMES.iter().filter(|(number, _)| held.has(*number));
        Host {
            kernel_release: text("/proc/sys/kernel/osrelease"),
            uid: nix::unistd::geteuid().as_raw(),
            capabilities: known.map(|(_, name)| *name).collect(),
            seccomp: capabilities::seccomp_filtered(),
            perf_event_paranoid: limits::perf_event_paranoid(),
            perf_event_mlock_kib: limits::perf_event_mlock_kib(),
            locked_memory_bytes: limits::locked_memory().ok().map(|limit| limit.soft),
            open_files: limits::open_files().ok().map(|limit| limit.soft),
            kptr_restrict: number("/proc/sys/kernel/kptr_restrict"),
            yama_scope: number("/proc/sys/kernel/yama/ptrace_scope"),
            unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
            security_modules: text("/sys/kernel/security/lsm"),
            security_profile: text("/proc/self/attr/current").filter(|profile| profile != "unconfined"),
            lockdown: text("/sys/kernel/security/lockdown").and_then(|line| chosen(&line)),
            in_user_namespace: namespace("self", "user").is_some_and(|inode| inode != FIRST_USER_NAMESPACE),
            in_pid_namespace: namespace("self", "pid").is_some_and(|inode| inode != FIRST_PID_NAMESPACE),
            container: container(),
        }
    }

    /// Whether rprof has a capability, by name.
    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.contains(&capability)
    }
}

impl Rights {
    /// Reads the properties of a process; parts that cannot be read are treated as ordinary.
    pub fn read(pid: u32) -> Rights {
        let status = read_text(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let uid =
            field("Uid:").split_whitespace().nth(1).and_then(|uid| uid.parse().ok()).unwrap_or(u32::MAX);
        let owner = fs::metadata(format!("/proc/{pid}")).map_or(uid, |folder| folder.uid());
        let permitted = u64::from_str_radix(field("CapPrm:").trim(), 16).unwrap_or(0);
        let differs = |kind: &&'static str| {
            let theirs = namespace(&pid.to_string(), kind);
            theirs.is_some() && theirs != namespace("self", kind)
        };
        Rights {
            uid,
            non_dumpable: owner != uid,
            other_namespaces: ["user", "pid", "mnt"].into_iter().filter(differs).collect(),
            more_capabilities: permitted & !capabilities::effective().0 != 0,
            tracer: super::identity::tracer(pid),
        }
    }
}

fn text(path: &str) -> Option<String> {
    let text = read_text(path).ok()?;
    let text = text.trim_end_matches(['\0', '\n']).trim();
    (!text.is_empty()).then(|| super::comm::printable(text.as_bytes()))
}

fn number(path: &str) -> Option<i32> {
    text(path)?.parse().ok()
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(line: &str) -> Option<String> {
    Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn namespace(pid: &str, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|namespace| namespace.ino())
}

/// Whether rprof runs in a container. The machine's own namespaces have fixed numbers; a container
/// has at least one other. (A file such as /.dockerenv may also come from the image that a machine
/// was made from.)
fn is_contained() -> bool {
    const FIRST: [(&str, u64); 5] = [
        ("user", FIRST_USER_NAMESPACE),
        ("pid", FIRST_PID_NAMESPACE),
        ("cgroup", 0xefff_fffb),
        ("uts", 0xefff_fffe),
        ("ipc", 0xefff_ffff),
    ];
    FIRST.iter().any(|(kind, first)| namespace("self", kind).is_some_and(|inode| inode != *first))
}

fn container() -> Option<Container> {
    if !is_contained() {
        return None;
    }
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Some(Container::Kubernetes);
    }
    if Path::new("/.dockerenv").exists() {
        return Some(Container::Docker);
    }
    if Path::new("/run/.containerenv").exists() {
        return Some(Container::Podman);
    }
    let cgroup = read_text("/proc/self/cgroup").unwrap_or_default();
    let marks = [
        ("kubepods", Container::Kubernetes),
        ("docker", Container::Docker),
        ("libpod", Container::Podman),
        ("lxc", Container::Other),
    ];
    marks.into_iter().find(|(mark, _)| cgroup.contains(mark)).map(|(_, container)| container)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_in_brackets_is_in_force() {
        assert_eq!(chosen("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(chosen("none"), None);
    }

    #[test]
    fn this_process_has_its_own_namespaces_and_no_tracer() {
        let rights = Rights::read(std::process::id());
        assert_eq!(rights.uid, nix::unistd::geteuid().as_raw());
        assert!(rights.other_namespaces.is_empty() && rights.tracer.is_none() && !rights.more_capabilities);
        assert!(Host::read().kernel_release.is_some());
    }
}

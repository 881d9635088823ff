//! What a process belongs to: its environment variables (/proc/PID/environ), its container, and
//! what its own file system says of its host name and its Kubernetes namespace.
//!
//! Not here: what that means for labels.

use std::{fs::File, io::Read, path::Path};

use super::{cgroup, container, files};

/// The most bytes of an environment that are read.
const MAX_ENVIRONMENT: u64 = 1 << 20;
/// The most bytes of a small file that are read.
const MAX_TEXT: u64 = 4096;
/// Where Kubernetes puts the namespace of a pod's service account.
const NAMESPACE_FILE: &str = "var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its ID of 64 hexadecimal digits.
    pub id: String,
    /// Its names, as far as the engine's files can be read.
    pub names: Vec<String>,
}

/// The environment variables that the process was started with; none if they cannot be read.
/// Values that are not UTF-8 are changed.
pub fn environment(pid: u32) -> Vec<(String, String)> {
    let mut bytes = Vec::new();
    let opened = File::open(format!("/proc/{pid}/environ"));
    let _ = opened.and_then(|file| file.take(MAX_ENVIRONMENT).read_to_end(&mut bytes));
    let pairs = bytes.split(|byte| *byte == 0).filter_map(|pair| {
        let text = String::from_utf8_lossy(pair);
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// The innermost container of a process.
pub fn container(pid: u32) -> Option<Container> {
    let paths = cgroup::paths(pid);
    let id = paths.iter().find_map(|path| container::ids_in(path).last())?;
    Some(Container { id: id.to_owned(), names: container::names(id) })
}

/// The host name in the process's own file system.
pub fn host_name(pid: u32) -> Option<String> {
    text_in_root(pid, "etc/hostname")
}

/// The Kubernetes namespace of the process's pod.
pub fn kubernetes_namespace(pid: u32) -> Option<String> {
    text_in_root(pid, NAMESPACE_FILE)
}

/// The first line of a small file in the process's root directory.
fn text_in_root(pid: u32, path: &str) -> Option<String> {
    let root = format!("/proc/{pid}/root");
    let opened = files::open_in_root(Path::new(&root), Path::new(path), files::LastLink::Follow).ok()?;
    let mut text = String::new();
    opened.file.take(MAX_TEXT).read_to_string(&mut text).ok()?;
    let line = text.lines().next().unwrap_or_default().trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_environment_of_a_process_is_read() {
        let mut child = Command::new("sleep").arg("30").env("RPROF_TEST", "a=b c").spawn().expect("sleep");
        let is_there = || environment(child.id()).contains(&("RPROF_TEST".to_owned(), "a=b c".to_owned()));
        // For a moment after the start, the child is still inside exec.
        let found = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            is_there()
        });
        child.kill().and_then(|()| child.wait()).expect("own child");
        assert!(found);
        assert!(environment(0x7fff_fff0).is_empty() && kubernetes_namespace(0x7fff_fff0).is_none());
    }
}

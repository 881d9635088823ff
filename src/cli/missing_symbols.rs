//! What to do about functions without names: the package with the debug symbols of a file, or the
//! debuginfod server, of this distribution.
//!
//! Not here: searching symbols (`symbolize`).

use std::path::{Path, PathBuf};

use crate::{process::files::read_input, text::shell::quote};

/// Larger databases of a package manager are not read.
const MAX_BYTES: u64 = 32 << 20;

/// Distributions: the IDs of os-release(5), and how debug symbols are installed.
const DISTRIBUTIONS: [(&[&str], Method); 6] = [
    (&["debian", "raspbian"], Method::Dpkg { suffix: "-dbgsym", server: "https://debuginfod.debian.net" }),
    (&["ubuntu"], Method::Dpkg { suffix: "-dbgsym", server: "https://debuginfod.ubuntu.com" }),
    (&["fedora"], Method::Rpm { server: "https://debuginfod.fedoraproject.org" }),
    (&["centos", "rhel", "rocky", "almalinux"], Method::Rpm { server: "https://debuginfod.centos.org" }),
    (&["opensuse-leap", "opensuse-tumbleweed"], Method::Server("https://debuginfod.opensuse.org")),
    (&["arch", "manjaro"], Method::Server("https://debuginfod.archlinux.org")),
];

/// How a distribution delivers debug symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// A package per package; the lists of dpkg(1) tell which owns a file.
    Dpkg { suffix: &'static str, server: &'static str },
    /// `dnf debuginfo-install`.
    Rpm { server: &'static str },
    /// A server only.
    Server(&'static str),
}

/// What to do to get names for the functions of `file`, a path of this machine, where `profile` (if
/// any) is the profile that lacks them. `None`: the distribution is not known, or the file belongs
/// to none of its packages.
pub fn advice(file: &Path, profile: Option<&Path>) -> Option<String> {
    advice_below(Path::new("/"), file, profile)
}

fn advice_below(root: &Path, file: &Path, profile: Option<&Path>) -> Option<String> {
    let method = method(&text(&root.join("etc/os-release"))?)?;
    let symbolize = |server: &str| match profile {
        Some(profile) => {
            format!("`rprof symbolize --debuginfod={server} {}`", quote(&profile.to_string_lossy()))
        }
        None => format!("--debuginfod={server}"),
    };
    Some(match method {
        Method::Dpkg { suffix, server } => {
            let package = owner(root, file)?;
            // libc6 has a package of its own in the main archive.
            let install = match package.as_str() {
                "libc6" => "`apt install libc6-dbg`".to_owned(),
                package => format!("`apt install {package}{suffix}` (with the archive of debug packages)"),
            };
            format!("{}, or {install}", symbolize(server))
        }
        Method::Rpm { server } => {
            let query = format!("$(rpm -qf {})", quote(&file.to_string_lossy()));
            format!("{}, or `dnf debuginfo-install {query}`", symbolize(server))
        }
        Method::Server(server) => symbolize(server),
    })
}

fn text(path: &Path) -> Option<String> {
    String::from_utf8(read_input(path, MAX_BYTES).ok()?).ok()
}

/// The method of the distribution, or of one that it is like.
fn method(os_release: &str) -> Option<Method> {
    let value = |key: &str| {
        let found = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_default().trim_matches(['"', '\''])
    };
    let ids = std::iter::once(value("ID")).chain(value("ID_LIKE").split_whitespace());
    let find =
        |id: &str| DISTRIBUTIONS.iter().find(|(known, _)| known.contains(&id)).map(|(_, method)| *method);
    ids.into_iter().find_map(find)
}

/// The package of dpkg(1) that owns a file: the one whose list has its path.
fn owner(root: &Path, file: &Path) -> Option<String> {
    // On merged systems the lists may have the path before the merge: /lib instead of /usr/lib.
    let merged: Option<PathBuf> = file.strip_prefix("/usr").ok().map(|rest| Path::new("/").join(rest));
    let paths: Vec<&str> =
        [Some(file), merged.as_deref()].into_iter().flatten().filter_map(Path::to_str).collect();
    let lists = std::fs::read_dir(root.join("var/lib/dpkg/info")).ok()?.filter_map(Result::ok);
    let lists =
        lists.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "list"));
    let mut left = MAX_BYTES;
    for list in lists {
        let Some(text) = text(&list) else { continue };
        left = left.checked_sub(text.len() as u64)?;
        if text.lines().any(|line| paths.contains(&line)) {
            // `libc6:amd64.list`.
            let name = list.file_stem()?.to_str()?;
            return Some(name.split(':').next().unwrap_or(name).to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_known_by_its_name_or_that_of_a_similar_one() {
        let debian = method("PRETTY_NAME=\"x\"\nID=debian\n").expect("known");
        assert!(matches!(debian, Method::Dpkg { server: "https://debuginfod.debian.net", .. }));
        let mint = method("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n").expect("known");
        assert!(matches!(mint, Method::Dpkg { server: "https://debuginfod.ubuntu.com", .. }));
        assert_eq!(method("ID=\"rocky\"\n"), Some(Method::Rpm { server: "https://debuginfod.centos.org" }));
        assert_eq!(method("ID=plan9\n"), None);
    }

    #[test]
    fn the_advice_names_the_package_that_owns_the_file() {
        let root = tempfile::tempdir().expect("temporary directory");
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("space");
            std::fs::write(path, text).expect("space");
        };
        write("etc/os-release", "ID=debian\n");
        write("var/lib/dpkg/info/redis-tools.list", "/.\n/usr/bin\n/usr/bin/redis-cli\n");
        write("var/lib/dpkg/info/libc6:amd64.list", "/lib/x/libc.so.6\n");
        let advice = |file: &str, profile| advice_below(root.path(), Path::new(file), profile);
        assert_eq!(
            advice("/usr/bin/redis-cli", Some(Path::new("a b.pb.gz"))).as_deref(),
            Some(
                "`rprof symbolize --debuginfod=https://debuginfod.debian.net 'a b.pb.gz'`, or \
                 `apt install redis-tools-dbgsym` (with the archive of debug packages)"
            )
        );
        assert_eq!(
            advice("/usr/lib/x/libc.so.6", None).as_deref(),
            Some("--debuginfod=https://debuginfod.debian.net, or `apt install libc6-dbg`")
        );
        assert_eq!(advice("/opt/own", None), None);
        write("etc/os-release", "ID=fedora\n");
        assert_eq!(
            advice("/usr/bin/x", None).as_deref(),
            Some(
                "--debuginfod=https://debuginfod.fedoraproject.org, or `dnf debuginfo-install $(rpm -qf /usr/bin/x)`"
            )
        );
    }
}

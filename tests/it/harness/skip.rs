//! Tests that cannot run here: never silently.

/// Why a test cannot run. What a machine lacks by its nature may be missing in CI too; what
/// `scripts/test` installs may not.
#[derive(Clone, Copy, Debug)]
pub enum Skip {
    /// The tests do not run as root.
    NeedsRoot,
    /// The kernel gives ordinary users no perf events (`perf_event_paranoid` above 2), or a container
    /// forbids the system call.
    NoPerfForUsers,
    /// The kernel forbids new namespaces.
    NoNamespaces,
    /// The variable `RPROF_TEST_TIERS` leaves only some.
    TiersChosen,
    /// A program that `scripts/test` does not install everywhere.
    NotInstalled(&'static str),
    /// Something of the kernel that machines switch off.
    Forbidden(&'static str),
    /// A fixture of another CPU's assembly.
    OtherCpu,
}

impl Skip {
    fn reason(self) -> String {
        match self {
            Skip::NeedsRoot => "needs root".to_owned(),
            Skip::NoPerfForUsers => "ordinary users get no perf events here".to_owned(),
            Skip::NoNamespaces => "no namespaces may be made here".to_owned(),
            Skip::TiersChosen => "RPROF_TEST_TIERS leaves some tiers out".to_owned(),
            Skip::NotInstalled(program) => format!("{program} is not installed"),
            Skip::Forbidden(what) => format!("{what} is forbidden here"),
            Skip::OtherCpu => "the fixture is x86_64 assembly".to_owned(),
        }
    }

    /// Whether CI may lack it. CI runs as root and has what `scripts/test` installs there.
    fn allowed_in_ci(self) -> bool {
        matches!(self, Skip::NoPerfForUsers | Skip::NoNamespaces | Skip::Forbidden(_) | Skip::OtherCpu)
            || matches!(self, Skip::NotInstalled("go" | "postgres"))
    }
}

/// Says that the running test is skipped, and fails it where that must not be.
pub fn skip(why: Skip) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Written past the test's capture, so that it is seen whatever the verdict.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("SKIPPED: {test}: {}\n", why.reason()).as_bytes(),
    );
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!in_ci || why.allowed_in_ci(), "skipped in CI: {}", why.reason());
}

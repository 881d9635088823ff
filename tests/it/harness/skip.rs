//! Skipped tests. A test is never skipped silently.

/// Why a test cannot run. CI accepts reasons that lie in the machine, but not a missing program
/// that `scripts/test` installs.
#[derive(Clone, Copy, Debug)]
pub enum Skip {
    /// The tests do not run as root.
    NeedsRoot,
    /// The kernel allows ordinary users no perf events (`perf_event_paranoid` above 2), or a
    /// container forbids the system call.
    NoPerfForUsers,
    /// The kernel forbids the creation of namespaces.
    NoNamespaces,
    /// The variable `RPROF_TEST_TIERS` excludes the tier.
    TiersChosen,
    /// A program that `scripts/test` does not install everywhere.
    NotInstalled(&'static str),
    /// A kernel feature that some machines switch off.
    Forbidden(&'static str),
    /// The fixture is assembly for another CPU.
    OtherCpu,
}

impl Skip {
    fn reason(self) -> String {
        match self {
            Skip::NeedsRoot => "needs root".to_owned(),
            Skip::NoPerfForUsers => "ordinary users are not allowed perf events here".to_owned(),
            Skip::NoNamespaces => "namespaces cannot be created here".to_owned(),
            Skip::TiersChosen => "RPROF_TEST_TIERS excludes some tiers".to_owned(),
            Skip::NotInstalled(program) => format!("{program} is not installed"),
            Skip::Forbidden(what) => format!("{what} is forbidden here"),
            Skip::OtherCpu => "the fixture is x86_64 assembly".to_owned(),
        }
    }

    /// Whether CI accepts this reason. CI runs as root and has everything that `scripts/test`
    /// installs.
    fn allowed_in_ci(self) -> bool {
        matches!(self, Skip::NoPerfForUsers | Skip::NoNamespaces | Skip::Forbidden(_) | Skip::OtherCpu)
            || matches!(self, Skip::NotInstalled("postgres"))
    }
}

/// Reports that the running test is skipped. In CI it fails unless the reason is accepted there.
pub fn skip(why: Skip) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Bypasses the test harness's capture, so that the line is always visible.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("SKIPPED: {test}: {}\n", why.reason()).as_bytes(),
    );
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!in_ci || why.allowed_in_ci(), "skipped in CI: {}", why.reason());
}

//! Builds `tests/fixtures/programs/*` with the system's compilers into `target/fixtures/`. A
//! program is rebuilt only if its source, the shared header or the command changes.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

/// A program to build: its sources (in `tests/fixtures/programs`), compiler and flags.
#[derive(Clone, Debug, Hash)]
pub struct Fixture {
    sources: Vec<String>,
    compiler: Vec<String>,
    flags: Vec<String>,
    libraries: Vec<String>,
}

impl Fixture {
    fn new(compiler: &[&str], sources: &[&str], flags: &[&str], libraries: &[&str]) -> Fixture {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Fixture {
            sources: owned(sources),
            compiler: owned(compiler),
            flags: owned(flags),
            libraries: owned(libraries),
        }
    }

    /// C as distributions build it: optimized, no frame pointers, `.eh_frame`.
    pub fn c(sources: &[&str]) -> Fixture {
        let flags = ["-O2", "-g", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror"];
        Fixture::new(&["cc"], sources, &flags, &["-lpthread", "-ldl"])
    }

    pub fn cc(source: &str) -> Fixture {
        let flags = ["-O2", "-g", "-fomit-frame-pointer", "-std=c++17", "-Wall", "-Wextra", "-Werror"];
        Fixture::new(&["c++"], &[source], &flags, &["-lpthread"])
    }

    /// C, linked statically to musl.
    pub fn musl(source: &str) -> Fixture {
        Fixture::new(&["musl-gcc"], &[source], &["-O2", "-g", "-fomit-frame-pointer", "-static"], &[])
    }

    pub fn rust(source: &str) -> Fixture {
        Fixture::new(&["rustc"], &[source], &["--edition=2021", "-C", "opt-level=3", "-g"], &[])
    }

    pub fn go(source: &str) -> Fixture {
        Fixture::new(&[&super::installed("go").unwrap_or("go".into()), "build"], &[source], &[], &[])
    }

    /// Go sources of one package, built by this `go`.
    pub fn go_with(sources: &[&str], go: &str) -> Fixture {
        Fixture::new(&[go, "build"], sources, &[], &[])
    }

    /// Uses another compiler that takes the same flags.
    pub fn compiled_by(mut self, compiler: &str) -> Fixture {
        self.compiler[0] = compiler.to_owned();
        self
    }

    pub fn with(mut self, flags: &[&str]) -> Fixture {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Builds the program and returns its path. Panics with the compiler's output if the build
    /// fails.
    pub fn build(&self) -> PathBuf {
        let folder = self.folder();
        let name = Path::new(&self.sources[0]).file_stem().expect("a source has a name").to_owned();
        let program = folder.join(&name);
        if program.exists() {
            return program;
        }
        fs::create_dir_all(&folder).expect("target is writable");
        // Tests may build the same fixture at once. Each writes its own file, and the last rename wins.
        let thread = format!("{:?}", std::thread::current().id());
        let unfinished = folder.join(format!("unfinished-{}-{:x}", std::process::id(), hash_of(&thread)));
        let mut command = Command::new(&self.compiler[0]);
        command.args(&self.compiler[1..]).args(&self.flags).arg("-o").arg(&unfinished);
        command.args(self.sources.iter().map(|source| programs_folder().join(source)));
        command.args(&self.libraries);
        command.env("GOCACHE", go_cache()).env("GO111MODULE", "off");
        command.env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
        run_tool(&mut command);
        fs::rename(&unfinished, &program).expect("same folder");
        program
    }

    /// The folder of this fixture's files, named by a hash of the fixture's content.
    pub fn folder(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        for source in self.sources.iter().map(String::as_str).chain(["fixture.h"]) {
            fs::read(programs_folder().join(source)).expect("a fixture's source").hash(&mut hasher);
        }
        fixtures_folder().join(format!("{:016x}", hasher.finish()))
    }

    /// A stripped copy. Its debug information is in a `.debug` folder beside it, where debuggers
    /// look, and `.gnu_debuglink` names it.
    pub fn build_stripped_with_debug_link(&self) -> PathBuf {
        let whole = self.build();
        let folder = self.folder().join("stripped");
        let stripped = folder.join(whole.file_name().expect("a program has a name"));
        if stripped.exists() {
            return stripped;
        }
        let debug = folder.join(".debug").join("separate.debug");
        fs::create_dir_all(debug.parent().expect("in a folder")).expect("target is writable");
        run_tool(Command::new("objcopy").arg("--only-keep-debug").arg(&whole).arg(&debug));
        let unfinished = folder.join("unfinished");
        run_tool(Command::new("strip").arg("--strip-all").arg("-o").arg(&unfinished).arg(&whole));
        let link = format!("--add-gnu-debuglink={}", debug.display());
        run_tool(Command::new("objcopy").arg(link).arg(&unfinished));
        fs::rename(&unfinished, &stripped).expect("same folder");
        stripped
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn programs_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs")
}

fn fixtures_folder() -> PathBuf {
    // The test runs from target/<profile>/deps.
    let own = std::env::current_exe().expect("/proc is mounted");
    own.ancestors().nth(3).expect("below target").join("fixtures")
}

/// The go tool's cache. It is the user's own, so that a new checkout does not compile the standard
/// library of each Go release again.
pub fn go_cache() -> PathBuf {
    let of_user = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    of_user("GOCACHE")
        .or_else(|| of_user("XDG_CACHE_HOME").map(|folder| folder.join("go-build")))
        .or_else(|| of_user("HOME").map(|folder| folder.join(".cache/go-build")))
        .unwrap_or_else(|| fixtures_folder().join("go-cache"))
}

/// Runs a tool that must succeed and returns its standard output.
pub fn run_tool(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

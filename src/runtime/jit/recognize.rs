//! Which program or library generated the code in a process's memory, by the names of the files
//! that it has mapped, and what makes it state the names of that code.
//!
//! Not here: names.

/// A program or library that generates code at run time.
#[derive(Debug, PartialEq, Eq)]
pub struct Generator {
    /// Its name, as in `[jit code: .NET]`.
    pub name: &'static str,
    /// What makes it write names, for a message: `start it with …`.
    pub advice: &'static str,
    /// The beginnings of the names of its files; a release may follow (`libruby-3.1.so`).
    files: &'static [&'static str],
}

/// The generators, the most specific first: a program may use several.
const GENERATORS: &[Generator] = &[
    Generator {
        name: "Bun",
        advice: "start it with BUN_JSC_useJITDump=1 BUN_JSC_jitDumpDirectory=/tmp in the environment",
        files: &["bun", "bun-profile"],
    },
    Generator {
        name: "Deno",
        advice: "start it with `deno run --v8-flags=--perf-basic-prof`",
        files: &["deno"],
    },
    Generator {
        name: ".NET",
        advice: "start it with DOTNET_PerfMapEnabled=1 in the environment",
        files: &["libcoreclr.so", "libclrjit.so"],
    },
    Generator {
        name: "Mono",
        advice: "start it with `mono --jitmap`",
        files: &["libmonosgen", "mono-sgen", "mono"],
    },
    Generator {
        name: "Erlang",
        advice: "start the emulator with `+JPperf true` (OTP 24 or newer)",
        files: &["beam.smp"],
    },
    Generator {
        name: "Java",
        advice: "`jcmd PID Compiler.perfmap` writes names (JDK 17 or newer)",
        files: &["libjvm.so"],
    },
    Generator {
        name: "Julia",
        advice: "start it with ENABLE_GDBLISTENER=1 in the environment",
        files: &["libjulia"],
    },
    Generator {
        name: "PostgreSQL",
        advice: "set jit_debugging_support = on when the server starts",
        files: &["llvmjit.so"],
    },
    Generator {
        name: "wasmtime",
        advice: "start it with `wasmtime run --profile=perfmap`, or set the profiler in its Config",
        files: &["wasmtime", "libwasmtime", "_wasmtime"],
    },
    Generator {
        name: "LuaJIT",
        advice: "LuaJIT writes names only if it was built with LUAJIT_USE_PERFTOOLS",
        files: &["luajit", "libluajit"],
    },
    Generator { name: "QEMU", advice: "start it with `-perfmap` (QEMU 8 or newer)", files: &["qemu-"] },
    Generator {
        name: "Firefox",
        advice: "start it with IONPERF=func in the environment",
        files: &["libxul.so", "libmozjs"],
    },
    Generator {
        name: "V8",
        advice: "start it with --perf-basic-prof (Chromium and Electron: --js-flags=--perf-basic-prof)",
        files: &["node", "nodejs", "libnode.so", "libv8.so", "chrome", "chromium", "electron"],
    },
    Generator {
        name: "PHP",
        advice: "start it with `-d opcache.jit_debug=16`",
        files: &["php", "php-fpm", "php-cgi", "libphp"],
    },
    Generator {
        name: "Ruby",
        advice: "start it with `ruby --yjit-perf` (3.3 or newer)",
        files: &["ruby", "libruby"],
    },
    Generator {
        name: "LLVM",
        advice: "the program must add LLVM's GDB or perf listener to its engine",
        files: &["libLLVM", "libllvmlite"],
    },
];

impl Generator {
    /// The generator that a file belongs to, and its rank: of several in one process, the one with
    /// the lowest counts. `path`: the file's path in the process's mount namespace.
    pub fn of_file(path: &str) -> Option<(usize, &'static Generator)> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_named = |generator: &Generator| generator.files.iter().any(|file| is_version_of(name, file));
        GENERATORS.iter().enumerate().find(|(_, generator)| is_named(generator))
    }
}

/// Whether a file name is `name` with a release or an architecture.
fn is_version_of(file: &str, name: &str) -> bool {
    file.strip_prefix(name).is_some_and(|rest| {
        name.ends_with('-') || !rest.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
    })
}

/// How executable memory without an ELF file is called in profiles: what kind of memory it is, and
/// whose code it holds. `path`: as in /proc/PID/maps, or `//anon`.
pub fn memory_name(path: &str, generator: Option<&Generator>) -> String {
    if let Some(generator) = generator {
        return format!("[jit code: {}]", generator.name);
    }
    let plain = |name: &str| name.replace('/', "_");
    let inside = |prefix: &str| path.strip_prefix(prefix).map(|rest| plain(rest.trim_end_matches(']')));
    if path.is_empty() || path == "//anon" {
        return "[anon executable]".to_owned();
    }
    if let Some(name) = inside("[anon:").or_else(|| inside("[anon_shmem:")) {
        return format!("[anon executable: {name}]");
    }
    if let Some(name) = inside("/memfd:") {
        return format!("[memfd: {name}]");
    }
    match path {
        "/dev/zero" => "[shared memory]".to_owned(),
        _ if path.starts_with("/SYSV") => "[shared memory]".to_owned(),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_generate_code_are_recognized_by_their_files() {
        let name = |path: &str| Generator::of_file(path).map(|(_, generator)| generator.name);
        for (path, expected) in [
            ("/usr/local/bin/bun", Some("Bun")),
            ("/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/libcoreclr.so", Some(".NET")),
            ("/usr/bin/php8.2", Some("PHP")),
            ("/usr/lib/libruby-3.3.so.3.3", Some("Ruby")),
            ("/usr/bin/qemu-aarch64", Some("QEMU")),
            ("/usr/bin/luajit-2.1.0-beta3", Some("LuaJIT")),
            ("/usr/lib/x86_64-linux-gnu/libLLVM-14.so.1", Some("LLVM")),
            ("/usr/bin/bundle", None),
            ("/usr/bin/phpize", None),
            ("/usr/lib/libc.so.6", None),
        ] {
            assert_eq!(name(path), expected, "{path}");
        }
    }

    #[test]
    fn memory_without_a_file_is_called_by_its_kind() {
        let php = Generator::of_file("/usr/bin/php8.2").map(|(_, generator)| generator);
        for (path, generator, expected) in [
            ("//anon", None, "[anon executable]"),
            ("", php, "[jit code: PHP]"),
            ("[anon:a/b]", None, "[anon executable: a_b]"),
            ("/memfd:doublemapper", None, "[memfd: doublemapper]"),
            ("/dev/zero", None, "[shared memory]"),
            ("[heap]", None, "[heap]"),
            ("/dev/shm/code", None, "/dev/shm/code"),
        ] {
            assert_eq!(memory_name(path, generator), expected);
        }
    }
}

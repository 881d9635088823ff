//! What kind of code a frame is: the program's own, or code that a summary folds.
//!
//! [`category`] is the only place that decides it.

use crate::text::path::base_name;

/// What kind of code a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// The program's own code, and everything that is not recognized.
    Own,
    /// Functions of a library: the function that the program called is shown, what that calls is
    /// not.
    Library,
    /// Code between the program's own functions that says nothing about them: the scheduler of a
    /// runtime, an interpreter, adapters of closures.
    Runtime,
    /// What runs before the first own function of a thread.
    Start,
    /// The kernel.
    Kernel,
}

/// The categories that a capture wrote into the file: comments `category: CATEGORY WHAT TEXT`, by
/// the path of the mapping, or by the beginning of the function's name or source file.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<(Category, What, String)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Mapping,
    Function,
    Source,
}

impl Rules {
    /// Reads the comments; others and unknown categories are ignored.
    pub fn new<'c>(comments: impl Iterator<Item = &'c str>) -> Rules {
        let rule = |comment: &str| {
            let mut words = comment.strip_prefix("category: ")?.splitn(3, ' ');
            let category = match words.next()? {
                "interpreter" | "runtime" => Category::Runtime,
                "library" => Category::Library,
                _ => return None,
            };
            let what = match words.next()? {
                "mapping" => What::Mapping,
                "function" => What::Function,
                "source" => What::Source,
                _ => return None,
            };
            Some((category, what, words.next().filter(|text| !text.is_empty())?.to_owned()))
        };
        Rules(comments.filter_map(rule).collect())
    }

    fn category(&self, frame: &FrameFacts<'_>) -> Option<Category> {
        let applies = |(_, what, text): &&(Category, What, String)| match what {
            What::Mapping => frame.module == text,
            What::Function => frame.name.starts_with(text.as_str()),
            What::Source => frame.file.starts_with(text.as_str()),
        };
        self.0.iter().find(applies).map(|(category, ..)| *category)
    }
}

/// What is known of a frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameFacts<'f> {
    /// The function's name, demangled.
    pub name: &'f str,
    /// Its source file; empty: unknown.
    pub file: &'f str,
    /// The path of its module; empty: none.
    pub module: &'f str,
    /// The path of the main binary.
    pub main_module: &'f str,
    /// Whether its address is in the upper half of the address space.
    pub is_kernel_address: bool,
}

/// Functions that run before a program's or thread's own code.
const START: [&str; 22] = [
    "_start",
    "start",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_main@@GLIBC_2.34",
    "__libc_start_call_main",
    "libc_start_main_stage2",
    "_dl_start",
    "_dl_start_user",
    "start_thread",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "thread_start",
    "thread_start_t",
    "ret_from_fork",
    "ret_from_fork_asm",
    "__rust_begin_short_backtrace",
    "runtime.goexit",
    "runtime.rt0_go",
    "runtime.main",
];

/// Prefixes of names that begin a Rust program or thread.
const START_PREFIXES: [&str; 6] = [
    "std::rt::",
    "std::panic::catch_unwind",
    "std::panicking::",
    "std::sys::backtrace::__rust_begin_short_backtrace",
    "std::sys_common::backtrace::__rust_begin_short_backtrace",
    "runtime.goexit",
];

/// Prefixes of names that are machinery between own functions.
const RUNTIME_PREFIXES: [&str; 34] = [
    // Rust: threads, closures, futures.
    "std::sys::",
    "std::sys_common::",
    "std::thread::",
    "core::ops::function::",
    "core::pin::",
    "core::future::",
    "tokio::",
    "tokio_util::",
    "futures_util::",
    "futures_core::",
    "mio::",
    "rayon_core::",
    "async_std::",
    // C++: closures and threads.
    "std::_Function_handler",
    "std::function",
    "std::__invoke",
    "std::invoke",
    "std::_Bind",
    "std::__function::",
    "std::_Thread",
    // Go's scheduler, memory and system calls.
    "runtime.",
    "runtime/",
    "internal/",
    "syscall.",
    // libuv, Node.js, V8.
    "uv__",
    "uv_",
    "node::",
    "v8::",
    "Builtins_",
    // CPython.
    "_PyEval",
    "PyEval_",
    "Py_RunMain",
    "pymain_",
    "_PyFunction_Vectorcall",
];

/// Programs and libraries that are interpreters or virtual machines, whole, by the beginning of
/// their file names.
const INTERPRETERS: [&str; 12] = [
    "python",
    "libpython",
    "node",
    "nodejs",
    "libnode",
    "ruby",
    "libruby",
    "php",
    "libphp",
    "java",
    "libjvm",
    "perl",
];

/// Top-level packages of Go's standard library.
const GO_PACKAGES: [&str; 41] = [
    "archive",
    "bufio",
    "bytes",
    "cmp",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "debug",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "flag",
    "fmt",
    "go",
    "hash",
    "html",
    "image",
    "index",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "reflect",
    "regexp",
    "slices",
    "sort",
    "strconv",
    "strings",
    "sync",
    "testing",
    "text",
    "time",
    "unicode",
];

/// Ends of source files whose functions are not native code: their module is an interpreter.
const SCRIPTS: [&str; 5] = [".py", ".js", ".mjs", ".rb", ".php"];

/// The category of a frame: by the rules in the file; without one, by what is known of modules,
/// names and source files.
pub fn category(frame: &FrameFacts<'_>, rules: &Rules) -> Category {
    if frame.is_kernel_address || is_kernel_module(frame.module) {
        return Category::Kernel;
    }
    let name = frame.name.trim_start_matches('<');
    let bare = name.split("::").last().unwrap_or(name);
    if START.contains(&name)
        || bare == "__rust_begin_short_backtrace"
        || START_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    {
        return Category::Start;
    }
    if let Some(category) = rules.category(frame) {
        return category;
    }
    if SCRIPTS.iter().any(|end| frame.file.ends_with(end)) {
        let is_installed = frame.file.contains("/site-packages/") || frame.file.contains("/node_modules/");
        return if is_installed { Category::Library } else { Category::Own };
    }
    if is_language_code(frame.module) {
        return Category::Own;
    }
    let is_adapter =
        name.contains(" as core::ops::function::Fn") || name.contains(" as core::future::future::Future>");
    let is_own_future = is_adapter && !name.starts_with("core::") && !name.starts_with("alloc::");
    if RUNTIME_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || is_adapter && !is_own_future {
        return Category::Runtime;
    }
    if is_interpreter(frame.module) {
        return Category::Runtime;
    }
    if is_library_name(name, frame.file) || !frame.module.is_empty() && frame.module != frame.main_module {
        return Category::Library;
    }
    Category::Own
}

/// Whether a mapping has frames of a language (`[Python]`), or code that a runtime generated.
fn is_language_code(module: &str) -> bool {
    let is_named = module.starts_with('[') && !["[vdso]", "[vsyscall]", "[rprof]"].contains(&module);
    is_named || module.starts_with("//anon")
}

fn is_kernel_module(module: &str) -> bool {
    module.starts_with("[kernel") || module.starts_with("[guest.kernel") || module.ends_with(".ko")
}

fn is_interpreter(module: &str) -> bool {
    let file = base_name(module);
    INTERPRETERS.iter().any(|name| {
        let rest = file.strip_prefix(name);
        rest.is_some_and(|rest| {
            !rest.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        })
    })
}

/// Whether the name or the source file is of a standard library that is linked into programs.
fn is_library_name(name: &str, file: &str) -> bool {
    let is_std =
        ["std::", "core::", "alloc::", "hashbrown::", "__gnu_cxx::", "operator new", "operator delete"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
    is_std || file.starts_with("/rustc/") || file.contains("/.cargo/registry/src/") || is_go_package(name)
}

/// Whether a name is of a package of Go's standard library: `net/http.(*conn).serve`.
fn is_go_package(name: &str) -> bool {
    let plain = &name[..name.find(['(', '[', '<', ' ', ':']).unwrap_or(name.len())];
    let first = plain.split(['/', '.']).next().unwrap_or_default();
    plain.contains('.') && first.len() < plain.len() && GO_PACKAGES.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, module: &str) -> Category {
        let main_module = "/bin/app";
        let module = if module.is_empty() { main_module } else { module };
        let facts = FrameFacts { name, file: "", module, main_module, is_kernel_address: false };
        category(&facts, &Rules::default())
    }

    #[test]
    fn the_rules_of_the_file_come_first() {
        let comments = [
            "category: interpreter mapping /opt/lang",
            "category: library source /opt/lib/",
            "category: runtime function sched.",
            "category: other function main",
            "category: runtime function ",
        ];
        let rules = Rules::new(comments.into_iter());
        let of = |name, file, module| {
            let facts = FrameFacts { name, file, module, main_module: "/bin/app", is_kernel_address: false };
            category(&facts, &rules)
        };
        assert_eq!(of("eval", "", "/opt/lang"), Category::Runtime);
        assert_eq!(of("join", "/opt/lib/path.py", ""), Category::Library);
        assert_eq!(of("handle", "/srv/app.py", "/opt/other"), Category::Own);
        assert_eq!(of("<module>", "<string>", "[Python]"), Category::Own);
        assert_eq!(of("LazyCompile:~work /srv/app.js", "", "//anon"), Category::Own);
        assert_eq!(of("sched.run", "", "/bin/app"), Category::Runtime);
        assert_eq!(of("main", "", "/bin/app"), Category::Own);
    }

    #[test]
    fn frames_are_recognized_by_module_and_name() {
        for (name, module, expected) in [
            ("setCommand", "", Category::Own),
            ("shop::main::{{closure}}", "", Category::Own),
            ("<shop::Work as core::future::future::Future>::poll", "", Category::Own),
            ("<core::pin::Pin<P> as core::future::future::Future>::poll", "", Category::Runtime),
            ("main.work", "", Category::Own),
            ("github.com/a/b.Run", "", Category::Own),
            ("net/http.(*conn).serve", "", Category::Library),
            ("strings.Index", "", Category::Library),
            ("runtime.mallocgc", "", Category::Runtime),
            ("runtime.main", "", Category::Start),
            ("std::vector<Row>::at", "", Category::Library),
            ("<alloc::vec::Vec<T>>::push", "", Category::Library),
            ("tokio::runtime::park::Inner::park", "", Category::Runtime),
            ("std::rt::lang_start", "", Category::Start),
            ("__memcpy_avx", "/usr/lib/libc.so.6", Category::Library),
            ("_PyEval_EvalFrameDefault", "/usr/bin/python3.11", Category::Runtime),
            ("anything", "/usr/lib/libpython3.11.so.1.0", Category::Runtime),
            ("anything", "/opt/nodesman", Category::Library),
            ("vfs_read", "[kernel.kallsyms]", Category::Kernel),
            ("__libc_start_main_impl", "/usr/lib/libc.so.6", Category::Start),
        ] {
            assert_eq!(of(name, module), expected, "{name} {module}");
        }
    }
}

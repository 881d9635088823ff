//! Checks the architecture: which module may use which, where `unsafe` and `cfg(target_arch)` are
//! allowed, which modules may print, how long a file may be. `style` checks words and lines.
//!
//! Reads the sources as text, with the standard library only. Nothing here compiles or runs rprof.
//! A change of the design is a change of the tables below, in its own commit, with the reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

#[path = "architecture/files.rs"]
mod files;
#[path = "architecture/style.rs"]
mod style;

/// A module of `src/` and the modules that it may use. Lower layers first.
const MAY_USE: &[(&str, &[&str])] = &[
    ("addr", &[]),
    ("budget", &[]),
    ("issue", &[]),
    ("text", &[]),
    ("profile", &["text"]),
    ("sys", &["addr"]),
    ("arch", &["addr"]),
    ("elf", &["sys", "addr", "budget"]),
    ("process", &["sys", "arch", "addr", "budget"]),
    ("sampler", &["process", "sys", "arch", "addr"]),
    ("unwind", &["elf", "process", "arch", "addr"]),
    ("symbolize", &["elf", "process", "addr", "budget"]),
    ("disassemble", &["elf", "addr", "budget"]),
    // Core files: the memory, threads and files of a process that has ended.
    ("core_file", &["elf", "process", "sys", "arch", "addr", "budget"]),
    // The heaps of native allocators. Runtimes implement its traits for their own allocators.
    ("heap", &["symbolize", "elf", "process", "sys", "arch", "addr", "budget", "text"]),
    ("runtime", &["heap", "unwind", "symbolize", "elf", "process", "arch", "addr", "budget", "text"]),
    (
        "capture",
        &[
            "runtime",
            "heap",
            "core_file",
            "sampler",
            "unwind",
            "symbolize",
            "elf",
            "process",
            "profile",
            "issue",
            "addr",
            "budget",
            "text",
        ],
    ),
    ("report", &["profile", "text"]),
    ("ship", &["profile", "issue"]),
    ("spool", &["profile", "text"]),
    ("shell", &["report", "profile", "text"]),
    // The pages depend on reports only. The server passes in how to open programs and draw graphs.
    ("web", &["report", "profile", "text"]),
    ("serve", &["web", "capture", "report", "spool", "ship", "profile", "process", "issue", "addr", "text"]),
    ("sidecar", &["capture", "process", "spool", "ship", "profile", "issue", "addr", "budget", "text"]),
    (
        "cli",
        &[
            "sidecar",
            "spool",
            "serve",
            "web",
            "shell",
            "ship",
            "capture",
            "core_file",
            "report",
            "runtime",
            "sampler",
            "unwind",
            "symbolize",
            "disassemble",
            "elf",
            "process",
            "profile",
            "issue",
            "addr",
            "text",
        ],
    ),
    ("main", &["cli"]),
];

/// Files that declare the modules, and therefore name all of them.
const MAPS: &[&str] = &["lib"];

/// Code that is allowed in some modules only, and why.
const CONFINED: &[Confined] = &[
    Confined {
        rule: "unsafe",
        text: "unsafe",
        homes: &["sys"],
        in_tests_too: true,
        reason: "unsafe code and raw system calls belong behind safe functions in src/sys/",
    },
    Confined {
        rule: "cpu",
        text: "target_arch",
        homes: &["arch"],
        in_tests_too: true,
        reason: "code that differs by CPU belongs in src/arch/, one file per CPU",
    },
    printing("println!"),
    printing("eprintln!"),
    printing("print!"),
    printing("eprint!"),
    printing("dbg!"),
    exiting("process::exit"),
    exiting("process::abort"),
];

const fn printing(text: &'static str) -> Confined {
    Confined {
        rule: "print",
        text,
        homes: &["cli", "shell", "main"],
        in_tests_too: false,
        reason: "below the command line, results are returned, and problems are errors or issues",
    }
}

const fn exiting(text: &'static str) -> Confined {
    Confined {
        rule: "exit",
        text,
        homes: &["cli", "shell", "main"],
        in_tests_too: false,
        reason: "only the command line decides when rprof exits",
    }
}

struct Confined {
    rule: &'static str,
    /// Code, matched at identifier boundaries.
    text: &'static str,
    homes: &'static [&'static str],
    /// Whether the rule applies to test modules too.
    in_tests_too: bool,
    reason: &'static str,
}

/// The most lines per file that are not blank, not a comment and not in a test module.
const MAX_CODE_LINES: usize = 500;

/// The most lines of a function, from `fn` to its closing brace.
const MAX_FUNCTION_LINES: usize = 80;

/// Tables of data, which may be longer. Paths are relative to `src/`.
const DATA_FILES: &[&str] = &[];

/// One violation of the rules.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: String,
    line: usize,
    rule: &'static str,
    why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: [{}] {}", self.file, self.line, self.rule, self.why)
    }
}

// ---------------------------------------------------------------------------------------------
// Reading Rust as text

/// A source file in three versions of the same length, byte for byte and line for line.
struct Source {
    /// Comments blanked.
    uncommented: String,
    /// Comments and the content of string and character literals blanked.
    code: String,
    /// `code` with `#[cfg(test)]` modules, functions and imports blanked too.
    product: String,
}

impl Source {
    fn read(text: &str) -> Source {
        let (uncommented, code) = blank_comments_and_literals(text);
        let product = blank_test_items(&code);
        Source { uncommented, code, product }
    }

    fn code_lines(&self) -> usize {
        let counted = self.uncommented.lines().zip(self.product.lines().zip(self.code.lines()));
        // A line whose code is blank in `product` belongs to a test. A line without code may be part of a string.
        counted
            .filter(|(text, (product, code))| !text.trim().is_empty() && product.trim() == code.trim())
            .count()
    }
}

/// The end of the line comment that begins at `start`.
fn end_of_line(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| start + at)
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start + 2, 1);
    while at < bytes.len() && depth > 0 {
        match bytes[at..].get(..2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at.min(bytes.len())
}

/// `start` is at the opening quote.
fn end_of_quoted(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The end of a raw string, if one begins at `start` (at its `r`).
fn end_of_raw_string(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = start + 1 + hashes;
    (bytes.get(open) == Some(&b'"')).then_some(())?;
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let found = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    Some(found.map_or(bytes.len(), |at| open + 1 + at + close.len()))
}

/// The end of a character literal at `start` (at its quote); `None` for a lifetime.
fn end_of_character(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        return Some(end_of_quoted(bytes, start, b'\''));
    }
    let text = std::str::from_utf8(&bytes[start + 1..bytes.len().min(start + 6)])
        .or_else(|error| std::str::from_utf8(&bytes[start + 1..start + 1 + error.valid_up_to()]))
        .ok()?;
    let width = text.chars().next()?.len_utf8();
    (bytes.get(start + 1 + width) == Some(&b'\'')).then_some(start + 2 + width)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn blank_comments_and_literals(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let (mut uncommented, mut code) = (bytes.to_vec(), bytes.to_vec());
    let blank = |target: &mut [u8]| {
        target.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    };
    let mut at = 0;
    while at < bytes.len() {
        let begins_word = at == 0 || !is_word(bytes[at - 1]);
        let raw_prefix = bytes[at] == b'r' && (begins_word || b"bc".contains(&bytes[at - 1]));
        let (end, comment) = match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'/')) => (end_of_line(bytes, at), true),
            (b'/', Some(b'*')) => (end_of_block_comment(bytes, at), true),
            (b'"', _) => (end_of_quoted(bytes, at, b'"'), false),
            (b'r', Some(b'"' | b'#')) if raw_prefix => match end_of_raw_string(bytes, at) {
                Some(end) => (end, false),
                None => (at + 1, false),
            },
            (b'\'', _) => match end_of_character(bytes, at) {
                Some(end) => (end, false),
                None => (at + 1, false),
            },
            _ => (at + 1, false),
        };
        if comment {
            blank(&mut uncommented[at..end]);
        }
        if comment || end > at + 1 {
            blank(&mut code[at..end]);
        }
        at = end;
    }
    let text = |bytes| String::from_utf8(bytes).expect("whole characters are blanked");
    (text(uncommented), text(code))
}

/// Blanks what follows `#[cfg(test)]`: up to the `;`, or over the balanced braces.
fn blank_test_items(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let mut depth = 0usize;
        let mut end = start + "#[cfg(test)]".len();
        while end < bytes.len() {
            match bytes[end] {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            let done = depth == 0 && matches!(bytes[end], b'}' | b';');
            end += 1;
            if done {
                break;
            }
        }
        bytes[start..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    String::from_utf8(bytes).expect("code is blanked from # to a brace")
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Positions of `words`, not as parts of longer identifiers.
fn occurrences<'a>(code: &'a str, words: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(words).map(|(at, _)| at).filter(move |at| {
        let end = at + words.len();
        let last = words.as_bytes()[words.len() - 1];
        (*at == 0 || !is_word(bytes[at - 1]))
            && (!is_word(last) || bytes.get(end).is_none_or(|next| !is_word(*next)))
    })
}

fn identifier(text: &str) -> &str {
    let length = text.bytes().take_while(|byte| is_word(*byte)).count();
    &text[..length]
}

/// The first names in the rest of a path: `a::b` gives `a`; `{a::b, c}` gives `a` and `c`.
fn first_names(rest: &str) -> Vec<(usize, &str)> {
    let trimmed = rest.trim_start();
    let skipped = rest.len() - trimmed.len();
    if !trimmed.starts_with('{') {
        return vec![(skipped, identifier(trimmed))];
    }
    let (mut depth, mut expects, mut names) = (0, false, Vec::new());
    for (at, byte) in trimmed.bytes().enumerate() {
        match byte {
            b'{' => (depth, expects) = (depth + 1, depth == 0),
            b'}' => depth -= 1,
            b',' if depth == 1 => expects = true,
            _ if expects && depth == 1 && is_word(byte) => {
                names.push((skipped + at, identifier(&trimmed[at..])));
                expects = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// The top-level modules that a file names, with the lines: through `crate::`, and through a chain
/// of `super::` long enough to reach the root. `depth` is how many modules deep the file's own
/// module is.
fn uses(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut add = |start: usize| {
        for (at, name) in first_names(&code[start..]) {
            found.push((line_of(code, start + at), name.to_owned()));
        }
    };
    for at in occurrences(code, "crate::") {
        add(at + "crate::".len());
    }
    let mut next = 0;
    for at in occurrences(code, "super::") {
        if at < next {
            continue;
        }
        let chain = code[at..].split_inclusive("::").take_while(|part| *part == "super::").count();
        next = at + chain * "super::".len();
        if chain >= depth {
            add(next);
        }
    }
    found
}

// ---------------------------------------------------------------------------------------------
// The rules

/// `elf/notes.rs` belongs to `elf`; `main.rs` to `main`.
fn module_of(file: &str) -> &str {
    let first = file.split('/').next().expect("split gives at least one part");
    first.strip_suffix(".rs").unwrap_or(first)
}

/// How many modules deep: `addr.rs` and `elf/mod.rs` 1, `elf/notes.rs` 2.
fn module_depth(file: &str) -> usize {
    let parts = file.split('/').count();
    if file.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// A whole file of tests (`mod tests;` under `#[cfg(test)]` in its parent).
fn is_test_file(file: &str) -> bool {
    let path = Path::new(file);
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem == "tests" || stem.ends_with("_tests") || path.iter().any(|part| part == "tests")
}

fn check_file(file: &str, text: &str) -> Vec<Violation> {
    let source = Source::read(text);
    let mut violations = Vec::new();
    if !text.starts_with("//!") {
        let why = "the first line of a file must be `//! …` and say what the file is".to_owned();
        violations.push(Violation { file: file.to_owned(), line: 1, rule: "module-doc", why });
    }
    check_uses(file, &source, &mut violations);
    check_confined(file, &source, &mut violations);
    check_runtimes(file, &source, &mut violations);
    check_languages(file, &source, &mut violations);
    let lines = source.code_lines();
    if lines > MAX_CODE_LINES && !DATA_FILES.contains(&file) && !is_test_file(file) {
        let why = format!("{lines} lines of code, more than {MAX_CODE_LINES}: split it by topic");
        violations.push(Violation { file: file.to_owned(), line: 1, rule: "length", why });
    }
    check_functions(file, &source, &mut violations);
    violations.sort();
    violations
}

fn check_functions(file: &str, source: &Source, violations: &mut Vec<Violation>) {
    if is_test_file(file) {
        return;
    }
    for (at, lines) in functions(&source.product) {
        if lines > MAX_FUNCTION_LINES {
            let why = format!("a function of {lines} lines, more than {MAX_FUNCTION_LINES}: split it");
            let line = line_of(&source.product, at);
            violations.push(Violation { file: file.to_owned(), line, rule: "function-length", why });
        }
    }
}

/// The opening brace of the function at `start`; `None` for a declaration or a type such as
/// `fn(u8)`.
fn body(code: &str, start: usize) -> Option<usize> {
    let bytes = code.as_bytes();
    if bytes.get(start + "fn".len()) != Some(&b' ') {
        return None;
    }
    let mut depth = 0usize;
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The functions with a body: the position of `fn`, and the number of lines to the closing brace.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for at in occurrences(code, "fn") {
        let Some(open) = body(code, at) else { continue };
        let mut depth = 0usize;
        let close = code.as_bytes()[open..].iter().position(|byte| {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let end = close.map_or(code.len(), |offset| open + offset);
        found.push((at, code[at..end].matches('\n').count() + 1));
    }
    found
}

fn edges(file: &str, source: &Source) -> Vec<(usize, String)> {
    let module = module_of(file);
    if MAPS.contains(&module) || is_test_file(file) {
        return Vec::new();
    }
    let mut found = uses(&source.product, module_depth(file));
    if module == "main" {
        for at in occurrences(&source.product, "rprof::") {
            let start = at + "rprof::".len();
            let names = first_names(&source.product[start..]);
            found.extend(
                names.iter().map(|(at, name)| (line_of(&source.product, start + at), (*name).to_owned())),
            );
        }
    }
    found.retain(|(_, used)| used != module && MAY_USE.iter().any(|(known, _)| known == used));
    found
}

fn check_uses(file: &str, source: &Source, violations: &mut Vec<Violation>) {
    let module = module_of(file);
    let mut violation =
        |line, why| violations.push(Violation { file: file.to_owned(), line, rule: "layers", why });
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
        if !MAPS.contains(&module) {
            violation(1, format!("module `{module}` has no row in the table of layers"));
        }
        return;
    };
    for (line, used) in edges(file, source) {
        if !allowed.contains(&used.as_str()) {
            let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
            violation(line, format!("`{module}` may not use `{used}`: it may use {allowed}"));
        }
    }
}

fn check_confined(file: &str, source: &Source, violations: &mut Vec<Violation>) {
    for confined in CONFINED.iter().filter(|confined| !confined.homes.contains(&module_of(file))) {
        let code = if confined.in_tests_too { &source.code } else { &source.product };
        if !confined.in_tests_too && is_test_file(file) {
            continue;
        }
        for at in occurrences(code, confined.text) {
            let why = format!("`{}`: {}", confined.text, confined.reason);
            let line = line_of(code, at);
            violations.push(Violation { file: file.to_owned(), line, rule: confined.rule, why });
        }
    }
}

/// Modules that read processes and files: they serve every language alike. `runtime` is where
/// languages are; `symbolize` has demanglers and `disassemble` syntaxes.
const WITHOUT_LANGUAGES: &[&str] =
    &["budget", "issue", "sys", "arch", "elf", "process", "sampler", "unwind", "heap", "capture"];

/// Words that name a language or a part of its runtime. In `WITHOUT_LANGUAGES` no identifier has
/// one of them, except in tests.
const LANGUAGE_WORDS: &[&str] = &[
    "go",
    "golang",
    "gc",
    "goroutine",
    "goroutines",
    "pclntab",
    "moduledata",
    "python",
    "cpython",
    "gil",
    "tstate",
    "java",
    "jvm",
    "hotspot",
    "node",
    "v8",
    "ruby",
    "php",
    "perl",
    "beam",
    "erlang",
    "lua",
    "dotnet",
];

/// The words of an identifier, in lower case: `GoTables`, `go_tables` and `GO_TABLES` have `go`.
fn words(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in identifier.chars() {
        if c == '_' || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase() || c.is_ascii_digit();
        if c != '_' {
            words.last_mut().expect("not empty").extend(c.to_lowercase());
        }
    }
    words
}

/// A module left of `profile` must not name a language, and nothing but `runtime` may name the
/// folder of one.
fn check_languages(file: &str, source: &Source, violations: &mut Vec<Violation>) {
    let module = module_of(file);
    let mut violation = |at: usize, why: String| {
        let line = line_of(&source.product, at);
        violations.push(Violation { file: file.to_owned(), line, rule: "languages", why });
    };
    if module != "runtime" && !is_test_file(file) {
        for at in occurrences(&source.product, "runtime::") {
            let start = at + "runtime::".len();
            for (inside, name) in first_names(&source.product[start..]) {
                if Path::new(env!("CARGO_MANIFEST_DIR")).join("src/runtime").join(name).is_dir()
                    && !name.is_empty()
                {
                    let why =
                        format!("`runtime::{name}`: languages are used through the traits of `runtime`");
                    violation(start + inside, why);
                }
            }
        }
    }
    if !WITHOUT_LANGUAGES.contains(&module) || is_test_file(file) {
        return;
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    for identifier in source.product.split(|c| !is_part(c)).filter(|text| !text.is_empty()) {
        if words(identifier).iter().any(|word| LANGUAGE_WORDS.contains(&word.as_str())) {
            let at = identifier.as_ptr() as usize - source.product.as_ptr() as usize;
            violation(at, format!("`{identifier}` names a language: it belongs in `runtime`"));
        }
    }
}

/// A runtime must not use another: `runtime/go/…` does not name `runtime::python`.
fn check_runtimes(file: &str, source: &Source, violations: &mut Vec<Violation>) {
    let mut parts = file.split('/');
    let (Some("runtime"), Some(own), Some(_)) = (parts.next(), parts.next(), parts.next()) else { return };
    for at in occurrences(&source.product, "runtime::") {
        let start = at + "runtime::".len();
        for (_, name) in first_names(&source.product[start..]) {
            let is_sibling = !name.is_empty() && name != own && name.starts_with(char::is_lowercase);
            if is_sibling && Path::new(env!("CARGO_MANIFEST_DIR")).join("src/runtime").join(name).is_dir() {
                let why = format!("runtime `{own}` names runtime `{name}`: runtimes are independent");
                let line = line_of(&source.product, at);
                violations.push(Violation { file: file.to_owned(), line, rule: "runtimes", why });
            }
        }
    }
}

/// A cycle in a graph of modules, as the path that closes it.
fn cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        node: &str,
        graph: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|visited| visited == node) {
            let mut closed = path[start..].to_vec();
            closed.push(node.to_owned());
            return Some(closed);
        }
        if done.contains(node) {
            return None;
        }
        path.push(node.to_owned());
        let found = graph.get(node).into_iter().flatten().find_map(|next| visit(next, graph, path, done));
        path.pop();
        done.insert(node.to_owned());
        found
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|node| visit(node, graph, &mut Vec::new(), &mut done))
}

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let relative = |path: &Path| path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
    paths
        .iter()
        .map(|path| (relative(path), fs::read_to_string(path).expect("a source is readable UTF-8")))
        .collect()
}

#[test]
fn the_sources_follow_the_architecture() {
    let sources = sources();
    assert!(sources.len() > 10, "only {} files found in src", sources.len());
    let violations: Vec<String> = (sources.iter())
        .flat_map(|(file, text)| check_file(file, text))
        .map(|violation| violation.to_string())
        .collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn the_modules_have_no_cycle() {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in sources() {
        let used = edges(&file, &Source::read(&text)).into_iter().map(|(_, used)| used);
        graph.entry(module_of(&file).to_owned()).or_default().extend(used);
    }
    assert_eq!(cycle(&graph), None);
}

#[test]
fn the_table_has_no_cycle_and_names_only_its_own_rows() {
    let graph = (MAY_USE.iter())
        .map(|(module, uses)| ((*module).to_owned(), uses.iter().map(|used| (*used).to_owned()).collect()))
        .collect();
    assert_eq!(cycle(&graph), None);
    let rows: BTreeSet<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    assert_eq!(rows.len(), MAY_USE.len(), "a module has two rows");
    for (module, uses) in MAY_USE {
        for used in *uses {
            assert!(rows.contains(used), "`{module}` may use `{used}`, which has no row");
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Tests of the checker

mod checker {
    use super::*;

    fn rules(file: &str, text: &str) -> Vec<(usize, &'static str)> {
        check_file(file, &format!("//! A file.\n{text}"))
            .into_iter()
            .map(|violation| (violation.line, violation.rule))
            .collect()
    }

    #[test]
    fn an_edge_outside_the_table_is_caught_in_every_spelling() {
        for text in [
            "use crate::sampler::Event;",
            "use crate::{addr::ElfAddr, sampler::Event};",
            "use crate::{\n    addr::{ElfAddr, FileOffset}, sampler};",
            "fn f() -> crate::sampler::Event { loop {} }",
            "pub use crate::sampler;",
            "use super::super::sampler::Event;",
            "use super::super::{addr, sampler::Event};",
        ] {
            assert_eq!(rules("elf/notes.rs", text).len(), 1, "{text}");
            assert_eq!(rules("elf/notes.rs", text)[0].1, "layers", "{text}");
        }
        assert_eq!(rules("elf/mod.rs", "\nuse super::sampler::Event;"), [(3, "layers")]);
        assert_eq!(rules("main.rs", "fn main() { rprof::capture::run() }"), [(2, "layers")]);
    }

    #[test]
    fn an_edge_of_the_table_is_allowed() {
        for text in ["use crate::{addr::ElfAddr, sys::file_map::FileMap};", "use super::Section;", ""] {
            assert_eq!(rules("elf/notes.rs", text), []);
        }
        assert_eq!(rules("main.rs", "fn main() { rprof::cli::run() }"), []);
        assert_eq!(rules("elf/notes.rs", "use crate::elf::Section; use super::super::elf;"), []);
        assert_eq!(rules("lib.rs", "pub mod addr; pub use crate::capture::run;"), []);
    }

    #[test]
    fn a_module_without_a_row_is_caught() {
        assert_eq!(rules("util.rs", ""), [(1, "layers")]);
        assert_eq!(rules("common/strings.rs", ""), [(1, "layers")]);
    }

    #[test]
    fn comments_strings_and_tests_are_not_checked() {
        for text in [
            "// use crate::sampler::Event; println!()",
            "/* unsafe /* nested */ use crate::sampler; */",
            r#"const A: &str = "unsafe { crate::sampler } \" println!()";"#,
            "const A: &str = r#\"unsafe \" println!()\"#;",
            "const A: &[u8] = br\"unsafe\\\";",
            "const A: char = '\"'; const B: &str = \"unsafe\"; const C: char = '\\'';",
            "#[cfg(test)]\nmod tests {\n    use crate::sampler; fn f() { println!(\"}\"); }\n}",
            "#[cfg(test)]\nuse crate::sampler;",
        ] {
            assert_eq!(rules("elf/notes.rs", text), [], "{text}");
        }
    }

    #[test]
    fn code_after_a_literal_a_lifetime_or_a_test_module_is_checked() {
        for text in [
            "const A: &str = \"x\"; unsafe fn f() {}",
            "fn f<'a>(x: &'a u8) { unsafe { g(x) } } fn h<'b>() {}",
            "const A: char = '\\u{7f}'; unsafe fn f() {}",
            "#[cfg(test)]\nmod tests { fn f() {} }\nunsafe fn f() {}",
            "const A: char = 'é'; unsafe fn f() {}",
        ] {
            assert_eq!(rules("elf/notes.rs", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn unsafe_is_caught_outside_sys_even_in_tests() {
        assert_eq!(rules("elf/mod.rs", "unsafe fn f() {}"), [(2, "unsafe")]);
        assert_eq!(rules("elf/mod.rs", "#[cfg(test)]\nmod tests { unsafe fn f() {} }"), [(3, "unsafe")]);
        assert_eq!(rules("sys/ring.rs", "unsafe fn f() {}"), []);
        assert_eq!(rules("elf/mod.rs", "#![forbid(unsafe_code)]"), []);
    }

    #[test]
    fn cpu_conditions_are_caught_outside_arch() {
        let text = "#[cfg(target_arch = \"x86_64\")]\nfn f() {}";
        assert_eq!(rules("unwind/mod.rs", text), [(2, "cpu")]);
        assert_eq!(
            rules("unwind/mod.rs", "#[cfg(all(unix, target_arch = \"x86_64\"))] mod a;"),
            [(2, "cpu")]
        );
        assert_eq!(rules("arch/mod.rs", text), []);
    }

    #[test]
    fn printing_and_exiting_are_caught_below_the_command_line() {
        for text in ["println!()", "eprintln!()", "print!()", "eprint!()", "dbg!(1)"] {
            let text = format!("fn f() {{ {text}; }}");
            assert_eq!(rules("capture/mod.rs", &text), [(2, "print")], "{text}");
            assert_eq!(rules("cli/mod.rs", &text), []);
        }
        assert_eq!(rules("report/mod.rs", "fn f() { std::process::exit(1) }"), [(2, "exit")]);
        assert_eq!(rules("shell/mod.rs", "fn f() { println!(); std::process::exit(1) }"), []);
        assert_eq!(
            rules("report/mod.rs", "fn f(out: &mut W) { writeln!(out, \"x\"); pretty_print!(); }"),
            []
        );
    }

    #[test]
    fn a_language_is_caught_left_of_profile_and_its_folder_everywhere() {
        for text in [
            "fn is_go() {}",
            "struct GoTables;",
            "const GO_G: u16 = 14;",
            "use a::goroutines;",
            "fn f(gil: u8) {}",
        ] {
            assert_eq!(rules("unwind/mod.rs", text), [(2, "languages")], "{text}");
            assert_eq!(rules("runtime/go/mod.rs", text), [], "{text}");
            assert_eq!(rules("report/mod.rs", text), [], "{text}");
        }
        for text in ["fn category() {}", "// is_go", "const A: &str = \"go\";", "struct Pergola;"] {
            assert_eq!(rules("unwind/mod.rs", text), [], "{text}");
        }
        assert_eq!(rules("cli/info.rs", "use crate::runtime::go::GoInfo;"), [(2, "languages")]);
        assert_eq!(rules("cli/info.rs", "use crate::runtime::{self, Info};"), []);
    }

    #[test]
    fn a_long_file_is_caught_and_comments_blanks_and_tests_do_not_count() {
        let code = |lines: usize| "fn f() {}\n".repeat(lines);
        assert_eq!(rules("elf/mod.rs", &code(MAX_CODE_LINES)), []);
        assert_eq!(rules("elf/mod.rs", &code(MAX_CODE_LINES + 1)), [(1, "length")]);
        let padded = format!(
            "{}\n// comment\n\n/* more\n lines */\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            code(MAX_CODE_LINES),
            code(600)
        );
        assert_eq!(rules("elf/mod.rs", &padded), []);
        let text_lines = format!("const A: &str = \"{}\";", "x\n".repeat(MAX_CODE_LINES + 1));
        assert_eq!(rules("elf/mod.rs", &text_lines), [(1, "length")]);
    }

    #[test]
    fn a_long_function_is_caught_and_tests_and_signatures_are_not() {
        let function = |lines: usize| format!("fn f() -> [u8; 2] {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        assert_eq!(rules("elf/mod.rs", &function(MAX_FUNCTION_LINES)), []);
        assert_eq!(rules("elf/mod.rs", &function(MAX_FUNCTION_LINES + 1)), [(2, "function-length")]);
        let nested = format!("impl A {{\n    {}}}", function(MAX_FUNCTION_LINES + 1));
        assert_eq!(rules("elf/mod.rs", &nested), [(3, "function-length")]);
        let test = format!("#[cfg(test)]\nmod tests {{\n{}}}", function(100));
        assert_eq!(rules("elf/mod.rs", &test), []);
        let many = format!("trait A {{ fn f(); }}\nstruct B(fn(u8) -> u8);\n{}", function(10).repeat(20));
        assert_eq!(rules("elf/mod.rs", &many), []);
    }

    #[test]
    fn a_file_without_a_module_comment_is_caught() {
        let violations = check_file("addr.rs", "use std::fmt;\n//! Too late.");
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].to_string().split("] ").next(), Some("src/addr.rs:1: [module-doc"));
    }

    #[test]
    fn a_cycle_is_found() {
        let graph = |edges: &[(&str, &str)]| {
            let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (from, to) in edges {
                graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            }
            graph
        };
        assert_eq!(cycle(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
        let found = cycle(&graph(&[("a", "b"), ("b", "c"), ("c", "b")])).expect("b and c name each other");
        assert_eq!(found, ["b", "c", "b"]);
    }
}

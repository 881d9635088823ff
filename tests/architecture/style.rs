//! Checks the words and lines of documents, sources, scripts and tests: line length, banned
//! phrases, banned type names. `rprof --help` comes from doc comments and strings in `src/cli`, so
//! it is covered.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// The longest line of a document, and of a doc comment, in characters. Exempt are table rows
/// (Markdown cannot wrap them), code blocks (they show real output) and lines without a blank (a
/// long URL).
const MAX_COLUMNS: usize = 100;

/// Phrases that are not plain technical English, in lower case, and what to write instead. A phrase
/// is found at word boundaries, in any case, and across line breaks.
const BANNED_PHRASES: &[(&str, &str)] = &[
    ("a kind of its own", "a separate kind"),
    ("all there is", "everything"),
    ("asker", "client"),
    ("askers", "clients"),
    ("at hand", "available"),
    ("be had", "is available"),
    ("carried along", "embedded"),
    ("dear", "expensive"),
    ("for want of", "because … is missing"),
    ("go by", "use, pass, are named"),
    ("goes by", "uses, passes, is named"),
    ("hang up", "close the connection"),
    ("hangs up", "closes the connection"),
    ("in its words", "in its format"),
    ("in the midst", "during"),
    ("in the words of", "in the format of"),
    ("is as it was", "is restored"),
    ("keeps no such account", "does not record it"),
    ("longer than nothing", "greater than 0"),
    ("may not or cannot", "cannot"),
    ("of a moment", "instant"),
    ("said so", "reported"),
    ("seen from here", "visible in this PID namespace"),
    ("seldom", "rarely"),
    ("so many of them", "a number"),
    ("stand in the", "are in the"),
    ("stands in the", "is in the"),
    ("stood in the", "was in the"),
    ("tell apart", "distinguish"),
    ("tells apart", "distinguishes"),
    ("told apart", "distinguished"),
    ("told from", "distinguished from"),
    ("is told", "is reported"),
    ("are told", "are reported"),
    ("tells of", "describes"),
    ("there is to", "name the thing"),
    ("the same stands", "the same text is"),
    ("twins", "other instances"),
    ("what there is", "the list, the content"),
    ("whoever", "name the thing"),
    ("whom", "name the thing"),
    ("would obey", "control characters"),
];

/// Words that are not names of types: what the type is should be said (Request, Response, Snapshot,
/// Method).
const BANNED_TYPES: &[&str] = &["Ask", "Asked", "Made", "Moment", "Seen", "Told", "Wanted", "Way", "Wish"];

/// This file lists the phrases. The others are foreign texts.
const EXEMPT: &[&str] = &[
    "tests/architecture/style.rs",
    "tests/fixtures/pprof/golden",
    "tests/fixtures/pprof/LICENSE",
    "src/report/graphviz/LICENSE",
];

/// One violation, by file and line.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.why)
    }
}

// ---------------------------------------------------------------------------------------------
// Reading text

/// The text of a file as one line: comment markers and line breaks are replaced by single blanks,
/// so that a phrase is found across lines.
struct Prose {
    /// Lower case.
    text: String,
    /// The offset in `text` at which each line begins.
    lines: Vec<usize>,
}

impl Prose {
    fn read(text: &str) -> Prose {
        let (mut joined, mut lines) = (String::new(), Vec::new());
        for line in text.lines() {
            lines.push(joined.len());
            let content = without_comment_marker(line.trim()).trim_end_matches('\\').trim();
            joined.push_str(&content.to_lowercase());
            joined.push(' ');
        }
        Prose { text: joined, lines }
    }

    /// The lines, counted from 1, on which a phrase begins.
    fn find<'a>(&'a self, phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
        super::occurrences(&self.text, phrase).map(|at| self.lines.partition_point(|start| *start <= at))
    }
}

fn without_comment_marker(line: &str) -> &str {
    ["//!", "///", "//", "/*", "# ", "*", ">"]
        .iter()
        .find_map(|marker| line.strip_prefix(marker))
        .unwrap_or(line)
        .trim_start()
}

fn is_markdown(file: &str) -> bool {
    file.ends_with(".md")
}

/// The lines of a file whose length is limited, counted from 1.
fn limited_lines<'a>(file: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let is_source = file.ends_with(".rs");
    if !is_source && !is_markdown(file) {
        return Vec::new();
    }
    let (mut in_block, mut limited) = (false, Vec::new());
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let doc = trimmed.strip_prefix("///").or_else(|| trimmed.strip_prefix("//!"));
        let content =
            if is_source { doc.map(|doc| doc.strip_prefix(' ').unwrap_or(doc)) } else { Some(line) };
        let Some(content) = content else {
            in_block = false;
            continue;
        };
        let is_fence = content.trim_start().starts_with("```");
        in_block ^= is_fence;
        if !in_block && !is_fence && !content.starts_with('|') && !content.starts_with("    ") {
            limited.push((at + 1, line));
        }
    }
    limited
}

// ---------------------------------------------------------------------------------------------
// The rules

fn check_style(file: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut add = |line, why| violations.push(Violation { file: file.to_owned(), line, why });
    for (line, content) in limited_lines(file, text) {
        let columns = content.chars().count();
        if columns > MAX_COLUMNS && content.trim().contains(' ') {
            add(line, format!("{columns} columns, more than {MAX_COLUMNS}"));
        }
    }
    let prose = Prose::read(text);
    for (phrase, instead) in BANNED_PHRASES {
        for line in prose.find(phrase) {
            add(line, format!("\"{phrase}\" is not plain English; write: {instead}"));
        }
    }
    if file.ends_with(".rs") {
        let code = super::Source::read(text).code;
        for (line, name) in declared_types(&code) {
            if BANNED_TYPES.contains(&name) {
                add(line, format!("`{name}` does not tell what the type is"));
            }
        }
    }
    violations.sort_by_key(|violation| violation.line);
    violations
}

/// The types that code declares, with their lines.
fn declared_types(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for keyword in ["struct", "enum", "trait", "type", "union"] {
        for at in super::occurrences(code, keyword) {
            let rest = &code[at + keyword.len()..];
            if rest.starts_with(' ') {
                found.push((super::line_of(code, at), super::identifier(rest.trim_start())));
            }
        }
    }
    found
}

/// Documents, sources, scripts and tests, by path relative to the repository.
fn texts() -> Vec<(String, String)> {
    const ROOTS: &[&str] = &["docs", "src", "tests", "scripts", "fuzz/entries", ".ci"];
    const FILES: &[&str] = &["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile", "Cargo.toml"];
    const TEXTS: &[&str] = &["c", "cc", "css", "go", "h", "html", "js", "md", "mjs", "py", "rs", "s"];
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("a folder of the repository").path();
            if path.is_dir() {
                if !path.ends_with("node_modules") {
                    walk(&path, found);
                }
                continue;
            }
            let extension = path.extension().map(|extension| extension.to_string_lossy().into_owned());
            if extension.is_none_or(|extension| TEXTS.contains(&extension.as_str())) {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = FILES.iter().map(|file| root.join(file)).collect();
    ROOTS.iter().for_each(|folder| walk(&root.join(folder), &mut paths));
    paths.sort();
    (paths.iter())
        .map(|path| (path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned(), path))
        .filter(|(file, _)| !EXEMPT.iter().any(|exempt| file.starts_with(exempt)))
        .filter_map(|(file, path)| Some((file, fs::read_to_string(path).ok()?)))
        .collect()
}

fn is_document(file: &str) -> bool {
    is_markdown(file) && !file.starts_with("src/")
}

fn violations(texts: &[(String, String)], checked: impl Fn(&str) -> bool) -> String {
    let checked = texts.iter().filter(|(file, _)| checked(file));
    let found: Vec<String> = checked
        .flat_map(|(file, text)| check_style(file, text))
        .map(|violation| violation.to_string())
        .collect();
    found.join("\n")
}

#[test]
fn documents_are_in_plain_english_and_have_short_lines() {
    let texts = texts();
    for file in ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/HOW-IT-WORKS.md"] {
        assert!(texts.iter().any(|(found, _)| found == file), "{file} is not checked");
    }
    assert_eq!(violations(&texts, is_document), "");
}

#[test]
fn sources_scripts_and_tests_are_in_plain_english() {
    let texts = texts();
    for file in ["src/main.rs", "src/web/assets/app.js", "src/sampler/bpf/cpu.bpf.c", "scripts/test"] {
        assert!(texts.iter().any(|(found, _)| found == file), "{file} is not checked");
    }
    assert_eq!(violations(&texts, |file| !is_document(file)), "");
}

// ---------------------------------------------------------------------------------------------
// Links

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> Vec<String> {
    let mut in_block = false;
    (text.lines())
        .filter(|line| {
            in_block ^= line.starts_with("```");
            !in_block && line.starts_with('#')
        })
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// The targets of a document's relative links: a path (empty: the document itself) and an anchor.
fn links(text: &str) -> Vec<(&str, &str)> {
    (text.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .filter(|target| !target.contains("://"))
        .map(|target| target.split_once('#').unwrap_or((target, "")))
        .collect()
}

fn broken_links(file: &str, text: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let folder = Path::new(file).parent().expect("a file is in a folder");
    let mut broken = Vec::new();
    for (path, wanted) in links(text) {
        let target = if path.is_empty() { PathBuf::from(file) } else { folder.join(path) };
        let found = read(&target);
        if !found.is_some_and(|text| wanted.is_empty() || anchors(&text).iter().any(|found| found == wanted))
        {
            broken.push(format!("{file}: {path}#{wanted}"));
        }
    }
    broken
}

#[test]
fn links_between_documents_lead_to_a_file_and_a_heading() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Pictures are not text.
    let read = |path: &Path| {
        let bytes = fs::read(root.join(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let broken: Vec<String> = (texts().iter())
        .filter(|(file, _)| is_markdown(file))
        .flat_map(|(file, text)| broken_links(file, text, read))
        .collect();
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

/// The longest piece of a message without its variable parts: `…`, names in capitals, texts of the
/// system.
fn longest_fixed_piece(message: &str) -> String {
    let words = message.split(' ').map(|word| word.trim_end_matches('.'));
    let is_variable = |word: &&str| *word == "…" || word.len() < 5 && word.chars().all(char::is_uppercase);
    let fixed = words.map(|word| if is_variable(&word) { "\n" } else { word }).collect::<Vec<_>>().join(" ");
    let pieces = fixed.split(['\n', ':']).map(str::trim).filter(|piece| *piece != "Operation not permitted");
    pieces.max_by_key(|piece| piece.len()).expect("at least one piece").to_lowercase()
}

/// The messages that docs/PERMISSIONS.md explains are those that rprof prints.
#[test]
fn every_message_that_permissions_explains_is_in_the_sources() {
    let texts = texts();
    let read = |name: &str| &texts.iter().find(|(file, _)| file == name).expect("a document").1;
    let (_, explained) = read("docs/PERMISSIONS.md").split_once("## By message").expect("the section");
    let messages: Vec<&str> = (explained.lines())
        .filter(|line| line.starts_with("**"))
        .flat_map(|line| line.split("**").skip(1).step_by(2))
        .collect();
    assert!(messages.len() > 10, "only {messages:?}");
    let sources: Vec<Prose> = (texts.iter())
        .filter(|(file, _)| file.starts_with("src/"))
        .map(|(_, text)| Prose::read(text))
        .collect();
    for message in messages {
        let longest = longest_fixed_piece(message);
        assert!(sources.iter().any(|prose| prose.text.contains(&longest)), "{message:?} is in no source");
    }
}

// ---------------------------------------------------------------------------------------------
// Tests of the checker

mod checker {
    use super::*;

    fn lines(file: &str, text: &str) -> Vec<usize> {
        check_style(file, text).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn a_banned_phrase_is_found_in_any_case_and_across_lines() {
        for (file, text) in [
            ("docs/A.md", "Fine.\nNot to be had."),
            ("docs/A.md", "Fine.\nNot to be\nhad."),
            ("docs/A.md", "```\nTold apart\n```"),
            ("src/a.rs", "//! A file.\n/// It can be\n/// had.\nfn f() {}"),
            ("src/a.rs", "//! A file.\nconst A: &str = \"can be \\\n    had\";"),
            ("src/a.rs", "//! A file.\n// An asker."),
            ("src/web/assets/a.js", "let a;\n// the twins"),
            ("scripts/a", "#!/bin/sh\n# to whom\n"),
        ] {
            assert_eq!(lines(file, text), [2], "{text}");
        }
    }

    #[test]
    fn a_phrase_within_other_words_is_allowed() {
        assert_eq!(lines("docs/A.md", "The maskers be hadron at handles. Deary."), []);
    }

    #[test]
    fn a_long_line_of_a_document_is_found() {
        let long = "word ".repeat(30);
        assert_eq!(lines("docs/A.md", &format!("ok\n{long}\n")), [2]);
        assert_eq!(lines("docs/A.md", &format!("ok\n- `code` {long}\n")), [2]);
        assert_eq!(lines("docs/A.md", &format!("`code` {long}\n")), [1]);
        assert_eq!(lines("docs/A.md", &format!("```\nx\n```\n{long}\n")), [4]);
        assert_eq!(lines("src/a.rs", &format!("//! A file.\n/// {long}\nfn f() {{}}")), [2]);
        assert_eq!(lines("src/a.rs", &format!("//! ```\n//! x\nfn f() {{}}\n/// {long}\n")), [4]);
        assert_eq!(lines("docs/A.md", &format!("{}é\n", "a ".repeat(49))), [], "characters count, not bytes");
    }

    #[test]
    fn tables_code_blocks_and_urls_may_be_long() {
        let long = "word ".repeat(30);
        for text in [
            format!("| {long} |\n"),
            format!("```\n{long}\n```\n"),
            format!("    {long}\n"),
            format!("https://example.org/{}\n", "a".repeat(100)),
        ] {
            assert_eq!(lines("docs/A.md", &text), [], "{text}");
        }
        assert_eq!(lines("src/a.rs", &format!("//! ```text\n//! {long}\n//! ```\n")), []);
        assert_eq!(lines("src/a.rs", &format!("//! A file.\nconst A: &str = \"{long}\";")), []);
    }

    #[test]
    fn a_banned_type_name_is_found_where_it_is_declared() {
        for text in ["struct Ask;", "pub(crate) enum Told { A }", "trait Way {}", "type Moment = u64;"] {
            assert_eq!(lines("src/a.rs", &format!("//! A file.\n{text}")), [2], "{text}");
        }
        for text in ["struct Task;", "struct Wayland;", "// struct Ask", "const A: &str = \"struct Ask\";"] {
            assert_eq!(lines("src/a.rs", &format!("//! A file.\n{text}")), [], "{text}");
        }
    }

    #[test]
    fn the_fixed_piece_of_a_message_is_found() {
        assert_eq!(longest_fixed_piece("may not read … of process N"), "may not read");
        assert_eq!(longest_fixed_piece("FILE has been deleted since."), "has been deleted since");
        assert_eq!(longest_fixed_piece("ptrace: Operation not permitted"), "ptrace");
        assert_eq!(
            longest_fixed_piece("a limit is N (at most M is needed) and CAP_X is missing"),
            "is needed) and cap_x is missing"
        );
    }

    #[test]
    fn a_broken_link_is_found() {
        let read = |path: &Path| match path.to_str() {
            Some("docs/B.md" | "docs/../docs/B.md") => Some("# One `two`: three\n".to_owned()),
            Some("docs/A.md") => Some("# Own\n```\n# not this\n```\n".to_owned()),
            _ => None,
        };
        let broken = |text: &str| broken_links("docs/A.md", text, read).len();
        assert_eq!(broken("[b](B.md) [b](B.md#one-two-three) [own](#own) [w](https://x.org/#y)"), 0);
        assert_eq!(broken("[b](C.md)"), 1);
        assert_eq!(broken("[b](B.md#four)"), 1);
        assert_eq!(broken("[own](#not-this)"), 1);
    }
}

//! No cycle between files: a file that uses another one, directly or through others, is not used by
//! it. And no module passes on another module's names.
//!
//! A `mod.rs` that passes on its children's names (`pub use child::Name`) does not use them: who
//! uses such a name uses the file that defines it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, cycle, identifier, is_test_file, is_word, line_of, occurrences, sources};

/// Files whose types refer to each other, and why.
const RECURSIVE: &[(&[&str], &str)] = &[(
    &["capture/error", "capture/kinds", "capture/kinds/maker", "capture/request", "capture/response"],
    "a kind's row has the functions that take a request for it and return a response or an error",
)];

/// Names of another module that are part of a module's own interface, and why.
const PASSED_ON: &[(&str, &str)] = &[
    ("crate::sys::opener::Opened", "process::files returns it"),
    ("crate::sys::launch::Ending", "process::launch returns it"),
    ("crate::sys::launch::Gate", "process::launch returns it"),
    ("crate::sys::ptrace::HoldError", "it is the source of errors of sampler::look"),
    ("crate::arch::Registers", "unwinding begins with them"),
    ("crate::sys::perf::Denial", "it is the source of errors of sampler"),
    ("crate::sys::perf::PerfError", "it is the source of errors of sampler"),
];

/// A path in a `use` or in code, from the crate's root or relative, as its names.
type Names = Vec<String>;

/// What a file refers to.
#[derive(Default)]
struct References {
    /// Imports: their names, and whether they are passed on (`pub use`).
    imports: Vec<(Names, bool)>,
    /// Paths in code that begin with `crate::`, `self::` or `super::`.
    paths: Vec<Names>,
}

/// `elf/notes.rs` is the module `[elf, notes]`, `elf/mod.rs` is `[elf]`.
fn module(file: &str) -> Names {
    let mut names: Names = file.trim_end_matches(".rs").split('/').map(String::from).collect();
    if names.last().is_some_and(|last| last == "mod" || last == "lib") {
        names.pop();
    }
    names
}

/// All paths of a `use` tree: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn expand(tree: &str, before: &[String]) -> Vec<Names> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let names = path.split("::").map(|name| name.trim().to_owned());
        return vec![before.iter().cloned().chain(names).collect()];
    };
    let mut before = before.to_vec();
    before.extend(tree[..open].split("::").map(str::trim).filter(|name| !name.is_empty()).map(String::from));
    let inner = tree[open + 1..].trim_end().trim_end_matches('}');
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    found.extend(expand(&inner[start..at], &before));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// Whether the import at `at` is passed on: `pub` or `pub(…)` precedes it.
fn is_passed_on(code: &str, at: usize) -> bool {
    let before = code[..at].trim_end();
    let before = match before.strip_suffix(')') {
        Some(_) => before.rfind('(').map_or(before, |open| before[..open].trim_end()),
        None => before,
    };
    before.ends_with("pub") && !before[..before.len() - 3].bytes().next_back().is_some_and(is_word)
}

fn references(code: &str) -> References {
    let (mut found, mut rest) = (References::default(), code.to_owned());
    for at in occurrences(code, "use") {
        let start = at + "use".len();
        let Some(length) = code[start..].find(';') else { continue };
        // A bound (`impl Trait + use<'a>`) is no import.
        if code[start..].trim_start().starts_with('<') {
            continue;
        }
        let passes_on = is_passed_on(code, at);
        found
            .imports
            .extend(expand(&code[start..start + length], &[]).into_iter().map(|names| (names, passes_on)));
        rest.replace_range(at..start + length, &" ".repeat(start + length - at));
    }
    for root in ["crate", "self", "super"] {
        for at in occurrences(&rest, root) {
            if rest[..at].ends_with("::") {
                continue;
            }
            let mut names = vec![root.to_owned()];
            let mut next = &rest[at + root.len()..];
            while let Some(after) = next.strip_prefix("::") {
                let name = identifier(after);
                if name.is_empty() {
                    break;
                }
                names.push(name.to_owned());
                next = &after[name.len()..];
            }
            if names.len() > 1 {
                found.paths.push(names);
            }
        }
    }
    found
}

/// All files by their modules, with what they pass on.
struct Files {
    references: BTreeMap<Names, References>,
    passed_on: BTreeMap<Names, BTreeMap<String, Names>>,
}

impl Files {
    fn read(texts: &[(String, String)]) -> Files {
        let product = texts.iter().filter(|(file, _)| !is_test_file(file) && file != "main.rs");
        let references: BTreeMap<Names, References> =
            product.map(|(file, text)| (module(file), references(&Source::read(text).product))).collect();
        let mut files = Files { references, passed_on: BTreeMap::new() };
        let mut passed_on: BTreeMap<Names, BTreeMap<String, Names>> = BTreeMap::new();
        for (module, references) in &files.references {
            for (names, _) in references.imports.iter().filter(|(_, is_passed_on)| *is_passed_on) {
                if let (Some(path), Some(last)) = (files.absolute(module, names), names.last()) {
                    passed_on.entry(module.clone()).or_default().insert(last.clone(), path);
                }
            }
        }
        files.passed_on = passed_on;
        files
    }

    /// A path from the crate's root; `None`: it leads out of the crate, or to a local name.
    fn absolute(&self, module: &Names, names: &Names) -> Option<Names> {
        let supers = names.iter().take_while(|name| *name == "super").count();
        let join = |module: &[String], rest: &[String]| Some(module.iter().chain(rest).cloned().collect());
        match names.first()?.as_str() {
            "crate" => join(&[], &names[1..]),
            "self" => join(module, &names[1..]),
            "super" => join(&module[..module.len().checked_sub(supers)?], &names[supers..]),
            first => {
                let child: Names = module.iter().cloned().chain([first.to_owned()]).collect();
                self.references.contains_key(&child).then(|| join(module, names))?
            }
        }
    }

    /// The file that defines what a path from the root names.
    fn definition(&self, path: &Names) -> Names {
        let mut path = path.clone();
        for _ in 0..8 {
            let length = (0..=path.len()).rev().find(|length| self.references.contains_key(&path[..*length]));
            let length = length.unwrap_or(0);
            let next = path.get(length).and_then(|name| self.passed_on.get(&path[..length])?.get(name));
            match next {
                Some(next) if *next != path => path = next.clone(),
                _ => return path[..length].to_vec(),
            }
        }
        path
    }

    /// The files that a file uses.
    fn used_by(&self, module: &Names) -> BTreeSet<Names> {
        let references = &self.references[module];
        let paths = references.imports.iter().map(|(names, is_passed_on)| (names, *is_passed_on));
        let all = paths.chain(references.paths.iter().map(|names| (names, false)));
        let mut used = BTreeSet::new();
        for (names, is_passed_on) in all {
            let Some(path) = self.absolute(module, names) else { continue };
            let definition = self.definition(&path);
            // A parent that passes on a name of its child does not use it.
            if definition.is_empty()
                || definition == *module
                || is_passed_on && definition.starts_with(module)
            {
                continue;
            }
            used.insert(definition);
        }
        used
    }

    /// The files that each file uses, without what [`RECURSIVE`] allows.
    fn graph(&self) -> BTreeMap<String, BTreeSet<String>> {
        let together = |one: &str, other: &str| {
            RECURSIVE.iter().any(|(files, _)| files.contains(&one) && files.contains(&other))
        };
        let mut graph = BTreeMap::new();
        for module in self.references.keys() {
            let from = module.join("/");
            let used = self.used_by(module).into_iter().map(|used| used.join("/"));
            let used: BTreeSet<String> = used.filter(|to| !together(&from, to)).collect();
            graph.insert(from, used);
        }
        graph
    }
}

#[test]
fn the_files_have_no_cycle() {
    let files = Files::read(&sources());
    assert!(files.references.len() > 100, "only {} files found in src", files.references.len());
    assert_eq!(cycle(&files.graph()), None);
}

#[test]
fn no_module_passes_on_the_names_of_another_one() {
    let mut violations = Vec::new();
    for (file, text) in sources() {
        let product = Source::read(&text).product;
        let own = module(&file).first().cloned().unwrap_or_default();
        for at in occurrences(&product, "use").filter(|at| is_passed_on(&product, *at)) {
            let end = product[at..].find(';').map_or(product.len(), |length| at + length);
            for names in expand(&product[at + 3..end], &[]) {
                let path = names.join("::");
                let is_foreign =
                    names.first().is_some_and(|first| first == "crate") && names.get(1) != Some(&own);
                if is_foreign && !PASSED_ON.iter().any(|(allowed, _)| *allowed == path) {
                    violations.push(format!("src/{file}:{}: {path}", line_of(&product, at)));
                }
            }
        }
    }
    assert!(violations.is_empty(), "re-exports of another module:\n{}", violations.join("\n"));
}

mod checker {
    use super::*;

    fn graph(texts: &[(&str, &str)]) -> BTreeMap<String, BTreeSet<String>> {
        let texts: Vec<_> =
            texts.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        Files::read(&texts).graph()
    }

    #[test]
    fn a_cycle_through_a_name_that_the_parent_passes_on_is_found() {
        let parent = ("a/mod.rs", "mod b; mod c; pub use b::B; pub use c::C;");
        let found =
            graph(&[parent, ("a/b.rs", "use super::C; pub struct B;"), ("a/c.rs", "use crate::a::B;")]);
        assert!(cycle(&found).is_some(), "{found:?}");
        let found = graph(&[parent, ("a/b.rs", "use super::C; pub struct B;"), ("a/c.rs", "pub struct C;")]);
        assert_eq!(cycle(&found), None);
    }

    #[test]
    fn paths_in_code_count_and_tests_do_not() {
        let b = ("a/b.rs", "fn f() { super::c::g(); }");
        let found = graph(&[("a/mod.rs", "mod b; mod c;"), b, ("a/c.rs", "fn g() { crate::a::b::f() }")]);
        assert!(cycle(&found).is_some(), "{found:?}");
        let test = ("a/c.rs", "#[cfg(test)] mod tests { use crate::a::b::f; }");
        assert_eq!(cycle(&graph(&[("a/mod.rs", "mod b; mod c;"), b, test])), None);
    }

    #[test]
    fn trees_of_imports_are_expanded() {
        let names = |path: &str| path.split("::").map(String::from).collect::<Names>();
        let found = expand("crate::{a::{self, b}, c as d}", &[]);
        assert_eq!(found, [names("crate::a::self"), names("crate::a::b"), names("crate::c")]);
    }
}

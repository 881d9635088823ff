//! The documents show only commands and options that rprof has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A use of rprof in a document: the verb and the options after it.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    verb: String,
    options: Vec<String>,
}

/// The commands `rprof VERB …` in a text, outside sentences: in code blocks and code spans.
fn uses(text: &str) -> Vec<Use> {
    let mut in_block = false;
    let mut pieces = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block || line.starts_with("    ") {
            pieces.extend(line.split(" && "));
        } else {
            pieces.extend(line.split('`').skip(1).step_by(2));
        }
    }
    pieces.into_iter().filter_map(command).collect()
}

/// Reads a command up to a comment, a pipe or a second column of text.
fn command(text: &str) -> Option<Use> {
    let text = text.trim_start().trim_start_matches("$ ").trim_start_matches("sudo ");
    let text = text.strip_prefix("rprof ")?.split("  ").next()?;
    let mut words = text.split(' ').take_while(|word| !["#", "|", ">", "--", "…", "&&"].contains(word));
    let verb = words.next().filter(|verb| verb.chars().all(|c| c.is_ascii_lowercase()))?;
    let options = words.filter(|word| word.starts_with('-') && word.len() > 1);
    let name =
        |option: &str| option.split('=').next().unwrap_or(option).trim_end_matches([',', ':']).to_owned();
    Some(Use { verb: verb.to_owned(), options: options.map(name).collect() })
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rprof")).args(arguments).output().expect("rprof runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The options in a help text, such as `-F` and `--frequency`.
fn options(help: &str) -> BTreeSet<String> {
    let ends = |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_';
    help.split([' ', '\n', '[', '<', '=', ',']).map(|word| word.trim_end_matches(ends).to_owned()).collect()
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed =
        fs::read_dir(root.join("docs")).expect("the documents").map(|entry| entry.expect("a file").path());
    let mut paths: Vec<PathBuf> =
        listed.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    paths.extend(["README.md", "CHANGELOG.md"].map(|name| root.join(name)));
    paths
}

#[test]
fn the_documents_show_only_commands_and_options_that_exist() {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut checked, mut unknown) = (0, Vec::new());
    for path in documents() {
        for found in uses(&fs::read_to_string(&path).expect("a text")) {
            let options = known.entry(found.verb.clone()).or_insert_with(|| match found.verb.as_str() {
                "pprof" => options(&help(&["pprof", "-h"])),
                verb => options(&help(&[verb, "--help"])),
            });
            checked += 1;
            for option in found.options.iter().filter(|option| !options.contains(*option)) {
                unknown.push(format!("{}: rprof {} {option}", path.display(), found.verb));
            }
        }
    }
    assert!(checked > 100, "only {checked} commands found");
    assert!(unknown.is_empty(), "not in --help:\n{}", unknown.join("\n"));
}

#[test]
fn a_command_is_read_from_blocks_and_spans() {
    let text = "See `rprof top -n 3` and rprof --nothing.\n```\n$ sudo rprof attach --pid 1 --kind=cpu -o a  # --x\n\
                rprof dump 1 --each     then --y\n```\n";
    let uses: Vec<(String, String)> =
        uses(text).into_iter().map(|found| (found.verb, found.options.join(" "))).collect();
    let wanted = [("top", "-n"), ("attach", "--pid --kind -o"), ("dump", "--each")];
    assert_eq!(uses, wanted.map(|(verb, options)| (verb.to_owned(), options.to_owned())));
}

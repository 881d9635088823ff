//! `rprof help`: the help of a verb, or a document. The documents are embedded in the binary,
//! because messages refer to them and a machine with rprof may not have its sources.

use std::io::{self, Write};

use clap::{CommandFactory, error::ErrorKind};

use super::args::{Cli, HelpArgs};

/// A document: its name on the command line, its text (Markdown), and what it is about.
struct Document {
    name: &'static str,
    text: &'static str,
    about: &'static str,
}

macro_rules! documents {
    ($($name:literal $file:literal $about:literal)*) => {
        &[$(Document { name: $name, text: include_str!(concat!("../../docs/", $file)), about: $about }),*]
    };
}

const DOCUMENTS: &[Document] = documents! {
    "cookbook" "COOKBOOK.md" "recipes: servers, languages, and what to do when it is stuck, grows or is slow"
    "permissions" "PERMISSIONS.md" "which rights profiling needs, and what error messages mean"
    "sidecar" "SIDECAR.md" "continuous profiling into a spool; Docker and Kubernetes"
    "deploying" "DEPLOYING.md" "the sidecar in operation: triggers, limits, metrics, Kubernetes, systemd"
    "how-it-works" "HOW-IT-WORKS.md" "samplers, unwinding, names, the file"
    "kernels" "KERNELS.md" "the kernels rprof is tested on, and what older ones lack"
    "reports" "REPORTS.md" "reading profiles; `rprof pprof`"
    "web" "WEB.md" "profiles in a browser"
    "live" "LIVE.md" "the live view"
    "dump" "DUMP.md" "stacks of all threads; page faults"
    "waiting" "WAITING.md" "off-CPU profiles and traces"
    "heap" "HEAP.md" "memory: whose it is; native heaps: in use, free, by size and type, what grew"
    "go" "GO.md" "goroutines, heap and the rest of Go programs"
    "python" "PYTHON.md" "Python programs: frames, threads, asyncio; from py-spy"
    "java" "JAVA.md" "Java programs: methods without an agent or an option"
    "node" "NODE.md" "Node.js programs: JavaScript functions without a flag"
    "jit" "JIT.md" "generated code of other runtimes: what gives it names"
    "http" "HTTP.md" "serving /debug/pprof/ of running processes"
    "mcp" "MCP.md" "the profiler as tools of a language model"
    "snapshot" "SNAPSHOT.md" "the incident bundle"
};

/// Prints the requested help.
///
/// # Errors
/// A usage error, for clap to print, if no verb and no document has the name.
pub fn run(arguments: &HelpArgs, out: &mut impl Write) -> Result<(), clap::Error> {
    let text = match &arguments.words[..] {
        [] => overview(),
        [word, ..] => document_by_file(word)
            .map(|document| document.text.to_owned())
            .or_else(|| verb(word))
            .or_else(|| document(word).map(|document| document.text.to_owned()))
            .ok_or_else(|| unknown(word))?,
    };
    // A closed pipe (`| head`) is no error.
    let _: io::Result<()> = out.write_all(text.as_bytes());
    Ok(())
}

/// The help of rprof itself, and the documents.
fn overview() -> String {
    let mut text = Cli::command().render_long_help().to_string();
    text.push_str("\nDocuments (rprof help NAME):\n");
    for document in DOCUMENTS {
        text.push_str(&format!("  {:<13} {}\n", document.name, document.about));
    }
    text
}

/// The help of a verb, with a reference to the document of the same name if there is one.
fn verb(word: &str) -> Option<String> {
    let mut rprof = Cli::command().bin_name("rprof");
    rprof.build();
    let mut text = rprof.find_subcommand_mut(word)?.render_long_help().to_string();
    if document(word).is_some() {
        text.push_str(&format!("\nThe document: rprof help {word}.md\n"));
    }
    Some(text)
}

fn document(word: &str) -> Option<&'static Document> {
    DOCUMENTS.iter().find(|document| document.name.eq_ignore_ascii_case(word))
}

/// A document by its file name, as in messages and in other documents: `docs/DUMP.md`.
fn document_by_file(word: &str) -> Option<&'static Document> {
    let stem = word.strip_suffix(".md")?;
    document(stem.strip_prefix("docs/").unwrap_or(stem))
}

fn unknown(word: &str) -> clap::Error {
    let command = Cli::command();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| verb.get_name());
    let names: Vec<&str> = verbs.chain(DOCUMENTS.iter().map(|document| document.name)).collect();
    let near =
        names.iter().max_by(|a, b| strsim::jaro_winkler(a, word).total_cmp(&strsim::jaro_winkler(b, word)));
    let hint = near.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
    let message = format!("no verb and no document is named '{word}'{hint}\n\n`rprof help` lists both");
    Cli::command().error(ErrorKind::InvalidSubcommand, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(words: &[&str]) -> Result<String, clap::Error> {
        let mut out = Vec::new();
        run(&HelpArgs { words: words.iter().map(|word| (*word).to_owned()).collect() }, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn the_help_of_a_verb_is_printed_by_its_name() {
        let text = help(&["attach"]).expect("a verb");
        assert!(text.contains("Usage: rprof attach") && text.contains("--duration"), "{text}");
    }

    #[test]
    fn a_document_is_printed_whole_by_its_name_and_by_its_file() {
        let text = help(&["permissions"]).expect("a document");
        assert_eq!(text, include_str!("../../docs/PERMISSIONS.md"));
        assert_eq!(help(&["docs/PERMISSIONS.md"]).expect("a document"), text);
        assert_eq!(help(&["Permissions.md"]).expect("a document"), text);
    }

    #[test]
    fn a_verb_and_a_document_of_the_same_name_are_both_available() {
        let verb = help(&["dump"]).expect("a verb");
        assert!(verb.contains("Usage: rprof dump") && verb.contains("rprof help dump.md"), "{verb}");
        assert_eq!(help(&["dump.md"]).expect("a document"), include_str!("../../docs/DUMP.md"));
    }

    #[test]
    fn the_overview_lists_every_verb_and_document() {
        let text = help(&[]).expect("the overview");
        for name in ["attach", "serve"].into_iter().chain(DOCUMENTS.iter().map(|document| document.name)) {
            assert!(text.contains(name), "{name} is missing from:\n{text}");
        }
    }

    #[test]
    fn a_wrong_name_suggests_the_nearest() {
        let error = help(&["permision"]).expect_err("no such name");
        assert!(error.to_string().contains("did you mean 'permissions'?"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn every_document_that_the_sources_mention_is_inside() {
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mention = regex::Regex::new(r"docs/([A-Z-]+)\.md").expect("a constant");
        let mut folders = vec![sources];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("own sources") {
                let path = entry.expect("own sources").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                // Comments are for those who have the sources.
                for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                    for found in mention.captures_iter(line) {
                        assert!(document(&found[1]).is_some(), "{}: {line}", path.display());
                    }
                }
            }
        }
    }
}

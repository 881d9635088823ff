//! The help text of `rprof pprof`.
//!
//! Not here: the tables it is made from (`report::pprof`).

use std::fmt::Write;

use crate::report::pprof::{COMMANDS, OPTIONS};

const HEAD: &str = "usage:

  A report, printed:
      rprof pprof <format> [options] [binary] <source> ...
  A prompt that makes reports:
      rprof pprof [options] [binary] <source> ...

A source is a profile: a file (profile.proto, gzipped or not, or one of the formats before it), or the
URL of a server that gives one. Several are put together. The binary, if given, stands for the first
mapping.

";

const SOURCES: &str = "
Beyond go tool pprof:
    -format name       Of top, text, tree, peek, list, tags, traces: json, markdown or csv

In a browser:
    -http [host]:port  Show the profile there, and open a browser; no host: this machine alone, no port: any
    -no_browser        Open none
    -token_file file   Where other machines can reach it: who asks must show the token on its first line

Where profiles come from:
    -seconds n         How long the server is to measure
    -timeout n         How many seconds to wait for it
    -tls_cert, -tls_key, -tls_ca   Certificate, its key, and the authority, for https
    -base source       Subtract this profile
    -diff_base source  Compare with this profile: percentages are of it
    -buildid id        Build-id of the main binary, if the profile has none
    -add_comment text  Put a comment into the profile
    -symbolize mode    none, local, fastlocal, remote; :force; :demangle=none|full|templates

Short for -sample_index:
    -inuse_space -inuse_objects -alloc_space -alloc_objects
    -contentions -total_delay -mean_delay (with -mean)

Environment:
    PPROF_BINARY_PATH  Folders with binaries (default $HOME/pprof/binaries)
    PPROF_TMPDIR       Folder for profiles that were fetched (default $HOME/pprof)
";

/// The whole text.
pub(super) fn text() -> String {
    let mut text = String::from(HEAD);
    // Writing to memory does not fail.
    let _ = writeln!(text, "Formats (one at most):");
    for command in COMMANDS {
        let argument = if command.has_argument { " regexp" } else { "" };
        let _ = writeln!(text, "    -{:<17} {}", format!("{}{argument}", command.name), command.help);
    }
    let _ = writeln!(text, "\nOptions:");
    for option in OPTIONS.iter().filter(|option| option.choices.is_empty()) {
        let _ = writeln!(text, "    -{:<21} {}", option.name, option.help);
    }
    for option in OPTIONS.iter().filter(|option| !option.choices.is_empty()) {
        let choices: Vec<String> = option.choices.iter().map(|choice| format!("-{choice}")).collect();
        let _ = writeln!(text, "    {:<22} {}", choices.join(" "), option.help);
    }
    text + SOURCES
}

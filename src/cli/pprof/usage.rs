//! The help text of `rprof pprof`, from the tables in `report::pprof`.

use std::fmt::Write;

use crate::report::pprof::{COMMANDS, OPTIONS};

const HEAD: &str = "usage:

  Print a report:
      rprof pprof <format> [options] [binary] <source> ...
  Start an interactive prompt:
      rprof pprof [options] [binary] <source> ...
  Show the profile in a browser:
      rprof pprof -http [host]:[port] [options] [binary] <source> ...

A source is a profile: a file (profile.proto, gzipped or not, or a legacy format), or the URL of a
server that returns one. Several sources are merged. The binary, if given, is the file of the first
mapping.

";

const SOURCES: &str = "
Not in go tool pprof:
    -format name       json, markdown or csv, for top, text, tree, peek, list, tags and traces

Browser:
    -http [host]:port  Serve the profile and open a browser (default host: localhost, default port: any)
    -no_browser        Do not open a browser
    -token_file file   Require the token on the first line of this file; needed if host is not local

Sources:
    -seconds n         Ask the server for a profile of n seconds
    -timeout n         Wait at most n seconds for the server
    -tls_cert, -tls_key, -tls_ca   Client certificate, its key, and the certificate authority, for https
    -base source       Subtract this profile
    -diff_base source  Compare with this profile; percentages refer to it
    -buildid id        Build ID of the main binary, if the profile has none
    -add_comment text  Add a comment to the profile
    -symbolize mode    none, local, fastlocal, remote; :force; :demangle=none|full|templates

Shorthands for -sample_index:
    -inuse_space -inuse_objects -alloc_space -alloc_objects
    -contentions -total_delay -mean_delay (with -mean)

Environment:
    PPROF_BINARY_PATH  Directories with binaries (default $HOME/pprof/binaries)
    PPROF_TMPDIR       Directory for fetched profiles (default $HOME/pprof)
";

/// The help text.
pub(super) fn text() -> String {
    let mut text = String::from(HEAD);
    // Writing to memory does not fail.
    let _ = writeln!(text, "Formats (at most one):");
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

//! Declares the command line: verbs, options, types, help. One file per verb; what several verbs
//! have in common is in `shared`. Each verb's module interprets its own options.

mod attach;
mod compare;
mod doctor;
mod dump;
mod files;
mod generate;
mod heap;
mod help;
mod info;
mod mcp;
mod processes;
mod record;
mod redact;
mod report;
mod serve;
mod shared;
mod sidecar;
mod snapshot;
mod symbolize;
mod top;
mod view;

use clap::{Args, Parser, Subcommand};

pub use attach::AttachArgs;
pub use compare::CompareArgs;
pub use doctor::DoctorArgs;
pub use dump::{DumpArgs, DumpFormatArg, FailOnArg, GraphArg, LookArg};
pub use files::{DiffArgs, DiffOptions, FileArgs, FlameArgs, MatchArgs};
pub use generate::{GenerateArgs, What};
pub use heap::{HeapArgs, HeapFormatArg};
pub use help::HelpArgs;
pub use info::InfoArgs;
pub use mcp::McpArgs;
pub use processes::{ProcessArgs, SelectorArgs};
pub use record::RecordArgs;
pub use redact::RedactArgs;
pub use report::{ColorArg, ReportArgs};
pub use serve::ServeArgs;
pub use shared::{
    DebugArgs, FormatArg, FramesArg, LabelArg, OutputArgs, SamplerArg, SamplingArgs, parse_duration,
    parse_frequency,
};
pub use sidecar::{SidecarArgs, is_sidecar_kind, parse_cpu, parse_share, parse_size, parse_time};
pub use snapshot::SnapshotArgs;
pub use symbolize::SymbolizeArgs;
pub use top::{LiveArgs, TopArgs, are_defaults};
pub use view::{ViewArgs, stdout_size, stdout_width};

/// pprof for any running process.
#[derive(Debug, Parser)]
#[command(
    name = "rprof",
    version = crate::cli::version::SHORT,
    long_version = crate::cli::version::long(),
    disable_help_subcommand = true,
    about = "pprof for any running process: profile a live PID without changing or restarting it",
    after_help = EXIT_CODES,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 failure, 2 wrong command line, 3 --fail-on found what it names. `record`
exits with the exit status of the command (128+N if signal N killed it), or 1 if the command
succeeded but its profile could not be written.";

/// The verbs, in alphabetical order.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Profile a running process.
    #[command(after_help = attach::ATTACH_EXAMPLES)]
    Attach(AttachArgs),
    /// Run two commands in turn, profile each run, and compare: is the new one slower, and where?
    #[command(after_help = compare::COMPARE_HELP)]
    Compare(Box<CompareArgs>),
    /// Compare two profiles: which functions grew or shrank, and which changes are significant.
    #[command(after_help = files::DIFF_HELP)]
    Diff(DiffArgs),
    /// Check what this machine and user allow, and how to allow more.
    Doctor(DoctorArgs),
    /// Show the stack of every thread now, with its state and what it waits for.
    #[command(after_help = dump::DUMP_EXAMPLES)]
    Dump(DumpArgs),
    /// Draw a flame graph of profiles: in the terminal, as SVG, or as an interactive page (.html).
    #[command(after_help = files::FLAME_EXAMPLES)]
    Flame(FlameArgs),
    /// Make manual pages and completions.
    #[command(hide = true)]
    Generate(GenerateArgs),
    /// Show who uses the memory of native heaps: by size, arena and type, and what grew.
    #[command(after_help = heap::HEAP_EXAMPLES)]
    Heap(HeapArgs),
    /// Show the help of a verb, or a document: permissions, sidecar, reports ...
    Help(HelpArgs),
    /// Show facts about a process (Go: release, modules, scheduler, GC).
    Info(InfoArgs),
    /// Annotate the source of matching functions with time per line.
    List(MatchArgs),
    /// Serve the profiler as tools of a language model, by the Model Context Protocol.
    #[command(after_help = mcp::MCP_HELP)]
    Mcp(McpArgs),
    /// Show matching functions with their callers and callees.
    Peek(MatchArgs),
    /// Use the command line of `go tool pprof`: -top, -tree, -list, -dot, -http ...
    #[command(disable_help_flag = true)]
    Pprof(PprofArgs),
    /// Start a command and profile it and its children from the first instruction.
    #[command(after_help = record::RECORD_EXAMPLES)]
    Record(RecordArgs),
    /// Remove private data from a profile or an incident bundle before it is shared.
    #[command(after_help = redact::REDACT_EXAMPLES)]
    Redact(RedactArgs),
    /// Serve /debug/pprof/ of running processes over HTTP.
    #[command(after_help = serve::SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Profile processes all the time, in windows that are kept on disk.
    #[command(after_help = sidecar::SIDECAR_EXAMPLES)]
    Sidecar(Box<SidecarArgs>),
    /// Collect an incident bundle: profiles, stacks and facts of a process in one file.
    #[command(after_help = snapshot::SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotArgs),
    /// Add missing names to a profile from debug files.
    Symbolize(SymbolizeArgs),
    /// Show the labels of a profile and the total of each value.
    Tags(FileArgs),
    /// Show the hottest functions of a profile, or live of a running process.
    #[command(after_help = top::TOP_EXAMPLES)]
    Top(Box<TopArgs>),
    /// Show whole stacks, the hottest first.
    Traces(FileArgs),
    /// Show the hottest functions with their callers and callees.
    Tree(FileArgs),
}

/// The arguments of `rprof pprof`, which `cli::pprof` interprets.
#[derive(Debug, Args)]
pub struct PprofArgs {
    /// Flags, an optional binary, and profiles: see `rprof pprof -h`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<std::ffi::OsString>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_declaration_is_consistent() {
        Cli::command().debug_assert();
    }

    /// clap checks this only where debug assertions are on, also in clap.
    #[test]
    fn no_two_options_of_a_verb_have_the_same_name() {
        for verb in Cli::command().get_subcommands() {
            let mut known = BTreeSet::new();
            for option in verb.get_arguments() {
                let longs =
                    option.get_long().into_iter().chain(option.get_all_aliases().into_iter().flatten());
                let shorts = option.get_short().map(|short| format!("-{short}"));
                let names: BTreeSet<String> = longs.map(|long| format!("--{long}")).chain(shorts).collect();
                for name in names {
                    assert!(known.insert(name.clone()), "rprof {} has two options {name}", verb.get_name());
                }
            }
        }
    }
}

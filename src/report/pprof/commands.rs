//! The commands of pprof: one table for the command line, the prompt and the web pages.
//!
//! Not here: the reports themselves.

/// A kind of report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// The call graph in callgrind's format.
    Callgrind,
    /// The comments of the profile.
    Comments,
    /// Instructions of functions.
    Disassembly,
    /// The call graph in Graphviz's language.
    Dot,
    /// Source lines of functions.
    List,
    /// The filtered profile as protobuf.
    Proto,
    /// The whole profile as text.
    Raw,
    /// Labels with the sums of their values.
    Tags,
    /// Functions, one per line.
    Text,
    /// The hottest functions as protobuf.
    TopProto,
    /// All stacks.
    Traces,
    /// Functions with callers and callees.
    Tree,
    /// An HTML page with source lines and instructions.
    WebList,
}

/// How the report is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Printed.
    Print,
    /// Printed; on a terminal, written to a file with this extension instead.
    File(&'static str),
    /// Drawn by Graphviz in this format, then like [`Delivery::File`].
    Drawing(&'static str),
    /// Written to a file and opened with a program.
    Viewer {
        /// The format it is drawn in; empty: it is not drawn.
        drawing: &'static str,
        /// The extension of the file.
        suffix: &'static str,
        /// The programs; the first one that is installed is used.
        programs: &'static [&'static str],
    },
}

/// A command.
#[derive(Debug)]
pub struct Command {
    /// The name.
    pub name: &'static str,
    /// The report.
    pub kind: ReportKind,
    /// How it is delivered.
    pub delivery: Delivery,
    /// Whether it needs an argument, a regular expression.
    pub has_argument: bool,
    /// The help text, one line.
    pub help: &'static str,
}

const fn text(name: &'static str, kind: ReportKind, help: &'static str) -> Command {
    Command { name, kind, delivery: Delivery::Print, has_argument: false, help }
}

const fn with_argument(name: &'static str, kind: ReportKind, help: &'static str) -> Command {
    Command { name, kind, delivery: Delivery::Print, has_argument: true, help }
}

const fn file(name: &'static str, kind: ReportKind, suffix: &'static str, help: &'static str) -> Command {
    Command { name, kind, delivery: Delivery::File(suffix), has_argument: false, help }
}

const fn drawing(name: &'static str, help: &'static str) -> Command {
    Command { name, kind: ReportKind::Dot, delivery: Delivery::Drawing(name), has_argument: false, help }
}

const fn viewer(
    name: &'static str,
    drawing: &'static str,
    programs: &'static [&'static str],
    help: &'static str,
) -> Command {
    let delivery = Delivery::Viewer { drawing, suffix: drawing, programs };
    Command { name, kind: ReportKind::Dot, delivery, has_argument: false, help }
}

/// All commands, by name.
pub const COMMANDS: &[Command] = &[
    file("callgrind", ReportKind::Callgrind, "callgraph.out", "Call graph in callgrind's format"),
    text("comments", ReportKind::Comments, "The comments of the profile"),
    with_argument("disasm", ReportKind::Disassembly, "Instructions of matching functions, with samples"),
    text("dot", ReportKind::Dot, "Call graph in Graphviz's language"),
    viewer("eog", "svg", &["eog"], "Call graph shown by eog"),
    viewer("evince", "pdf", &["evince"], "Call graph shown by evince"),
    drawing("gif", "Call graph as a GIF image"),
    viewer("gv", "ps", &["gv --noantialias"], "Call graph shown by gv"),
    Command {
        name: "kcachegrind",
        kind: ReportKind::Callgrind,
        delivery: Delivery::Viewer { drawing: "", suffix: "grind", programs: &["kcachegrind"] },
        has_argument: false,
        help: "Call graph shown by KCachegrind",
    },
    with_argument("list", ReportKind::List, "Source lines of matching functions, with samples"),
    drawing("pdf", "Call graph as PDF"),
    with_argument("peek", ReportKind::Tree, "Callers and callees of matching functions"),
    drawing("png", "Call graph as a PNG image"),
    file("proto", ReportKind::Proto, "pb.gz", "The filtered profile as gzipped protobuf"),
    drawing("ps", "Call graph as PostScript"),
    text("raw", ReportKind::Raw, "The whole profile as text"),
    drawing("svg", "Call graph as SVG"),
    text("tags", ReportKind::Tags, "Labels, with the sum of each of their values"),
    text("text", ReportKind::Text, "The hottest functions, one per line"),
    text("top", ReportKind::Text, "The hottest functions, one per line"),
    file("topproto", ReportKind::TopProto, "pb.gz", "The hottest functions as gzipped protobuf"),
    text("traces", ReportKind::Traces, "All samples with their stacks"),
    text("tree", ReportKind::Tree, "The hottest functions, with callers and callees"),
    viewer("web", "svg", &[], "Call graph shown by a browser"),
    Command {
        name: "weblist",
        kind: ReportKind::WebList,
        delivery: Delivery::Viewer { drawing: "", suffix: "html", programs: &[] },
        has_argument: true,
        help: "Source lines and instructions with samples, shown by a browser",
    },
];

impl Command {
    /// The command called `name`.
    pub fn find(name: &str) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| command.name == name)
    }
}

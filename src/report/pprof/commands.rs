//! The reports by the names they are asked for: one table that the command line, the prompt and the
//! web pages read.
//!
//! Not here: how they are made.

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    Callgrind,
    Comments,
    Disassembly,
    Dot,
    List,
    Proto,
    Raw,
    Tags,
    Text,
    TopProto,
    Traces,
    Tree,
    WebList,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Printed.
    Print,
    /// Printed, but into a file with this ending where a terminal would show it.
    File(&'static str),
    /// Drawn by Graphviz in this format, then as [`Delivery::File`].
    Drawing(&'static str),
    /// Drawn in this format (empty: as it is) and shown by a program: one of these.
    Viewer { drawing: &'static str, suffix: &'static str, programs: &'static [&'static str] },
}

/// A command.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    pub kind: ReportKind,
    pub delivery: Delivery,
    /// Whether it needs a regular expression.
    pub has_argument: bool,
    /// One line that says what it gives.
    pub help: &'static str,
}

const fn text(name: &'static str, kind: ReportKind, help: &'static str) -> Command {
    Command { name, kind, delivery: Delivery::Print, has_argument: false, help }
}

const fn about(name: &'static str, kind: ReportKind, help: &'static str) -> Command {
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
    text("comments", ReportKind::Comments, "The comments in the profile"),
    about("disasm", ReportKind::Disassembly, "Assembly with samples, of functions that match"),
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
    about("list", ReportKind::List, "Source lines with samples, of functions that match"),
    drawing("pdf", "Call graph as PDF"),
    about("peek", ReportKind::Tree, "Callers and callees of functions that match"),
    drawing("png", "Call graph as a PNG image"),
    file("proto", ReportKind::Proto, "pb.gz", "The profile itself, after filters, as gzipped protobuf"),
    drawing("ps", "Call graph as PostScript"),
    text("raw", ReportKind::Raw, "Everything in the profile as text"),
    drawing("svg", "Call graph as SVG"),
    text("tags", ReportKind::Tags, "Labels and how much each of their values has"),
    text("text", ReportKind::Text, "Functions with most, one a line"),
    text("top", ReportKind::Text, "Functions with most, one a line"),
    file("topproto", ReportKind::TopProto, "pb.gz", "Functions with most, as gzipped protobuf"),
    text("traces", ReportKind::Traces, "All samples with their stacks"),
    text("tree", ReportKind::Tree, "Functions with most, with callers and callees"),
    viewer("web", "svg", &[], "Call graph shown by a browser"),
    Command {
        name: "weblist",
        kind: ReportKind::WebList,
        delivery: Delivery::Viewer { drawing: "", suffix: "html", programs: &[] },
        has_argument: true,
        help: "Source lines and assembly with samples, shown by a browser",
    },
];

impl Command {
    /// The command called `name`.
    pub fn find(name: &str) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| command.name == name)
    }
}

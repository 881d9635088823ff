//! The first page of `/ui/`: the processes, the kinds that can be captured, the captured profiles.
//!
//! Without a script, its forms download profiles; `capture.js` makes them capture and show a
//! profile. Text that comes from processes is hostile: it is escaped. Not here: capturing (`ui`).

use std::fmt::Write;

use super::{
    captured::{Captured, MAX_KEPT},
    pages::{command_line, escaped},
};
use crate::{
    capture::kinds::{self, Form, Kind, Span},
    process::Identity,
};

/// The policy of the other pages, plus forms that may be sent to this server only.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
     connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The default duration of a timed capture on this page, in seconds: a person waits for it.
const SECONDS: u64 = 10;

const PERFETTO: &str = "<p>Open a download in <a href=\"https://ui.perfetto.dev\" rel=\"noopener noreferrer\" \
     target=\"_blank\">ui.perfetto.dev</a>.</p>";

/// The content of the page.
pub struct Page<'a> {
    /// The served processes.
    pub running: &'a [Identity],
    /// The process whose profiles can be captured; `None`: the page lists the processes.
    pub chosen: Option<&'a Identity>,
    /// An error message; may be empty.
    pub message: &'a str,
    /// The kinds that are available for the chosen process.
    pub kinds: &'a [Kind],
    /// The captured profiles, the newest first.
    pub captured: &'a [Captured],
    /// The longest duration that is allowed.
    pub max_seconds: u64,
    /// Leave arguments out of command lines.
    pub redact: bool,
}

impl Page<'_> {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let title = match self.chosen {
            Some(identity) => format!("{} · capture · rprof", escaped(&identity.display_name())),
            None => "capture · rprof".into(),
        };
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"assets/style.css\">\n\
             <link rel=\"stylesheet\" href=\"assets/capture.css\">\n\
             <script type=\"module\" src=\"assets/capture.js\"></script>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#view\">Skip to the content</a>\n\
             <header><div class=\"line\"><a class=\"title\" href=\"./\"><strong>rprof</strong><span>capture</span></a>\
             <a class=\"jump\" href=\"#captured\">Captured ({})</a><div class=\"menus\" id=\"theme\"></div></div></header>\n\
             <div id=\"notes\" role=\"status\" aria-live=\"polite\"></div>\n<main id=\"view\" tabindex=\"-1\">\n",
            self.captured.len()
        );
        if !self.message.is_empty() {
            let _ = writeln!(page, "<p class=\"trouble\">{}</p>", escaped(self.message));
        }
        match self.chosen {
            Some(identity) => self.process(identity, &mut page),
            None => self.processes(&mut page),
        }
        self.captured(&mut page);
        page.push_str("</main>\n</body>\n</html>\n");
        page
    }

    fn processes(&self, page: &mut String) {
        page.push_str("<section aria-labelledby=\"processes\">\n<h1 id=\"processes\">Processes</h1>\n");
        if self.running.is_empty() {
            page.push_str("<p class=\"quiet\">None of the served processes is running.</p>\n</section>\n");
            return;
        }
        page.push_str("<div class=\"tools\" id=\"filter\"></div>\n");
        page.push_str(
            "<table class=\"processes\"><thead><tr><th scope=\"col\">PID</th><th scope=\"col\">Name</th>",
        );
        page.push_str("<th scope=\"col\">Command line</th></tr></thead>\n<tbody>\n");
        for identity in self.running {
            let _ = writeln!(
                page,
                "<tr><td class=\"number\">{0}</td><td><a href=\"./?pid={0}\">{1}</a></td><td><code>{2}</code></td></tr>",
                identity.pid,
                escaped(&identity.display_name()),
                escaped(&command_line(identity, self.redact)),
            );
        }
        page.push_str("</tbody></table>\n</section>\n");
    }

    fn process(&self, identity: &Identity, page: &mut String) {
        let others = match self.running.len() {
            0 | 1 => "",
            _ => " <a href=\"./?pid=\">another process</a>",
        };
        let _ = write!(
            page,
            "<section aria-labelledby=\"process\">\n<h1 id=\"process\">{} <small>process {}</small>{others}</h1>\n\
             <p class=\"command\"><code>{}</code></p>\n",
            escaped(&identity.display_name()),
            identity.pid,
            escaped(&command_line(identity, self.redact)),
        );
        page.push_str("<div class=\"cards\">\n");
        for kind in self.kinds {
            self.card(kind, identity.pid, page);
        }
        page.push_str("</div>\n</section>\n");
    }

    /// The form of one kind. Without a script it downloads the profile.
    fn card(&self, kind: Kind, pid: u32, page: &mut String) {
        let max = self.max_seconds;
        let (value, more, before) = match kind.span {
            Span::Lasting(default) if kind.form == Form::Timeline => {
                (default.min(max).to_string(), " required", "")
            }
            Span::Lasting(_) => (SECONDS.min(max).to_string(), " required", ""),
            // Instant kinds: without seconds the current state, with seconds the difference.
            Span::Instant => (String::new(), " title=\"Empty: the state now\"", "or the change over "),
        };
        // The pages show a pprof profile; the download has the kind's own format.
        let (download, note) = match kind.form {
            Form::Profile => ("", ""),
            Form::Timeline => (" <button data-download>Download</button>", PERFETTO),
        };
        let class = if kind == kinds::DEFAULT { " class=\"main\"" } else { "" };
        let _ = writeln!(
            page,
            "<form class=\"card\" method=\"get\" action=\"../debug/pprof/{name}\" data-kind=\"{name}\" data-view=\"{view}\">\n<h3>{name}</h3>\n<p>{what}</p>{note}\n\
             <input type=\"hidden\" name=\"pid\" value=\"{pid}\">\n\
             <div class=\"action\"><button{class}>Capture</button>{download}\
             <label>{before}<input type=\"number\" name=\"seconds\" min=\"1\" max=\"{max}\" value=\"{value}\"{more}> seconds</label></div>\n\
             </form>",
            name = kind.path(),
            view = kind.view,
            what = escaped(kind.what),
        );
    }

    fn captured(&self, page: &mut String) {
        page.push_str("<section id=\"captured\" aria-labelledby=\"captured-title\">\n");
        page.push_str("<h1 id=\"captured-title\">Captured</h1>\n");
        if self.captured.is_empty() {
            page.push_str(
                "<p class=\"quiet\">No profiles yet. A captured profile opens at once and is listed here.</p>\n",
            );
            page.push_str("</section>\n");
            return;
        }
        let compares = self.captured.len() > 1;
        page.push_str("<form method=\"get\" action=\"flamegraph\">\n<div class=\"scroll\"><table class=\"captured\"><thead><tr>");
        if compares {
            page.push_str("<th scope=\"col\">Base</th><th scope=\"col\">New</th>");
        }
        page.push_str(
            "<th scope=\"col\">Profile</th><th scope=\"col\">Process</th><th scope=\"col\">Time</th>",
        );
        page.push_str("<th scope=\"col\">File</th></tr></thead>\n<tbody>\n");
        let (base, new) = self.suggested();
        for one in self.captured {
            row(one, compares.then_some((base, new)), page);
        }
        page.push_str("</tbody></table></div>\n");
        if compares {
            page.push_str("<p class=\"tools\"><button>Compare base and new</button> ");
            page.push_str("<button formaction=\"diff\">Compare as a table</button></p>\n");
        }
        let _ = writeln!(
            page,
            "</form>\n<p class=\"quiet\">The last {MAX_KEPT} profiles are kept in memory until rprof ends.</p>\n</section>"
        );
    }

    /// The default comparison: the newest profile, and the one before it of the same kind and
    /// process.
    fn suggested(&self) -> (usize, usize) {
        let Some((new, others)) = self.captured.split_first() else { return (0, 0) };
        let alike = others.iter().find(|other| other.kind == new.kind && other.pid == new.pid);
        (alike.or(others.first()).map_or(0, |base| base.number), new.number)
    }
}

fn row(one: &Captured, chosen: Option<(usize, usize)>, page: &mut String) {
    page.push_str("<tr>");
    if let Some((base, new)) = chosen {
        for (name, label, chosen) in [("vs", "Base", base), ("in", "New", new)] {
            let checked = if chosen == one.number { " checked" } else { "" };
            let _ = write!(
                page,
                "<td><input type=\"radio\" name=\"{name}\" value=\"{0}\" aria-label=\"{label}: profile {0}\"{checked}></td>",
                one.number
            );
        }
    }
    let seconds = one.seconds.map_or(String::new(), |seconds| format!(" {seconds}s"));
    let _ = writeln!(
        page,
        "<td><a href=\"{6}?in={0}\">{1}{seconds}</a></td><td>{2} <small>{3}</small></td><td class=\"clock\">{4}</td>\
         <td><a href=\"download?in={0}\" download>.pb.gz</a> <small>{5}</small></td></tr>",
        one.number,
        one.kind.path(),
        escaped(&one.process),
        one.pid,
        one.clock,
        size(one.bytes),
        one.kind.view,
    );
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

//! The wait graph as text, as JSON and in the language of Graphviz.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write},
};

use serde_json::{Value, json};

use super::{
    graph::{Strength, VertexId},
    model::{Finding, Holder, Verdict, Vertex, VertexKind, Wait, WaitGraph},
};
use crate::text::counted;

/// How many holders of a lock are shown.
pub const MAX_HOLDERS: usize = 4;
/// How many members of a finding are shown in text.
const MAX_MEMBERS: usize = 32;

impl WaitGraph {
    /// Writes the verdicts, if there are any, and an empty line. Errors: those of the writer.
    pub fn write_verdicts(&self, writer: &mut dyn Write) -> io::Result<()> {
        for verdict in &self.verdicts {
            writeln!(writer, "{}", plain(&self.headline(verdict)))?;
            for id in self.shown_members(verdict) {
                writeln!(writer, "  {}", plain(&self.line(id)))?;
            }
        }
        if self.verdicts.is_empty() { Ok(()) } else { writeln!(writer) }
    }

    /// The first line of each verdict.
    pub fn headlines(&self) -> Vec<String> {
        self.verdicts.iter().map(|verdict| plain(&self.headline(verdict))).collect()
    }

    /// Writes the verdicts, and a line for each thread that waits. Errors: those of the writer.
    pub fn write_text(&self, writer: &mut dyn Write) -> io::Result<()> {
        self.write_verdicts(writer)?;
        let is_thread = |id: &VertexId| matches!(self.vertices[*id].kind, VertexKind::Thread { .. });
        let (waiting, others): (Vec<VertexId>, Vec<VertexId>) =
            (0..self.vertices.len()).filter(is_thread).partition(|id| self.vertices[*id].wait.is_some());
        for id in waiting.into_iter().chain(others) {
            writeln!(writer, "{}", plain(&self.line(id)))?;
        }
        Ok(())
    }

    /// Writes the graph for Graphviz: the vertices that wait or are waited for. Errors: those of
    /// the writer.
    pub fn write_dot(&self, writer: &mut dyn Write) -> io::Result<()> {
        let edges: Vec<(VertexId, &Wait, &Holder)> = self.edges().collect();
        let used: BTreeSet<VertexId> =
            edges.iter().flat_map(|(from, _, holder)| [*from, holder.vertex]).collect();
        let deadlocked: BTreeSet<VertexId> = (self.verdicts.iter())
            .filter(|one| matches!(one.finding, Finding::Deadlock | Finding::ProbableDeadlock))
            .flat_map(|one| one.members.iter().copied())
            .collect();
        writeln!(writer, "digraph waits {{\n  node [shape=box, fontname=sans];")?;
        for id in used {
            let vertex = &self.vertices[id];
            let doing = if vertex.place.is_empty() { &vertex.doing } else { &vertex.place };
            let color = if deadlocked.contains(&id) { ", color=red" } else { "" };
            let label = escaped(&format!("{}\n{doing}", self.title(id)));
            writeln!(writer, "  v{id} [label=\"{label}\"{color}];")?;
        }
        for (from, wait, holder) in edges {
            let style = if holder.strength == Strength::Likely { ", style=dashed" } else { "" };
            let label = escaped(&self.what(wait));
            writeln!(writer, "  v{from} -> v{} [label=\"{label}\"{style}];", holder.vertex)?;
        }
        writeln!(writer, "}}")
    }

    /// The vertices, the edges and the verdicts as one JSON object.
    pub fn to_json(&self) -> Value {
        let vertices = (0..self.vertices.len()).map(|id| self.vertex_json(id));
        let edges = self.edges().map(|(from, wait, holder)| {
            json!({
                "from": from,
                "to": holder.vertex,
                "kind": wait.kind,
                "address": address(wait),
                "certainty": match holder.strength {
                    Strength::Exact => "exact",
                    Strength::OneOf => "one of",
                    Strength::Likely => "candidate",
                },
                "evidence": (!holder.evidence.is_empty()).then_some(&holder.evidence),
            })
        });
        let verdicts = self.verdicts.iter().map(|verdict| {
            json!({
                "finding": name(verdict.finding),
                "members": verdict.members,
                "waiters": verdict.waiters,
                "text": self.headline(verdict),
            })
        });
        json!({
            "verdicts": verdicts.collect::<Vec<Value>>(),
            "nodes": vertices.collect::<Vec<Value>>(),
            "edges": edges.collect::<Vec<Value>>(),
        })
    }

    fn vertex_json(&self, id: VertexId) -> Value {
        let vertex = &self.vertices[id];
        let (kind, pid, tid) = match vertex.kind {
            VertexKind::Thread { pid, tid } => ("thread", pid, Some(tid)),
            VertexKind::Process { pid } => ("process", pid, None),
            VertexKind::Ended { pid, tid } => ("ended thread", pid, Some(tid)),
        };
        let wait = vertex.wait.as_ref().filter(|wait| !wait.kind.is_empty());
        json!({
            "id": id,
            "type": kind,
            "pid": pid,
            "tid": tid,
            "name": vertex.name,
            "place": (!vertex.place.is_empty()).then_some(&vertex.place),
            "doing": (!vertex.doing.is_empty()).then_some(&vertex.doing),
            "waited_ns": vertex.waited_ns,
            "wait": wait.map(|wait| json!({
                "kind": wait.kind,
                "address": address(wait),
                "name": wait.name,
                "note": wait.note,
                "timeout": wait.timed,
            })),
        })
    }

    fn edges(&self) -> impl Iterator<Item = (VertexId, &Wait, &Holder)> {
        let of_vertex = |(id, vertex): (VertexId, &'_ Vertex)| (id, vertex.wait.is_some());
        let waiting = self.vertices.iter().enumerate().map(of_vertex).filter(|(_, waits)| *waits);
        waiting.flat_map(|(id, _)| {
            let wait = self.vertices[id].wait.iter();
            wait.flat_map(move |wait| wait.holders.iter().map(move |holder| (id, wait, holder)))
        })
    }

    /// `thread 2861 'worker-ba'`, `process 4712 'cat'`.
    pub(super) fn title(&self, id: VertexId) -> String {
        let vertex = &self.vertices[id];
        let (what, number) = match vertex.kind {
            VertexKind::Thread { tid, .. } => ("thread", tid),
            VertexKind::Process { pid } => ("process", pid),
            VertexKind::Ended { tid, .. } => return format!("thread {tid}, which has ended"),
        };
        if vertex.name.is_empty() {
            format!("{what} {number}")
        } else {
            format!("{what} {number} '{}'", vertex.name)
        }
    }

    /// `` mutex 0x5579 `g_lock` in bank (recursive) ``
    pub(super) fn what(&self, wait: &Wait) -> String {
        let mut text = wait.kind.clone();
        if wait.address != 0 {
            let _ = write!(text, " {:#x}", wait.address);
        }
        if !wait.name.is_empty() {
            let _ = write!(text, " {}", wait.name);
        }
        if !wait.note.is_empty() {
            let _ = write!(text, " ({})", wait.note);
        }
        if wait.timed {
            text.push_str(" with a timeout");
        }
        text
    }

    /// `the mutex …`, `data in a pipe …`
    fn with_article(&self, wait: &Wait) -> String {
        let is_amount = ["data", "room"].iter().any(|word| wait.kind.starts_with(word));
        format!("{}{}", if is_amount { "" } else { "the " }, self.what(wait))
    }

    /// `, held by thread 2861 'worker-ba'`
    fn holders(&self, wait: &Wait) -> String {
        let relation = match wait.kind.as_str() {
            kind if kind.starts_with("end of") => ":",
            kind if kind.contains("pipe") || kind.contains("socket") || kind.contains("TCP") => {
                ", other end in"
            }
            _ => ", held by",
        };
        let likely = wait.holders.iter().any(|holder| holder.strength == Strength::Likely);
        let shown: Vec<String> = wait.holders.iter().take(MAX_HOLDERS).map(|one| self.holder(one)).collect();
        let more = wait.holders.len().saturating_sub(MAX_HOLDERS);
        let more = if more > 0 { format!(" or {more} more") } else { String::new() };
        match (shown.len(), likely) {
            (0, _) if is_lock(&wait.kind) => ", holder not found".to_owned(),
            (0, _) => String::new(),
            (1, true) => format!(", probably held by {}", shown[0]),
            (_, true) => format!(", held by one of: {}{more}", shown.join("; ")),
            (_, false) => format!("{relation} {}{more}", shown.join(", ")),
        }
    }

    fn holder(&self, holder: &Holder) -> String {
        let title = self.title(holder.vertex);
        if holder.evidence.is_empty() { title } else { format!("{title} ({})", holder.evidence) }
    }

    /// What a thread waits for, in one line.
    fn line(&self, id: VertexId) -> String {
        let vertex = &self.vertices[id];
        let mut text = self.title(id);
        let Some(wait) = vertex.wait.as_ref().filter(|wait| !wait.kind.is_empty()) else {
            let _ = write!(text, " is in {}", vertex.doing);
            if !vertex.place.is_empty() {
                let _ = write!(text, ", in {}", vertex.place);
            }
            return text;
        };
        text.push_str(" waits");
        if let Some(time) = vertex.waited_ns.and_then(long_time) {
            let _ = write!(text, " {time}");
        }
        if !vertex.place.is_empty() {
            let _ = write!(text, " in {}", vertex.place);
        }
        let _ = write!(text, " for {}{}", self.with_article(wait), self.holders(wait));
        text
    }

    /// The members of a verdict that get a line.
    fn shown_members(&self, verdict: &Verdict) -> Vec<VertexId> {
        let is_thread = |id: &VertexId| matches!(self.vertices[*id].kind, VertexKind::Thread { .. });
        if verdict.finding == Finding::Waiters {
            return Vec::new();
        }
        verdict.members.iter().copied().filter(is_thread).take(MAX_MEMBERS).collect()
    }

    /// The first line of a verdict.
    pub fn headline(&self, verdict: &Verdict) -> String {
        let threads =
            verdict.members.iter().filter(|id| matches!(self.vertices[**id].kind, VertexKind::Thread { .. }));
        let threads = threads.count();
        let milliseconds = verdict.unchanged_for.as_millis();
        let unchanged = format!("none has run between two looks {milliseconds} ms apart");
        let cycle = match threads {
            1 => "1 thread waits for itself".to_owned(),
            count => format!("{count} threads wait for each other"),
        };
        let mut text = match verdict.finding {
            Finding::Deadlock => format!("DEADLOCK: {cycle} ({unchanged})"),
            Finding::ProbableDeadlock => {
                format!("PROBABLE DEADLOCK: {cycle}, by the evidence below ({unchanged})")
            }
            Finding::OwnerEnded => {
                format!("OWNER ENDED: {} for a lock whose owner has ended", wait_in_words(threads))
            }
            Finding::OwnEnd => format!(
                "OWN PIPE: {} for the other end of a pipe that only the same process has open",
                wait_in_words(threads)
            ),
            Finding::LostWakeUp => format!(
                "LOST WAKE-UP: {} for a value that has changed, and was not woken ({unchanged})",
                wait_in_words(threads)
            ),
            Finding::Waiters => self.sink(verdict),
        };
        if verdict.waiters > 0 && verdict.finding != Finding::Waiters {
            let _ = write!(text, "; {} for them", more_wait(verdict.waiters));
        }
        text
    }

    fn sink(&self, verdict: &Verdict) -> String {
        let Some(id) = verdict.members.first().copied() else { return String::new() };
        let vertex = &self.vertices[id];
        let mut text =
            format!("{} wait, directly or not, for {}", counted(verdict.waiters, "thread"), self.title(id));
        if let Some(wait) = vertex.wait.as_ref().filter(|wait| !wait.kind.is_empty()) {
            let _ = write!(text, ", which waits for {}{}", self.with_article(wait), self.holders(wait));
        } else if !vertex.doing.is_empty() {
            let _ = write!(text, ", which is in {}", vertex.doing);
        }
        if !vertex.place.is_empty() {
            let _ = write!(text, " in {}", vertex.place);
        }
        text
    }
}

fn wait_in_words(threads: usize) -> String {
    if threads == 1 { "1 thread waits".to_owned() } else { format!("{threads} threads wait") }
}

fn more_wait(count: usize) -> String {
    if count == 1 {
        "1 more thread waits, directly or not,".to_owned()
    } else {
        format!("{count} more threads wait, directly or not,")
    }
}

/// Whether an object of this kind has a holder.
fn is_lock(kind: &str) -> bool {
    ["mutex", "lock", "initializer"].iter().any(|word| kind.contains(word))
}

/// A time of a second or more.
fn long_time(ns: u64) -> Option<String> {
    let seconds = ns / 1_000_000_000;
    match seconds {
        0 => None,
        1..=119 => Some(counted(seconds as usize, "second")),
        120..=7199 => Some(format!("{} minutes", seconds / 60)),
        _ => Some(format!("{} hours", seconds / 3600)),
    }
}

fn address(wait: &Wait) -> Option<String> {
    (wait.address != 0).then(|| format!("{:#x}", wait.address))
}

fn name(finding: Finding) -> &'static str {
    match finding {
        Finding::Deadlock => "deadlock",
        Finding::ProbableDeadlock => "probable deadlock",
        Finding::OwnerEnded => "owner ended",
        Finding::OwnEnd => "own pipe",
        Finding::LostWakeUp => "lost wake-up",
        Finding::Waiters => "waiters",
    }
}

/// Text without control characters and characters that change the text direction: names come from
/// the target.
fn plain(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.replace(harmful, "\u{fffd}")
}

/// Text inside the quotes of a Graphviz label.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn thread(tid: u32, name: &str, holder: VertexId, strength: Strength) -> Vertex {
        let evidence = if strength == Strength::Likely { "1 pointer to it on the stack" } else { "" };
        Vertex {
            kind: VertexKind::Thread { pid: 7, tid },
            name: name.into(),
            place: "transfer (bank.c:8)".into(),
            doing: "futex wait".into(),
            wait: Some(Wait {
                kind: "mutex".into(),
                address: 0x1000,
                name: "`g_lock` in bank".into(),
                note: "recursive".into(),
                holders: vec![Holder { vertex: holder, strength, evidence: evidence.into() }],
                ..Wait::default()
            }),
            waited_ns: Some(180_000_000_000),
        }
    }

    fn graph(strength: Strength) -> WaitGraph {
        let vertices = vec![thread(8, "one", 1, strength), thread(9, "a\"b\u{1b}[31m", 0, strength)];
        let finding =
            if strength == Strength::Likely { Finding::ProbableDeadlock } else { Finding::Deadlock };
        let unchanged_for = Duration::from_millis(50);
        let verdicts = vec![Verdict { finding, members: vec![0, 1], waiters: 3, unchanged_for }];
        WaitGraph { vertices, verdicts, took: Duration::ZERO }
    }

    fn written(write: impl Fn(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes).expect("memory");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_deadlock_is_written_with_its_members_and_their_locks() {
        let text = written(|bytes| graph(Strength::Exact).write_verdicts(bytes));
        let expected = "\
DEADLOCK: 2 threads wait for each other (none has run between two looks 50 ms apart); \
3 more threads wait, directly or not, for them
  thread 8 'one' waits 3 minutes in transfer (bank.c:8) for the mutex 0x1000 `g_lock` in bank (recursive), \
held by thread 9 'a\"b\u{fffd}[31m'
  thread 9 'a\"b\u{fffd}[31m' waits 3 minutes in transfer (bank.c:8) for the mutex 0x1000 `g_lock` in bank \
(recursive), held by thread 8 'one'

";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_candidate_is_written_with_its_evidence() {
        let text = written(|bytes| graph(Strength::Likely).write_verdicts(bytes));
        assert!(text.starts_with("PROBABLE DEADLOCK: 2 threads"), "{text}");
        assert!(text.contains("probably held by thread 8 'one' (1 pointer to it on the stack)"), "{text}");
    }

    #[test]
    fn names_of_the_target_cannot_end_a_label_of_graphviz() {
        let text = written(|bytes| graph(Strength::Exact).write_dot(bytes));
        assert!(text.contains(r#"thread 9 'a\"b [31m'\ntransfer"#) && text.contains("v0 -> v1"), "{text}");
    }

    #[test]
    fn json_has_edges_with_their_certainty() {
        let value = graph(Strength::Likely).to_json();
        assert_eq!(value["edges"][0]["certainty"], "candidate");
        assert_eq!(value["verdicts"][0]["finding"], "probable deadlock");
        assert_eq!(value["nodes"][0]["wait"]["kind"], "mutex");
        assert!(graph(Strength::Exact).has_deadlock(false) && !graph(Strength::Likely).has_deadlock(false));
    }
}

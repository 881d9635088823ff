//! Goroutines as JSON, for other programs.
//!
//! Not here: Go's own forms (`text`).

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{goroutines::Goroutine, text::Text};

impl Text<'_> {
    /// `{"runtime": …, "goroutines": [{"id", "state", "wait_minutes", "locked", "created_by",
    /// "labels", "stack": [{"function", "file", "line", "inlined"}]}]}`, one goroutine per line; if
    /// rprof is stopped before it has written all, `left_out` says how many more were read. Errors:
    /// those of `writer`.
    pub fn write_json(&mut self, writer: &mut dyn Write) -> io::Result<()> {
        let runtime = json!(self.process.version_text);
        write!(writer, "{{\"runtime\":{runtime},\"goroutines\":[")?;
        let shown: Vec<&Goroutine> = self.shown().collect();
        for (number, goroutine) in shown.iter().enumerate() {
            if self.is_stopped() {
                return writeln!(writer, "\n],\"left_out\":{}}}", shown.len() - number);
            }
            writer.write_all(if number > 0 { b",\n" } else { b"\n" })?;
            serde_json::to_writer(&mut *writer, &self.json_of(goroutine))?;
        }
        writeln!(writer, "\n]}}")
    }

    fn json_of(&mut self, goroutine: &Goroutine) -> Value {
        let labels = goroutine.labels.as_ref().map_or(&[][..], |labels| labels.as_slice());
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        json!({
            "id": goroutine.id,
            "state": self.state(goroutine),
            "wait_minutes": self.minutes(goroutine),
            "locked": goroutine.is_locked,
            "system": goroutine.is_system,
            "created_by": self.creator(goroutine),
            "parent": goroutine.parent,
            "labels": labels,
            "stack": self.json_stack(goroutine),
        })
    }

    fn json_stack(&mut self, goroutine: &Goroutine) -> Value {
        let goroutines = self.goroutines;
        let Some((frames, _)) = goroutine.stack.and_then(|id| goroutines.stacks.get(id as usize)) else {
            return Value::Null;
        };
        let frames = self.sites.shown(frames);
        let frame = |function: &super::sites::SiteFunction| {
            json!({
                "function": function.printed,
                "file": function.path,
                "line": function.line,
                "inlined": function.is_inlined,
            })
        };
        frames.iter().map(frame).collect()
    }
}

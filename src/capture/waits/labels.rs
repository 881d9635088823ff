//! The waits of threads as labels of their samples: `waits_for`, `lock`, `holder`,
//! `holder_evidence`.

use rustc_hash::FxHashMap;

use super::{
    frames::number,
    graph::VertexId,
    model::{VertexKind, WaitGraph},
};
use crate::profile::proto::{Label, Profile};

/// Adds the labels to the samples of a dump.
pub fn add_labels(graph: &WaitGraph, profile: &mut Profile) {
    let threads: FxHashMap<(u32, u32), VertexId> = (graph.vertices.iter().enumerate())
        .filter(|(_, vertex)| vertex.wait.is_some())
        .filter_map(|(id, vertex)| match vertex.kind {
            VertexKind::Thread { pid, tid } => Some(((pid, tid), id)),
            _ => None,
        })
        .collect();
    let mut strings = Strings::default();
    for at in 0..profile.sample.len() {
        let sample = &profile.sample[at];
        let key = number(profile, sample, "pid").zip(number(profile, sample, "tid"));
        let Some(id) = key.and_then(|key| threads.get(&key)) else { continue };
        let labels: Vec<Label> = texts(graph, *id)
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(key, text)| Label {
                key: strings.index(profile, key),
                str: strings.index(profile, &text),
                ..Label::default()
            })
            .collect();
        profile.sample[at].label.extend(labels);
    }
}

fn texts(graph: &WaitGraph, id: VertexId) -> Vec<(&'static str, String)> {
    let Some(wait) = &graph.vertices[id].wait else { return Vec::new() };
    let lock = if wait.address == 0 { String::new() } else { format!("{:#x} {}", wait.address, wait.name) };
    let mut texts = vec![("waits_for", graph.what(wait)), ("lock", lock.trim_end().to_owned())];
    // Several holders are several labels.
    for holder in wait.holders.iter().take(super::text::MAX_HOLDERS) {
        texts.push(("holder", graph.title(holder.vertex)));
        texts.push(("holder_evidence", holder.evidence.clone()));
    }
    texts
}

/// Strings that were added to a profile.
#[derive(Default)]
struct Strings(FxHashMap<String, i64>);

impl Strings {
    fn index(&mut self, profile: &mut Profile, text: &str) -> i64 {
        if let Some(known) = self.0.get(text) {
            return *known;
        }
        let found = profile.string_table.iter().position(|known| known == text);
        let index = found.unwrap_or_else(|| {
            profile.string_table.push(text.to_owned());
            profile.string_table.len() - 1
        });
        self.0.insert(text.to_owned(), index as i64);
        index as i64
    }
}

//! Goroutines with equal states and stacks together: the form for readers. A program with ten
//! thousand goroutines has few different stacks.
//!
//! Not here: Go's own forms ([`super::text`]).

use std::{
    io::{self, Write},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{
    goroutines::Goroutine,
    text::{Text, write_left_out},
};

/// Goroutine IDs that a group lists.
const IDS: usize = 8;

/// What the goroutines of a group have in common: state, labels, and the stack as text.
type Key = (String, Option<Arc<Vec<(String, String)>>>, String);

impl Text<'_> {
    /// Writes each group of goroutines, the largest first; a goroutine that is alone as Go does.
    /// Argument values, which differ, are left out in groups. Errors: those of `writer`.
    pub fn write_grouped(&mut self, writer: &mut dyn Write) -> io::Result<()> {
        let mut groups: FxHashMap<Key, Vec<&Goroutine>> = FxHashMap::default();
        let mut stacks: FxHashMap<(Option<u32>, u64), String> = FxHashMap::default();
        let mut left_out = 0;
        for (number, goroutine) in self.shown().enumerate() {
            if self.is_stopped() {
                left_out = self.shown().count() - number;
                break;
            }
            // A stack that could not be read says why, which depends on the state.
            let place = (goroutine.stack, goroutine.created_at);
            let known = stacks.get(&place).filter(|_| goroutine.stack.is_some()).cloned();
            let stack = known.unwrap_or_else(|| self.common_stack(goroutine));
            stacks.insert(place, stack.clone());
            let labels = goroutine.labels.as_ref().filter(|_| self.shows_labels);
            let labels = labels.cloned();
            groups.entry((self.state(goroutine), labels, stack)).or_default().push(goroutine);
        }
        let mut groups: Vec<(Key, Vec<&Goroutine>)> = groups.into_iter().collect();
        groups.sort_by_key(|(_, members)| (std::cmp::Reverse(members.len()), members[0].id));
        for (number, ((state, _, stack), members)) in groups.iter().enumerate() {
            if number > 0 {
                writeln!(writer)?;
            }
            match members[..] {
                [only] => writer.write_all(self.one(only).as_bytes())?,
                _ => write!(writer, "{}{stack}", self.group_header(state, members))?,
            }
        }
        if left_out > 0 { write_left_out(left_out, writer) } else { Ok(()) }
    }

    /// `1200 goroutines [chan receive, 2 to 40 minutes]: 18 19 20 …`.
    fn group_header(&self, state: &str, members: &[&Goroutine]) -> String {
        let minutes = || members.iter().map(|goroutine| self.minutes(goroutine));
        let waited = match (minutes().min().unwrap_or(0), minutes().max().unwrap_or(0)) {
            (_, 0) => String::new(),
            (least, most) if least == most => format!(", {most} minutes"),
            (least, most) => format!(", {least} to {most} minutes"),
        };
        let ids: Vec<String> = members.iter().take(IDS).map(|goroutine| goroutine.id.to_string()).collect();
        let more = if members.len() > IDS { " …" } else { "" };
        format!("{} goroutines [{state}{waited}]: {}{more}\n", members.len(), ids.join(" "))
    }
}

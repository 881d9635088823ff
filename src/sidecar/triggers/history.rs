//! Values of the last minutes, thinned out so that any time takes the same memory.
//!
//! Not here: what the values are.

use std::{collections::VecDeque, time::Duration};

/// How many values are kept for the time of interest.
const VALUES: u32 = 32;

/// Values of the last `span`, and the newest one before it.
#[derive(Debug)]
pub struct History<V> {
    span_ns: u64,
    values: VecDeque<(u64, V)>,
}

impl<V: Copy> History<V> {
    /// A history of this time.
    pub fn new(span: Duration) -> History<V> {
        let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        History { span_ns, values: VecDeque::new() }
    }

    /// Adds the value at a time; returns the newest value that is at least `span` older, with its
    /// time. `None`: the history is still shorter.
    pub fn push(&mut self, now_ns: u64, value: V) -> Option<(u64, V)> {
        let step_ns = self.span_ns / u64::from(VALUES);
        let is_due = self.values.back().is_none_or(|(last, _)| now_ns.saturating_sub(*last) >= step_ns);
        let is_base = |at: u64| now_ns.saturating_sub(at) >= self.span_ns;
        while self.values.get(1).is_some_and(|(at, _)| is_base(*at)) {
            self.values.pop_front();
        }
        let base = self.values.front().filter(|(at, _)| is_base(*at)).copied();
        if is_due {
            self.values.push_back((now_ns, value));
        }
        base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_as_old_as_the_span_and_the_memory_is_bounded() {
        let mut history = History::new(Duration::from_secs(3600));
        let second = 1_000_000_000;
        for at in 0..20_000_u64 {
            let base = history.push((5 + at) * second, at);
            assert_eq!(base.is_some(), at >= 3600, "{at}");
            if let Some((_, base)) = base {
                // Thinned out: at most one step older than the span.
                assert!(at - base >= 3600 && at - base <= 3600 + 2 * 3600 / 32, "{at}: {base}");
            }
            assert!(history.values.len() <= VALUES as usize + 3);
        }
    }

    #[test]
    fn with_rare_readings_the_base_is_older_than_the_span() {
        let mut history = History::new(Duration::from_nanos(10));
        assert_eq!(history.push(100, 'a'), None);
        assert_eq!(history.push(105, 'b'), None);
        assert_eq!(history.push(112, 'c'), Some((100, 'a')));
        assert_eq!(history.push(140, 'd'), Some((112, 'c')));
    }
}

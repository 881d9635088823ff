//! The profiles of the last minutes, which an incident gets: what came before it.
//!
//! Bounded by time and by bytes. Not here: sampling (`recorder`).

use std::{collections::VecDeque, sync::Arc, time::Duration};

/// A profile of a window: of all processes that were sampled in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it began and ended, CLOCK_MONOTONIC in nanoseconds.
    pub span_ns: (u64, u64),
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// The profile, encoded and compressed.
    pub profile: Arc<Vec<u8>>,
}

/// The windows of the last minutes, the oldest first.
#[derive(Debug)]
pub struct Ring {
    span_ns: u64,
    max_bytes: usize,
    bytes: usize,
    windows: VecDeque<Window>,
}

impl Ring {
    /// A ring that covers this time, within this many bytes.
    pub fn new(span: Duration, max_bytes: usize) -> Ring {
        let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Ring { span_ns, max_bytes, bytes: 0, windows: VecDeque::new() }
    }

    /// Adds a window. Older ones leave when their time has passed, or when there are too many
    /// bytes.
    pub fn push(&mut self, window: Window) {
        let from = window.span_ns.1.saturating_sub(self.span_ns);
        self.bytes += window.profile.len();
        self.windows.push_back(window);
        self.evict(from);
    }

    /// Changes the limit on bytes.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
        self.evict(0);
    }

    fn evict(&mut self, from_ns: u64) {
        while let Some(first) = self.windows.front()
            && (first.span_ns.1 < from_ns || self.bytes > self.max_bytes)
        {
            self.bytes -= first.profile.len();
            self.windows.pop_front();
        }
    }

    /// The windows, the oldest first.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.windows.iter()
    }

    /// The end of the newest window; 0: there is none.
    pub fn newest_ns(&self) -> u64 {
        self.windows.back().map_or(0, |window| window.span_ns.1)
    }

    /// The bytes of all profiles.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn window(end_s: u64, bytes: usize) -> Window {
        let span_ns = ((end_s - 10) * SECOND, end_s * SECOND);
        Window { span_ns, started_ms: 0, profile: Arc::new(vec![0; bytes]) }
    }

    fn ends(ring: &Ring) -> Vec<u64> {
        ring.windows().map(|window| window.span_ns.1 / SECOND).collect()
    }

    #[test]
    fn the_ring_covers_its_time() {
        let mut ring = Ring::new(Duration::from_secs(30), 1 << 20);
        (1..=10).for_each(|at| ring.push(window(at * 10, 100)));
        assert_eq!((ends(&ring), ring.bytes()), (vec![70, 80, 90, 100], 400));
        assert_eq!(ring.newest_ns(), 100 * SECOND);
    }

    #[test]
    fn the_ring_keeps_its_limit_on_bytes() {
        let mut ring = Ring::new(Duration::from_secs(300), 250);
        (1..=10).for_each(|at| ring.push(window(at * 10, 100)));
        assert_eq!((ends(&ring), ring.bytes()), (vec![90, 100], 200));
        ring.set_max_bytes(100);
        assert_eq!(ends(&ring), [100]);
        ring.push(window(110, 1000));
        assert_eq!((ends(&ring), ring.bytes(), ring.newest_ns()), (vec![], 0, 0));
    }
}

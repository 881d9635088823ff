//! Running captures: a limited number at a time, one per process and kind. Closing the connection
//! cancels the capture. Instant captures wait for a free slot, because scrapers request several
//! kinds of several processes at once, again and again.
//!
//! Not here: what a capture does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    task,
    time::{Instant, sleep},
};

use crate::capture::Stop;

/// Identifies a capture: PID and kind.
pub type Key = (u32, &'static str);

/// Whether a capture has a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// The current state. It takes little time, and has slots of its own that timed captures do not
    /// use.
    Instant,
    /// The requested number of seconds.
    Timed,
}

/// How long an instant capture waits for a slot: less than the timeout of scrapers.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// How often a waiting capture checks for a free slot.
const CHECK_EVERY: Duration = Duration::from_millis(5);

type Running = HashMap<Key, (Length, Stop)>;

/// All running captures.
pub struct Captures {
    running: Arc<Mutex<Running>>,
    /// The number of concurrent captures of each [`Length`].
    max: usize,
    max_wait: Duration,
}

/// Why a capture did not start or has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Another client is capturing the same kind of the same process.
    Same,
    /// The maximum number of captures is running.
    TooMany,
    /// The capture panicked: a bug in rprof.
    Bug,
}

/// Cancels the capture when it is dropped, that is, when the client's connection closes.
struct CancelOnDrop(Stop);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// A slot among the running captures; free again when the capture has really ended.
struct Slot {
    running: Arc<Mutex<Running>>,
    key: Key,
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.key);
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    // No code panics while it holds the lock.
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Captures {
    /// At most `max` concurrent captures of each [`Length`].
    pub fn new(max: usize) -> Captures {
        Captures { running: Arc::default(), max, max_wait: MAX_WAIT }
    }

    /// Runs `work` on a thread of its own. Dropping the returned future sets the stop flag of
    /// `work`.
    ///
    /// # Errors
    /// [`Busy`] when there is no free slot, or when `work` panics.
    pub async fn run<T: Send + 'static>(
        &self,
        key: Key,
        length: Length,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (slot, stop) = self.wait_for_slot(key, length).await?;
        let _ends = CancelOnDrop(stop.clone());
        let done = task::spawn_blocking(move || {
            let _slot = slot;
            work(&stop)
        });
        done.await.map_err(|_| Busy::Bug)
    }

    async fn wait_for_slot(&self, key: Key, length: Length) -> Result<(Slot, Stop), Busy> {
        let start = Instant::now();
        loop {
            match self.begin(key, length) {
                Err(Busy::Same | Busy::TooMany)
                    if length == Length::Instant && start.elapsed() < self.max_wait =>
                {
                    sleep(CHECK_EVERY).await;
                }
                result => return result,
            }
        }
    }

    fn begin(&self, key: Key, length: Length) -> Result<(Slot, Stop), Busy> {
        let mut running = lock(&self.running);
        if running.contains_key(&key) {
            return Err(Busy::Same);
        }
        if running.values().filter(|(other, _)| *other == length).count() >= self.max {
            return Err(Busy::TooMany);
        }
        let stop = Stop::default();
        running.insert(key, (length, stop.clone()));
        Ok((Slot { running: Arc::clone(&self.running), key }, stop))
    }

    /// Sets the stop flag of every running capture.
    pub fn stop_all(&self) {
        lock(&self.running).values().for_each(|(_, stop)| stop.0.store(true, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Length::Timed, *};

    fn until_stopped(stop: &Stop) -> bool {
        let began = Instant::now();
        while !stop.is_set() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.is_set()
    }

    #[tokio::test]
    async fn an_equal_capture_is_refused_and_so_is_one_above_the_limit() {
        let captures = Captures::new(2);
        let first = captures.run((1, "profile"), Timed, until_stopped);
        let second = captures.run((1, "wall"), Timed, until_stopped);
        let mut both = Box::pin(async { tokio::join!(first, second) });
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut both).await.is_err(), "both run");
        assert_eq!(captures.run((1, "profile"), Timed, |_| ()).await, Err(Busy::Same));
        assert_eq!(captures.run((2, "profile"), Timed, |_| ()).await, Err(Busy::TooMany));
        captures.stop_all();
        assert_eq!(both.await, (Ok(true), Ok(true)));
        assert_eq!(captures.run((1, "profile"), Timed, |_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn an_instant_capture_waits_for_its_equals_but_not_for_timed_ones() {
        let captures = Captures::new(1);
        let mut timed = Box::pin(captures.run((1, "profile"), Timed, until_stopped));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut timed).await.is_err(), "it runs");
        let first = captures
            .run((1, "goroutine"), Length::Instant, |_| std::thread::sleep(Duration::from_millis(30)));
        let same = captures.run((1, "goroutine"), Length::Instant, |_| ());
        let other = captures.run((2, "goroutine"), Length::Instant, |_| ());
        assert_eq!(tokio::join!(first, same, other), (Ok(()), Ok(()), Ok(())));
        captures.stop_all();
        assert_eq!(timed.await, Ok(true));
    }

    #[tokio::test]
    async fn waiting_for_a_slot_has_a_time_limit() {
        let captures = Captures { max_wait: Duration::from_millis(20), ..Captures::new(1) };
        let _slot = captures.begin((1, "goroutine"), Length::Instant).expect("free");
        assert_eq!(captures.run((1, "goroutine"), Length::Instant, |_| ()).await, Err(Busy::Same));
        assert_eq!(captures.run((2, "goroutine"), Length::Instant, |_| ()).await, Err(Busy::TooMany));
    }

    #[tokio::test]
    async fn dropping_the_future_cancels_the_capture_and_frees_its_slot() {
        let captures = Captures::new(1);
        let cancelled = tokio::time::timeout(
            Duration::from_millis(20),
            captures.run((1, "profile"), Timed, until_stopped),
        );
        assert!(cancelled.await.is_err());
        for _ in 0..2000 {
            if lock(&captures.running).is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the capture still runs");
    }
}

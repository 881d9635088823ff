//! Captures that run: a few at a time, one of a kind and process, each ended when its asker is gone. Those
//! of a moment wait for their turn: scrapers ask for several kinds of several processes at once, without end.
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

/// Which capture: process and kind.
pub type Key = (u32, &'static str);

/// How long a capture takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// What there is now. It need not fear to wait for long, nor that those that last hold all places.
    Moment,
    /// The time that was asked for.
    Lasting,
}

/// How long one of a moment waits for its turn: less than scrapers wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it is its turn.
const LOOK_EVERY: Duration = Duration::from_millis(5);

type Running = HashMap<Key, (Length, Stop)>;

/// All captures that run.
pub struct Captures {
    running: Arc<Mutex<Running>>,
    /// Of each length.
    most: usize,
    patience: Duration,
}

/// Why a capture is not begun, or gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The same is being made for another asker.
    Same,
    /// As many as may be are running.
    TooMany,
    /// It failed in a way that is a mistake in rprof.
    Broken,
}

/// Ends the capture when the asker's connection, which holds this, is gone.
struct CancelOnDrop(Stop);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// A place among the running, given back when the capture has really ended.
struct Place {
    running: Arc<Mutex<Running>>,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.key);
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    // Nothing panics while it is held.
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Captures {
    pub fn new(most: usize) -> Captures {
        Captures { running: Arc::default(), most, patience: PATIENCE }
    }

    /// Runs `work` on a thread of its own. If the returned future is dropped, `work` is told to stop.
    pub async fn run<T: Send + 'static>(
        &self,
        key: Key,
        length: Length,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (place, stop) = self.turn(key, length).await?;
        let _ends = CancelOnDrop(stop.clone());
        let done = task::spawn_blocking(move || {
            let _place = place;
            work(&stop)
        });
        done.await.map_err(|_| Busy::Broken)
    }

    async fn turn(&self, key: Key, length: Length) -> Result<(Place, Stop), Busy> {
        let came = Instant::now();
        loop {
            match self.begin(key, length) {
                Err(Busy::Same | Busy::TooMany)
                    if length == Length::Moment && came.elapsed() < self.patience =>
                {
                    sleep(LOOK_EVERY).await;
                }
                begun_or_not => return begun_or_not,
            }
        }
    }

    fn begin(&self, key: Key, length: Length) -> Result<(Place, Stop), Busy> {
        let mut running = lock(&self.running);
        if running.contains_key(&key) {
            return Err(Busy::Same);
        }
        if running.values().filter(|(other, _)| *other == length).count() >= self.most {
            return Err(Busy::TooMany);
        }
        let stop = Stop::default();
        running.insert(key, (length, stop.clone()));
        Ok((Place { running: Arc::clone(&self.running), key }, stop))
    }

    /// Tells all that run to stop.
    pub fn stop_all(&self) {
        lock(&self.running).values().for_each(|(_, stop)| stop.0.store(true, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Length::*, *};

    fn until_told(stop: &Stop) -> bool {
        let began = Instant::now();
        while !stop.is_set() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.is_set()
    }

    #[tokio::test]
    async fn a_second_asker_is_told_and_a_third_kind_finds_no_room() {
        let captures = Captures::new(2);
        let first = captures.run((1, "profile"), Lasting, until_told);
        let second = captures.run((1, "wall"), Lasting, until_told);
        let mut both = Box::pin(async { tokio::join!(first, second) });
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut both).await.is_err(), "both run");
        assert_eq!(captures.run((1, "profile"), Lasting, |_| ()).await, Err(Busy::Same));
        assert_eq!(captures.run((2, "profile"), Lasting, |_| ()).await, Err(Busy::TooMany));
        captures.stop_all();
        assert_eq!(both.await, (Ok(true), Ok(true)));
        assert_eq!(captures.run((1, "profile"), Lasting, |_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn what_is_of_a_moment_waits_for_its_turn_whatever_lasts() {
        let captures = Captures::new(1);
        let mut lasting = Box::pin(captures.run((1, "profile"), Lasting, until_told));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut lasting).await.is_err(), "it runs");
        let first = captures.run((1, "goroutine"), Moment, |_| std::thread::sleep(Duration::from_millis(30)));
        let same = captures.run((1, "goroutine"), Moment, |_| ());
        let other = captures.run((2, "goroutine"), Moment, |_| ());
        assert_eq!(tokio::join!(first, same, other), (Ok(()), Ok(()), Ok(())));
        captures.stop_all();
        assert_eq!(lasting.await, Ok(true));
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let captures = Captures { patience: Duration::from_millis(20), ..Captures::new(1) };
        let _place = captures.begin((1, "goroutine"), Moment).expect("free");
        assert_eq!(captures.run((1, "goroutine"), Moment, |_| ()).await, Err(Busy::Same));
        assert_eq!(captures.run((2, "goroutine"), Moment, |_| ()).await, Err(Busy::TooMany));
    }

    #[tokio::test]
    async fn a_capture_whose_asker_is_gone_ends_and_gives_its_place_back() {
        let captures = Captures::new(1);
        let given_up = tokio::time::timeout(
            Duration::from_millis(20),
            captures.run((1, "profile"), Lasting, until_told),
        );
        assert!(given_up.await.is_err());
        for _ in 0..2000 {
            if lock(&captures.running).is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it runs on");
    }
}

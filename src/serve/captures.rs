//! Captures that run: a few at a time, one of a kind and process, each ended when its asker is gone.
//!
//! Not here: what a capture does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use tokio::task;

use crate::capture::Stop;

/// Which capture: process and kind.
pub type Key = (u32, &'static str);

/// All captures that run.
pub struct Captures {
    running: Arc<Mutex<HashMap<Key, Stop>>>,
    most: usize,
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
struct EndsWithAsker(Stop);

impl Drop for EndsWithAsker {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// A place among the running, given back when the capture has really ended.
struct Place {
    running: Arc<Mutex<HashMap<Key, Stop>>>,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.key);
    }
}

fn lock(running: &Mutex<HashMap<Key, Stop>>) -> MutexGuard<'_, HashMap<Key, Stop>> {
    // Nothing panics while it is held.
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Captures {
    pub fn new(most: usize) -> Captures {
        Captures { running: Arc::default(), most }
    }

    /// Runs `work` on a thread of its own. If the returned future is dropped, `work` is told to stop.
    pub async fn run<T: Send + 'static>(
        &self,
        key: Key,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (place, stop) = self.begin(key)?;
        let _ends = EndsWithAsker(stop.clone());
        let done = task::spawn_blocking(move || {
            let _place = place;
            work(&stop)
        });
        done.await.map_err(|_| Busy::Broken)
    }

    fn begin(&self, key: Key) -> Result<(Place, Stop), Busy> {
        let mut running = lock(&self.running);
        if running.contains_key(&key) {
            return Err(Busy::Same);
        }
        if running.len() >= self.most {
            return Err(Busy::TooMany);
        }
        let stop = Stop::default();
        running.insert(key, stop.clone());
        Ok((Place { running: Arc::clone(&self.running), key }, stop))
    }

    /// Tells all that run to stop.
    pub fn stop_all(&self) {
        lock(&self.running).values().for_each(|stop| stop.0.store(true, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

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
        let first = captures.run((1, "profile"), until_told);
        let second = captures.run((1, "wall"), until_told);
        let mut both = Box::pin(async { tokio::join!(first, second) });
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut both).await.is_err(), "both run");
        assert_eq!(captures.run((1, "profile"), |_| ()).await, Err(Busy::Same));
        assert_eq!(captures.run((2, "profile"), |_| ()).await, Err(Busy::TooMany));
        captures.stop_all();
        assert_eq!(both.await, (Ok(true), Ok(true)));
        assert_eq!(captures.run((1, "profile"), |_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_capture_whose_asker_is_gone_ends_and_gives_its_place_back() {
        let captures = Captures::new(1);
        let given_up =
            tokio::time::timeout(Duration::from_millis(20), captures.run((1, "profile"), until_told));
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

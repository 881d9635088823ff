//! Distributes work over the CPUs.
//!
//! Not here: the work.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{Condvar, Mutex, PoisonError, mpsc},
    thread,
};

/// Number of threads that work on a profile.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get().min(8))
}

/// Runs the jobs, each on a thread of its own if there are several CPUs; results are in order.
pub fn in_parallel<T: Send, J: FnOnce() -> T + Send>(mut jobs: Vec<J>) -> Vec<T> {
    let Some(last) = jobs.pop() else { return Vec::new() };
    thread::scope(|scope| {
        let running: Vec<_> = jobs.into_iter().map(|job| scope.spawn(job)).collect();
        let own = last();
        let mut answers: Vec<T> =
            running.into_iter().map(|thread| thread.join().expect("jobs do not panic")).collect();
        answers.push(own);
        answers
    })
}

/// Produces `count` items with `make`, several at a time, and passes them to `take` in order until
/// it returns false. At most twice as many items as threads are waiting to be taken.
pub fn in_order<T: Send>(count: usize, make: impl Fn(usize) -> T + Sync, mut take: impl FnMut(T) -> bool) {
    let threads = threads().min(count);
    // The next item to produce, and the number of items taken.
    let turn = Mutex::new((0, 0));
    let is_taken = Condvar::new();
    let (made, results) = mpsc::channel();
    let next = || {
        let turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = is_taken.wait_while(turn, |(next, taken)| *next < count && *next >= *taken + 2 * threads);
        let mut turn = wait.unwrap_or_else(PoisonError::into_inner);
        turn.0 += 1;
        turn.0 - 1
    };
    let advance = |taken: usize, is_wanted: bool| {
        let mut turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.1 = taken;
        if !is_wanted {
            turn.0 = count;
        }
        is_taken.notify_all();
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            let (made, next, make) = (made.clone(), &next, &make);
            scope.spawn(move || {
                loop {
                    let at = next();
                    if at >= count || made.send((at, make(at))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(made);
        let (mut waiting, mut taken, mut is_wanted) = (BTreeMap::new(), 0, true);
        for (at, result) in results {
            waiting.insert(at, result);
            while let Some(result) = waiting.remove(&taken) {
                is_wanted = is_wanted && take(result);
                taken += 1;
            }
            advance(taken, is_wanted);
        }
    });
}

/// Formats `count` rows with `write`, several blocks at a time, and writes them in order.
pub fn write_in_blocks(
    count: usize,
    out: &mut dyn io::Write,
    write: impl Fn(Range<usize>, &mut Vec<u8>) + Sync,
) -> io::Result<()> {
    /// Small enough that the text of a block stays in the CPU's cache until it is written.
    const BLOCK: usize = 256;
    let mut done = Ok(());
    // Written blocks, for reuse.
    let used: Mutex<Vec<Vec<u8>>> = Mutex::default();
    let used = || used.lock().unwrap_or_else(PoisonError::into_inner);
    let block = |at: usize| {
        let mut text = used().pop().unwrap_or_default();
        text.clear();
        write(at * BLOCK..count.min((at + 1) * BLOCK), &mut text);
        text
    };
    if count <= BLOCK {
        return out.write_all(&block(0));
    }
    in_order(count.div_ceil(BLOCK), block, |text| {
        done = out.write_all(&text);
        used().push(text);
        done.is_ok()
    });
    done
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn items_are_taken_in_order_until_take_returns_false() {
        let mut taken = Vec::new();
        in_order(
            100,
            |at| at * 2,
            |made| {
                taken.push(made);
                true
            },
        );
        assert!(taken.into_iter().eq((0..100).map(|at| at * 2)));
        let (made, mut taken) = (AtomicUsize::new(0), 0);
        in_order(
            1_000_000,
            |_| made.fetch_add(1, Ordering::Relaxed),
            |_| {
                taken += 1;
                taken < 5
            },
        );
        assert!(taken == 5 && made.into_inner() <= 5 + 3 * threads());
        in_order(0, |at| at, |_| unreachable!());
    }
}

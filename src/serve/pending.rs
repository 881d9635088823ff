//! Connections without an accepted request: they share a few slots of their own, so that clients
//! without a token cannot lock out clients with one.
//!
//! A connection leaves these slots with its first accepted request. Until then it is closed when
//! its deadline passes, or when a new connection needs its slot. The one that makes room is the
//! oldest of the address with the most connections, once it has had some time for its request. Not
//! here: which requests are accepted (`guard`).

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

/// The number of connections without an accepted request.
pub const MAX_PENDING: usize = 64;
/// How long a connection has for its first request before it may be closed for a new one: enough
/// for a TLS handshake over a slow network.
pub const MIN_TIME: Duration = Duration::from_millis(200);
/// How often a new connection that waits for a slot tries again.
const RETRY_EVERY: Duration = Duration::from_millis(2);

/// All connections without an accepted request.
#[derive(Clone)]
pub struct Pending {
    list: Arc<Mutex<List>>,
    max: usize,
    min_time: Duration,
}

#[derive(Default)]
struct List {
    next: u64,
    /// The oldest first.
    entries: Vec<Entry>,
}

struct Entry {
    number: u64,
    since: Instant,
    /// `None`: a Unix socket.
    peer: Option<IpAddr>,
    /// Sending closes the connection.
    close: oneshot::Sender<()>,
}

/// The slot of one connection; dropping it frees the slot.
pub struct PendingSlot {
    list: Arc<Mutex<List>>,
    number: u64,
}

impl Drop for PendingSlot {
    fn drop(&mut self) {
        self.accept();
    }
}

/// Resolves when a connection must be closed; never after its first accepted request.
pub struct Expulsion(oneshot::Receiver<()>);

fn lock(list: &Mutex<List>) -> MutexGuard<'_, List> {
    // No code panics while it holds the lock.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pending {
    /// At most `max` connections, at least one. Each has at least `min_time` for its first request.
    pub fn new(max: usize, min_time: Duration) -> Pending {
        Pending { list: Arc::default(), max: max.max(1), min_time }
    }

    /// Adds a new connection, for which another one may be closed. Waits while all connections are
    /// too new for that.
    pub async fn enter(&self, peer: Option<IpAddr>) -> (PendingSlot, Expulsion) {
        loop {
            if let Some(entered) = self.try_enter(peer) {
                return entered;
            }
            sleep(RETRY_EVERY).await;
        }
    }

    fn try_enter(&self, peer: Option<IpAddr>) -> Option<(PendingSlot, Expulsion)> {
        let mut list = lock(&self.list);
        if list.entries.len() >= self.max {
            let victim = victim(&list.entries);
            if list.entries[victim].since.elapsed() < self.min_time {
                return None;
            }
            // The connection may have ended just now.
            let _ = list.entries.remove(victim).close.send(());
        }
        let (close, closed) = oneshot::channel();
        let number = list.next;
        list.next += 1;
        list.entries.push(Entry { number, since: Instant::now(), peer, close });
        Some((PendingSlot { list: Arc::clone(&self.list), number }, Expulsion(closed)))
    }
}

/// The index of the connection that makes room: the oldest of the address with the most.
fn victim(entries: &[Entry]) -> usize {
    let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::new();
    entries.iter().for_each(|entry| *counts.entry(entry.peer).or_default() += 1);
    let most = counts.values().max().copied().unwrap_or_default();
    entries.iter().position(|entry| counts[&entry.peer] == most).unwrap_or_default()
}

impl PendingSlot {
    /// Frees the slot at the first accepted request of the connection.
    pub fn accept(&self) {
        // Dropping the sender tells `Expulsion` that the connection stays.
        lock(&self.list).entries.retain(|entry| entry.number != self.number);
    }
}

impl Expulsion {
    /// Waits until the connection must be closed: its slot is needed, or `deadline` has passed.
    pub async fn due(self, deadline: Duration) {
        // The sender is dropped without a message when a request was accepted.
        if let Ok(Err(_)) = timeout(deadline, self.0).await {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(20);

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    /// Whether the connection is to be closed before an hour has passed.
    async fn is_expelled(expulsion: Expulsion) -> bool {
        timeout(SHORT, expulsion.due(LONG)).await.is_ok()
    }

    #[tokio::test]
    async fn a_new_connection_replaces_the_oldest_of_the_address_with_the_most() {
        let pending = Pending::new(3, Duration::ZERO);
        let (_friend, friend_expulsion) = pending.enter(address(1)).await;
        let (_first, first_expulsion) = pending.enter(address(2)).await;
        let (_second, second_expulsion) = pending.enter(address(2)).await;
        let (_third, third_expulsion) = pending.enter(address(2)).await;
        assert!(is_expelled(first_expulsion).await, "the oldest of 10.0.0.2");
        for expulsion in [friend_expulsion, second_expulsion, third_expulsion] {
            assert!(!is_expelled(expulsion).await);
        }
    }

    #[tokio::test]
    async fn a_connection_without_an_accepted_request_has_a_deadline() {
        let pending = Pending::new(3, Duration::ZERO);
        let (_slot, expulsion) = pending.enter(None).await;
        assert!(timeout(LONG, expulsion.due(SHORT)).await.is_ok());
        let (slot, expulsion) = pending.enter(None).await;
        slot.accept();
        assert!(timeout(SHORT * 5, expulsion.due(SHORT)).await.is_err(), "an accepted one stays");
    }

    #[tokio::test]
    async fn a_new_connection_waits_until_the_others_had_time_for_a_request() {
        let pending = Pending::new(1, SHORT * 5);
        let began = Instant::now();
        let (_first, first_expulsion) = pending.enter(None).await;
        assert!(timeout(SHORT, pending.enter(None)).await.is_err(), "the first one is too new");
        let (_second, _expulsion) = pending.enter(None).await;
        assert!(began.elapsed() >= SHORT * 5);
        assert!(is_expelled(first_expulsion).await);
    }

    #[tokio::test]
    async fn accepted_and_closed_connections_free_their_slots() {
        let pending = Pending::new(1, Duration::ZERO);
        let (accepted, accepted_expulsion) = pending.enter(None).await;
        accepted.accept();
        drop(pending.enter(None).await);
        let (_last, last_expulsion) = pending.enter(None).await;
        assert!(!is_expelled(accepted_expulsion).await && !is_expelled(last_expulsion).await);
        assert_eq!(lock(&pending.list).entries.len(), 1);
    }
}

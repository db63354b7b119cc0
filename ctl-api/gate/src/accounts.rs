//! What each peer has open, and how fast it asks.
//!
//! A peer is a user of the Unix socket or a name with a role; all who have
//! none are one. Its account lives as long as it has a connection, and until
//! its rates have recovered, so that coming again is no way around them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bucket::Bucket;
use crate::limits::ApiLimits;

/// Accounts that are kept before those nobody needs are looked for.
const TIDY_ABOVE: usize = 64;
/// Bytes of a unit of memory.
pub const KIB: usize = 1024;

/// Whose account it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A user of the Unix socket.
    User(u32),
    /// A name with a role.
    Name(String),
    /// Everyone whose certificate is good but has no role.
    Strangers,
}

/// All accounts.
#[derive(Debug)]
pub struct Accounts {
    limits: Arc<ApiLimits>,
    table: Mutex<HashMap<Owner, Arc<Account>>>,
}

/// One peer's.
#[derive(Debug)]
pub struct Account {
    limits: Arc<ApiLimits>,
    connections: AtomicUsize,
    calls: AtomicUsize,
    /// Bytes of messages that have not arrived whole.
    receiving: AtomicUsize,
    reads: Arc<Semaphore>,
    /// KiB of its batches that wait, and of replies that it has not read.
    waiting: Arc<Semaphore>,
    replies: Arc<Semaphore>,
    requests: Mutex<Bucket>,
    bytes: Mutex<Bucket>,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitReached {
    /// Its key in the configuration.
    pub key: &'static str,
    /// Its value, in the unit of the key.
    pub value: usize,
}

impl Accounts {
    /// No accounts yet.
    pub fn new(limits: ApiLimits) -> Self {
        Self { limits: Arc::new(limits), table: Mutex::default() }
    }

    /// The limits of each.
    pub fn limits(&self) -> &Arc<ApiLimits> {
        &self.limits
    }

    /// Opens a connection of a peer.
    ///
    /// # Errors
    /// When it has as many as it may.
    pub fn connect(&self, owner: Owner, now: Instant) -> Result<Connected, LimitReached> {
        let mut table = lock(&self.table);
        if table.len() > TIDY_ABOVE && !table.contains_key(&owner) {
            table.retain(|_, account| account.is_needed(now));
        }
        let account = table.entry(owner).or_insert_with(|| Arc::new(Account::new(&self.limits, now)));
        // Nobody else adds: the table is locked.
        if account.connections.load(Ordering::Relaxed) >= self.limits.connections_per_peer {
            let value = self.limits.connections_per_peer;
            return Err(LimitReached { key: "api.limits.connections_per_peer", value });
        }
        account.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Connected(Arc::clone(account)))
    }
}

impl Account {
    fn new(limits: &Arc<ApiLimits>, now: Instant) -> Self {
        Self {
            limits: Arc::clone(limits),
            connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            reads: Arc::new(Semaphore::new(limits.reads_per_peer)),
            waiting: Arc::new(Semaphore::new(limits.waiting / 2 / KIB)),
            replies: Arc::new(Semaphore::new(limits.replies / KIB)),
            requests: Mutex::new(Bucket::new(f64::from(limits.requests_per_second), now)),
            bytes: Mutex::new(Bucket::new(limits.bytes_per_second as f64, now)),
        }
    }

    fn is_needed(&self, now: Instant) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
            || !lock(&self.requests).is_full(now)
            || !lock(&self.bytes).is_full(now)
    }

    /// The limits that hold for it.
    pub fn limits(&self) -> &Arc<ApiLimits> {
        &self.limits
    }

    /// Begins a call.
    ///
    /// # Errors
    /// When as many are open as may be.
    pub fn call(self: &Arc<Self>) -> Result<Call, LimitReached> {
        match raise(&self.calls, 1, self.limits.calls_per_peer) {
            true => Ok(Call(Arc::clone(self))),
            false => {
                Err(LimitReached { key: "api.limits.calls_per_peer", value: self.limits.calls_per_peer })
            }
        }
    }

    /// Counts a request against the rate.
    ///
    /// # Errors
    /// The time until the next may come.
    pub fn request(&self, now: Instant) -> Result<(), Duration> {
        lock(&self.requests).take(now)
    }

    /// Counts bytes against the rate; returns how long not to take more.
    pub fn received(&self, bytes: usize, now: Instant) -> Duration {
        lock(&self.bytes).charge(bytes, now)
    }

    /// Waits for its turn to read; `None` if that takes too long.
    pub async fn read(&self) -> Option<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.reads).acquire_owned();
        tokio::time::timeout(self.limits.stalled, turn).await.ok()?.ok()
    }

    /// What its batches may take while they wait, in KiB: half of what those of all
    /// may.
    pub fn waiting(&self) -> &Arc<Semaphore> {
        &self.waiting
    }

    /// What replies may take that it has not read, in KiB.
    pub fn replies(&self) -> &Arc<Semaphore> {
        &self.replies
    }

    /// Takes memory for a message that is arriving.
    ///
    /// # Errors
    /// When it has as much as it may have.
    pub fn hold(&self, bytes: usize) -> Result<(), LimitReached> {
        match raise(&self.receiving, bytes, self.limits.receive_memory) {
            true => Ok(()),
            false => Err(LimitReached {
                key: "api.limits.receive_memory_mib",
                value: self.limits.receive_memory >> 20,
            }),
        }
    }

    /// Gives it back.
    pub fn release(&self, bytes: usize) {
        self.receiving.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Adds to a number unless it would be more than `most`.
fn raise(number: &AtomicUsize, by: usize, most: usize) -> bool {
    let more = |value: usize| value.checked_add(by).filter(|value| *value <= most);
    number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// A connection in its peer's account.
#[derive(Debug)]
pub struct Connected(Arc<Account>);

impl Connected {
    /// The account.
    pub fn account(&self) -> &Arc<Account> {
        &self.0
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call in its peer's account.
#[derive(Debug)]
pub struct Call(Arc<Account>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is locked here is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::new(ApiLimits {
            connections_per_peer: 2,
            calls_per_peer: 2,
            requests_per_second: 3,
            receive_memory: 100,
            ..ApiLimits::default()
        })
    }

    #[test]
    fn each_peer_has_limits_of_its_own_and_gets_back_what_it_closes() {
        let (accounts, now) = (accounts(), Instant::now());
        let one = accounts.connect(Owner::User(1), now).expect("the first");
        let two = accounts.connect(Owner::User(1), now).expect("the second");
        let refused = accounts.connect(Owner::User(1), now).expect_err("a third");
        assert_eq!(refused, LimitReached { key: "api.limits.connections_per_peer", value: 2 });
        let other = accounts.connect(Owner::Name("1".into()), now).expect("somebody else");
        drop(two);
        let two = accounts.connect(Owner::User(1), now).expect("a place is free");
        let calls = [one.account().call().expect("one"), two.account().call().expect("two")];
        assert_eq!(one.account().call().expect_err("a third").key, "api.limits.calls_per_peer");
        let _others = other.account().call().expect("its own");
        drop(calls);
        one.account().call().expect("places are free");
        one.account().hold(60).expect("room");
        assert_eq!(two.account().hold(41).expect_err("no room").key, "api.limits.receive_memory_mib");
        one.account().release(20);
        two.account().hold(41).expect("room");
    }

    #[test]
    fn coming_again_is_no_way_around_a_rate() {
        let (accounts, now) = (accounts(), Instant::now());
        let spend = |accounts: &Accounts, now| {
            let connected = accounts.connect(Owner::User(1), now).expect("a connection");
            (0..10).filter(|_| connected.account().request(now).is_ok()).count()
        };
        assert_eq!(spend(&accounts, now), 3);
        // Others come and go until accounts are tidied.
        for uid in 100..100 + 2 * TIDY_ABOVE as u32 {
            drop(accounts.connect(Owner::User(uid), now).expect("a connection"));
        }
        assert!(lock(&accounts.table).len() <= TIDY_ABOVE + 2, "accounts that nobody needs are gone");
        assert_eq!(spend(&accounts, now), 0);
        assert_eq!(spend(&accounts, now + Duration::from_secs(1)), 3);
    }
}

//! How a worker of the engine gets the newest snapshot of the tables.
//!
//! It is a crate of its own so that loom, whose stand-ins for atomics and `Arc`
//! are not the standard library's, checks it without the rest of the engine.
//!
//! A [`Sender`] publishes snapshots with rising versions; the worker's
//! [`Reader`] takes the newest at a burst boundary and skips what it missed.
//!
//! The worker never waits. A snapshot lies in a slot of one, guarded by a
//! claim that the worker tries once; when the writer has it, the worker goes
//! on with what it has and tries at the next burst. (A lock-free queue alone
//! would not do: its `pop` spins while a writer that was preempted in the
//! middle of `push` has not finished.)
//!
//! The worker never runs a destructor either. The sender keeps a reference to
//! every snapshot that the reader may have, so the reader's is never the
//! last; it lets go of one when [`Sender::seen`] is past it. There are two
//! at most: the one in use and the one in the slot. A sender that goes away
//! leaves its references in the mailbox, to be dropped with the reader.

use crossbeam::utils::CachePadded;

use sync::{Arc, AtomicBool, AtomicU64, Ordering, Slot};

/// A snapshot and its version.
struct Letter<T> {
    version: u64,
    value: Arc<T>,
}

/// What both ends see.
struct Shared<T> {
    /// Written by the sender.
    published: CachePadded<AtomicU64>,
    /// Written by the reader.
    seen: CachePadded<AtomicU64>,
    /// Whether one end is at the slot.
    claimed: CachePadded<AtomicBool>,
    slot: Slot<Letter<T>>,
    /// What the sender kept, once it is gone.
    left_behind: Slot<Vec<Letter<T>>>,
}

/// The writer's end of a mailbox.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    /// What the reader may have, oldest first.
    kept: Vec<Letter<T>>,
    newest: u64,
}

/// The worker's end of a mailbox.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    current: Letter<T>,
}

/// A mailbox whose reader starts with `first`, as version 0.
pub fn mailbox<T>(first: Arc<T>) -> (Sender<T>, Reader<T>) {
    let shared = Arc::new(Shared {
        published: CachePadded::new(AtomicU64::new(0)),
        seen: CachePadded::new(AtomicU64::new(0)),
        claimed: CachePadded::new(AtomicBool::new(false)),
        slot: Slot::new(1),
        left_behind: Slot::new(1),
    });
    let kept = vec![Letter { version: 0, value: Arc::clone(&first) }];
    let sender = Sender { shared: Arc::clone(&shared), kept, newest: 0 };
    (sender, Reader { shared, current: Letter { version: 0, value: first } })
}

impl<T> Shared<T> {
    fn try_claim(&self) -> bool {
        self.claimed.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn release(&self) {
        self.claimed.store(false, Ordering::Release);
    }
}

impl<T> Sender<T> {
    /// Makes `value` what the reader takes next, instead of anything that it
    /// has not taken yet. Waits for the reader to leave the slot: tens of
    /// nanoseconds if it runs.
    ///
    /// # Panics
    /// If `version` is not above every earlier one.
    pub fn publish(&mut self, version: u64, value: Arc<T>) {
        assert!(version > self.newest, "version {version} published after version {}", self.newest);
        self.newest = version;
        self.kept.push(Letter { version, value: Arc::clone(&value) });
        while !self.shared.try_claim() {
            sync::wait();
        }
        let displaced = self.shared.slot.force_push(Letter { version, value });
        // Not before the slot holds it: the reader looks here first.
        self.shared.published.store(version, Ordering::Release);
        self.shared.release();
        if let Some(displaced) = displaced {
            // The reader never had it.
            self.kept.retain(|letter| letter.version != displaced.version);
        }
        self.collect();
    }

    /// Drops the snapshots that the reader is done with.
    pub fn collect(&mut self) {
        let seen = self.seen();
        self.kept.retain(|letter| letter.version >= seen);
    }

    /// The version that the reader works with: after this was read, nothing
    /// is processed by an older one. Never goes back.
    pub fn seen(&self) -> u64 {
        self.shared.seen.load(Ordering::Acquire)
    }

    /// The newest version published.
    pub fn newest(&self) -> u64 {
        self.newest
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Only ever done here, so nothing is displaced.
        let _ = self.shared.left_behind.force_push(std::mem::take(&mut self.kept));
    }
}

impl<T> Reader<T> {
    /// Takes the newest snapshot; whether there was one. To be called between
    /// bursts, with nothing in hand that refers to the current one. Without
    /// news it costs one atomic load. It never waits: should the sender be
    /// at the slot at this moment, the news is for the next call.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        // The claim orders what follows; this only says whether to try.
        if self.shared.published.load(Ordering::Relaxed) == self.current.version {
            return false;
        }
        self.take()
    }

    #[cold]
    fn take(&mut self) -> bool {
        if !self.shared.try_claim() {
            return false;
        }
        let taken = self.shared.slot.pop();
        let news = taken.is_some();
        if let Some(letter) = taken {
            // The sender has another reference to the one that goes, until
            // it sees the store below.
            self.current = letter;
            self.shared.seen.store(self.current.version, Ordering::Release);
        }
        self.shared.release();
        news
    }

    /// The snapshot to work with.
    #[inline]
    pub fn current(&self) -> &T {
        &self.current.value
    }

    /// Its version.
    #[inline]
    pub fn version(&self) -> u64 {
        self.current.version
    }
}

/// The primitives, and for model checking their stand-ins.
#[cfg(not(loom))]
mod sync {
    pub(super) use crossbeam::queue::ArrayQueue as Slot;
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// Lets the other end go on. It may have been preempted, so the wait
    /// gives up the processor; only control threads come here.
    pub(super) fn wait() {
        std::thread::yield_now();
    }
}

/// Stand-ins that loom can explore.
#[cfg(loom)]
mod sync {
    use std::collections::VecDeque;

    pub(super) use loom::sync::Arc;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    pub(super) fn wait() {
        loom::thread::yield_now();
    }

    /// The part of the queue's interface that the mailbox uses. It is a plain
    /// cell, so that loom reports any use that the claim does not order.
    pub(super) struct Slot<T> {
        capacity: usize,
        held: loom::cell::UnsafeCell<VecDeque<T>>,
    }

    // SAFETY: the queue that this stands in for is `Sync` for such types; that
    // accesses do not overlap is what the models check.
    unsafe impl<T: Send> Sync for Slot<T> {}

    impl<T> Slot<T> {
        pub fn new(capacity: usize) -> Self {
            Self { capacity, held: loom::cell::UnsafeCell::new(VecDeque::new()) }
        }

        pub fn force_push(&self, value: T) -> Option<T> {
            self.held.with_mut(|held| {
                // SAFETY: loom fails the model if another access overlaps.
                let held = unsafe { &mut *held };
                held.push_back(value);
                if held.len() > self.capacity { held.pop_front() } else { None }
            })
        }

        pub fn pop(&self) -> Option<T> {
            // SAFETY: as above.
            self.held.with_mut(|held| unsafe { &mut *held }.pop_front())
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::thread::{self, ThreadId};

    /// Says on which thread it was dropped, and how many are left.
    struct Snapshot {
        version: u64,
        alive: Arc<AtomicUsize>,
        not_dropped_on: Arc<std::sync::Mutex<Option<ThreadId>>>,
    }

    impl Drop for Snapshot {
        fn drop(&mut self) {
            self.alive.fetch_sub(1, Ordering::Relaxed);
            let forbidden = *self.not_dropped_on.lock().expect("no holder panics");
            assert_ne!(forbidden, Some(thread::current().id()), "version {} dropped", self.version);
        }
    }

    #[derive(Default)]
    struct Rig {
        alive: Arc<AtomicUsize>,
        not_dropped_on: Arc<std::sync::Mutex<Option<ThreadId>>>,
    }

    impl Rig {
        fn snapshot(&self, version: u64) -> Arc<Snapshot> {
            self.alive.fetch_add(1, Ordering::Relaxed);
            let (alive, not_dropped_on) = (Arc::clone(&self.alive), Arc::clone(&self.not_dropped_on));
            Arc::new(Snapshot { version, alive, not_dropped_on })
        }

        fn alive(&self) -> usize {
            self.alive.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_reader_gets_the_newest_and_what_it_skips_goes_at_once() {
        let rig = Rig::default();
        let (mut sender, mut reader) = mailbox(rig.snapshot(0));
        assert!(!reader.refresh());
        for version in [3, 4, 9] {
            sender.publish(version, rig.snapshot(version));
            assert_eq!(rig.alive(), 2);
        }
        assert_eq!((reader.current().version, sender.seen()), (0, 0));
        assert!(reader.refresh());
        assert_eq!((reader.current().version, reader.version(), sender.seen()), (9, 9, 9));
        assert!(!reader.refresh());
        assert_eq!(rig.alive(), 2, "the sender has not collected yet");
        sender.collect();
        assert_eq!(rig.alive(), 1);
    }

    #[test]
    fn while_the_sender_is_at_the_slot_the_reader_goes_on() {
        let (mut sender, mut reader) = mailbox(Arc::new(0));
        sender.publish(1, Arc::new(1));
        assert!(reader.shared.try_claim());
        assert!(!reader.refresh());
        assert_eq!(*reader.current(), 0);
        reader.shared.release();
        assert!(reader.refresh());
        assert_eq!(*reader.current(), 1);
    }

    #[test]
    #[should_panic(expected = "version 2 published after version 2")]
    fn versions_rise() {
        let (mut sender, _reader) = mailbox(Arc::new(0));
        sender.publish(2, Arc::new(2));
        sender.publish(2, Arc::new(2));
    }

    #[test]
    fn ends_go_in_any_order_and_a_reader_alone_drops_nothing_while_it_works() {
        let rig = Rig::default();
        let (mut sender, mut reader) = mailbox(rig.snapshot(0));
        sender.publish(1, rig.snapshot(1));
        drop(sender);
        *rig.not_dropped_on.lock().expect("no holder panics") = Some(thread::current().id());
        assert!(reader.refresh());
        assert_eq!((reader.current().version, rig.alive()), (1, 2));
        *rig.not_dropped_on.lock().expect("no holder panics") = None;
        drop(reader);
        assert_eq!(rig.alive(), 0);

        let (mut sender, reader) = mailbox(rig.snapshot(0));
        drop(reader);
        sender.publish(1, rig.snapshot(1));
        drop(sender);
        assert_eq!(rig.alive(), 0);
    }

    #[test]
    fn a_worker_sees_rising_versions_and_never_drops() {
        const LAST: u64 = 20_000;
        let rig = Rig::default();
        let (mut sender, mut reader) = mailbox(rig.snapshot(0));
        let not_dropped_on = Arc::clone(&rig.not_dropped_on);
        let worker = thread::spawn(move || {
            *not_dropped_on.lock().expect("no holder panics") = Some(thread::current().id());
            let mut before = 0;
            while reader.current().version < LAST {
                if reader.refresh() {
                    assert!(reader.current().version > before);
                } else {
                    assert_eq!(reader.current().version, before);
                }
                before = reader.current().version;
            }
        });
        let mut seen = 0;
        for version in 1..=LAST {
            sender.publish(version, rig.snapshot(version));
            assert!(sender.seen() >= seen && sender.seen() <= version);
            seen = sender.seen();
            assert!(rig.alive() <= 3, "{} snapshots", rig.alive());
        }
        // The reader has gone with the thread: its reference was not the last.
        worker.join().expect("the worker's assertions hold");
        assert_eq!(sender.seen(), LAST);
        sender.collect();
        assert_eq!(rig.alive(), 1);
        drop(sender);
        assert_eq!(rig.alive(), 0);
    }
}

/// Every interleaving of small runs:
/// `RUSTFLAGS="--cfg loom" cargo test -p tieline-mailbox --lib --target-dir target/loom`
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread::{self, ThreadId};

    /// Asserts that the worker does not drop it.
    struct Snapshot {
        version: u64,
        home: ThreadId,
    }

    impl Snapshot {
        fn new(version: u64) -> Arc<Self> {
            Arc::new(Self { version, home: thread::current().id() })
        }
    }

    impl Drop for Snapshot {
        fn drop(&mut self) {
            assert_eq!(thread::current().id(), self.home, "version {} dropped by the worker", self.version);
        }
    }

    /// What a version's packets may refer to. Once the version is past, the
    /// writer uses it for something else; a late packet is then a data race,
    /// which loom reports.
    type Resource = Arc<loom::cell::UnsafeCell<u64>>;

    fn process(reader: &Reader<Snapshot>, resources: &[Resource]) {
        let version = reader.current().version;
        assert_eq!(version, reader.version());
        // SAFETY: loom fails the model if another access overlaps.
        resources[version as usize].with(|resource| assert_eq!(unsafe { *resource }, version));
    }

    fn reuse_what_is_past(sender: &Sender<Snapshot>, resources: &[Resource]) {
        for resource in &resources[..sender.seen() as usize] {
            // SAFETY: as above.
            resource.with_mut(|resource| unsafe { *resource = u64::MAX });
        }
    }

    fn resources(count: u64) -> Vec<Resource> {
        (0..count).map(|version| Arc::new(loom::cell::UnsafeCell::new(version))).collect()
    }

    #[test]
    fn seen_means_that_older_versions_are_over() {
        loom::model(|| {
            let resources = resources(3);
            let (mut sender, mut reader) = mailbox(Snapshot::new(0));
            let of_worker = resources.clone();
            let worker = thread::spawn(move || {
                let mut before = 0;
                for _ in 0..3 {
                    process(&reader, &of_worker);
                    let news = reader.refresh();
                    assert_eq!(news, reader.version() > before);
                    before = reader.version();
                }
                process(&reader, &of_worker);
            });
            for version in 1..3 {
                sender.publish(version, Snapshot::new(version));
                assert!(sender.kept.len() <= 2);
                reuse_what_is_past(&sender, &resources);
            }
            sender.collect();
            worker.join().expect("the worker's assertions hold");
        });
    }

    #[test]
    fn a_finished_publication_is_taken_at_the_next_refresh() {
        loom::model(|| {
            let (mut sender, mut reader) = mailbox(Snapshot::new(0));
            let told = Arc::new(AtomicU64::new(0));
            let telling = Arc::clone(&told);
            let worker = thread::spawn(move || {
                let told = told.load(Ordering::Acquire);
                reader.refresh();
                // With no publication under way nothing can be in the way.
                if told == 2 {
                    assert_eq!(reader.version(), 2);
                }
            });
            for version in 1..3 {
                sender.publish(version, Snapshot::new(version));
                telling.store(version, Ordering::Release);
            }
            worker.join().expect("the worker's assertions hold");
        });
    }
}

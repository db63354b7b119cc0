//! Buffers against a model made of a vector.

mod support;

use std::thread;

use proptest::prelude::*;
use support::{packet, pool};
use tieline_dpdk::{Eal, Mbuf, Pool, PoolConfig, PoolError, register_worker_thread};
use tieline_engine::io::BufferPool as _;
use tieline_engine::packet::buffer::{FRONT, HEADROOM, IpChecksum, OPENED, PacketBuf as _};

const ROOM: usize = 512;

#[derive(Debug, Clone)]
enum Operation {
    Prepend(usize, u8),
    Append(usize, u8),
    Advance(usize),
    Truncate(usize),
    Reframe { offset: usize, length: usize, front: usize, fill: u8 },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (0..HEADROOM + 8, any::<u8>()).prop_map(|(count, fill)| Operation::Prepend(count, fill)),
        (0..ROOM + 8, any::<u8>()).prop_map(|(count, fill)| Operation::Append(count, fill)),
        (0..ROOM).prop_map(Operation::Advance),
        (0..ROOM).prop_map(Operation::Truncate),
        (0..200usize, 0..ROOM, 0..FRONT + 8, any::<u8>())
            .prop_map(|(offset, length, front, fill)| Operation::Reframe { offset, length, front, fill }),
        Just(Operation::Prepend(usize::MAX, 0)),
        Just(Operation::Append(usize::MAX, 0)),
        Just(Operation::Truncate(usize::MAX)),
    ]
}

/// A packet as bytes with free room on both sides.
struct Model {
    headroom: usize,
    bytes: Vec<u8>,
}

impl Model {
    fn tailroom(&self) -> usize {
        HEADROOM + ROOM - self.headroom - self.bytes.len()
    }

    fn apply(&mut self, operation: &Operation, packet: &mut Mbuf) {
        match *operation {
            Operation::Prepend(count, fill) => {
                let fits = count <= self.headroom;
                assert_eq!(packet.prepend(count), fits);
                if fits {
                    packet.bytes_mut()[..count].fill(fill);
                    self.bytes.splice(0..0, std::iter::repeat_n(fill, count));
                    self.headroom -= count;
                }
            }
            Operation::Append(count, fill) => {
                let fits = count <= self.tailroom();
                assert_eq!(packet.append(count), fits);
                if fits {
                    let before = self.bytes.len();
                    packet.bytes_mut()[before..].fill(fill);
                    self.bytes.resize(before + count, fill);
                }
            }
            Operation::Advance(count) => {
                let count = count.min(self.bytes.len());
                packet.advance(count);
                self.bytes.drain(..count);
                self.headroom += count;
            }
            Operation::Truncate(length) => {
                packet.truncate(length);
                self.bytes.truncate(length);
            }
            Operation::Reframe { offset, length, front, fill } => {
                let fits = length >= OPENED
                    && front <= FRONT
                    && offset + length <= self.bytes.len()
                    && self.headroom + offset >= FRONT;
                let opened = packet.reframe(offset, length, &[fill; FRONT], front);
                assert_eq!(opened.is_some(), fits);
                if let Some(opened) = opened {
                    self.headroom = self.headroom + offset - front;
                    self.bytes = [&vec![fill; front], &self.bytes[offset..offset + length]].concat();
                    // It is the packet's own: what is filled in stays.
                    opened[FRONT] ^= 1;
                    self.bytes[front] ^= 1;
                }
            }
        }
    }
}

fn small_pool() -> &'static Pool {
    static POOL: std::sync::OnceLock<Pool> = std::sync::OnceLock::new();
    POOL.get_or_init(|| pool("model", 7, ROOM as u16))
}

proptest! {
    #[test]
    fn a_buffer_does_what_a_vector_does(operations in prop::collection::vec(operation(), 0..40)) {
        let pool = small_pool();
        let mut packet = pool.clone().alloc().expect("a buffer");
        prop_assert_eq!(pool.available(), pool.capacity() - 1);
        let mut model = Model { headroom: HEADROOM, bytes: Vec::new() };
        for operation in &operations {
            model.apply(operation, &mut packet);
            prop_assert_eq!(packet.bytes(), &model.bytes[..]);
            prop_assert_eq!(packet.headroom(), model.headroom);
            prop_assert_eq!(packet.tailroom(), model.tailroom());
        }
        prop_assert_eq!(packet.ip_checksum(), IpChecksum::Unknown);
        drop(packet);
        prop_assert_eq!(pool.available(), pool.capacity());
    }
}

#[test]
#[should_panic(expected = "advance past the end")]
fn advancing_past_the_end_panics_and_returns_the_buffer() {
    packet(&pool("advance", 1, 64), &[1, 2, 3]).advance(4);
}

#[test]
fn an_empty_pool_gives_nothing_until_a_buffer_comes_back() {
    let mut pool = pool("few", 3, 64);
    let mut taken: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((taken.len(), pool.available()), (3, 0));
    taken.pop();
    let again = pool.alloc().expect("the one that came back");
    assert_eq!((again.headroom(), again.bytes().len(), again.tailroom()), (HEADROOM, 0, 64));
    drop((taken, again));
    assert_eq!(pool.available(), 3);
}

#[test]
fn a_raw_pointer_keeps_the_buffer() {
    let pool = pool("raw", 2, 64);
    let raw = packet(&pool, b"kept").into_raw();
    assert_eq!(pool.available(), 1);
    // SAFETY: the pointer was given up by a packet and is used once.
    let packet = unsafe { Mbuf::from_raw(raw) };
    assert_eq!(packet.bytes(), b"kept");
    drop(packet);
    assert_eq!(pool.available(), 2);
}

#[test]
fn buffers_come_back_from_threads_with_and_without_caches() {
    let config = PoolConfig { name: "threads".to_owned(), count: 1023, data_room: 256, cache: 64 };
    let pool = Pool::new(support::eal(), config).expect("a pool");
    thread::scope(|scope| {
        for registers in [true, false, true, false] {
            let mut pool = pool.clone();
            scope.spawn(move || {
                let _registration = registers.then(|| register_worker_thread().expect("a place"));
                for round in 0..200u8 {
                    let packets: Vec<Mbuf> = (0..50).filter_map(|_| pool.alloc()).collect();
                    assert_eq!(packets.len(), 50, "round {round}");
                    // Half of them go back through another thread.
                    let (here, there): (Vec<_>, Vec<_>) =
                        packets.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
                    drop(here);
                    if round % 50 == 0 {
                        thread::spawn(move || drop(there)).join().expect("joins");
                    }
                }
            });
        }
    });
    assert_eq!(pool.available(), pool.capacity());
}

#[test]
fn impossible_pools_are_refused_in_words() {
    let eal: &Eal = support::eal();
    let make = |name: &str, count, data_room, cache| {
        Pool::new(eal, PoolConfig { name: name.to_owned(), count, data_room, cache })
    };
    assert!(matches!(make("zero\0", 1, 64, 0), Err(PoolError::Name(_))));
    assert!(matches!(make("room", 1, u16::MAX, 0), Err(PoolError::DataRoom(_))));
    assert!(matches!(make("cache", 4096, 64, 513), Err(PoolError::Cache { .. })));
    assert!(matches!(make("cache", 96, 64, 65), Err(PoolError::Cache { .. })));
    let error = make("huge", 1 << 20, 9000, 0).expect_err("9 GiB in 256 MiB").to_string();
    assert!(error.contains("Cannot allocate memory") && error.contains("9320 MiB"), "{error}");
    assert!(matches!(make(&"x".repeat(60), 1, 64, 0), Err(PoolError::Create { .. })));
    make("twice", 1, 64, 0).expect("the first");
    assert!(matches!(make("twice", 1, 64, 0), Err(PoolError::NameTaken(_))));
    assert!(matches!(make("none", 0, 64, 0), Err(PoolError::Create { .. })));
}

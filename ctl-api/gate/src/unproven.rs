//! TCP clients that have not proved who they are.
//!
//! There is room for so many of them, and nobody can take all of it: a source
//! has a share, and where there is no room the oldest of whoever has most makes
//! room. A client that means it has proved itself in milliseconds; one that is
//! silent is the oldest before long.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A source may have this part of all places.
const PART: usize = 2;

/// The places.
#[derive(Debug)]
pub struct Unproven {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// The oldest first.
    clients: VecDeque<Client>,
}

#[derive(Debug)]
struct Client {
    number: u64,
    source: IpAddr,
    /// Dropped when it has to make room.
    _stays: oneshot::Sender<()>,
}

/// A place that is taken.
#[derive(Debug)]
pub struct Place {
    all: Arc<Unproven>,
    number: u64,
    stays: oneshot::Receiver<()>,
}

impl Unproven {
    /// So many places.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), inner: Mutex::default() })
    }

    /// Takes a place for a client from this address. Also says whether another
    /// one has to go.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> (Place, bool) {
        let source = source_of(address);
        let mut inner = lock(&self.inner);
        let of_source = inner.count(source);
        let pushed_out = if of_source >= (self.most / PART).max(1) {
            Some(source)
        } else if inner.clients.len() >= self.most {
            inner.most_frequent()
        } else {
            None
        };
        if let Some(source) = pushed_out {
            inner.drop_oldest(source);
        }
        let number = inner.next;
        inner.next += 1;
        let (sender, stays) = oneshot::channel();
        inner.clients.push_back(Client { number, source, _stays: sender });
        (Place { all: Arc::clone(self), number, stays }, pushed_out.is_some())
    }
}

impl Inner {
    fn count(&self, source: IpAddr) -> usize {
        self.clients.iter().filter(|client| client.source == source).count()
    }

    /// The source that has most; of several the one that has the oldest.
    fn most_frequent(&self) -> Option<IpAddr> {
        let mut counts: Vec<(IpAddr, usize)> = Vec::new();
        for Client { source, .. } in &self.clients {
            match counts.iter_mut().find(|(known, _)| known == source) {
                Some((_, count)) => *count += 1,
                None => counts.push((*source, 1)),
            }
        }
        // The last of those that are equal is taken.
        counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(source, _)| source)
    }

    fn drop_oldest(&mut self, source: IpAddr) {
        if let Some(at) = self.clients.iter().position(|client| client.source == source) {
            self.clients.remove(at);
        }
    }
}

impl Place {
    /// Comes when the place is needed for somebody else.
    pub async fn lost(&mut self) {
        // Nobody sends anything: the other end goes.
        let _ = (&mut self.stays).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.all.inner).clients.retain(|client| client.number != self.number);
    }
}

/// Who may have many addresses counts once: an IPv6 network of 64 bits.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// What is locked here is whole between any two statements.
fn lock(mutex: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn is_lost(place: &mut Place) -> bool {
        place.stays.try_recv() == Err(TryRecvError::Closed)
    }

    #[test]
    fn a_source_has_a_share_and_its_oldest_makes_room() {
        let all = Unproven::new(4);
        let (mut first, _) = all.enter(address("198.18.0.1"));
        let (mut second, _) = all.enter(address("198.18.0.1"));
        let (mut other, pushed) = all.enter(address("198.18.0.2"));
        assert!(!pushed && !is_lost(&mut first));
        let (mut third, pushed) = all.enter(address("198.18.0.1"));
        assert!(pushed && is_lost(&mut first));
        assert!(!is_lost(&mut second) && !is_lost(&mut third) && !is_lost(&mut other));
        // Who has proved itself takes no place.
        drop(second);
        let (_fourth, pushed) = all.enter(address("::ffff:198.18.0.1"));
        assert!(!pushed && !is_lost(&mut third));
    }

    #[test]
    fn when_all_places_are_taken_whoever_has_most_makes_room() {
        let all = Unproven::new(16);
        let mut places: Vec<Place> = Vec::new();
        for network in 0..7 {
            for host in 0..2 {
                places.push(all.enter(address(&format!("2001:db8:0:{network}::{host}"))).0);
            }
        }
        let mut single = [all.enter(address("198.18.0.1")).0, all.enter(address("198.18.0.2")).0];
        let (mut newest, pushed) = all.enter(address("198.18.0.3"));
        assert!(pushed && is_lost(&mut places[0]), "the oldest of those who have two");
        assert!(!single.iter_mut().any(is_lost) && !is_lost(&mut newest));
        assert_eq!(places.iter_mut().filter_map(|place| is_lost(place).then_some(())).count(), 1);
    }

    #[test]
    fn there_are_never_more_than_there_are_places() {
        for most in [1, 2, 9, 128] {
            let all = Unproven::new(most);
            let mut places = Vec::new();
            for at in 0..1000_u32 {
                places.push(all.enter(IpAddr::from((0xc612_0000 + at % 77).to_be_bytes())).0);
                assert!(lock(&all.inner).clients.len() <= most);
            }
            drop(places);
            assert_eq!(lock(&all.inner).clients.len(), 0);
        }
    }
}

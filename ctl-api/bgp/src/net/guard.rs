//! Listeners, and what peers' connections must prove before a byte of them is read.
//!
//! Peers with and without TCP MD5 and TTL security share a listener. What each of
//! them has to prove is checked by the kernel from the first SYN on:
//!
//! - MD5 keys stand on the listener, by address.
//! - TTL security (RFC 5082) is a socket filter of the listener, as one `IP_MINTTL`
//!   would be the same for all peers. It looks at source and TTL of each segment.
//!
//! The filter begins with the number of its generation, and a connection inherits
//! the filter of the moment in which its handshake ended. So a connection itself
//! says which rules it was made under, and one that is older than what its peer has
//! to prove is refused. The same holds where a key or the filter cannot be set.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::socket;
use crate::speaker::Transport;

/// What a peer's connections must prove.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Demand {
    /// That they know a key (RFC 2385).
    md5: Option<String>,
    /// That they come from near (RFC 5082).
    hops: Option<u8>,
}

impl Demand {
    pub(super) fn of(transport: &Transport) -> Self {
        Self { md5: transport.md5.clone(), hops: transport.ttl_security }
    }

    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A peer's demand, and how it stands at the listeners of its family.
struct Held {
    demand: Demand,
    /// Connections made under older rules have not proved it.
    since: u32,
    /// Why it cannot be made.
    failure: Option<String>,
}

/// The listeners.
pub(super) struct Guarded {
    listeners: Vec<Arc<TcpListener>>,
    held: BTreeMap<IpAddr, Held>,
    /// Of the rules; zero are none.
    generation: u32,
}

impl Guarded {
    pub(super) fn new(listeners: Vec<TcpListener>) -> Self {
        Self {
            listeners: listeners.into_iter().map(Arc::new).collect(),
            held: BTreeMap::new(),
            generation: 0,
        }
    }

    pub(super) fn listeners(&self) -> &[Arc<TcpListener>] {
        &self.listeners
    }

    /// Peers and their demands are these now. What could not be set before is tried
    /// again.
    pub(super) fn set(&mut self, wanted: BTreeMap<IpAddr, Demand>) {
        let stands = |address: &IpAddr, demand: &Demand| {
            self.held.get(address).is_some_and(|held| held.demand == *demand && held.failure.is_none())
        };
        let same = wanted.len() == self.held.len() && wanted.iter().all(|(peer, one)| stands(peer, one));
        let nothing = self.generation == 0 && wanted.values().all(Demand::is_none);
        if same || self.listeners.is_empty() {
            return;
        }
        let next = self.generation + 1;
        let keep = |(address, demand): (IpAddr, Demand)| {
            let since = match stands(&address, &demand) {
                true => self.held[&address].since,
                false => next,
            };
            (address, Held { demand, since, failure: None })
        };
        let held = wanted.into_iter().map(keep).collect();
        let before = std::mem::replace(&mut self.held, held);
        if nothing {
            return;
        }
        self.generation = next;
        self.set_keys(&before);
        self.set_filters();
    }

    /// Why connections of a peer are not taken.
    pub(super) fn failure(&self, peer: IpAddr) -> Option<&str> {
        self.held.get(&peer)?.failure.as_deref()
    }

    /// Whether a connection has proved what its peer must prove. Nothing may be read
    /// from it before.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn admit(&self, peer: IpAddr, stream: &TcpStream) -> Result<(), String> {
        let Some(held) = self.held.get(&peer).filter(|held| !held.demand.is_none()) else { return Ok(()) };
        if let Some(failure) = &held.failure {
            return Err(failure.clone());
        }
        let born = socket::filter_of(stream.as_raw_fd()).map_err(|error| {
            format!("whether it was made under the present rules cannot be known: {error}")
        })?;
        match generation(&born) >= held.since {
            true => Ok(()),
            false => Err("it was made before it had to prove anything".to_owned()),
        }
    }

    fn of_family(&self, ipv4: bool) -> impl Iterator<Item = &Arc<TcpListener>> {
        let is_of = move |listener: &&Arc<TcpListener>| {
            listener.local_addr().is_ok_and(|local| local.is_ipv4() == ipv4)
        };
        self.listeners.iter().filter(is_of)
    }

    /// Keys come before the filter, whose generation says that they are there.
    fn set_keys(&mut self, before: &BTreeMap<IpAddr, Held>) {
        let mut failures = Vec::new();
        for (address, _) in before.iter().filter(|(_, old)| old.demand.md5.is_some()) {
            if self.held.get(address).is_some_and(|held| held.demand.md5.is_some()) {
                // A key is replaced in place: at no time is there none.
                continue;
            }
            for listener in self.of_family(address.is_ipv4()) {
                match socket::set_md5(listener.as_raw_fd(), *address, "") {
                    // It was never set, or not on this one.
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    Err(error) => failures.push((*address, format!("the old MD5 key stays: {error}"))),
                    Ok(()) => {}
                }
            }
        }
        for (address, held) in &self.held {
            let Some(key) = &held.demand.md5 else { continue };
            let is_set = before
                .get(address)
                .is_some_and(|old| old.failure.is_none() && old.demand.md5.as_ref() == Some(key));
            for listener in self.of_family(address.is_ipv4()).filter(|_| !is_set) {
                if let Err(error) = socket::set_md5(listener.as_raw_fd(), *address, key) {
                    failures.push((*address, md5_failure(&error)));
                }
            }
        }
        for (address, failure) in failures {
            if let Some(held) = self.held.get_mut(&address) {
                held.failure.get_or_insert(failure);
            }
        }
    }

    fn set_filters(&mut self) {
        for ipv4 in [true, false] {
            while let Err(error) = self.set_filter(ipv4) {
                // Keys and filter share the memory of a socket's options.
                if error.raw_os_error() == Some(libc::ENOMEM) && self.give_up_a_key(ipv4, &error) {
                    continue;
                }
                let failure = format!("the filter that checks TTL and age cannot be set: {error}");
                let held = self.held.iter_mut().filter(|(address, _)| address.is_ipv4() == ipv4);
                for (_, held) in held.filter(|(_, held)| !held.demand.is_none()) {
                    held.failure.get_or_insert_with(|| failure.clone());
                }
                break;
            }
        }
    }

    fn set_filter(&self, ipv4: bool) -> io::Result<()> {
        let of_family = self.held.iter().filter(|(address, _)| address.is_ipv4() == ipv4);
        let rules: Vec<(IpAddr, u8)> =
            of_family.filter_map(|(address, held)| Some((*address, least_ttl(held.demand.hops?)))).collect();
        let program = program(self.generation, &rules);
        self.of_family(ipv4).try_for_each(|listener| socket::set_filter(listener.as_raw_fd(), &program))
    }

    /// Takes one of the newest keys away again, so that the peers with the others can
    /// be listened to.
    fn give_up_a_key(&mut self, ipv4: bool, error: &io::Error) -> bool {
        let is_new = |(address, held): &(&IpAddr, &Held)| {
            let keyed = held.demand.md5.is_some() && held.failure.is_none();
            address.is_ipv4() == ipv4 && keyed && held.since == self.generation
        };
        let Some(address) = self.held.iter().rev().find(is_new).map(|(address, _)| *address) else {
            return false;
        };
        for listener in self.of_family(ipv4) {
            // Where it cannot be taken away, it protects all the same.
            let _ = socket::set_md5(listener.as_raw_fd(), address, "");
        }
        if let Some(held) = self.held.get_mut(&address) {
            held.failure = Some(md5_failure(error));
        }
        true
    }
}

/// In words, why a key cannot be set.
pub(super) fn md5_failure(error: &io::Error) -> String {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOMEM | libc::ENOBUFS) => {
            "; raise net.core.optmem_max, which bounds the keys of a socket"
        }
        Some(libc::ENOPROTOOPT) => "; this kernel is built without CONFIG_TCP_MD5SIG",
        _ => "",
    };
    format!("the TCP MD5 key cannot be set: {error}{remedy}")
}

/// The least TTL of what comes from at most `hops` away (RFC 5082 section 3).
pub(super) fn least_ttl(hops: u8) -> u8 {
    u8::MAX - hops.max(1) + 1
}

/// The generation that a filter is of; zero where there is none.
fn generation(program: &[libc::sock_filter]) -> u32 {
    program.first().map_or(0, |marker| marker.k)
}

// Instructions of the classic BPF of sockets (linux/filter.h).
const LOAD_NUMBER: u32 = libc::BPF_LD | libc::BPF_IMM;
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const END: u32 = libc::BPF_RET | libc::BPF_K;
const TAKE: u32 = u32::MAX;
const DROP: u32 = 0;
/// Counts from the IP header on; without it, offsets count from the TCP header.
const NETWORK: u32 = libc::SKF_NET_OFF as u32;

/// A filter for segments of one family: from each of the addresses, which are of that
/// family, it takes what has at least a TTL. A load outside of the packet drops it.
fn program(generation: u32, rules: &[(IpAddr, u8)]) -> Vec<libc::sock_filter> {
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = vec![step(LOAD_NUMBER, generation, 0, 0)];
    for (address, least) in rules {
        let (words, source, ttl) = match address {
            // RFC 791 section 3.1: TTL, source address.
            IpAddr::V4(address) => (vec![address.to_bits()], 12, 8),
            // RFC 8200 section 3: hop limit, source address.
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                ([96, 64, 32, 0].map(|shift| (bits >> shift) as u32).to_vec(), 8, 7)
            }
        };
        let verdict = [
            step(LOAD_BYTE, NETWORK.wrapping_add(ttl), 0, 0),
            step(IF_AT_LEAST, (*least).into(), 0, 1),
            step(END, TAKE, 0, 0),
            step(END, DROP, 0, 0),
        ];
        for (index, word) in words.iter().enumerate() {
            let offset = source + 4 * index as u32;
            // Two steps for each word that follows; at most ten in all.
            let rest = 2 * (words.len() - index - 1) + verdict.len();
            program.push(step(LOAD_WORD, NETWORK.wrapping_add(offset), 0, 0));
            program.push(step(IF_EQUAL, *word, 0, rest as u8));
        }
        program.extend(verdict);
    }
    program.push(step(END, TAKE, 0, 0));
    program
}

/// Binds the addresses to listen on.
///
/// # Errors
/// An address cannot be bound; the error names it.
pub fn listen(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let bind = |address: &SocketAddr| {
        socket::listener(*address)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
    };
    addresses.iter().map(bind).collect()
}

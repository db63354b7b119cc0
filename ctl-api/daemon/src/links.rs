//! The kernel's interfaces as they come, go and lose their links: heard from
//! rtnetlink(7) by a thread of its own, which asks for all of them whenever it
//! has missed something.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tieline_process::essential;

/// Bytes of the largest message that the kernel sends at once.
const LARGEST: usize = 64 << 10;
/// The kernel's room for what was not heard yet: some thousand changes.
const ROOM: usize = 1 << 20;
/// Pause before a socket that failed is made again.
const PAUSE: Duration = Duration::from_secs(1);
/// The multicast group of changes to interfaces (RTMGRP_LINK).
const GROUP: u32 = libc::RTMGRP_LINK as u32;

/// An interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number: another one, if it was made anew.
    pub index: u32,
    /// It is switched on and has a carrier.
    pub up: bool,
}

/// What is known of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: the kernel does not tell.
    Unknown,
    /// There is none of that name.
    Missing,
    /// It is there.
    Present(Link),
}

/// Told whenever an interface has changed.
pub type Waker = Box<dyn Fn() + Send>;

/// The interfaces.
#[derive(Clone, Default)]
pub struct Links(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// `None`: not known.
    by_name: Option<HashMap<String, Link>>,
    waker: Option<Waker>,
}

impl Links {
    /// Starts to listen. What is there now is known when this returns, unless the
    /// kernel does not tell.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let links = Self::default();
        let first = Listener::start(&links);
        let own = links.clone();
        essential::spawn("links", move || own.listen(first))?;
        Ok(links)
    }

    /// An interface, as far as it is known.
    pub fn get(&self, name: &str) -> Seen {
        match &self.lock().by_name {
            None => Seen::Unknown,
            Some(links) => links.get(name).map_or(Seen::Missing, |link| Seen::Present(*link)),
        }
    }

    /// Whom to tell of changes.
    pub fn set_waker(&self, waker: Waker) {
        self.lock().waker = Some(waker);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, first: io::Result<Listener>) {
        let mut listener = first;
        loop {
            let error = match &mut listener {
                Ok(listener) => listener.listen(self),
                Err(error) => std::mem::replace(error, io::Error::other("told")),
            };
            // Too much came at once, and some of it is lost: asking anew is the cure.
            if error.raw_os_error() != Some(libc::ENOBUFS) {
                tracing::warn!("the kernel does not tell of its interfaces for now: {error}");
                self.lock().by_name = None;
                std::thread::sleep(PAUSE);
            }
            listener = Listener::start(self);
        }
    }

    /// Takes what a message says.
    fn take(&self, message: &NetlinkMessage<RouteNetlinkMessage>) {
        let (link, is_gone) = match &message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => (link, false),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => (link, true),
            _ => return,
        };
        let Some((name, link)) = read(link) else { return };
        let mut state = self.lock();
        let Some(links) = &mut state.by_name else { return };
        // A name can have gone to another interface.
        let changed = if is_gone {
            let is_it = links.get(&name).is_some_and(|known| known.index == link.index);
            is_it && links.remove(&name).is_some()
        } else {
            links.retain(|known, other| other.index != link.index || *known == name);
            links.insert(name, link) != Some(link)
        };
        if changed && let Some(wake) = &state.waker {
            wake();
        }
    }
}

/// Name and state of an interface.
fn read(message: &LinkMessage) -> Option<(String, Link)> {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    // RFC 2863's ifOperStatus is "unknown" for many devices; these flags are kept
    // for all (netdevice(7)).
    let up = message.header.flags.contains(LinkFlags::Up | LinkFlags::Running);
    Some((name, Link { index: message.header.index, up }))
}

/// A socket that hears of changes.
struct Listener {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Listener {
    /// Begins to hear, and asks for all interfaces.
    fn start(links: &Links) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_rx_buf_sz(ROOM as u32)?;
        socket.bind(&SocketAddr::new(0, GROUP))?;
        let mut listener = Self { socket, buffer: Vec::with_capacity(LARGEST) };
        links.lock().by_name = Some(HashMap::new());
        listener.ask()?;
        while !listener.hear(links)? {}
        if let Some(wake) = &links.lock().waker {
            wake();
        }
        Ok(listener)
    }

    fn listen(&mut self, links: &Links) -> io::Error {
        loop {
            if let Err(error) = self.hear(links) {
                return error;
            }
        }
    }

    fn ask(&self) -> io::Result<()> {
        let get = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(get));
        message.header.flags = NLM_F_DUMP | NLM_F_REQUEST;
        message.header.sequence_number = 1;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Waits for messages and takes them. Whether a dump has ended with them.
    fn hear(&mut self, links: &Links) -> io::Result<bool> {
        self.buffer.clear();
        let (_, from) = self.socket.recv_from(&mut self.buffer, 0)?;
        if from.port_number() != 0 {
            // Not the kernel: nobody else may say anything here.
            return Ok(false);
        }
        let mut done = false;
        let mut rest = self.buffer.as_slice();
        while let Ok(length) = NetlinkBuffer::new_checked(rest).map(|buffer| buffer.length() as usize) {
            let Some((bytes, others)) = rest.split_at_checked(length) else { break };
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
                Ok(message) if matches!(message.payload, NetlinkPayload::Done(_)) => done = true,
                Ok(message) => {
                    if let NetlinkPayload::Error(error) = &message.payload
                        && error.code.is_some()
                    {
                        return Err(error.to_io());
                    }
                    links.take(&message);
                }
                // Attributes of a newer kernel.
                Err(error) => tracing::debug!("a message of the kernel about an interface: {error}"),
            }
            // Messages begin at multiples of four bytes.
            let padding = length.next_multiple_of(4) - length;
            rest = others.get(padding..).unwrap_or_default();
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, index: u32, flags: LinkFlags) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = flags;
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message
    }

    fn new(name: &str, index: u32, flags: LinkFlags) -> NetlinkMessage<RouteNetlinkMessage> {
        RouteNetlinkMessage::NewLink(message(name, index, flags)).into()
    }

    fn gone(name: &str, index: u32) -> NetlinkMessage<RouteNetlinkMessage> {
        RouteNetlinkMessage::DelLink(message(name, index, LinkFlags::empty())).into()
    }

    #[test]
    fn interfaces_come_go_and_change_their_names() {
        let up = LinkFlags::Up | LinkFlags::Running;
        let links = Links::default();
        assert_eq!(links.get("eth1"), Seen::Unknown);
        links.take(&new("eth1", 7, up));
        assert_eq!(links.get("eth1"), Seen::Unknown, "not all is known");
        links.lock().by_name = Some(HashMap::new());
        let woken = Arc::new(Mutex::new(0));
        let count = Arc::clone(&woken);
        links.set_waker(Box::new(move || *count.lock().expect("not poisoned") += 1));
        let woken = || std::mem::take(&mut *woken.lock().expect("not poisoned"));

        assert_eq!(links.get("eth1"), Seen::Missing);
        links.take(&new("eth1", 7, up));
        assert_eq!((links.get("eth1"), woken()), (Seen::Present(Link { index: 7, up: true }), 1));
        links.take(&new("eth1", 7, up));
        assert_eq!(woken(), 0, "no news");
        links.take(&new("eth1", 7, LinkFlags::Up));
        assert_eq!((links.get("eth1"), woken()), (Seen::Present(Link { index: 7, up: false }), 1));
        links.take(&new("lan", 7, up));
        assert_eq!(links.get("eth1"), Seen::Missing);
        assert_eq!(links.get("lan"), Seen::Present(Link { index: 7, up: true }));
        // Made anew, and then the end of the first is heard.
        links.take(&new("lan", 8, up));
        links.take(&gone("lan", 7));
        assert_eq!(links.get("lan"), Seen::Present(Link { index: 8, up: true }));
        links.take(&gone("lan", 8));
        assert_eq!(links.get("lan"), Seen::Missing);
    }

    #[test]
    fn the_loopback_is_there() {
        let links = Links::start().expect("a thread");
        assert!(matches!(links.get("lo"), Seen::Present(Link { index: 1, .. })), "{:?}", links.get("lo"));
        assert_eq!(links.get("no such name"), Seen::Missing);
    }
}

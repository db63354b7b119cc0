//! Messages between a daemon that runs and the one that takes over: a byte for
//! the kind, four for the length in network order, and the contents.
//!
//! ```text
//!   the new one                            the one that runs
//!     Hello      -------------------------->
//!                <--------------------------  Hello
//!                <--------------------------  Record, Port ... Declared
//!                <--------------------------  State ... Copied
//!     (everything but the devices is there)
//!     Ready      -------------------------->
//!                                             (its workers leave the devices)
//!                <--------------------------  Detached
//!                                             (devices that only one can have are closed)
//!                <--------------------------  Closed
//!     (opens the devices)
//!                <--------------------------  State ... Released
//!     (forwards)
//!     Forwarding -------------------------->
//!                                             (lets nobody in any more, closes the store)
//!                <--------------------------  Door ...
//!                <--------------------------  Yours
//!     (opens the store)
//!     Serving    -------------------------->
//!     (lets clients in)                       (ends)
//! ```
//!
//! Either may send `Refused` instead, with a sentence. Until the one that runs
//! has read `Serving` it takes everything back if the other fails, and the other
//! acknowledges nothing before. From `Declared` on the new one goes on alone if
//! the one that runs ends.
//!
//! Protocol 2, of releases before this one, has neither `Door` nor `Serving`:
//! the one that runs ends with `Yours`, which says nothing about the store.

use std::collections::VecDeque;
use std::io::{self, BufWriter, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// The version of this conversation.
pub const PROTOCOL: u16 = 3;
/// The oldest version that is spoken too.
pub const OLDEST_PROTOCOL: u16 = 2;
/// Descriptors that come with a message: one is sent, more are not taken.
const DESCRIPTORS: usize = 1;
/// Longest contents of a message in bytes: the largest message that the
/// API takes has less.
pub const LONGEST: usize = 8 << 20;

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Who is there: [`Hello`].
    Hello = 1,
    /// No, in words.
    Refused = 2,
    /// A record of what is declared: see `records`.
    Record = 3,
    /// A port as it is open: [`PortFacts`].
    Port = 4,
    /// That was all that is declared. Contains what controllers know the gateway by,
    /// and comes with a descriptor of the process; in protocol 2 with neither.
    Declared = 5,
    /// A chunk of live state.
    State = 6,
    /// That was the live state, but for what changes from now on.
    Copied = 7,
    /// Give me the devices.
    Ready = 8,
    /// No worker uses the devices any more.
    Detached = 9,
    /// Devices that only one process can have are closed.
    Closed = 10,
    /// That was the rest of the live state.
    Released = 11,
    /// Packets are forwarded again.
    Forwarding = 12,
    /// Nobody else will: [`StoreWord`].
    Yours = 13,
    /// A listening socket, as a descriptor: [`Door`].
    Door = 14,
    /// All that is acknowledged from now on is the new one's business.
    Serving = 15,
}

impl Kind {
    const ALL: [Kind; 15] = [
        Kind::Hello,
        Kind::Refused,
        Kind::Record,
        Kind::Port,
        Kind::Declared,
        Kind::State,
        Kind::Copied,
        Kind::Ready,
        Kind::Detached,
        Kind::Closed,
        Kind::Released,
        Kind::Forwarding,
        Kind::Yours,
        Kind::Door,
        Kind::Serving,
    ];

    fn new(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Why the conversation has ended.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other end is gone, or silent.
    #[error("the other daemon does not answer: {0}")]
    Io(#[from] io::Error),
    /// It says no.
    #[error("the other daemon says: {0}")]
    Refused(String),
    /// It says something that has no place here.
    #[error("the other daemon speaks another language: {0}")]
    Unexpected(String),
}

impl FrameError {
    /// Whether the other process has closed its end, as it does at its end at
    /// the latest.
    pub fn is_gone(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        matches!(self, Self::Io(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof))
    }

    /// Whether it has only said nothing for too long.
    pub fn is_silence(&self) -> bool {
        use io::ErrorKind::{TimedOut, WouldBlock};
        matches!(self, Self::Io(error) if matches!(error.kind(), TimedOut | WouldBlock))
    }
}

/// Who takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its version of this conversation.
    pub protocol: u16,
    /// Its version of the format of live state.
    pub state: u16,
    /// Its release, for people.
    pub release: String,
}

impl Hello {
    /// As contents of a message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = b"TLUP".to_vec();
        bytes.extend(self.protocol.to_be_bytes());
        bytes.extend(self.state.to_be_bytes());
        bytes.extend(self.release.as_bytes());
        bytes
    }

    /// From the contents of a message.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [b'T', b'L', b'U', b'P', a, b, c, d, release @ ..] = bytes else { return None };
        let release = std::str::from_utf8(release).ok()?.to_owned();
        Some(Self { protocol: u16::from_be_bytes([*a, *b]), state: u16::from_be_bytes([*c, *d]), release })
    }
}

/// What there is to know of an open port before it is opened anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFacts {
    /// Its MAC.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Its name.
    pub name: String,
}

impl PortFacts {
    /// As contents of a message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.mac.to_vec();
        bytes.extend(self.mtu.to_be_bytes());
        bytes.extend(self.name.as_bytes());
        bytes
    }

    /// From the contents of a message.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (mac, rest) = bytes.split_first_chunk()?;
        let (mtu, name) = rest.split_first_chunk()?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        Some(Self { mac: *mac, mtu: u16::from_be_bytes(*mtu), name })
    }
}

/// Which listening socket comes with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket of the API; device and inode of its file.
    Control(u64, u64),
    /// The Unix socket where daemons meet; device and inode of its file.
    Meeting(u64, u64),
    /// That of the API over TCP.
    Tcp,
}

impl Door {
    /// As contents of a message.
    pub fn to_bytes(self) -> Vec<u8> {
        let (number, file) = match self {
            Door::Control(device, inode) => (1, Some((device, inode))),
            Door::Meeting(device, inode) => (2, Some((device, inode))),
            Door::Tcp => (3, None),
        };
        let mut bytes = vec![number];
        if let Some((device, inode)) = file {
            bytes.extend(device.to_be_bytes());
            bytes.extend(inode.to_be_bytes());
        }
        bytes
    }

    /// From the contents of a message. `None` for one that is not known here.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first()?;
        let file = || {
            let (device, inode) = rest.split_first_chunk()?;
            Some((u64::from_be_bytes(*device), u64::from_be_bytes(inode.try_into().ok()?)))
        };
        match number {
            1 => file().map(|(device, inode)| Door::Control(device, inode)),
            2 => file().map(|(device, inode)| Door::Meeting(device, inode)),
            3 => rest.is_empty().then_some(Door::Tcp),
            _ => None,
        }
    }
}

/// What the daemon that goes says of its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreWord {
    /// Nothing: it is of a release that does not, or it ended before.
    Unknown,
    /// It kept none.
    None,
    /// It is closed, in this directory, and its records are the last state that
    /// this daemon had; the sentence says what may be missing.
    Left {
        /// Its directory.
        path: String,
        /// What may be missing; empty: nothing.
        missing: String,
    },
    /// This daemon could not open it, and has not read its records: why.
    Unread(String),
}

impl StoreWord {
    /// As contents of a message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (number, texts): (u8, [&str; 2]) = match self {
            StoreWord::Unknown => return Vec::new(),
            StoreWord::None => (1, ["", ""]),
            StoreWord::Left { path, missing } => (2, [path, missing]),
            StoreWord::Unread(why) => (3, ["", why]),
        };
        let mut bytes = vec![number];
        bytes.extend(u32::try_from(texts[0].len()).unwrap_or(u32::MAX).to_be_bytes());
        texts.iter().for_each(|text| bytes.extend(text.as_bytes()));
        bytes
    }

    /// From the contents of a message.
    pub fn parse(bytes: &[u8]) -> Self {
        let parts = || {
            let (number, rest) = bytes.split_first()?;
            let (length, rest) = rest.split_first_chunk()?;
            let (path, text) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            let (path, text) = (std::str::from_utf8(path).ok()?, std::str::from_utf8(text).ok()?);
            Some((*number, path.to_owned(), text.to_owned()))
        };
        match parts() {
            Some((1, ..)) => StoreWord::None,
            Some((2, path, missing)) => StoreWord::Left { path, missing },
            Some((3, _, why)) => StoreWord::Unread(why),
            _ => StoreWord::Unknown,
        }
    }
}

/// One end of the conversation.
#[derive(Debug)]
pub struct Channel {
    from: UnixStream,
    to: BufWriter<UnixStream>,
    contents: Vec<u8>,
    /// What came with the last message.
    descriptors: VecDeque<OwnedFd>,
}

impl Channel {
    /// An end that waits at most `patience` for each message.
    ///
    /// # Errors
    /// When the socket is unusable.
    pub fn new(stream: UnixStream, patience: Duration) -> io::Result<Self> {
        stream.set_write_timeout(Some(patience))?;
        let (from, to) = (stream.try_clone()?, BufWriter::new(stream));
        let channel = Self { from, to, contents: Vec::new(), descriptors: VecDeque::new() };
        channel.set_patience(patience)?;
        Ok(channel)
    }

    /// Waits at most so long for a message from now on.
    ///
    /// # Errors
    /// When the socket is unusable.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.from.set_read_timeout(Some(patience))
    }

    /// Writes a message; it leaves with the next [`flush`](Self::flush), or
    /// when enough has come together.
    ///
    /// # Errors
    /// When the other end is gone, or does not read in time.
    pub fn write(&mut self, kind: Kind, contents: &[u8]) -> io::Result<()> {
        let length = u32::try_from(contents.len()).ok().filter(|length| *length as usize <= LONGEST);
        let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.to.write_all(&[kind as u8])?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(contents)
    }

    /// Sends what was written.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// Writes a message and sends it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn send(&mut self, kind: Kind, contents: &[u8]) -> io::Result<()> {
        self.write(kind, contents)?;
        self.flush()
    }

    /// Sends a message with a descriptor.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn send_with(&mut self, kind: Kind, contents: &[u8], with: BorrowedFd<'_>) -> io::Result<()> {
        self.flush()?;
        // It goes with the first byte.
        let first = [kind as u8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [with];
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (first, flags) = ([IoSlice::new(&first)], SendFlags::NOSIGNAL);
        rustix::io::retry_on_intr(|| rustix::net::sendmsg(&self.from, &first, &mut ancillary, flags))?;
        let length =
            u32::try_from(contents.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(contents)?;
        self.flush()
    }

    /// The descriptor that came with the message that was received last.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    /// Why the other end is gone, if it has said so before.
    pub fn last_word(&mut self, error: FrameError) -> FrameError {
        if error.is_gone() {
            loop {
                match self.receive() {
                    Ok(_) => {}
                    Err(refused @ FrameError::Refused(_)) => return refused,
                    Err(_) => break,
                }
            }
        }
        error
    }

    /// The next message. Takes no more memory than the longest may have.
    ///
    /// # Errors
    /// See [`FrameError`]; a `Refused` is one.
    pub fn receive(&mut self) -> Result<(Kind, &[u8]), FrameError> {
        let mut header = [0; 5];
        self.descriptors.clear();
        fill(&self.from, &mut self.descriptors, &mut header)?;
        let [kind, length @ ..] = header;
        let length = u32::from_be_bytes(length) as usize;
        let kind = Kind::new(kind).filter(|_| length <= LONGEST);
        let kind =
            kind.ok_or_else(|| FrameError::Unexpected(format!("a message that begins with {header:?}")))?;
        self.contents.resize(length, 0);
        fill(&self.from, &mut self.descriptors, &mut self.contents)?;
        if kind == Kind::Refused {
            return Err(FrameError::Refused(String::from_utf8_lossy(&self.contents).into_owned()));
        }
        Ok((kind, &self.contents))
    }

    /// The next message, which must be of this kind.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn expect(&mut self, wanted: Kind) -> Result<&[u8], FrameError> {
        match self.receive()? {
            (kind, contents) if kind == wanted => Ok(contents),
            (kind, _) => Err(FrameError::Unexpected(format!("{kind:?} where {wanted:?} was expected"))),
        }
    }

    /// Whether the other end has sent something, or is gone.
    pub fn has_news(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(&self.from, &mut [0; 1], flags);
        !matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }
}

/// Reads so many bytes, and the descriptors that come with them.
fn fill(from: &UnixStream, descriptors: &mut VecDeque<OwnedFd>, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let read = {
            let mut slices = [IoSliceMut::new(buffer)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            rustix::io::retry_on_intr(|| rustix::net::recvmsg(from, &mut slices, &mut ancillary, flags))?
                .bytes
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        // Whoever sends more than it should is no reason to keep them.
        descriptors.truncate(DESCRIPTORS);
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[read..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Channel::new(ours, Duration::from_secs(5)).expect("a socket"), theirs)
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let (mut one, other) = pair();
        let mut other = Channel::new(other, Duration::from_secs(5)).expect("a socket");
        assert!(!other.has_news());
        let hello = Hello { protocol: 1, state: 7, release: "0.2.0".into() };
        let facts = PortFacts { mac: [2, 0, 0, 0, 0, 1], mtu: 1500, name: "fabric".into() };
        one.write(Kind::Hello, &hello.to_bytes()).expect("room");
        one.write(Kind::Port, &facts.to_bytes()).expect("room");
        one.send(Kind::Refused, b"no").expect("room");
        assert!(other.has_news());
        assert_eq!(Hello::parse(other.expect(Kind::Hello).expect("it comes")), Some(hello));
        assert_eq!(PortFacts::parse(other.expect(Kind::Port).expect("it comes")), Some(facts));
        assert!(matches!(other.receive(), Err(FrameError::Refused(why)) if why == "no"));
        drop(one);
        assert!(other.has_news(), "its end is news");
        assert!(matches!(other.receive(), Err(FrameError::Io(_))));
    }

    #[test]
    fn a_socket_arrives_with_its_message() {
        use std::os::fd::AsFd as _;
        let (mut one, other) = pair();
        let mut other = Channel::new(other, Duration::from_secs(5)).expect("a socket");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        for door in [Door::Tcp, Door::Control(1, u64::MAX), Door::Meeting(7, 8)] {
            one.write(Kind::State, &[5; 70_000]).expect("room");
            one.send_with(Kind::Door, &door.to_bytes(), listener.as_fd()).expect("room");
            one.send(Kind::Yours, &[]).expect("room");
            assert_eq!(other.expect(Kind::State).expect("it comes").len(), 70_000);
            assert!(other.take_descriptor().is_none());
            assert_eq!(Door::parse(other.expect(Kind::Door).expect("it comes")), Some(door));
            let arrived = std::net::TcpListener::from(other.take_descriptor().expect("it came along"));
            assert_eq!(arrived.local_addr().ok(), listener.local_addr().ok());
            assert!(other.take_descriptor().is_none());
            other.expect(Kind::Yours).expect("it comes");
        }
        for bytes in [&[][..], &[1], &[1; 18], &[3, 0], &[9]] {
            assert_eq!(Door::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_word_on_the_store_arrives() {
        for word in [
            StoreWord::Unknown,
            StoreWord::None,
            StoreWord::Left { path: "/var/lib/tieline/store".into(), missing: String::new() },
            StoreWord::Left { path: "/s".into(), missing: "it is full".into() },
            StoreWord::Unread("it is read-only".into()),
        ] {
            assert_eq!(StoreWord::parse(&word.to_bytes()), word);
        }
        for bytes in [&[9, 0, 0, 0, 0][..], &[2, 0, 0, 0, 9, 1], &[2, 0], &[2, 0, 0, 0, 1, 0xff]] {
            assert_eq!(StoreWord::parse(bytes), StoreWord::Unknown, "{bytes:?}");
        }
    }

    #[test]
    fn whoever_is_gone_has_a_last_word() {
        for refused in [false, true] {
            let (mut one, other) = pair();
            let mut other = Channel::new(other, Duration::from_secs(5)).expect("a socket");
            other.send(Kind::Copied, &[]).expect("room");
            if refused {
                other.send(Kind::Refused, b"I go on").expect("room");
            }
            drop(other);
            let error = one.send(Kind::Ready, &[]).map_err(FrameError::from).expect_err("nobody reads");
            assert!(error.is_gone() && !error.is_silence(), "{error}");
            let last = one.last_word(error);
            assert_eq!(matches!(last, FrameError::Refused(_)), refused, "{last}");
        }
        let (one, _other) = pair();
        one.set_patience(Duration::from_millis(10)).expect("a socket");
        let mut one = one;
        let silent = one.receive().expect_err("nothing came");
        assert!(silent.is_silence() && !silent.is_gone(), "{silent}");
    }

    #[test]
    fn what_is_no_message_is_refused_without_memory_for_it() {
        for bytes in [[99, 0, 0, 0, 0], [1, 0xff, 0xff, 0xff, 0xff]] {
            let (mut one, mut raw) = pair();
            raw.write_all(&bytes).expect("room");
            assert!(matches!(one.receive(), Err(FrameError::Unexpected(_))));
            assert_eq!(one.contents.capacity(), 0);
        }
        assert_eq!(Hello::parse(b"TLUP\0"), None);
        assert_eq!(PortFacts::parse(&[1; 7]), None);
        let (mut one, mut raw) = pair();
        raw.write_all(&[Kind::Ready as u8, 0, 0, 0, 0]).expect("room");
        let error = one.expect(Kind::Hello).expect_err("another message").to_string();
        assert!(error.contains("Ready where Hello"), "{error}");
    }
}

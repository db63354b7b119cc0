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
//!                <--------------------------  Yours
//! ```
//!
//! Either may send `Refused` instead, with a sentence. Until the one that runs
//! has read `Forwarding` it goes on as before if the other fails.

use std::io::{self, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The version of this conversation.
pub const PROTOCOL: u16 = 2;
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
    /// That was all that is declared.
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
    /// Nobody else will.
    Yours = 13,
}

impl Kind {
    const ALL: [Kind; 13] = [
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

/// One end of the conversation.
#[derive(Debug)]
pub struct Channel {
    from: UnixStream,
    to: BufWriter<UnixStream>,
    contents: Vec<u8>,
}

impl Channel {
    /// An end that waits at most `patience` for each message.
    ///
    /// # Errors
    /// When the socket is unusable.
    pub fn new(stream: UnixStream, patience: Duration) -> io::Result<Self> {
        stream.set_write_timeout(Some(patience))?;
        let channel = Self { from: stream.try_clone()?, to: BufWriter::new(stream), contents: Vec::new() };
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

    /// The next message. Takes no more memory than the longest may have.
    ///
    /// # Errors
    /// See [`FrameError`]; a `Refused` is one.
    pub fn receive(&mut self) -> Result<(Kind, &[u8]), FrameError> {
        let mut header = [0; 5];
        self.from.read_exact(&mut header)?;
        let [kind, length @ ..] = header;
        let length = u32::from_be_bytes(length) as usize;
        let kind = Kind::new(kind).filter(|_| length <= LONGEST);
        let kind =
            kind.ok_or_else(|| FrameError::Unexpected(format!("a message that begins with {header:?}")))?;
        self.contents.resize(length, 0);
        self.from.read_exact(&mut self.contents)?;
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
    ///
    /// # Errors
    /// When the socket is unusable.
    pub fn has_news(&self) -> io::Result<bool> {
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(&self.from, &mut [0; 1], flags);
        match peeked {
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(true),
        }
    }
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
        assert!(!other.has_news().expect("a socket"));
        let hello = Hello { protocol: 1, state: 7, release: "0.2.0".into() };
        let facts = PortFacts { mac: [2, 0, 0, 0, 0, 1], mtu: 1500, name: "fabric".into() };
        one.write(Kind::Hello, &hello.to_bytes()).expect("room");
        one.write(Kind::Port, &facts.to_bytes()).expect("room");
        one.send(Kind::Refused, b"no").expect("room");
        assert!(other.has_news().expect("a socket"));
        assert_eq!(Hello::parse(other.expect(Kind::Hello).expect("it comes")), Some(hello));
        assert_eq!(PortFacts::parse(other.expect(Kind::Port).expect("it comes")), Some(facts));
        assert!(matches!(other.receive(), Err(FrameError::Refused(why)) if why == "no"));
        drop(one);
        assert!(other.has_news().expect("a socket"), "its end is news");
        assert!(matches!(other.receive(), Err(FrameError::Io(_))));
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

//! Chunks: what is written and read at once.
//!
//! A chunk has a header of 16 bytes, numbers in network order:
//!
//! ```text
//!   0    4         6       7      8          12        16
//!   +----+---------+-------+------+----------+---------+---------
//!   | TL | version | kind  |  0   | records  | length  | records
//!   | LS | u16     | u8    |  u8  | u32      | u32     | ...
//!   +----+---------+-------+------+----------+---------+---------
//! ```
//!
//! Kinds: 1 names of VRFs, 2 names of interfaces (each a number of variable
//! length, a byte for the length of the name, and the name), 3 sessions,
//! 4 neighbours, 5 the end. The end has no records; without it a stream was
//! cut off.

use std::io::{self, Read};

use tieline_names::varint::{self, NotANumber};

use super::Names;
use super::record::{LONGEST_NEIGHBOUR, LONGEST_SESSION, NeighbourRecord, SessionRecord, take_bytes};
use crate::types::{InterfaceId, VrfId};

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u16 = 1;
/// Most bytes of a chunk behind its header.
pub const LARGEST_CHUNK: usize = 256 << 10;
/// Bytes of a chunk's header.
pub const HEADER: usize = 16;

const MAGIC: [u8; 4] = *b"TLLS";

/// What is wrong with the bytes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It ends within a record.
    #[error("it ends within a record")]
    Short,
    /// There is something behind its records.
    #[error("it goes on behind its last record")]
    Long,
    /// A number is larger than it may be.
    #[error("a number is too large")]
    Number,
    /// A value that it cannot have.
    #[error("the {0} cannot be")]
    Value(&'static str),
}

impl From<NotANumber> for Broken {
    fn from(reason: NotANumber) -> Self {
        match reason {
            NotANumber::Short => Self::Short,
            NotANumber::TooLarge => Self::Number,
        }
    }
}

/// Why a stream cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The other end is gone, or does not answer.
    #[error("the live state could not be read: {0}")]
    Io(#[from] io::Error),
    /// These are other bytes.
    #[error("this is no live state of a vRouter: it does not begin with \"TLLS\"")]
    NotOurs,
    /// Another format.
    #[error("the live state is in format {0}, this release reads format {VERSION}")]
    Version(u16),
    /// A kind of chunk that does not exist.
    #[error("the live state has a chunk of the unknown kind {0}")]
    Kind(u8),
    /// A chunk that is larger than any may be.
    #[error("the live state has a chunk of {0} bytes; {LARGEST_CHUNK} are allowed")]
    TooLarge(u32),
    /// A chunk with wrong contents.
    #[error("the live state is damaged in a chunk of {kind}: {what}")]
    Broken {
        /// What the chunk has.
        kind: &'static str,
        /// What is wrong.
        what: Broken,
    },
}

/// What a chunk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Vrfs = 1,
    Interfaces = 2,
    Sessions = 3,
    Neighbours = 4,
    End = 5,
}

impl Kind {
    fn new(number: u8) -> Option<Self> {
        [Kind::Vrfs, Kind::Interfaces, Kind::Sessions, Kind::Neighbours, Kind::End]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Vrfs => "VRF names",
            Kind::Interfaces => "interface names",
            Kind::Sessions => "sessions",
            Kind::Neighbours => "neighbours",
            Kind::End => "the end",
        }
    }
}

/// Records of one chunk in the making: memory of a fixed size.
#[derive(Debug)]
pub struct ChunkWriter {
    kind: Kind,
    records: u32,
    /// The header's place, and the records.
    bytes: Vec<u8>,
}

impl ChunkWriter {
    fn new(kind: Kind) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + LARGEST_CHUNK);
        bytes.resize(HEADER, 0);
        Self { kind, records: 0, bytes }
    }

    /// An empty chunk of sessions.
    pub fn sessions() -> Self {
        Self::new(Kind::Sessions)
    }

    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many more sessions surely fit.
    pub fn room(&self) -> usize {
        (HEADER + LARGEST_CHUNK - self.bytes.len()) / LONGEST_SESSION
    }

    /// Adds a session. Does not allocate while there is
    /// [`room`](Self::room).
    pub fn put(&mut self, session: &SessionRecord) {
        session.put(&mut self.bytes);
        self.records += 1;
    }

    /// The whole chunk, header and all.
    pub fn finish(&mut self) -> &[u8] {
        let length = (self.bytes.len() - HEADER) as u32;
        let (header, _) = self.bytes.split_at_mut(HEADER);
        header[..4].copy_from_slice(&MAGIC);
        header[4..6].copy_from_slice(&VERSION.to_be_bytes());
        header[6] = self.kind as u8;
        header[8..12].copy_from_slice(&self.records.to_be_bytes());
        header[12..16].copy_from_slice(&length.to_be_bytes());
        &self.bytes
    }

    /// Makes it empty again.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER);
        self.records = 0;
    }

    /// Writes the chunk when a record of `longest` bytes may not fit.
    fn flush_for(&mut self, longest: usize, sink: &mut Sink<'_>) -> io::Result<()> {
        if self.bytes.len() + longest > HEADER + LARGEST_CHUNK {
            sink(self.finish())?;
            self.clear();
        }
        Ok(())
    }

    fn flush(&mut self, sink: &mut Sink<'_>) -> io::Result<()> {
        if !self.is_empty() {
            sink(self.finish())?;
        }
        Ok(())
    }
}

/// Where chunks go.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Longest name in bytes.
pub const LONGEST_NAME: usize = 255;

/// Writes names.
///
/// # Errors
/// Those of the sink, and names of more than [`LONGEST_NAME`] bytes.
pub fn write_names(names: &Names, sink: &mut Sink<'_>) -> io::Result<()> {
    let vrfs = names.vrfs.iter().map(|(id, name)| (u64::from(id.0), name));
    write_names_of(Kind::Vrfs, vrfs, sink)?;
    let interfaces = names.interfaces.iter().map(|(id, name)| (u64::from(id.0), name));
    write_names_of(Kind::Interfaces, interfaces, sink)
}

fn write_names_of<'a>(
    kind: Kind,
    names: impl Iterator<Item = (u64, &'a String)>,
    sink: &mut Sink<'_>,
) -> io::Result<()> {
    let mut chunk = ChunkWriter::new(kind);
    for (number, name) in names {
        let Ok(length) = u8::try_from(name.len()) else {
            let sentence = format!("the name {name} is longer than {LONGEST_NAME} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        };
        chunk.flush_for(varint::LONGEST + 1 + LONGEST_NAME, sink)?;
        varint::put(&mut chunk.bytes, number);
        chunk.bytes.push(length);
        chunk.bytes.extend_from_slice(name.as_bytes());
        chunk.records += 1;
    }
    chunk.flush(sink)
}

/// Writes neighbours.
///
/// # Errors
/// Those of the sink.
pub fn write_neighbours(
    neighbours: impl IntoIterator<Item = NeighbourRecord>,
    sink: &mut Sink<'_>,
) -> io::Result<()> {
    let mut chunk = ChunkWriter::new(Kind::Neighbours);
    for neighbour in neighbours {
        chunk.flush_for(LONGEST_NEIGHBOUR, sink)?;
        neighbour.put(&mut chunk.bytes);
        chunk.records += 1;
    }
    chunk.flush(sink)
}

/// Writes the end of a stream.
///
/// # Errors
/// Those of the sink.
pub fn write_end(sink: &mut Sink<'_>) -> io::Result<()> {
    sink(ChunkWriter::new(Kind::End).finish())
}

/// A decoded chunk.
#[derive(Debug)]
pub enum Chunk<'a> {
    /// Names of VRFs.
    Vrfs(Vec<(VrfId, String)>),
    /// Names of interfaces.
    Interfaces(Vec<(InterfaceId, String)>),
    /// Sessions, checked as they are taken.
    Sessions(Records<'a, SessionRecord>),
    /// Neighbours, checked as they are taken.
    Neighbours(Records<'a, NeighbourRecord>),
    /// Nothing comes any more.
    End,
}

/// The records of one chunk. Ends after the first error.
#[derive(Debug)]
pub struct Records<'a, T> {
    left: u32,
    bytes: &'a [u8],
    kind: Kind,
    take: fn(&mut &'a [u8]) -> Result<T, Broken>,
}

impl<T> Iterator for Records<'_, T> {
    type Item = Result<T, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = if self.left > 0 {
            (self.take)(&mut self.bytes)
        } else if self.bytes.is_empty() {
            return None;
        } else {
            Err(Broken::Long)
        };
        match result {
            Ok(record) => {
                self.left -= 1;
                Some(Ok(record))
            }
            Err(what) => {
                (self.left, self.bytes) = (0, &[]);
                Some(Err(DecodeError::Broken { kind: self.kind.name(), what }))
            }
        }
    }
}

/// Reads a stream, one chunk after the other, in memory of one chunk.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    chunk: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// A reader at the beginning of a chunk.
    pub fn new(from: R) -> Self {
        Self { from, chunk: Vec::new() }
    }

    /// The next chunk.
    ///
    /// # Errors
    /// See [`DecodeError`]. There is no way to go on after one.
    pub fn next_chunk(&mut self) -> Result<Chunk<'_>, DecodeError> {
        let mut header = [0; HEADER];
        self.from.read_exact(&mut header)?;
        let (kind, records, length) = parse_header(&header)?;
        self.chunk.resize(length, 0);
        self.from.read_exact(&mut self.chunk)?;
        let bytes = &self.chunk[..];
        Ok(match kind {
            Kind::Vrfs => {
                let take = |from: &mut &[u8]| Ok((VrfId(varint::take_as::<u16>(from)?), take_name(from)?));
                Chunk::Vrfs(Records { left: records, bytes, kind, take }.collect::<Result<_, _>>()?)
            }
            Kind::Interfaces => {
                let take =
                    |from: &mut &[u8]| Ok((InterfaceId(varint::take_as::<u32>(from)?), take_name(from)?));
                Chunk::Interfaces(Records { left: records, bytes, kind, take }.collect::<Result<_, _>>()?)
            }
            Kind::Sessions => {
                Chunk::Sessions(Records { left: records, bytes, kind, take: SessionRecord::take })
            }
            Kind::Neighbours => {
                Chunk::Neighbours(Records { left: records, bytes, kind, take: NeighbourRecord::take })
            }
            Kind::End if records == 0 && bytes.is_empty() => Chunk::End,
            Kind::End => return Err(DecodeError::Broken { kind: kind.name(), what: Broken::Long }),
        })
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.from
    }
}

fn parse_header(header: &[u8; HEADER]) -> Result<(Kind, u32, usize), DecodeError> {
    let mut rest = &header[..];
    let mut number = || take_bytes(&mut rest).map(u32::from_be_bytes).unwrap_or_default();
    let (magic, version_and_kind, records, length) = (number(), number(), number(), number());
    if magic.to_be_bytes() != MAGIC {
        return Err(DecodeError::NotOurs);
    }
    let [v0, v1, kind, zero] = version_and_kind.to_be_bytes();
    let version = u16::from_be_bytes([v0, v1]);
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let kind = Kind::new(kind).filter(|_| zero == 0).ok_or(DecodeError::Kind(kind))?;
    let bytes = usize::try_from(length).ok().filter(|length| *length <= LARGEST_CHUNK);
    Ok((kind, records, bytes.ok_or(DecodeError::TooLarge(length))?))
}

fn take_name(from: &mut &[u8]) -> Result<String, Broken> {
    let [length] = take_bytes(from)?;
    let (name, rest) = from.split_at_checked(usize::from(length)).ok_or(Broken::Short)?;
    *from = rest;
    let name = std::str::from_utf8(name).map_err(|_| Broken::Value("name"))?;
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::session;
    use super::*;
    use crate::types::MacAddr;
    use proptest::prelude::*;

    /// Everything in a stream up to its end, or the error.
    fn decode(bytes: &[u8]) -> Result<(Names, Vec<SessionRecord>, Vec<NeighbourRecord>), DecodeError> {
        let mut reader = Reader::new(bytes);
        let (mut names, mut sessions, mut neighbours) = (Names::default(), Vec::new(), Vec::new());
        loop {
            match reader.next_chunk()? {
                Chunk::Vrfs(some) => names.vrfs.extend(some),
                Chunk::Interfaces(some) => names.interfaces.extend(some),
                Chunk::Sessions(some) => {
                    for session in some {
                        sessions.push(session?);
                    }
                }
                Chunk::Neighbours(some) => {
                    for neighbour in some {
                        neighbours.push(neighbour?);
                    }
                }
                Chunk::End => return Ok((names, sessions, neighbours)),
            }
        }
    }

    fn encode(names: &Names, sessions: &[SessionRecord], neighbours: &[NeighbourRecord]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut sink = |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            Ok(())
        };
        write_names(names, &mut sink).expect("memory takes everything");
        let mut chunk = ChunkWriter::sessions();
        for session in sessions {
            if chunk.room() == 0 {
                sink(chunk.finish()).expect("memory takes everything");
                chunk.clear();
            }
            chunk.put(session);
        }
        chunk.flush(&mut sink).expect("memory takes everything");
        write_neighbours(neighbours.iter().copied(), &mut sink).expect("memory takes everything");
        write_end(&mut sink).expect("memory takes everything");
        bytes
    }

    fn names() -> Names {
        let vrfs = (0..3000).map(|n| (VrfId(n), format!("{n}-{}", "v".repeat(200)))).collect();
        let interfaces = (0..3).map(|n| (InterfaceId(n << 20), format!("if{n}"))).collect();
        Names { vrfs, interfaces }
    }

    #[test]
    fn a_stream_of_many_chunks_comes_back_whole() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let neighbours: Vec<_> = (0..20_000u32)
            .map(|n| NeighbourRecord {
                interface: InterfaceId(n % 7),
                address: std::net::Ipv6Addr::from(u128::from(n)).into(),
                mac,
            })
            .collect();
        let bytes = encode(&names(), &[], &neighbours);
        let (read_names, sessions, read) = decode(&bytes).expect("our own stream");
        assert_eq!((read_names, sessions.len(), read), (names(), 0, neighbours));
    }

    #[test]
    fn a_stream_says_what_is_wrong_with_it() {
        let good = encode(&names(), &[], &[]);
        let says = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            decode(&bytes).expect_err("it is damaged").to_string()
        };
        assert!(says(0, b'X').contains("no live state"));
        assert!(says(5, 2).contains("format 2"));
        assert!(says(6, 9).contains("unknown kind 9"));
        assert!(says(12, 1).contains("allowed"));
        assert!(says(11, 0).contains("VRF names"));
        let cut = decode(&good[..good.len() - 1]).expect_err("the end is missing");
        assert!(matches!(cut, DecodeError::Io(_)), "{cut}");
        let long = Names { vrfs: vec![(VrfId(1), "x".repeat(256))], interfaces: Vec::new() };
        assert!(write_names(&long, &mut |_| Ok(())).is_err());
    }

    proptest! {
        #[test]
        fn sessions_come_back_in_their_order(sessions in proptest::collection::vec(session(), 0..50)) {
            let (_, read, _) = decode(&encode(&Names::default(), &sessions, &[])).expect("our own stream");
            prop_assert_eq!(read, sessions);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            sessions in proptest::collection::vec(session(), 1..4),
            at: proptest::sample::Index,
            damage: Vec<u8>,
        ) {
            let mut bytes = encode(&Names::default(), &sessions, &[]);
            let at = at.index(bytes.len());
            let end = (at + damage.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&damage[..end - at]);
            if let Ok((_, read, _)) = decode(&bytes) {
                prop_assert!(read.len() <= bytes.len());
            }
            let _ = decode(&damage);
        }
    }
}

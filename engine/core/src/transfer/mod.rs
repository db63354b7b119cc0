//! Live state on its way to another process: what workers have learned by
//! themselves and nobody can program, so that a new binary can take over.
//!
//! It travels as a [`stream`] of bounded chunks, in a format of our own with a
//! version. Numbers of VRFs and interfaces are the sender's; the names that go
//! ahead of them tell the receiver which of its own they are. Decisions do not
//! travel: the receiver's tables decide again with a session's next packet.
//!
//! - [`record`]: one session, one neighbour
//! - [`stream`]: chunks of records, names, and the end
//! - [`numbering`]: from the sender's numbers to ours
//! - `varint`: numbers of variable length
//!
//! Everything that is read comes from another process, perhaps of another
//! release: decoding checks all of it, never panics, and never takes more
//! memory than one chunk.

pub mod numbering;
pub mod record;
pub mod stream;

pub use numbering::{Names, Numbering};
pub use record::{NeighbourRecord, SessionRecord};
pub use stream::{Chunk, ChunkWriter, DecodeError, Reader};

//! Packets as the engine sees them: bytes in a buffer and, beside them, plain
//! metadata.
//!
//! - [`buffer`]: what a buffer can do, whoever owns its memory
//! - [`flow_key`]: the addresses and ports that name a flow
//! - [`meta`]: 64 bytes of metadata that travel with each packet
//! - [`parse`]: bytes to metadata, for anything that a wire can bring
//! - [`encap`], [`decap`]: tunnels
//! - [`checksum`]: the Internet checksum, whole and incremental
//! - [`headers`]: field positions and numbers of the protocols
//! - [`icmp`]: ICMP and ICMPv6 messages that the engine makes
//! - [`mss`]: TCP's maximum segment size option

pub mod buffer;
pub mod checksum;
pub mod decap;
pub mod encap;
pub mod flow_key;
pub mod headers;
pub mod icmp;
pub mod meta;
pub mod mss;
pub mod parse;

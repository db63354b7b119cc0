//! Packets as the engine sees them: bytes in a buffer and, beside them, plain
//! metadata.
//!
//! - [`buffer`]: what a buffer can do, whoever owns its memory
//! - [`front`]: headers written in front of packets, a kernel
//! - [`flow_key`]: the addresses and ports that name a flow
//! - [`flow_hash`]: the hash of a flow, the same for both directions
//! - [`meta`]: 64 bytes of metadata that travel with each packet
//! - [`parse`]: bytes to metadata, for anything that a wire can bring
//! - [`ip`]: TTL, DSCP and ECN, rewritten in place
//! - [`encap`], [`decap`]: tunnels
//! - [`checksum`]: the Internet checksum, whole and incremental
//! - [`headers`]: field positions and numbers of the protocols
//! - [`icmp`]: ICMP and ICMPv6 messages that the engine makes
//! - [`mss`]: TCP's maximum segment size option

pub mod buffer;
pub mod checksum;
pub mod decap;
pub mod encap;
pub mod flow_hash;
pub mod flow_key;
pub mod front;
pub mod headers;
pub mod icmp;
pub mod ip;
pub mod meta;
pub mod mss;
pub mod parse;

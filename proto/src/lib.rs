//! The control API of Tieline, generated from `proto/tieline/v1`.
//!
//! [`v1`] holds the messages, and for each service a client and a server.
//! Messages reflect (through `prost-reflect`), so that JSON and YAML in the
//! canonical mapping can be read and written without a second set of types.

/// The encoded descriptors of all files, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Package `tieline.v1`.
#[allow(missing_docs, rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]
#[allow(clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("tieline.v1");
}

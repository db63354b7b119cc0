//! The APIs of Tieline, generated from `proto/tieline`.
//!
//! [`v1`] is the gateways' control API, [`federation`] the controllers' own.
//! They hold the messages and, with the feature `services`, a client and a server
//! for each service. Messages of [`v1`] reflect (through `prost-reflect`), so that
//! JSON and YAML in the canonical mapping can be read and written without a second
//! set of types.

pub mod prefixes;

/// The encoded descriptors of all files of `tieline.v1`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The encoded descriptors of all files of `tieline.federation.v1`.
pub const FEDERATION_DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/federation_descriptors.bin"));

/// Package `tieline.v1`.
#[allow(missing_docs, rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]
#[allow(clippy::all, clippy::pedantic)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/tieline.v1.rs"));
}

/// Packages `tieline.federation`.
pub mod federation {
    /// Package `tieline.federation.v1`.
    #[allow(missing_docs, rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]
    #[allow(clippy::all, clippy::pedantic)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/tieline.federation.v1.rs"));
    }
}

//! Bytes to metadata.

//! What runs on the pinned threads, and how it is told of changes.
//!
//! - [`mailbox`]: how a worker gets the newest tables

pub mod mailbox;

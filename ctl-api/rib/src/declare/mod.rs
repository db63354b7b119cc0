//! Declaring and withdrawing objects: one file a kind.
//!
//! Each operation checks conflicts and limits against everything declared,
//! then stores, then notes in `dirty` what the tables have to follow. Nothing
//! can fail once something was changed.
//!
//! A message that says the same in other words (an absent weight and 1, a MAC in
//! capitals) changes nothing but what is read back: that is always the last one.

mod interface;
mod next_hop;
mod port;
mod route;
mod security_group;
mod vrf;

use crate::key::Key;
use crate::refusal::Refusal;

/// What the object waits for, and whether anything is different.
pub(crate) type Declaration = Result<(Vec<Key>, bool), Refusal>;

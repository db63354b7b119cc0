//! The way of a packet, one file a stage.
//!
//! ```text
//!  receive -> express -> tx
//!                |
//!                v
//!              parse -> classify ---> owner -> session_lookup -> vrf_lookup -> sg_check
//!                         |            |            | hit                        |
//!                         v            v            +--------> next_hop <--------+
//!                       local     other worker                    |
//!                    (ARP, ND)                                  encap -> tx
//! ```
//!
//! Every stage has one shape: it takes the [`Context`], a [`Burst`], and the
//! [`Lane`] of packets it is to work on, and leaves those in the lane that go
//! on. What does not go on leaves through a door of the context, which counts
//! it. Packets keep their order from stage to stage. The time of each stage is
//! charged to it when it ends.
//!
//! - [`burst`]: packets and their metadata, side by side
//! - [`context`]: what a stage may use, and the doors
//! - [`outbox`]: packets on their way out of the worker
//! - [`handover`]: packets on their way to another worker
//! - [`early_fragments`]: fragments that wait for the first of their packet

pub mod burst;
pub mod classify;
pub mod context;
pub mod early_fragments;
pub mod encap;
pub mod express;
pub mod fragmentation;
pub mod handover;
pub mod local;
pub mod next_hop;
pub mod outbox;
pub mod owner;
pub mod parse;
pub mod session_lookup;
pub mod sg_check;
pub mod tx;
pub mod vrf_lookup;

use crate::io::Io;
use crate::stats::stages::Stage;
use burst::{Burst, Lane};
use context::Context;

/// Takes received frames all the way.
pub fn run_received<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>) {
    let mut all = burst.lane();
    charged(Stage::Express, cx, burst, &mut all, express::run);
    charged(Stage::Parse, cx, burst, &mut all, parse::run);
    let mut lane = burst.without_plain(&all);
    charged(Stage::Classify, cx, burst, &mut lane, classify::run);
    let mut lane = burst.with_plain(lane, &all);
    charged(Stage::Owner, cx, burst, &mut lane, owner::run);
    run_owned(cx, burst, &mut lane);
    run_originated(cx, burst);
}

/// Takes classified packets, whose sessions this worker owns, the rest of the
/// way.
pub fn run_handed_over<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>) {
    let mut lane = burst.lane();
    charged(Stage::Express, cx, burst, &mut lane, express::run_handed_over);
    // A fragment may have to move on to the owner of its session.
    charged(Stage::Owner, cx, burst, &mut lane, owner::run);
    run_owned(cx, burst, &mut lane);
    run_originated(cx, burst);
}

fn run_owned<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    charged(Stage::SessionLookup, cx, burst, lane, session_lookup::run);
    run_decided(cx, burst, lane);
}

fn run_decided<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    charged(Stage::VrfLookup, cx, burst, lane, vrf_lookup::run);
    charged(Stage::SgCheck, cx, burst, lane, sg_check::run);
    charged(Stage::NextHop, cx, burst, lane, next_hop::run);
    charged(Stage::Encap, cx, burst, lane, encap::run);
    tx::run(cx, burst);
    // The queue has counted its packets.
    cx.counters.stages.end(Stage::Transmit, 0);
}

/// Runs one stage and charges its time to it.
#[inline(always)]
fn charged<'a, I: Io>(
    stage: Stage,
    cx: &mut Context<'a, I>,
    burst: &mut Burst<I::Buf>,
    lane: &mut Lane,
    run: impl FnOnce(&mut Context<'a, I>, &mut Burst<I::Buf>, &mut Lane),
) {
    let packets = lane.len();
    run(cx, burst, lane);
    if packets > 0 {
        cx.counters.stages.end(stage, packets);
    }
}

/// Rounds of packets that the engine makes because of packets that it made.
const ORIGINATED_ROUNDS: usize = 2;

/// Sends what the stages have made: replies, errors, fragments. These may
/// cause others (a fragment whose TTL runs out), but not endlessly.
fn run_originated<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>) {
    for _ in 0..ORIGINATED_ROUNDS {
        let mut count = cx.out.originated();
        while count > 0 {
            burst.clear();
            cx.out.take_originated(burst, count);
            count -= burst.len().clamp(1, count);
            let mut lane = burst.lane();
            cx.counters.stages.end(Stage::Originated, lane.len());
            run_decided(cx, burst, &mut lane);
        }
    }
    cx.discard_originated();
    burst.clear();
}

//! The whole pipeline: frames on the ports of a small gateway.

use std::cell::RefCell;

use tieline_engine::io::BufferPool;
use tieline_engine::policy::{Direction, L4Match, Policy, Remote, Rule};
use tieline_engine::session::tick::Tick;
use tieline_engine::testbed::topology::{TENANT_1, gateway_of_size, set_policy};
use tieline_engine::testbed::{Size, Testbed};
use tieline_engine::types::{PortId, SgId, SgSetId};

/// Longest frame that one input byte announces, in steps of 16 bytes.
const STEP: usize = 16;

/// Frames that one input can hold.
const MAX_FRAMES: usize = 24;

thread_local! {
    /// Made anew when an input leaves anything behind that a later one sees.
    static BED: RefCell<Option<Testbed>> = const { RefCell::new(None) };
}

fn bed() -> Testbed {
    let size = Size { workers: 2, buffers: 64, sessions: 64, ..Size::default() };
    let mut bed = gateway_of_size(size);
    let l4 = L4Match::Ports { first: 0, last: 2000 };
    let rule = Rule { group: SgId(1), family: None, protocol: None, l4, remote: Remote::Any };
    let policy = Policy::new(SgSetId::EMPTY, [(Direction::Egress, rule), (Direction::Ingress, rule)]);
    bed.update(|tables| set_policy(tables, TENANT_1, Some(policy)));
    bed.run();
    bed
}

/// An input is a list of frames: two bits say the port, six bits the time
/// that passes before it, a byte its length in steps, then its bytes.
pub fn pipeline(data: &[u8]) {
    let mut bed = BED.take().unwrap_or_else(bed);
    let mut rest = data;
    for _ in 0..MAX_FRAMES {
        let [head, steps, tail @ ..] = rest else { break };
        let (frame, after) = tail.split_at((usize::from(*steps) * STEP).min(tail.len()));
        rest = after;
        bed.now = bed.now.after(u32::from(head >> 2) * Tick::PER_SECOND / 8);
        bed.send(PortId(u16::from(head & 3)), frame);
        bed.run();
    }
    let waiting = std::iter::from_fn(|| bed.unresolved()).count();
    // Fragments do not wait for their first for longer than this.
    bed.now = bed.now.after(3 * Tick::PER_SECOND);
    bed.run();
    while bed.learned().is_some() {}
    for port in 0..4 {
        bed.discard(PortId(port));
    }
    let balance = bed.balance();
    assert!(balance.is_exact(), "{balance:?}");
    assert_eq!(bed.pool.available(), bed.pool.capacity(), "every buffer is back");
    assert!(bed.pool.alloc().is_some());
    let sessions: u64 = (0..2).map(|at| bed.counters(at).sessions.value()).sum();
    if waiting == 0 && sessions == 0 {
        BED.set(Some(bed));
    }
}

//! Sessions end as fast as they can begin.

mod support;

use support::{FAR, Tcp, W1, tcp_from, udp_from};
use tieline_engine::DropReason;
use tieline_engine::io::BURST;
use tieline_engine::policy::{Direction, L4Match, Policy, Remote, Rule};
use tieline_engine::session::Timeouts;
use tieline_engine::session::tick::Tick;
use tieline_engine::stats::stages::Stage;
use tieline_engine::testbed::topology::{FABRIC, TENANT_1, gateway_of_size, set_policy};
use tieline_engine::testbed::{Size, Testbed};
use tieline_engine::types::{SgId, SgSetId};

/// A gateway whose tenant may send anything.
fn gateway(sessions: usize) -> Testbed {
    let mut bed = gateway_of_size(Size { workers: 1, sessions, buffers: 512, ..Size::default() });
    let rule = Rule { group: SgId(1), family: None, protocol: None, l4: L4Match::Any, remote: Remote::Any };
    let policy = Policy::new(SgSetId::EMPTY, [(Direction::Egress, rule)]);
    bed.update(|tables| set_policy(tables, TENANT_1, Some(policy)));
    bed
}

#[test]
fn plain_packets_that_begin_sessions_are_read_once() {
    let mut bed = gateway(1000);
    for (turn, classified) in [(0, 0), (1, 1), (2, 1)] {
        for flow in 0..10 {
            // The second packet of a flow follows its first in the same burst.
            let number = turn * 10 + flow / 2;
            bed.send(TENANT_1, &udp_from(TENANT_1, W1, FAR, (number, 53), b"plain"));
        }
        if turn == 1 {
            // Nothing that express reads, between packets that it does.
            bed.send(TENANT_1, &tcp_from(TENANT_1, W1, FAR, (5000, 80), Tcp::Syn));
        }
        let now = bed.now;
        bed.workers[0].turn(now);
        assert_eq!(bed.discard(FABRIC), if turn == 1 { 11 } else { 10 });
        let stages = &bed.counters(0).stages;
        assert_eq!(stages.of(Stage::Classify).packets, classified, "turn {turn}");
        assert_eq!(stages.of(Stage::SgCheck).packets, u64::from(turn + 1) * 10 + classified, "turn {turn}");
        bed.now = bed.now.after(Tick::PER_SECOND);
    }
    bed.workers[0].turn(bed.now);
    assert_eq!(bed.counters(0).sessions.value(), 16, "five flows a turn, and a connection");
}

#[test]
fn a_stream_of_new_sessions_never_fills_a_table_that_holds_them_for_their_time() {
    let lifetime = Timeouts::default().udp_unreplied.as_secs() as usize;
    // A burst a second lives for the idle time and a little longer.
    let sessions = (lifetime + 4) * BURST;
    let mut bed = gateway(sessions);
    let turns = 4 * lifetime;
    for turn in 0..turns {
        for flow in 0..BURST {
            let number = (turn * BURST + flow) as u16;
            bed.send(TENANT_1, &udp_from(TENANT_1, W1, FAR, (number, 53), b"first"));
        }
        let now = bed.now;
        bed.workers[0].turn(now);
        assert_eq!(bed.discard(FABRIC), BURST, "second {turn}");
        bed.now = bed.now.after(Tick::PER_SECOND);
    }
    assert_eq!(bed.drops(DropReason::SessionTableFull), 0);
}

use proptest::prelude::*;
use tieline_proto::v1::{ErrorCode, RefusedOperation, WaitingOperation, object_key};

use super::*;

const ATOMIC: Mode = Mode::Atomic { require_references: false };

fn key(name: &str) -> ObjectKey {
    ObjectKey { kind: Some(object_key::Kind::Vrf(name.to_owned())) }
}

fn ledger(count: usize, mode: Mode) -> Ledger<impl Iterator<Item = Operation>> {
    Ledger::new((0..count).map(|n| operation(Change::Delete(key(&n.to_string())))), count, mode)
}

fn accepted(id: u64, refused: &[u32]) -> BatchAccepted {
    let refused =
        refused.iter().map(|&index| RefusedOperation { index, refused: Some(conflict()) }).collect();
    BatchAccepted { id, refused, ..Default::default() }
}

fn programmed(id: u64) -> BatchProgrammed {
    BatchProgrammed { id, table_version: 1 }
}

fn conflict() -> Refused {
    Refused { code: ErrorCode::Conflict.into(), ..Default::default() }
}

#[test]
fn the_window_bounds_what_is_under_way() {
    let mut ledger = ledger(BATCH * (WINDOW + 1) + 5, Mode::Each);
    let sent: Vec<Batch> = std::iter::from_fn(|| ledger.poll_batch()).collect();
    assert_eq!(sent.iter().map(|batch| batch.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(sent.iter().all(|batch| batch.operations.len() == BATCH && batch.mode() == BatchMode::Each));
    ledger.handle_accepted(accepted(1, &[])).expect("accepted");
    assert!(ledger.poll_batch().is_none(), "it is still under way");
    ledger.handle_programmed(programmed(1)).expect("settles");
    assert_eq!(ledger.poll_batch().map(|batch| (batch.id, batch.operations.len())), Some((6, BATCH)));
    assert!(ledger.poll_batch().is_none());
    // A batch that is refused whole leaves the window at once.
    let all: Vec<u32> = (0..BATCH as u32).collect();
    assert_eq!(ledger.handle_accepted(accepted(2, &all)).expect("refused").len(), BATCH);
    assert_eq!(ledger.poll_batch().map(|batch| batch.operations.len()), Some(5));
}

#[test]
fn large_objects_make_small_batches() {
    let large = "x".repeat(BATCH_BYTES / 3);
    let operations = (0..7).map(|_| operation(Change::Delete(key(&large))));
    let mut ledger = Ledger::new(operations, 7, Mode::Each);
    let sizes: Vec<usize> =
        std::iter::from_fn(|| ledger.poll_batch()).map(|batch| batch.operations.len()).collect();
    assert_eq!(sizes, [3, 3, 1]);
}

#[test]
fn an_atomic_batch_is_one_and_its_refusal_settles_all() {
    let mut ledger = ledger(BATCH + 1, Mode::Atomic { require_references: true });
    let batch = ledger.poll_batch().expect("a batch");
    assert_eq!(
        (batch.operations.len(), batch.mode(), batch.require_references),
        (BATCH + 1, BatchMode::Atomic, true)
    );
    let settled = ledger.handle_accepted(accepted(1, &[7])).expect("refused");
    assert_eq!(settled[0], ("vrf/7".to_owned(), Fate::Refused(conflict())));
    assert!(settled[1..].iter().all(|(_, fate)| *fate == Fate::Undone));
    assert_eq!(settled.len(), BATCH + 1);
    assert!(ledger.is_done());
    // The second acknowledgement has nothing to add, but may come.
    assert_eq!(ledger.handle_programmed(programmed(1)).expect("nothing new"), []);
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let mut ledger = ledger(BATCH + 1, Mode::Each);
    ledger.poll_batch();
    for id in [0, 2, u64::MAX] {
        assert!(ledger.handle_accepted(accepted(id, &[])).is_err(), "{id} was not sent yet");
        assert!(ledger.handle_programmed(programmed(id)).is_err());
    }
    assert!(ledger.handle_programmed(programmed(1)).is_err(), "not accepted");
    assert!(ledger.handle_accepted(accepted(1, &[0])).is_ok());
    assert!(ledger.handle_accepted(accepted(1, &[])).is_err(), "accepted twice");
    assert!(ledger.handle_programmed(programmed(1)).is_ok());
    let error = ledger.handle_programmed(programmed(1)).expect_err("programmed twice");
    assert!(error.to_string().contains("answered batch 1 once too often"), "{error}");
    ledger.poll_batch();
    assert!(ledger.handle_accepted(accepted(2, &[1])).is_err(), "there is one operation");
    assert!(!ledger.is_done());
}

#[test]
fn waiting_is_remembered_until_programmed() {
    let mut ledger = ledger(2, Mode::Each);
    ledger.poll_batch();
    let waits_for = vec![key("x")];
    let waiting = vec![WaitingOperation { index: 1, waits_for: waits_for.clone() }];
    let accepted = BatchAccepted { waiting, ..accepted(1, &[]) };
    assert_eq!(ledger.handle_accepted(accepted).expect("accepted"), []);
    assert!(!ledger.is_done());
    let settled = ledger.handle_programmed(programmed(1)).expect("programmed");
    let expected = [("vrf/0".to_owned(), Fate::Programmed), ("vrf/1".to_owned(), Fate::Waiting(waits_for))];
    assert_eq!(settled, expected);
    assert!(ledger.is_done());
}

#[test]
fn time_asks_for_heartbeats_and_finds_a_dead_daemon() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut pulse = Pulse::new(start);
    assert_eq!(pulse.due(at(4)), Due::Nothing);
    assert_eq!(pulse.due(at(5)), Due::Heartbeat);
    pulse.said = at(25);
    assert_eq!(pulse.due(at(26)), Due::Nothing);
    assert_eq!(pulse.due(at(31)), Due::Silent(Duration::from_secs(31)));
    pulse.heard = at(30);
    assert_eq!(pulse.due(at(31)), Due::Heartbeat);
    pulse.longest = Duration::from_secs(100);
    assert_eq!(pulse.due(at(74)), Due::Nothing);
}

#[test]
fn closing_and_another_revision_are_said_in_words() {
    let closing =
        Closing { reason: ClosingReason::Limit.into(), message: "64 sessions are all there may be".into() };
    assert_eq!(
        reason(&closing),
        "the daemon closed the session (limit reached): 64 sessions are all there may be"
    );
    assert_eq!(reason(&Closing::default()), "the daemon closed the session: it did not say why");
    let hello =
        |revision, heartbeat_seconds| GatewayHello { revision, heartbeat_seconds, ..Default::default() };
    assert_eq!(longest_silence(&hello(1, 3)).expect("a hello"), Duration::from_secs(3));
    assert_eq!(longest_silence(&hello(1, 0)).expect("a hello"), HEARTBEAT);
    let error = longest_silence(&hello(2, 3)).expect_err("another revision").to_string();
    assert!(error.contains("revision 2") && error.contains("tlctl version"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever the order of the batches, every operation settles once.
    #[test]
    fn every_operation_settles_once(order in Just((1..=WINDOW as u64).collect::<Vec<_>>()).prop_shuffle(),
                                    refused in prop::collection::vec(any::<bool>(), BATCH * WINDOW),
                                    atomic in any::<bool>()) {
        let (mode, count) = if atomic { (ATOMIC, BATCH) } else { (Mode::Each, BATCH * WINDOW) };
        let mut ledger = ledger(count, mode);
        while ledger.poll_batch().is_some() {}
        let mut seen: BTreeMap<String, Fate> = BTreeMap::new();
        for id in order.into_iter().filter(|id| *id as usize <= count / BATCH) {
            let first = (id as usize - 1) * BATCH;
            let mut bad: Vec<u32> = (0..BATCH as u32).filter(|n| refused[first + *n as usize]).collect();
            bad.truncate(if atomic { 1 } else { BATCH });
            let mut settled = ledger.handle_accepted(accepted(id, &bad)).expect("accepted");
            settled.extend(ledger.handle_programmed(programmed(id)).expect("programmed"));
            for (name, fate) in settled {
                prop_assert!(seen.insert(name, fate).is_none());
            }
            prop_assert_eq!(ledger.settled, seen.len());
        }
        prop_assert!(ledger.is_done());
        let first_bad = refused[..BATCH].iter().position(|bad| *bad);
        for n in 0..count {
            let fate = &seen[&format!("vrf/{n}")];
            let expected = match (atomic, first_bad, refused[n]) {
                (true, Some(first), _) if n == first => Fate::Refused(conflict()),
                (true, Some(_), _) => Fate::Undone,
                (false, _, true) => Fate::Refused(conflict()),
                _ => Fate::Programmed,
            };
            prop_assert_eq!(fate, &expected);
        }
    }
}

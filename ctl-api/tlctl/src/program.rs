//! Declaring and withdrawing over one `Program` stream.
//!
//! A bounded number of operations is under way at any time. [`Ledger`] keeps
//! the account of them and knows no network; [`run`] moves messages between it
//! and the daemon.

use std::time::Duration;

use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::program_reply::Outcome;
use tieline_proto::v1::program_request::Operation;
use tieline_proto::v1::{ObjectKey, ProgramReply, ProgramRequest, Refused};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::error::Error;
use crate::kind::{display_key, key_of};

/// Most operations under way.
const WINDOW: usize = 1000;
/// How often an observer hears that time has passed.
const TICK: Duration = Duration::from_millis(200);

/// What became of one operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Every worker has it.
    Programmed,
    /// Stored, and in force as soon as these are declared.
    Waiting(Vec<ObjectKey>),
    /// Nothing was changed.
    Refused(Refused),
}

/// Hears what becomes of the operations.
pub trait Observer {
    /// One operation has met its fate.
    fn settled(&mut self, name: &str, fate: &Fate);
    /// Some time has passed; of `total` operations `settled` are settled.
    fn tick(&mut self, settled: usize, total: usize);
}

/// How far one operation has come.
#[derive(Debug)]
enum Progress {
    Sent,
    Accepted(Vec<ObjectKey>),
    Settled,
}

/// The account of all operations. Operation `n` has id `n + 1`.
#[derive(Debug)]
pub struct Ledger<I> {
    operations: I,
    total: usize,
    settled: usize,
    sent: Vec<(String, Progress)>,
}

impl<I: Iterator<Item = Operation>> Ledger<I> {
    /// An account of `total` operations, none of them sent.
    pub fn new(operations: I, total: usize) -> Self {
        Self { operations, total, settled: 0, sent: Vec::new() }
    }

    /// The next request to send; `None` when all are sent or the window is full.
    pub fn poll_request(&mut self) -> Option<ProgramRequest> {
        if self.sent.len() - self.settled >= WINDOW {
            return None;
        }
        let operation = self.operations.next()?;
        self.sent.push((name_of(&operation), Progress::Sent));
        Some(ProgramRequest { id: self.sent.len() as u64, operation: Some(operation) })
    }

    /// Whether every operation is settled.
    pub fn is_done(&self) -> bool {
        self.settled == self.total
    }

    /// Takes a reply; returns the name and fate of the operation if that
    /// settles it.
    pub fn handle_reply(&mut self, reply: ProgramReply) -> Result<Option<(&str, Fate)>, Error> {
        let id = reply.id;
        let entry = usize::try_from(id).ok().and_then(|id| self.sent.get_mut(id.checked_sub(1)?));
        let Some((name, progress)) = entry else {
            return Err(Error::Daemon(format!("the daemon answered operation {id}, which was never sent")));
        };
        if let Progress::Settled = progress {
            return Err(Error::Daemon(format!("the daemon answered operation {id} ({name}) twice")));
        }
        let fate = match reply.outcome {
            None => {
                return Err(Error::Daemon(format!(
                    "the daemon answered operation {id} ({name}) in a way that this tlctl does not know. \
                     Compare the versions with `tlctl version`"
                )));
            }
            Some(Outcome::Accepted(accepted)) => {
                *progress = Progress::Accepted(accepted.waits_for);
                return Ok(None);
            }
            Some(Outcome::Programmed(_)) => match std::mem::replace(progress, Progress::Settled) {
                Progress::Accepted(waits_for) if !waits_for.is_empty() => Fate::Waiting(waits_for),
                _ => Fate::Programmed,
            },
            Some(Outcome::Refused(refused)) => Fate::Refused(refused),
        };
        *progress = Progress::Settled;
        self.settled += 1;
        Ok(Some((name, fate)))
    }
}

/// How the object of an operation is called.
fn name_of(operation: &Operation) -> String {
    match operation {
        Operation::Apply(object) => key_of(object).as_ref().map(display_key).unwrap_or_default(),
        Operation::Delete(key) => display_key(key),
    }
}

/// Carries out all operations in order and returns when each is settled.
pub async fn run(
    client: &mut ControlClient<Channel>,
    operations: Vec<Operation>,
    observer: &mut impl Observer,
) -> Result<(), Error> {
    let total = operations.len();
    let mut ledger = Ledger::new(operations.into_iter(), total);
    // Never full: at most a window's worth of requests is unanswered.
    let (requests, outgoing) = mpsc::channel(WINDOW);
    send_window(&mut ledger, &requests)?;
    let opened = client.program(ReceiverStream::new(outgoing)).await;
    let mut replies = opened.map_err(|status| Error::from_status(&status, "program objects"))?.into_inner();
    let mut ticks = tokio::time::interval(TICK);
    while !ledger.is_done() {
        let reply = tokio::select! {
            reply = replies.message() => reply,
            _ = ticks.tick() => {
                observer.tick(ledger.settled, total);
                continue;
            }
        };
        let unsettled = total - ledger.settled;
        let lost = |error: Error| match error {
            Error::Unreachable(text) => {
                Error::Unreachable(format!("{text}. {unsettled} of {total} objects were not confirmed"))
            }
            other => other,
        };
        let reply = reply.map_err(|status| lost(Error::from_status(&status, "program objects")))?;
        let reply = reply.ok_or_else(|| lost(closed()))?;
        if let Some((name, fate)) = ledger.handle_reply(reply)? {
            observer.settled(name, &fate);
        }
        send_window(&mut ledger, &requests)?;
    }
    Ok(())
}

fn send_window<I: Iterator<Item = Operation>>(
    ledger: &mut Ledger<I>,
    requests: &mpsc::Sender<ProgramRequest>,
) -> Result<(), Error> {
    while let Some(request) = ledger.poll_request() {
        requests.try_send(request).map_err(|_| closed())?;
    }
    Ok(())
}

fn closed() -> Error {
    Error::Unreachable("the daemon closed the stream before it had answered everything".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tieline_proto::v1::{Accepted, ErrorCode, Programmed, object_key};

    use super::*;

    fn key(name: String) -> ObjectKey {
        ObjectKey { kind: Some(object_key::Kind::Vrf(name)) }
    }

    fn ledger(count: usize) -> Ledger<impl Iterator<Item = Operation>> {
        Ledger::new((0..count).map(|n| Operation::Delete(key(n.to_string()))), count)
    }

    fn reply(id: u64, outcome: Outcome) -> ProgramReply {
        ProgramReply { id, outcome: Some(outcome) }
    }

    fn programmed(id: u64) -> ProgramReply {
        reply(id, Outcome::Programmed(Programmed { table_version: 1 }))
    }

    #[test]
    fn the_window_bounds_what_is_under_way() {
        let mut ledger = ledger(WINDOW + 5);
        let sent = std::iter::from_fn(|| ledger.poll_request()).count();
        assert_eq!(sent, WINDOW);
        ledger.handle_reply(programmed(3)).expect("settles");
        assert_eq!(ledger.poll_request().map(|request| request.id), Some(WINDOW as u64 + 1));
        assert!(ledger.poll_request().is_none());
    }

    #[test]
    fn answers_that_make_no_sense_are_errors() {
        let mut ledger = ledger(2);
        ledger.poll_request();
        assert!(ledger.handle_reply(programmed(0)).is_err());
        assert!(ledger.handle_reply(programmed(2)).is_err(), "not sent yet");
        assert!(ledger.handle_reply(programmed(u64::MAX)).is_err());
        assert!(ledger.handle_reply(ProgramReply { id: 1, outcome: None }).is_err());
        assert!(ledger.handle_reply(programmed(1)).is_ok());
        assert!(ledger.handle_reply(programmed(1)).is_err(), "twice");
    }

    #[test]
    fn waiting_is_remembered_until_programmed() {
        let mut ledger = ledger(1);
        ledger.poll_request();
        let waits_for = vec![key("x".to_owned())];
        let accepted = reply(1, Outcome::Accepted(Accepted { waits_for: waits_for.clone() }));
        assert_eq!(ledger.handle_reply(accepted).expect("accepted"), None);
        assert!(!ledger.is_done());
        let settled = ledger.handle_reply(programmed(1)).expect("programmed");
        assert_eq!(settled, Some(("vrf/0", Fate::Waiting(waits_for))));
        assert!(ledger.is_done());
    }

    proptest! {
        /// Whatever the order of the replies, every operation settles once.
        #[test]
        fn every_operation_settles_once(order in Just((0..40usize).collect::<Vec<_>>()).prop_shuffle(),
                                        refused in prop::collection::vec(any::<bool>(), 40)) {
            let mut ledger = ledger(40);
            while ledger.poll_request().is_some() {}
            for (done, &n) in order.iter().enumerate() {
                prop_assert_eq!(ledger.settled, done);
                let id = n as u64 + 1;
                let outcome = if refused[n] {
                    let code = ErrorCode::Conflict.into();
                    Outcome::Refused(Refused { code, ..Default::default() })
                } else {
                    ledger.handle_reply(reply(id, Outcome::Accepted(Accepted::default()))).expect("accepted");
                    Outcome::Programmed(Programmed::default())
                };
                let settled = ledger.handle_reply(reply(id, outcome)).expect("settles");
                let name = format!("vrf/{n}");
                prop_assert!(
                    matches!(settled, Some((found, Fate::Refused(_))) if found == name && refused[n])
                        || matches!(settled, Some((found, Fate::Programmed)) if found == name && !refused[n])
                );
            }
            prop_assert!(ledger.is_done());
        }
    }
}

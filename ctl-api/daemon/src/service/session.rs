//! A controller's session: hello, heartbeats, batches in, acknowledgements out.
//!
//! Memory is bounded on both sides. A batch is taken out of the stream only when
//! there is room for its acknowledgements ([`replies`](crate::replies)), and when
//! it then has its share of what may wait ([`shares`](crate::shares)); until then
//! it stays in the client's connection. So a client that does not read, or that
//! floods, holds up itself. One that goes on not to read is sent away.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tieline_gate::accounts::Account;
use tieline_proto::v1;
use tieline_proto::v1::controller_message::Message as From;
use tieline_proto::v1::gateway_message::Message as To;
use tieline_proto::v1::{Closing, ClosingReason};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Status, Streaming};

use crate::control::{Control, Submission};
use crate::identity::NodeId;
use crate::replies::{Gone, Replies};
use crate::rights::{Peer, Rights, may_act_as};
use crate::sessions::{Hello, Opened, Terms};
use crate::shares::Shares;

/// The revision of the API that is spoken here.
const REVISION: u32 = 1;
/// What a controller may lean on.
const CAPABILITIES: [&str; 5] = ["route_sets", "atomic_batches", "preview", "watch", "exports"];
/// Longest wait for the first message.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Longest silence in seconds, where the controller states none.
const DEFAULT_HEARTBEAT: u32 = 10;
/// The longest that it can state.
const LONGEST_HEARTBEAT: u32 = 3600;
/// Silences after which the other side is taken for dead.
const SILENCES: u32 = 3;
/// Longest text in which a controller says what it is.
const LONGEST_SOFTWARE: usize = 256;

/// What a gateway says of itself in every session.
#[derive(Debug, Clone)]
pub struct About {
    /// What controllers know it by.
    pub node: NodeId,
    /// Changes at every start.
    pub boot_id: String,
    /// How long what a controller holds is kept, where it states nothing.
    pub grace: Duration,
}

/// What every session needs.
#[derive(Clone)]
pub struct Sessions {
    /// The control thread.
    pub control: Control,
    /// The gateway.
    pub about: Arc<About>,
    /// What may wait.
    pub shares: Shares,
}

/// Who has a session, and what it may take.
pub struct Client {
    /// Who it is.
    pub peer: Arc<Peer>,
    /// Its account.
    pub account: Arc<Account>,
}

/// Why a session ends.
enum End {
    /// The controller closed it, or is gone.
    Left,
    /// The controller does not read.
    NotRead(Duration),
    /// The gateway closes it.
    Closed(Closing),
}

fn closed(reason: ClosingReason, message: impl Into<String>) -> End {
    End::Closed(Closing { reason: reason.into(), message: message.into() })
}

fn protocol(message: impl Into<String>) -> End {
    closed(ClosingReason::Protocol, message)
}

impl Sessions {
    /// Carries the session of a peer on until it ends.
    pub async fn run(self, mut requests: Streaming<v1::ControllerMessage>, replies: Replies, client: Client) {
        let name = client.peer.to_string();
        let end = match self.begin(&mut requests, &replies, client).await {
            Ok((session, closing)) => {
                let (by, id) = (session.opened.by, session.opened.session);
                let end = session.carry_on(&mut requests, closing).await;
                self.control.close(by, id).await;
                end
            }
            Err(end) => end,
        };
        match end {
            End::Left => {}
            End::NotRead(patience) => {
                let why = format!("acknowledgements were not read for {} s", patience.as_secs());
                tracing::warn!(peer = name, "session closed: {why}");
                replies.give_up(Status::resource_exhausted(why));
            }
            End::Closed(closing) => {
                tracing::info!("session closed: {}", closing.message);
                // A client that does not read is not waited for long.
                let why = closing.message.clone();
                let told = replies.say(Ok(To::Closing(closing)));
                if tokio::time::timeout(HELLO_PATIENCE, told).await.is_err() {
                    replies.give_up(Status::unavailable(why));
                }
            }
        }
    }

    async fn begin(
        &self,
        requests: &mut Streaming<v1::ControllerMessage>,
        replies: &Replies,
        Client { peer, account }: Client,
    ) -> Result<(Session, oneshot::Receiver<Closing>), End> {
        let first = tokio::time::timeout(HELLO_PATIENCE, requests.message()).await;
        let first = first.map_err(|_| {
            closed(ClosingReason::Silent, format!("no hello within {} s", HELLO_PATIENCE.as_secs()))
        })?;
        let Ok(Some(first)) = first else { return Err(End::Left) };
        let Some(From::Hello(hello)) = first.message else {
            return Err(protocol("the first message must be a hello"));
        };
        check(&hello)?;
        if !may_act_as(&peer, &hello.controller) {
            let status = Status::permission_denied(format!(
                "{peer} may not declare as controller {}: name it in the controllers of its entry in [[api.roles]]",
                hello.controller
            ));
            let _ = replies.say(Err(status)).await;
            return Err(End::Left);
        }
        let heartbeat = match hello.heartbeat_seconds {
            0 => DEFAULT_HEARTBEAT,
            seconds => seconds,
        };
        let grace = hello.grace_seconds.map_or(self.about.grace, |s| Duration::from_secs(u64::from(s)));
        let (closer, closing) = oneshot::channel();
        let asks = Hello {
            terms: Terms {
                term: hello.term,
                grace,
                lasting: hello.lasting,
                operator: Rights::of(&peer).operator,
                owner: peer.name.clone(),
            },
            software: hello.software.chars().take(LONGEST_SOFTWARE).collect(),
            closer,
        };
        let opened = self.control.open(hello.controller, asks).await.map_err(|_| End::Left)?;
        let opened = opened.map_err(End::Closed)?;
        let message = To::Hello(v1::GatewayHello {
            revision: REVISION,
            node_id: self.about.node.text(),
            boot_id: self.about.boot_id.clone(),
            software: concat!("tieline ", env!("CARGO_PKG_VERSION")).to_owned(),
            capabilities: CAPABILITIES.map(str::to_owned).into(),
            limits: opened.limits.clone(),
            heartbeat_seconds: heartbeat,
            grace_seconds: u32::try_from(opened.grace.as_secs()).unwrap_or(u32::MAX),
            held: opened.held,
        });
        let session = Session {
            control: self.control.clone(),
            shares: self.shares.clone(),
            replies: replies.clone(),
            rights: Rights::of(&peer),
            account,
            opened,
            heartbeat: Duration::from_secs(u64::from(heartbeat)),
        };
        session.say(message).await;
        Ok((session, closing))
    }
}

/// A hello that can be answered.
fn check(hello: &v1::ControllerHello) -> Result<(), End> {
    let v1::ControllerHello { lowest_revision, highest_revision, .. } = *hello;
    if !(lowest_revision..=highest_revision).contains(&REVISION) {
        let message = format!(
            "the controller speaks revisions {lowest_revision} to {highest_revision} of tieline.v1, this gateway speaks {REVISION}: update the older of the two"
        );
        return Err(closed(ClosingReason::Revision, message));
    }
    if hello.heartbeat_seconds > LONGEST_HEARTBEAT {
        let message = format!(
            "hello.heartbeat_seconds: {} is out of range: use 1 to {LONGEST_HEARTBEAT}, or 0 for {DEFAULT_HEARTBEAT}",
            hello.heartbeat_seconds
        );
        return Err(protocol(message));
    }
    Ok(())
}

/// A session that has begun.
struct Session {
    control: Control,
    shares: Shares,
    replies: Replies,
    rights: Rights,
    account: Arc<Account>,
    opened: Opened,
    heartbeat: Duration,
}

impl Session {
    /// Goes on until the session ends; `closing` comes when it is ended from
    /// outside.
    async fn carry_on(
        &self,
        requests: &mut Streaming<v1::ControllerMessage>,
        mut closing: oneshot::Receiver<Closing>,
    ) -> End {
        let mut beats = tokio::time::interval(self.heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                biased;
                why = &mut closing => {
                    return why.map_or(End::Left, End::Closed);
                }
                _ = beats.tick() => {
                    if heard.elapsed() > self.heartbeat * SILENCES {
                        let message = format!("nothing was heard for {} s", heard.elapsed().as_secs());
                        return closed(ClosingReason::Silent, message);
                    }
                    // Where acknowledgements fill the stream they are enough.
                    self.replies.try_say(To::Heartbeat(v1::Heartbeat {}));
                }
                message = requests.message() => {
                    let message = match message {
                        Ok(Some(message)) => message,
                        Ok(None) => return End::Left,
                        Err(status) => {
                            // Such as a message that is too large. A client that is
                            // gone is not told.
                            let told = self.replies.say(Err(status));
                            let _ = tokio::time::timeout(HELLO_PATIENCE, told).await;
                            return End::Left;
                        }
                    };
                    // A session that waits for room can be closed too.
                    let taken = tokio::select! {
                        biased;
                        why = &mut closing => return why.map_or(End::Left, End::Closed),
                        taken = self.take(message) => taken,
                    };
                    if let Err(end) = taken {
                        return end;
                    }
                    // Time that it had to wait is not its silence.
                    heard = Instant::now();
                }
            }
        }
    }

    /// Hands a message on.
    async fn take(&self, message: v1::ControllerMessage) -> Result<(), End> {
        let left = |_: Status| End::Left;
        let (by, session) = (self.opened.by, self.opened.session);
        match message.message {
            Some(From::Heartbeat(v1::Heartbeat {})) => {}
            Some(From::Batch(batch)) => {
                let (room, accepted, programmed) = self
                    .while_read(async {
                        let room = self.replies.room(&batch).await?;
                        Ok((room, self.replies.slot().await?, self.replies.slot().await?))
                    })
                    .await?;
                let share = self.shares.take(&self.account, batch.encoded_len()).await.map_err(left)?;
                let rights = self.rights.clone();
                let submission = Submission { by, session, batch, rights, room, accepted, programmed, share };
                self.control.submit(submission).await.map_err(left)?;
            }
            Some(From::EndOfSync(v1::EndOfSync { id })) => {
                let slot = self.while_read(self.replies.slot()).await?;
                self.control.end_of_sync(by, session, id, slot).await.map_err(left)?;
            }
            Some(From::Hello(_)) => return Err(protocol("a second hello in one session")),
            None => {
                return Err(protocol(
                    "a message without content, or of a kind that this gateway does not know",
                ));
            }
        }
        Ok(())
    }

    /// Waits for something that comes when the client reads, and not for ever.
    async fn while_read<T>(&self, waiting: impl Future<Output = Result<T, Gone>>) -> Result<T, End> {
        let patience = self.account.limits().stalled;
        match tokio::time::timeout(patience, waiting).await {
            Ok(got) => got.map_err(|Gone| End::Left),
            Err(_) => Err(End::NotRead(patience)),
        }
    }

    async fn say(&self, to: To) {
        // A client that has gone shows elsewhere.
        let _ = self.replies.say(Ok(to)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(result: Result<(), End>) -> Option<ClosingReason> {
        match result {
            Err(End::Closed(closing)) => Some(closing.reason()),
            Err(End::Left | End::NotRead(_)) | Ok(()) => None,
        }
    }

    #[test]
    fn only_a_range_with_this_revision_is_spoken() {
        let hello = |lowest_revision, highest_revision| v1::ControllerHello {
            lowest_revision,
            highest_revision,
            ..Default::default()
        };
        for (lowest, highest) in [(1, 1), (0, 1), (1, 7)] {
            assert_eq!(reason(check(&hello(lowest, highest))), None);
        }
        for (lowest, highest) in [(0, 0), (2, 7), (2, 1)] {
            assert_eq!(reason(check(&hello(lowest, highest))), Some(ClosingReason::Revision));
        }
        let silent = v1::ControllerHello { heartbeat_seconds: 3601, ..hello(1, 1) };
        assert_eq!(reason(check(&silent)), Some(ClosingReason::Protocol));
    }
}

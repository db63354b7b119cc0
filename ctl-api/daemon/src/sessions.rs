//! The controllers' sessions: who is here, under which election term, and until
//! when the declarations of those who left are kept.
//!
//! Pure: time comes in as an argument, and what has to be done goes out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tieline_proto::v1::{Closing, ClosingReason, Limit};
use tieline_rib::ControllerId;
use tokio::sync::oneshot;

/// Names one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

/// Ends a session from outside, and says why.
pub type Closer = oneshot::Sender<Closing>;

/// What has to be known of a controller over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Highest election term that it has shown.
    pub term: u64,
    /// How long its declarations outlive the session.
    pub grace: Duration,
    /// Its declarations are never stale.
    pub lasting: bool,
    /// Its last session was an operator's.
    pub operator: bool,
}

/// What a controller says of itself when its session begins.
#[derive(Debug)]
pub struct Hello {
    /// What outlives the session.
    pub terms: Terms,
    /// What it is.
    pub software: String,
    /// Ends the session.
    pub closer: Closer,
}

/// A session that has begun.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The controller's number.
    pub by: ControllerId,
    /// The session.
    pub session: SessionId,
    /// What the controller holds already.
    pub held: u64,
    /// How much the gateway takes.
    pub limits: Vec<Limit>,
}

/// One controller.
#[derive(Debug)]
struct Known {
    terms: Terms,
    software: String,
    live: BTreeMap<SessionId, Closer>,
    /// When the last session began or ended.
    since: Instant,
    /// When what is stale goes, if nobody comes.
    expires: Option<Instant>,
}

/// What is known of a controller, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whether it has a session.
    pub connected: bool,
    /// Highest election term seen.
    pub term: u64,
    /// Whether its declarations are never stale.
    pub lasting: bool,
    /// What it is.
    pub software: String,
    /// Since the last session began or ended.
    pub since: Duration,
    /// Until what is stale goes.
    pub expires_in: Option<Duration>,
}

/// All controllers that were here since the start, or hold something from
/// before.
#[derive(Debug)]
pub struct Sessions {
    known: BTreeMap<ControllerId, Known>,
    next: u64,
    most: usize,
}

impl Sessions {
    /// Nobody. At most `most` sessions at once.
    pub fn new(most: usize) -> Self {
        Self { known: BTreeMap::new(), next: 1, most }
    }

    /// A controller that held something before a restart.
    pub fn remember(&mut self, by: ControllerId, terms: Terms, now: Instant) {
        let expires = (!terms.lasting).then(|| now + terms.grace);
        let software = String::new();
        let live = BTreeMap::new();
        self.known.insert(by, Known { terms, software, live, since: now, expires });
    }

    /// A session begins. Sessions with a lower term, or of the same controller
    /// unless both are lasting, are closed.
    ///
    /// # Errors
    /// When the session has to be closed at once.
    pub fn open(
        &mut self,
        by: ControllerId,
        name: &str,
        hello: Hello,
        now: Instant,
    ) -> Result<SessionId, Closing> {
        let term = self.known.get(&by).map_or(0, |known| known.terms.term);
        if hello.terms.term < term {
            return Err(fenced(name, hello.terms.term, term));
        }
        let own = self.known.get(&by).map_or(0, |known| known.live.len());
        let stays = hello.terms.lasting && hello.terms.term == term;
        let others: usize = self.known.values().map(|known| known.live.len()).sum::<usize>() - own;
        if others + if stays { own } else { 0 } >= self.most {
            return Err(Closing {
                reason: ClosingReason::Limit.into(),
                message: format!(
                    "the gateway already has as many sessions as its limit sessions = {} allows",
                    self.most
                ),
            });
        }
        let id = SessionId(self.next);
        self.next += 1;
        let known = self.known.entry(by).or_insert_with(|| Known {
            terms: Terms { term: 0, ..hello.terms },
            software: String::new(),
            live: BTreeMap::new(),
            since: now,
            expires: None,
        });
        if !(stays && known.terms.lasting) {
            for (_, closer) in std::mem::take(&mut known.live) {
                let closing = if hello.terms.term > known.terms.term {
                    fenced(name, known.terms.term, hello.terms.term)
                } else {
                    let message =
                        format!("a new session of controller {name} has taken the place of this one");
                    Closing { reason: ClosingReason::Replaced.into(), message }
                };
                // It is ending by itself, if it fails.
                let _ = closer.send(closing);
            }
        }
        known.terms = hello.terms;
        known.software = hello.software;
        known.since = now;
        known.expires = None;
        known.live.insert(id, hello.closer);
        Ok(id)
    }

    /// Whether a session may still declare: it has not been closed.
    pub fn is_live(&self, by: ControllerId, id: SessionId) -> bool {
        self.known.get(&by).is_some_and(|known| known.live.contains_key(&id))
    }

    /// A session has ended. True if its controller has gone with it.
    pub fn close(&mut self, by: ControllerId, id: SessionId, now: Instant) -> bool {
        let Some(known) = self.known.get_mut(&by) else { return false };
        if known.live.remove(&id).is_none() || !known.live.is_empty() {
            return false;
        }
        known.since = now;
        known.expires = (!known.terms.lasting).then(|| now + known.terms.grace);
        true
    }

    /// Controllers whose time is over; each is named once.
    pub fn expired(&mut self, now: Instant) -> Vec<ControllerId> {
        let mut all = Vec::new();
        for (by, known) in &mut self.known {
            if known.expires.is_some_and(|at| at <= now) {
                known.expires = None;
                all.push(*by);
            }
        }
        all
    }

    /// Forgets controllers without a session that hold nothing; those that have
    /// shown a term only when their grace time is over, so that a deposed leader
    /// does not find a clean sheet. Returns who was forgotten.
    pub fn forget(&mut self, now: Instant, holds: impl Fn(ControllerId) -> bool) -> Vec<ControllerId> {
        let mut gone = Vec::new();
        self.known.retain(|by, known| {
            let has_say = known.terms.term > 0 && now < known.since + known.terms.grace;
            let stays = !known.live.is_empty() || has_say || holds(*by);
            if !stays {
                gone.push(*by);
            }
            stays
        });
        gone
    }

    /// What is known of a controller.
    pub fn view(&self, by: ControllerId, now: Instant) -> Option<View> {
        let known = self.known.get(&by)?;
        Some(View {
            connected: !known.live.is_empty(),
            term: known.terms.term,
            lasting: known.terms.lasting,
            software: known.software.clone(),
            since: now.saturating_duration_since(known.since),
            expires_in: known.expires.map(|at| at.saturating_duration_since(now)),
        })
    }

    /// What has to be known of a controller over restarts.
    pub fn terms(&self, by: ControllerId) -> Option<Terms> {
        self.known.get(&by).map(|known| known.terms)
    }

    /// Whether what a controller declares is an operator's.
    pub fn is_operator(&self, by: ControllerId) -> bool {
        self.known.get(&by).is_some_and(|known| known.terms.operator)
    }
}

fn fenced(name: &str, low: u64, high: u64) -> Closing {
    Closing {
        reason: ClosingReason::Fenced.into(),
        message: format!(
            "controller {name} has shown term {high}, and this session has term {low}: only the elected leader may declare"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ControllerId = ControllerId(1);
    const B: ControllerId = ControllerId(2);
    const GRACE: Duration = Duration::from_secs(60);

    fn terms(term: u64) -> Terms {
        Terms { term, grace: GRACE, lasting: false, operator: false }
    }

    fn hello(term: u64) -> (Hello, oneshot::Receiver<Closing>) {
        let (closer, closed) = oneshot::channel();
        (Hello { terms: terms(term), software: String::new(), closer }, closed)
    }

    fn reason(closed: &mut oneshot::Receiver<Closing>) -> Option<ClosingReason> {
        closed.try_recv().ok().map(|closing| closing.reason())
    }

    #[test]
    fn a_lower_term_is_refused_and_a_higher_one_closes() {
        let now = Instant::now();
        let mut sessions = Sessions::new(9);
        let (first, mut first_closed) = hello(3);
        let first = sessions.open(A, "a", first, now).expect("the first");
        let refused = sessions.open(A, "a", hello(2).0, now).expect_err("a deposed leader");
        assert_eq!(refused.reason(), ClosingReason::Fenced);
        assert!(sessions.is_live(A, first) && reason(&mut first_closed).is_none());
        let (second, mut second_closed) = hello(4);
        let second = sessions.open(A, "a", second, now).expect("a higher term");
        assert_eq!(reason(&mut first_closed), Some(ClosingReason::Fenced));
        assert!(!sessions.is_live(A, first) && sessions.is_live(A, second));
        // The end of the old session takes nothing from the new one.
        assert!(!sessions.close(A, first, now));
        sessions.open(A, "a", hello(4).0, now).expect("the same again");
        assert_eq!(reason(&mut second_closed), Some(ClosingReason::Replaced));
        sessions.open(B, "b", hello(0).0, now).expect("another controller");
    }

    #[test]
    fn grace_begins_with_the_end_and_ends_with_the_return() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sessions = Sessions::new(9);
        let id = sessions.open(A, "a", hello(0).0, at(0)).expect("a session");
        assert!(sessions.expired(at(1000)).is_empty());
        assert!(sessions.close(A, id, at(1000)));
        assert_eq!(
            sessions.view(A, at(1010)).and_then(|view| view.expires_in),
            Some(Duration::from_secs(50))
        );
        assert!(sessions.expired(at(1059)).is_empty());
        let id = sessions.open(A, "a", hello(0).0, at(1059)).expect("a session");
        assert!(sessions.expired(at(1100)).is_empty(), "it is back");
        sessions.close(A, id, at(1100));
        assert_eq!(sessions.expired(at(1160)), [A]);
        assert!(sessions.expired(at(9999)).is_empty(), "only once");
        sessions.remember(B, terms(7), at(0));
        assert_eq!(sessions.expired(at(60)), [B]);
        assert!(sessions.open(B, "b", hello(6).0, at(61)).is_err(), "its term is remembered");
        assert!(sessions.forget(at(59), |_| false).contains(&A));
        assert!(sessions.view(B, at(59)).is_some(), "a term is not forgotten so soon");
        assert_eq!(sessions.forget(at(60), |_| true), []);
        assert_eq!(sessions.forget(at(60), |_| false), [B]);
    }

    #[test]
    fn lasting_sessions_stand_beside_each_other_and_never_expire() {
        let now = Instant::now();
        let mut sessions = Sessions::new(2);
        let lasting = || {
            let (hello, closed) = hello(0);
            (Hello { terms: Terms { lasting: true, ..hello.terms }, ..hello }, closed)
        };
        let (first, mut closed) = lasting();
        let first = sessions.open(A, "a", first, now).expect("a session");
        let second = sessions.open(A, "a", lasting().0, now).expect("one more");
        assert!(reason(&mut closed).is_none());
        let refused = sessions.open(A, "a", lasting().0, now).expect_err("a third");
        assert_eq!(refused.reason(), ClosingReason::Limit);
        assert_eq!(sessions.open(B, "b", hello(0).0, now).expect_err("full").reason(), ClosingReason::Limit);
        assert!(!sessions.close(A, first, now) && sessions.close(A, second, now));
        assert!(sessions.expired(now + Duration::from_secs(1 << 20)).is_empty());
    }
}

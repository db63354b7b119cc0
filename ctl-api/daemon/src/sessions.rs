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

/// How many sessions and names there may be, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions at once.
    pub sessions: usize,
    /// Names that one peer has shown and that are not forgotten.
    pub names_per_peer: usize,
    /// The longest time that a controller can ask to be remembered.
    pub longest_grace: Duration,
}

/// What has to be known of a controller over restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Highest election term that it has shown.
    pub term: u64,
    /// How long its declarations outlive the session.
    pub grace: Duration,
    /// Its declarations are never stale.
    pub lasting: bool,
    /// Its last session was an operator's.
    pub operator: bool,
    /// The peer whose name it is: who had its last session. Empty in what earlier
    /// releases stored.
    pub owner: String,
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
    /// How long it is kept when the session has ended.
    pub grace: Duration,
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
    limits: SessionLimits,
}

impl Sessions {
    /// Nobody.
    pub fn new(limits: SessionLimits) -> Self {
        Self { known: BTreeMap::new(), next: 1, limits }
    }

    /// A controller that held something before a restart.
    pub fn remember(&mut self, by: ControllerId, terms: Terms, now: Instant) {
        let terms = self.granted(terms);
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
        let hello = Hello { terms: self.granted(hello.terms), ..hello };
        let term = self.known.get(&by).map_or(0, |known| known.terms.term);
        if hello.terms.term < term {
            return Err(fenced(name, hello.terms.term, term));
        }
        let own = self.known.get(&by).map_or(0, |known| known.live.len());
        let stays = hello.terms.lasting && hello.terms.term == term;
        let others: usize = self.known.values().map(|known| known.live.len()).sum::<usize>() - own;
        if others + if stays { own } else { 0 } >= self.limits.sessions {
            return Err(full(format!(
                "the gateway already has as many sessions as its limit api.sessions = {} allows",
                self.limits.sessions
            )));
        }
        let is_others =
            |(id, known): &(&ControllerId, &Known)| **id != by && known.terms.owner == hello.terms.owner;
        if self.known.iter().filter(is_others).count() >= self.limits.names_per_peer {
            return Err(full(format!(
                "{} is known as {} controllers, as many as api.names_per_peer allows: a name is forgotten when it \
                 holds nothing and its grace time is over, or at once by tlctl forget",
                hello.terms.owner, self.limits.names_per_peer
            )));
        }
        let id = SessionId(self.next);
        self.next += 1;
        let known = self.known.entry(by).or_insert_with(|| Known {
            terms: Terms { term: 0, ..hello.terms.clone() },
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

    /// What a controller asks for, as far as it gets it.
    fn granted(&self, terms: Terms) -> Terms {
        Terms { grace: terms.grace.min(self.limits.longest_grace), ..terms }
    }

    /// Forgets a controller without a session, whatever it has shown. False, and
    /// nothing done, if it has one.
    pub fn remove(&mut self, by: ControllerId) -> bool {
        if self.known.get(&by).is_some_and(|known| !known.live.is_empty()) {
            return false;
        }
        self.known.remove(&by);
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
    pub fn terms(&self, by: ControllerId) -> Option<&Terms> {
        self.known.get(&by).map(|known| &known.terms)
    }

    /// Whether what a controller declares is an operator's.
    pub fn is_operator(&self, by: ControllerId) -> bool {
        self.known.get(&by).is_some_and(|known| known.terms.operator)
    }
}

fn full(message: String) -> Closing {
    Closing { reason: ClosingReason::Limit.into(), message }
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
        Terms { term, grace: GRACE, lasting: false, operator: false, owner: "uid 7".to_owned() }
    }

    fn at_most(sessions: usize) -> Sessions {
        let longest_grace = Duration::from_secs(3600);
        Sessions::new(SessionLimits { sessions, names_per_peer: 3, longest_grace })
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
        let mut sessions = at_most(9);
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
        let mut sessions = at_most(9);
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
    fn a_peer_has_so_many_names_and_keeps_none_longer_than_it_may() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sessions = at_most(99);
        let owned = |owner: &str, grace: u64| {
            let (hello, _) = hello(1);
            let terms = Terms { owner: owner.to_owned(), grace: Duration::from_secs(grace), ..hello.terms };
            Hello { terms, ..hello }
        };
        let mut open = Vec::new();
        for number in 0..3 {
            let by = ControllerId(number);
            open.push((by, sessions.open(by, "x", owned("greedy", 1 << 40), at(0)).expect("a name")));
        }
        for (by, id) in open.drain(..) {
            sessions.close(by, id, at(0));
        }
        let refused = sessions.open(ControllerId(9), "x", owned("greedy", 60), at(1)).expect_err("one more");
        assert_eq!(refused.reason(), ClosingReason::Limit);
        assert!(
            refused.message.contains("greedy") && refused.message.contains("names_per_peer"),
            "{refused:?}"
        );
        assert_eq!(
            sessions.view(ControllerId(0), at(1)).and_then(|view| view.expires_in),
            Some(Duration::from_secs(3599))
        );
        // Others are not concerned, nor is one of its names.
        sessions.open(ControllerId(8), "y", owned("modest", 60), at(1)).expect("another peer");
        sessions.open(ControllerId(2), "x", owned("greedy", 60), at(1)).expect("a name of its own");
        // Its names are forgotten in time, or when it is told.
        assert!(!sessions.remove(ControllerId(2)), "it has a session");
        assert!(sessions.remove(ControllerId(1)));
        sessions.open(ControllerId(9), "x", owned("greedy", 60), at(2)).expect("there is room");
        assert_eq!(sessions.forget(at(3601), |_| false), [ControllerId(0)]);
        // What a store says is held to it, too.
        sessions.remember(ControllerId(5), Terms { grace: Duration::MAX, ..terms(3) }, at(0));
        assert_eq!(sessions.terms(ControllerId(5)).map(|terms| terms.grace), Some(Duration::from_secs(3600)));
    }

    #[test]
    fn lasting_sessions_stand_beside_each_other_and_never_expire() {
        let now = Instant::now();
        let mut sessions = at_most(2);
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

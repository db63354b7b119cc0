//! Who holds how much of a session table, and who gives way when it is full.
//!
//! Every VRF may have as much as there is room for. Once the table is full, a
//! new session takes the place of another, of the VRF that is furthest above
//! its fair share, and the session that nobody would miss goes first:
//!
//! - *Loose* sessions are half-open, unanswered or over. A VRF's oldest of
//!   them goes first.
//! - *Held* sessions are answered. They go only for a VRF that is within its
//!   share, and of the oldest few the one that has been idle longest.
//!
//! What is shared is weight: a held session weighs one, a loose one
//! [`LOOSE_WEIGHT`]. A flood is loose, so that it is furthest above its share
//! long before it has driven out as many held sessions of others. A VRF within
//! its share of the weight pays for nobody, and one that has as many held
//! sessions as the table divided by the VRFs in it loses none of them.
//!
//! Sessions stand in two lists for each VRF, in the order in which they came
//! there. The heaviest VRF is kept in mind; each time somebody has to give way,
//! the next few VRFs are compared with it. So all of it takes a bounded
//! number of steps, and what a session costs beside its lists is two sums.

use crate::session::state::State;
use crate::session::tick::Tick;

/// What a loose session weighs; a held one weighs 1.
pub const LOOSE_WEIGHT: u32 = 4;

/// VRFs that are compared with the heaviest at once.
const LOOKS: usize = 32;

/// What one VRF may have of each worker's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Most sessions.
    pub quota: u32,
    /// New sessions a second, and as many at once;
    /// [`UNLIMITED`](Self::UNLIMITED): as fast as they come.
    pub rate: u32,
}

impl Allowance {
    /// In place of a rate or a quota: none.
    pub const UNLIMITED: u32 = u32::MAX;
    /// Everything.
    pub const ALL: Allowance = Allowance { quota: Self::UNLIMITED, rate: Self::UNLIMITED };
    /// Nothing.
    pub const NONE: Allowance = Allowance { quota: 0, rate: 0 };
}

/// Why a session had to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Eviction {
    /// The table was full.
    TableFull,
    /// Its own VRF had as many as its quota.
    Quota,
}

impl Eviction {
    /// All of them, in the order of their numbers.
    pub const ALL: [Eviction; 2] = [Eviction::TableFull, Eviction::Quota];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}

/// How much anybody would miss a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Grip {
    /// Half-open, unanswered, or over.
    Loose,
    /// Answered.
    Held,
}

impl Grip {
    #[inline]
    pub(super) fn of(state: State) -> Self {
        match state {
            State::TcpEstablished
            | State::TcpFinForward
            | State::TcpFinReverse
            | State::UdpReplied
            | State::IcmpAnswered
            | State::OtherReplied => Grip::Held,
            State::TcpSynSent
            | State::TcpSynReceived
            | State::TcpPickedUp
            | State::TcpTimeWait
            | State::TcpClosed
            | State::UdpUnreplied
            | State::IcmpUnanswered
            | State::OtherUnreplied => Grip::Loose,
        }
    }
}

/// Where to take a place from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    /// The session in this place.
    Loose(u32),
    /// One of the oldest held sessions of this VRF.
    HeldOf(usize),
}

impl Victim {
    /// The place, if the session is loose.
    pub(super) fn loose(self) -> Option<u32> {
        match self {
            Victim::Loose(place) => Some(place),
            Victim::HeldOf(_) => None,
        }
    }
}

/// No session.
const NONE: u32 = u32::MAX;

/// The shares of one table. Allocates everything at the start.
pub(super) struct Shares {
    vrfs: Box<[Share]>,
    /// By place: its neighbours in the list that it stands in. Grows as places
    /// are first used.
    links: Vec<Link>,
    /// VRFs that have sessions.
    present: Vec<u16>,
    /// The heaviest VRF, as far as has been looked.
    heaviest: u16,
    /// Where in `present` to look next.
    next: usize,
    sessions: u64,
    loose: u64,
}

/// One VRF's part.
#[derive(Debug, Clone)]
struct Share {
    lists: [List; 2],
    sessions: u32,
    loose: u32,
    /// Where it stands among those that are present.
    at: u32,
    /// When `spent` was last brought up to date.
    counted: Tick,
    /// Sessions that have begun and are not earned again yet, in units of
    /// [`Tick::PER_SECOND`] to a session.
    spent: u64,
    evicted: [u64; Eviction::COUNT],
}

impl Share {
    #[inline]
    fn weight(&self) -> u64 {
        weight(u64::from(self.sessions), u64::from(self.loose))
    }
}

/// What so many sessions weigh, some of them loose.
#[inline]
fn weight(sessions: u64, loose: u64) -> u64 {
    sessions + u64::from(LOOSE_WEIGHT - 1) * loose
}

/// Sessions in the order in which they came, the oldest first.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    next: u32,
    previous: u32,
}

/// Bytes for each place.
pub(super) const BYTES_PER_PLACE: usize = size_of::<Link>();

impl Shares {
    /// For VRF numbers below `vrfs` and places below `capacity`.
    pub(super) fn new(vrfs: usize, capacity: usize) -> Self {
        let empty = List { first: NONE, last: NONE };
        let share = Share {
            lists: [empty; 2],
            sessions: 0,
            loose: 0,
            at: 0,
            counted: Tick(0),
            spent: 0,
            evicted: [0; Eviction::COUNT],
        };
        let vrfs = vrfs.min(1 << u16::BITS);
        Self {
            vrfs: vec![share; vrfs].into(),
            links: Vec::with_capacity(capacity),
            present: Vec::with_capacity(vrfs),
            heaviest: 0,
            next: 0,
            sessions: 0,
            loose: 0,
        }
    }

    /// Whether there can be sessions of this VRF.
    #[inline]
    pub(super) fn knows(&self, vrf: usize) -> bool {
        vrf < self.vrfs.len()
    }

    /// Sessions of a VRF.
    #[inline]
    pub(super) fn sessions(&self, vrf: usize) -> u32 {
        self.vrfs.get(vrf).map_or(0, |share| share.sessions)
    }

    /// How often a session of a VRF had to give way.
    pub(super) fn evicted(&self, vrf: usize, why: Eviction) -> u64 {
        self.vrfs.get(vrf).map_or(0, |share| share.evicted[why as usize])
    }

    /// Counts a session that has to give way.
    pub(super) fn count_evicted(&mut self, vrf: usize, why: Eviction) {
        self.vrfs[vrf].evicted[why as usize] += 1;
    }

    /// Starts to fetch where a place stands in its list.
    #[inline]
    pub(super) fn prefetch(&self, place: u32) {
        if let Some(link) = self.links.get(place as usize) {
            crate::prefetch::prefetch(link);
        }
    }

    /// Whether a VRF may begin another session now.
    #[inline]
    pub(super) fn is_within_rate(&mut self, vrf: usize, rate: u32, now: Tick) -> bool {
        if rate == Allowance::UNLIMITED {
            return true;
        }
        self.catch_up(vrf, rate, now);
        let burst = u64::from(rate) * u64::from(Tick::PER_SECOND);
        self.vrfs[vrf].spent + u64::from(Tick::PER_SECOND) <= burst
    }

    /// Lets a VRF's bucket fill for the time that has passed.
    #[cold]
    fn catch_up(&mut self, vrf: usize, rate: u32, now: Tick) {
        let share = &mut self.vrfs[vrf];
        let earned = u64::from(now.since(share.counted)) * u64::from(rate);
        (share.spent, share.counted) = (share.spent.saturating_sub(earned), now);
    }

    /// Counts a session that has begun against the rate of its VRF.
    #[inline]
    pub(super) fn spend(&mut self, vrf: usize, rate: u32) {
        if rate != Allowance::UNLIMITED {
            self.vrfs[vrf].spent += u64::from(Tick::PER_SECOND);
        }
    }

    /// A session begins, the youngest of its kind.
    #[inline]
    pub(super) fn add(&mut self, place: u32, vrf: usize, grip: Grip) {
        self.append(place, vrf, grip);
        let loose = u32::from(grip == Grip::Loose);
        self.sessions += 1;
        self.loose += u64::from(loose);
        let share = &mut self.vrfs[vrf];
        share.loose += loose;
        share.sessions += 1;
        if share.sessions == 1 {
            self.enter(vrf);
        }
    }

    /// A session ends.
    #[inline]
    pub(super) fn remove(&mut self, place: u32, vrf: usize, grip: Grip) {
        self.unlink(place, vrf, grip);
        let loose = u32::from(grip == Grip::Loose);
        self.sessions -= 1;
        self.loose -= u64::from(loose);
        let share = &mut self.vrfs[vrf];
        share.loose -= loose;
        share.sessions -= 1;
        if share.sessions == 0 {
            self.leave(vrf);
        }
    }

    /// A session comes to be held, or not any more.
    pub(super) fn change(&mut self, place: u32, vrf: usize, from: Grip, to: Grip) {
        if from == to {
            return;
        }
        self.unlink(place, vrf, from);
        self.append(place, vrf, to);
        let share = &mut self.vrfs[vrf];
        match to {
            Grip::Loose => (share.loose, self.loose) = (share.loose + 1, self.loose + 1),
            Grip::Held => (share.loose, self.loose) = (share.loose - 1, self.loose - 1),
        }
    }

    /// The oldest loose session of a VRF.
    pub(super) fn oldest_loose(&self, vrf: usize) -> Option<u32> {
        self.oldest(vrf, Grip::Loose)
    }

    /// The oldest held session of a VRF.
    pub(super) fn oldest_held(&self, vrf: usize) -> Option<u32> {
        self.oldest(vrf, Grip::Held)
    }

    /// Makes the oldest held session of a VRF the youngest.
    pub(super) fn rotate_held(&mut self, vrf: usize) {
        if let Some(place) = self.oldest_held(vrf) {
            self.unlink(place, vrf, Grip::Held);
            self.append(place, vrf, Grip::Held);
        }
    }

    /// Looks for VRFs that are heavier than the heaviest.
    pub(super) fn look_around(&mut self) {
        for _ in 0..LOOKS.min(self.present.len()) {
            self.next = if self.next < self.present.len() { self.next } else { 0 };
            let vrf = self.present[self.next];
            self.next += 1;
            if self.weight_of(usize::from(vrf)) > self.weight_of(usize::from(self.heaviest)) {
                self.heaviest = vrf;
            }
        }
    }

    /// Who gives way to a new session of a VRF in a table that is full.
    /// `None`: nobody; it has more than its share, and nothing loose.
    pub(super) fn victim(&mut self, vrf: usize) -> Option<Victim> {
        self.look_around();
        let heaviest = usize::from(self.heaviest);
        let (own, most) = (self.weight_of(vrf), self.weight_of(heaviest));
        let vrfs = self.present.len() as u64 + u64::from(own == 0);
        let total = weight(self.sessions, self.loose);
        if own * vrfs < total && most * vrfs > total {
            let loose = self.oldest_loose(heaviest).map(Victim::Loose);
            return Some(loose.unwrap_or(Victim::HeldOf(heaviest)));
        }
        let of_heaviest = if most > own { self.oldest_loose(heaviest) } else { None };
        of_heaviest.or_else(|| self.oldest_loose(vrf)).map(Victim::Loose)
    }

    /// The heaviest VRF, as far as has been looked.
    #[cfg(test)]
    pub(super) fn heaviest(&self) -> u16 {
        self.heaviest
    }

    /// What a VRF's sessions weigh.
    fn weight_of(&self, vrf: usize) -> u64 {
        self.vrfs.get(vrf).map_or(0, Share::weight)
    }

    fn oldest(&self, vrf: usize, grip: Grip) -> Option<u32> {
        let first = self.vrfs.get(vrf)?.lists[grip as usize].first;
        (first != NONE).then_some(first)
    }

    #[inline]
    fn append(&mut self, place: u32, vrf: usize, grip: Grip) {
        let list = &mut self.vrfs[vrf].lists[grip as usize];
        let previous = std::mem::replace(&mut list.last, place);
        let link = Link { next: NONE, previous };
        match previous {
            NONE => list.first = place,
            previous => self.links[previous as usize].next = place,
        }
        while self.links.len() <= place as usize {
            self.links.push(link);
        }
        self.links[place as usize] = link;
    }

    #[inline]
    fn unlink(&mut self, place: u32, vrf: usize, grip: Grip) {
        let Link { next, previous } = self.links[place as usize];
        let list = &mut self.vrfs[vrf].lists[grip as usize];
        match previous {
            NONE => list.first = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => list.last = previous,
            next => self.links[next as usize].previous = previous,
        }
    }

    /// A VRF has its first session.
    #[cold]
    fn enter(&mut self, vrf: usize) {
        self.vrfs[vrf].at = self.present.len() as u32;
        self.present.push(vrf as u16);
    }

    /// A VRF has had its last session.
    #[cold]
    fn leave(&mut self, vrf: usize) {
        let at = self.vrfs[vrf].at;
        self.present.swap_remove(at as usize);
        if let Some(moved) = self.present.get(at as usize) {
            self.vrfs[usize::from(*moved)].at = at;
        }
    }
}

#[cfg(test)]
mod tests;

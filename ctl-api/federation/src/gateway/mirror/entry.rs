//! One thing that should or should not be on the gateway, and how far the
//! gateway is with it.

/// What the gateway holds when it has carried out all that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held<V> {
    /// Surely nothing, as far as this controller's declarations go.
    Nothing,
    /// Nothing, but the withdrawal is not confirmed.
    Withdrawn,
    /// Nobody knows: the session broke, or a change was refused.
    Unknown,
    /// This.
    This(V),
}

/// What to tell the gateway of an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order<V> {
    /// Declare this.
    Declare(V),
    /// Withdraw what is there.
    Withdraw,
}

/// One thing that should or should not be there.
#[derive(Debug, Clone)]
pub(super) struct Entry<V> {
    want: Option<V>,
    held: Held<V>,
    /// The low bits of the batch in which it was sent last. Batches under way
    /// are few: their low bits differ.
    batch: u32,
    /// It stands in a queue.
    pub queued: bool,
    refused: Refused,
}

/// Whether what was sent last was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// It was not.
    No,
    /// It was, and may succeed when something else has changed.
    ForNow,
    /// It was, and the same will be refused again.
    ForGood,
    /// It was, and is sent once more.
    Again,
}

impl<V: Clone + PartialEq> Entry<V> {
    /// Something that nobody wants, and that was never sent.
    pub fn new() -> Self {
        Self { want: None, held: Held::Nothing, batch: 0, queued: false, refused: Refused::No }
    }

    /// What should be there.
    pub fn wanted(&self) -> Option<&V> {
        self.want.as_ref()
    }

    /// Says what should be there from now on; returns whether that is new.
    pub fn want(&mut self, want: Option<V>) -> bool {
        let new = self.want != want;
        if new {
            self.want = want;
            self.refused = Refused::No;
        }
        new
    }

    /// What has to be sent, if anything.
    pub fn order(&self) -> Option<Order<V>> {
        if matches!(self.refused, Refused::ForNow | Refused::ForGood) {
            return None;
        }
        match (&self.want, &self.held) {
            (None, Held::Nothing | Held::Withdrawn) => None,
            (None, Held::Unknown | Held::This(_)) => Some(Order::Withdraw),
            (Some(want), Held::This(held)) if want == held => None,
            (Some(want), _) => Some(Order::Declare(want.clone())),
        }
    }

    /// It is being sent with this batch.
    pub fn sent(&mut self, batch: u64) {
        self.batch = batch as u32;
        self.held = match &self.want {
            Some(want) => Held::This(want.clone()),
            None => Held::Withdrawn,
        };
    }

    /// This batch is carried out.
    pub fn carried_out(&mut self, batch: u64) {
        if self.batch != batch as u32 {
            return;
        }
        if self.held == Held::Withdrawn {
            self.held = Held::Nothing;
        }
        if self.refused == Refused::Again {
            self.refused = Refused::No;
        }
    }

    /// What was sent with this batch is refused: what was there before is there
    /// still. What was sent later stands, and what is wanted since is still to be
    /// sent. Where even a withdrawal is refused for good nothing can be there.
    pub fn refused(&mut self, batch: u64, for_good: bool) {
        if self.batch != batch as u32 {
            return;
        }
        let still_wanted = match (&self.want, &self.held) {
            (Some(want), Held::This(sent)) => want == sent,
            (None, Held::Withdrawn) => true,
            _ => false,
        };
        (self.held, self.refused) = match (still_wanted, for_good, &self.want) {
            (false, ..) => (Held::Unknown, Refused::No),
            (true, true, None) => (Held::Nothing, Refused::No),
            (true, true, Some(_)) => (Held::Unknown, Refused::ForGood),
            (true, false, _) => (Held::Unknown, Refused::ForNow),
        };
    }

    /// It cannot be sent at all.
    pub fn unsendable(&mut self) {
        self.refused = Refused::ForGood;
    }

    /// Whether what was sent last is refused, and nothing better is known yet.
    pub fn is_refused(&self) -> bool {
        self.refused != Refused::No
    }

    /// What was refused for now may be sent again.
    pub fn retry(&mut self) {
        if self.refused == Refused::ForNow {
            self.refused = Refused::Again;
        }
    }

    /// A new session begins: what was under way may have arrived or not.
    pub fn begin(&mut self) {
        if self.held != Held::Nothing {
            self.held = Held::Unknown;
        }
        (self.queued, self.refused) = (false, Refused::No);
    }

    /// Whether there is nothing to remember.
    pub fn is_over(&self) -> bool {
        self.want.is_none() && self.held == Held::Nothing && !self.queued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_back_before_it_was_sent_is_nothing() {
        let mut entry = Entry::new();
        assert!(entry.want(Some(1)));
        assert_eq!(entry.order(), Some(Order::Declare(1)));
        entry.sent(1);
        assert_eq!(entry.order(), None);
        assert!(entry.want(Some(2)));
        assert!(entry.want(Some(1)));
        assert_eq!(entry.order(), None);
        assert!(!entry.want(Some(1)));
    }

    #[test]
    fn a_refusal_of_what_was_replaced_since_changes_nothing() {
        let mut entry = Entry::new();
        entry.want(Some(1));
        entry.sent(1);
        entry.want(Some(2));
        entry.sent(2);
        entry.want(Some(1));
        entry.sent(3);
        entry.refused(1, true);
        assert!(!entry.is_refused());
        assert_eq!(entry.order(), None);
        entry.refused(3, true);
        assert!(entry.is_refused());
        // Wanted as before: not sent again by itself.
        assert!(!entry.want(Some(1)));
        assert_eq!(entry.order(), None);
        // What is not wanted any more may be there from before the refusal.
        entry.want(None);
        assert_eq!(entry.order(), Some(Order::Withdraw));
    }

    #[test]
    fn a_refusal_of_what_is_not_wanted_any_more_does_not_hold_back_the_next() {
        let mut entry = Entry::new();
        entry.want(Some(1));
        entry.sent(1);
        entry.want(Some(2));
        entry.refused(1, true);
        assert_eq!(entry.order(), Some(Order::Declare(2)));
        entry.sent(2);
        entry.want(None);
        entry.refused(2, true);
        assert_eq!(entry.order(), Some(Order::Withdraw));
    }

    #[test]
    fn a_withdrawal_that_was_not_confirmed_is_repeated_in_the_next_session() {
        let mut entry = Entry::new();
        entry.want(Some(1));
        entry.sent(1);
        entry.want(None);
        entry.sent(2);
        entry.carried_out(1);
        assert!(!entry.is_over());
        entry.begin();
        assert_eq!(entry.order(), Some(Order::Withdraw));
        entry.sent(3);
        entry.carried_out(3);
        assert!(entry.is_over());
    }
}

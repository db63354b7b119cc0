//! TCP state tracking (RFC 9293) from the flags alone.
//!
//! Sequence numbers are not followed. A segment of an open session is never
//! refused: the ends know better than a gateway which of them to believe, and
//! what is allowed was decided by the first packet. The states only choose
//! the idle timeout, so they move forward on what the other end confirms.

use crate::session::entry::Direction;
use crate::session::state::{State, Transition};

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// The acknowledgement number counts.
pub const ACK: u8 = 0x10;

const CONTROL: u8 = FIN | SYN | RST | ACK;

/// Whether these are the flags of a segment that opens a connection.
#[inline]
pub fn opens(flags: u8) -> bool {
    flags & CONTROL == SYN
}

/// The state after a session's first segment, or `None` if it may not be one.
pub fn first(flags: Option<u8>, pickup: bool) -> Option<State> {
    match flags {
        Some(flags) if opens(flags) => Some(State::TcpSynSent),
        Some(flags) if flags & RST != 0 => None,
        _ => pickup.then_some(State::TcpPickedUp),
    }
}

/// What a segment does to a TCP state.
#[inline]
pub fn next(state: State, direction: Direction, flags: u8) -> Transition {
    if flags & RST != 0 {
        return Transition::To(State::TcpClosed);
    }
    if flags & SYN != 0 {
        return next_on_syn(state, direction, flags);
    }
    if flags & FIN != 0 {
        return Transition::To(next_on_fin(state, direction));
    }
    Transition::To(match (state, direction) {
        (State::TcpSynReceived, _) if flags & ACK != 0 => State::TcpEstablished,
        // Only the other end can confirm that there is a connection.
        (State::TcpPickedUp, Direction::Reverse) => State::TcpEstablished,
        _ => state,
    })
}

fn next_on_syn(state: State, direction: Direction, flags: u8) -> Transition {
    match (state, direction) {
        (State::TcpTimeWait | State::TcpClosed, Direction::Forward) if opens(flags) => Transition::Reopen,
        (State::TcpTimeWait | State::TcpClosed, Direction::Reverse) if opens(flags) => Transition::Opposite,
        // With ACK the usual answer, without it a simultaneous open
        // (RFC 9293 section 3.5, RFC 5382 REQ-2).
        (State::TcpSynSent | State::TcpPickedUp, Direction::Reverse) => Transition::To(State::TcpSynReceived),
        _ => Transition::To(state),
    }
}

fn next_on_fin(state: State, direction: Direction) -> State {
    match (state, direction) {
        // A FIN before any answer ends nothing.
        (State::TcpSynSent | State::TcpTimeWait | State::TcpClosed, _) => state,
        (State::TcpFinReverse, Direction::Forward) | (State::TcpFinForward, Direction::Reverse) => {
            State::TcpTimeWait
        }
        (_, Direction::Forward) => State::TcpFinForward,
        (_, Direction::Reverse) => State::TcpFinReverse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TCP: u8 = 6;

    fn direction() -> impl Strategy<Value = Direction> {
        prop_oneof![Just(Direction::Forward), Just(Direction::Reverse)]
    }

    /// Up to 40 segments of any kind, both ways.
    fn segments() -> impl Strategy<Value = Vec<(Direction, u8)>> {
        proptest::collection::vec((direction(), any::<u8>()), 0..40)
    }

    /// Up to 10 segments with ACK that neither open nor end anything.
    fn plain_segments() -> impl Strategy<Value = Vec<(Direction, u8)>> {
        let flags = any::<u8>().prop_map(|flags| (flags | ACK) & !(FIN | SYN | RST));
        proptest::collection::vec((direction(), flags), 0..10)
    }

    fn run(mut state: State, segments: &[(Direction, u8)]) -> State {
        for (direction, flags) in segments {
            state = match state.next(*direction, Some(*flags)) {
                Transition::To(next) => next,
                Transition::Reopen => State::TcpSynSent,
                Transition::Opposite => break,
            };
        }
        state
    }

    #[test]
    fn a_connection_goes_through_its_life() {
        use Direction::{Forward, Reverse};
        let mut state = State::first(TCP, Some(SYN), false).expect("a SYN opens");
        for (direction, flags, expected) in [
            (Forward, SYN, State::TcpSynSent),
            (Reverse, SYN | ACK, State::TcpSynReceived),
            (Forward, ACK, State::TcpEstablished),
            (Reverse, ACK, State::TcpEstablished),
            (Forward, FIN | ACK, State::TcpFinForward),
            (Reverse, ACK, State::TcpFinForward),
            (Forward, FIN | ACK, State::TcpFinForward),
            (Reverse, FIN | ACK, State::TcpTimeWait),
            (Forward, ACK, State::TcpTimeWait),
        ] {
            state = run(state, &[(direction, flags)]);
            assert_eq!(state, expected, "after {flags:#04x} {direction:?}");
        }
        assert_eq!(state.next(Forward, Some(SYN)), Transition::Reopen);
        assert_eq!(state.next(Reverse, Some(SYN)), Transition::Opposite);
    }

    #[test]
    fn both_may_open_at_once() {
        use Direction::{Forward, Reverse};
        let segments = [(Reverse, SYN), (Forward, SYN | ACK), (Reverse, SYN | ACK), (Forward, ACK)];
        assert_eq!(run(State::TcpSynSent, &segments), State::TcpEstablished);
    }

    #[test]
    fn only_a_syn_opens_unless_sessions_are_picked_up() {
        for flags in 0..=u8::MAX {
            let opens = flags & CONTROL == SYN;
            let expected = opens.then_some(State::TcpSynSent);
            assert_eq!(State::first(TCP, Some(flags), false), expected, "{flags:#04x}");
            let expected = expected.or((flags & RST == 0).then_some(State::TcpPickedUp));
            assert_eq!(State::first(TCP, Some(flags), true), expected, "{flags:#04x}");
        }
        assert_eq!(State::first(TCP, None, false), None);
        assert_eq!(State::first(TCP, None, true), Some(State::TcpPickedUp));
    }

    proptest! {
        #[test]
        fn one_end_alone_never_earns_the_long_timeout(
            flags in proptest::collection::vec(any::<u8>(), 0..40),
            pickup: bool,
        ) {
            let mut state = if pickup { State::TcpPickedUp } else { State::TcpSynSent };
            for flags in flags {
                state = run(state, &[(Direction::Forward, flags)]);
                prop_assert!(state != State::TcpEstablished && state != State::TcpTimeWait);
            }
        }

        #[test]
        fn a_reset_closes_any_session(segments in segments(), last in direction()) {
            let state = run(State::TcpSynSent, &segments);
            prop_assert_eq!(run(state, &[(last, RST)]), State::TcpClosed);
            prop_assert_eq!(run(state, &[(last, RST), (last.opposite(), ACK)]), State::TcpClosed);
        }

        #[test]
        fn both_fins_in_either_order_end_in_time_wait(
            before in plain_segments(),
            first in direction(),
            between in plain_segments(),
        ) {
            let state = run(State::TcpEstablished, &before);
            prop_assert_eq!(state, State::TcpEstablished);
            let state = run(run(state, &[(first, FIN | ACK)]), &between);
            prop_assert!(matches!(state, State::TcpFinForward | State::TcpFinReverse));
            let state = run(state, &[(first.opposite(), FIN | ACK)]);
            prop_assert_eq!(state, State::TcpTimeWait);
            prop_assert_eq!(state.next(Direction::Forward, Some(SYN)), Transition::Reopen);
        }

        #[test]
        fn a_reply_is_refused_only_if_it_opens_anew(segments in segments(), flags: u8) {
            let state = run(State::TcpSynSent, &segments);
            let ended = matches!(state, State::TcpTimeWait | State::TcpClosed);
            let refused = state.next(Direction::Reverse, Some(flags)) == Transition::Opposite;
            prop_assert_eq!(refused, ended && opens(flags));
            prop_assert_eq!(state.next(Direction::Reverse, None), Transition::To(state));
        }
    }
}

//! The protocol state of a session: what its two ends have said so far.

use crate::session::entry::Direction;
use crate::session::tcp;

/// How far a session has come. It decides how long silence may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// TCP: a SYN has gone out, nothing that answers it has come back.
    TcpSynSent,
    /// TCP: both ends have sent a SYN, the handshake is not complete.
    TcpSynReceived,
    /// TCP: taken up in its middle; the other end has not been heard yet.
    TcpPickedUp,
    /// TCP: the handshake is complete.
    TcpEstablished,
    /// TCP: the end that opened has sent its FIN.
    TcpFinForward,
    /// TCP: the end that answered has sent its FIN.
    TcpFinReverse,
    /// TCP: both ends have sent their FIN.
    TcpTimeWait,
    /// TCP: ended by a RST.
    TcpClosed,
    /// UDP: only one end has been heard.
    UdpUnreplied,
    /// UDP: both ends have been heard.
    UdpReplied,
    /// ICMP query without a reply.
    IcmpUnanswered,
    /// ICMP query with a reply.
    IcmpAnswered,
    /// Another protocol: only one end has been heard.
    OtherUnreplied,
    /// Another protocol: both ends have been heard.
    OtherReplied,
}

/// IP protocol numbers that have states of their own.
mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
    pub const UDP_LITE: u8 = 136;
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [State; 14] = [
        State::TcpSynSent,
        State::TcpSynReceived,
        State::TcpPickedUp,
        State::TcpEstablished,
        State::TcpFinForward,
        State::TcpFinReverse,
        State::TcpTimeWait,
        State::TcpClosed,
        State::UdpUnreplied,
        State::UdpReplied,
        State::IcmpUnanswered,
        State::IcmpAnswered,
        State::OtherUnreplied,
        State::OtherReplied,
    ];
    /// How many states there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The state with this number, if there is one.
    pub fn from_number(number: u8) -> Option<State> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether a session of this IP protocol can be in this state.
    pub fn is_of(self, protocol: u8) -> bool {
        use State::{IcmpAnswered, IcmpUnanswered, OtherReplied, OtherUnreplied, UdpReplied, UdpUnreplied};
        match protocol {
            protocol::UDP | protocol::UDP_LITE => matches!(self, UdpUnreplied | UdpReplied),
            protocol::ICMP | protocol::ICMPV6 => matches!(self, IcmpUnanswered | IcmpAnswered),
            protocol::TCP => (self as u8) < UdpUnreplied as u8,
            _ => matches!(self, OtherUnreplied | OtherReplied),
        }
    }

    /// Whether packets in this direction leave the state as it is, TCP
    /// segments with SYN, FIN or RST aside.
    pub fn is_settled(self, direction: Direction) -> bool {
        let stays = |flags| self.next(direction, flags) == Transition::To(self);
        stays(None) && stays(Some(0)) && stays(Some(tcp::ACK))
    }

    /// The state in words, for people.
    pub fn name(self) -> &'static str {
        match self {
            State::TcpSynSent => "SYN sent",
            State::TcpSynReceived => "SYN received",
            State::TcpPickedUp => "picked up",
            State::TcpEstablished => "established",
            State::TcpFinForward => "closing by the opener",
            State::TcpFinReverse => "closing by the responder",
            State::TcpTimeWait => "time wait",
            State::TcpClosed => "closed",
            State::UdpUnreplied | State::OtherUnreplied => "unreplied",
            State::UdpReplied | State::OtherReplied => "replied",
            State::IcmpUnanswered => "unanswered",
            State::IcmpAnswered => "answered",
        }
    }

    /// The state of a session whose first packet has this IP protocol and,
    /// for TCP, these flags. `None`: the packet cannot open a session.
    ///
    /// With `pickup` a TCP session may begin with any segment but a RST.
    pub fn first(protocol: u8, tcp_flags: Option<u8>, pickup: bool) -> Option<State> {
        Some(match protocol {
            protocol::TCP => return tcp::first(tcp_flags, pickup),
            protocol::UDP | protocol::UDP_LITE => State::UdpUnreplied,
            protocol::ICMP | protocol::ICMPV6 => State::IcmpUnanswered,
            _ => State::OtherUnreplied,
        })
    }

    /// What a packet in `direction` does to the state. `tcp_flags` is `None`
    /// where there is no TCP header, as in later fragments.
    #[inline]
    pub fn next(self, direction: Direction, tcp_flags: Option<u8>) -> Transition {
        use State::{IcmpAnswered, IcmpUnanswered, OtherReplied, OtherUnreplied, UdpReplied, UdpUnreplied};
        match (self, direction) {
            (UdpUnreplied | UdpReplied, Direction::Reverse) => Transition::To(UdpReplied),
            (IcmpUnanswered | IcmpAnswered, Direction::Reverse) => Transition::To(IcmpAnswered),
            (OtherUnreplied | OtherReplied, Direction::Reverse) => Transition::To(OtherReplied),
            (
                UdpUnreplied | UdpReplied | IcmpUnanswered | IcmpAnswered | OtherUnreplied | OtherReplied,
                Direction::Forward,
            ) => Transition::To(self),
            _ => match tcp_flags {
                Some(flags) => tcp::next(self, direction, flags),
                None => Transition::To(self),
            },
        }
    }
}

/// What a packet does to a session's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// The session goes on in this state, often the one it is in.
    To(State),
    /// The end that opened the session opens it again.
    Reopen,
    /// The end that answered opens a connection of its own on the remains of
    /// this session: not something that the session's first packet was
    /// allowed to do.
    Opposite,
}

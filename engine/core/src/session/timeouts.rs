//! How long each state of a session survives silence.

use std::time::Duration;

use crate::session::state::State;
use crate::session::tick::Tick;

/// Idle timeouts. Each is rounded up to a tick; see [`Tick::span`] for the
/// range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP: SYN without an answer.
    pub tcp_syn_sent: Duration,
    /// TCP: handshake not complete, or picked up and not yet confirmed.
    pub tcp_syn_received: Duration,
    /// TCP: established.
    pub tcp_established: Duration,
    /// TCP: one end has sent its FIN.
    pub tcp_closing: Duration,
    /// TCP: both ends have sent their FIN.
    pub tcp_time_wait: Duration,
    /// TCP: ended by a RST.
    pub tcp_closed: Duration,
    /// UDP: one end heard.
    pub udp_unreplied: Duration,
    /// UDP: both ends heard.
    pub udp_replied: Duration,
    /// ICMP query: no reply.
    pub icmp_unanswered: Duration,
    /// ICMP query: replied.
    pub icmp_answered: Duration,
    /// Other protocols: one end heard.
    pub other_unreplied: Duration,
    /// Other protocols: both ends heard.
    pub other_replied: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn_sent: Duration::from_secs(30),
            tcp_syn_received: Duration::from_secs(60),
            // RFC 5382 REQ-5: at least 2 hours 4 minutes.
            tcp_established: Duration::from_secs(7440),
            tcp_closing: Duration::from_secs(120),
            tcp_time_wait: Duration::from_secs(30),
            tcp_closed: Duration::from_secs(10),
            udp_unreplied: Duration::from_secs(30),
            // RFC 4787 REQ-5: at least 2 minutes.
            udp_replied: Duration::from_secs(180),
            icmp_unanswered: Duration::from_secs(30),
            // RFC 5508 REQ-2: at least 60 seconds.
            icmp_answered: Duration::from_secs(60),
            other_unreplied: Duration::from_secs(60),
            other_replied: Duration::from_secs(600),
        }
    }
}

impl Timeouts {
    /// The timeout of one state.
    pub fn of(&self, state: State) -> Duration {
        match state {
            State::TcpSynSent => self.tcp_syn_sent,
            State::TcpSynReceived | State::TcpPickedUp => self.tcp_syn_received,
            State::TcpEstablished => self.tcp_established,
            State::TcpFinForward | State::TcpFinReverse => self.tcp_closing,
            State::TcpTimeWait => self.tcp_time_wait,
            State::TcpClosed => self.tcp_closed,
            State::UdpUnreplied => self.udp_unreplied,
            State::UdpReplied => self.udp_replied,
            State::IcmpUnanswered => self.icmp_unanswered,
            State::IcmpAnswered => self.icmp_answered,
            State::OtherUnreplied => self.other_unreplied,
            State::OtherReplied => self.other_replied,
        }
    }
}

/// Timeouts in ticks, by state.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeoutTicks([u32; State::COUNT]);

impl TimeoutTicks {
    pub(super) fn new(timeouts: &Timeouts) -> Self {
        Self(State::ALL.map(|state| Tick::span(timeouts.of(state))))
    }

    #[inline]
    pub(super) fn of(&self, state: State) -> u32 {
        self.0[state as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_the_default_that_its_standard_asks_for() {
        let ticks = TimeoutTicks::new(&Timeouts::default());
        let seconds = |state| ticks.of(state) / Tick::PER_SECOND;
        assert_eq!(seconds(State::TcpEstablished), 2 * 3600 + 4 * 60);
        assert!(seconds(State::UdpReplied) >= 120);
        assert!(seconds(State::IcmpAnswered) >= 60);
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number, "{}", state.name());
            assert!((10..=7440).contains(&seconds(state)), "{}", state.name());
        }
    }
}

//! NOTIFICATION messages (RFC 4271 section 4.5, RFC 4486, RFC 9003, RFC 8538).

use std::fmt;

use super::message::{Kind, frame};

/// Subcodes of Cease (RFC 4486, RFC 8538).
pub mod cease {
    /// More prefixes than the limit.
    pub const MAX_PREFIXES: u8 = 1;
    /// The operator shut the session down.
    pub const SHUTDOWN: u8 = 2;
    /// The peer was removed from the configuration.
    pub const DECONFIGURED: u8 = 3;
    /// The operator restarts the session.
    pub const RESET: u8 = 4;
    /// The connection is refused.
    pub const REJECTED: u8 = 5;
    /// The configuration changed.
    pub const CONFIGURATION: u8 = 6;
    /// Another connection with the same peer was kept.
    pub const COLLISION: u8 = 7;
    /// Resources are short.
    pub const RESOURCES: u8 = 8;
    /// Ends a session with graceful restart for good.
    pub const HARD_RESET: u8 = 9;
}

/// A notification: why a session ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data that goes with it.
    pub data: Vec<u8>,
    /// In words, for the operator of this side; not sent.
    pub reason: String,
}

impl Notification {
    /// A notification of this side.
    pub fn new(code: u8, subcode: u8, data: Vec<u8>, reason: impl Into<String>) -> Self {
        Self { code, subcode, data, reason: reason.into() }
    }

    pub(super) fn update(subcode: u8, reason: &'static str) -> Self {
        Self::new(3, subcode, Vec::new(), reason)
    }

    /// A Cease. A text for the peer's operator goes with shutdown and reset
    /// (RFC 9003: at most 255 bytes; what is longer is cut).
    pub fn cease(subcode: u8, text: &str) -> Self {
        let mut data = Vec::new();
        if matches!(subcode, cease::SHUTDOWN | cease::RESET) && !text.is_empty() {
            let mut end = text.len().min(255);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            data.push(u8::try_from(end).unwrap_or(u8::MAX));
            data.extend_from_slice(&text.as_bytes()[..end]);
        }
        Self::new(6, subcode, data, text)
    }

    /// The hold timer expired.
    pub fn hold_timer() -> Self {
        Self::new(4, 0, Vec::new(), "nothing was heard of the peer for the hold time")
    }

    /// The send hold timer expired (RFC 9687).
    pub fn send_hold_timer() -> Self {
        Self::new(8, 0, Vec::new(), "the peer took no bytes for the send hold time")
    }

    /// A message that does not fit the state of the session.
    pub fn state_machine(subcode: u8, reason: &'static str) -> Self {
        Self::new(5, subcode, Vec::new(), reason)
    }

    /// The same inside a Hard Reset (RFC 8538 section 3.1), for a session where
    /// a plain notification keeps routes.
    #[must_use]
    pub fn hard(self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self { code: 6, subcode: cease::HARD_RESET, data, reason: self.reason }
    }

    /// Whether it ends a session for good, also with RFC 8538.
    pub const fn is_hard(&self) -> bool {
        self.code == 6 && self.subcode == cease::HARD_RESET
    }

    /// Appends the message. Data that a message cannot hold is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(Kind::Notification, out, |out| {
            out.extend_from_slice(&[self.code, self.subcode]);
            out.extend_from_slice(self.data.get(..4000).unwrap_or(&self.data));
        });
    }

    /// Reads the body of a message.
    pub fn decode(body: &[u8]) -> Self {
        let (&[code, subcode], data) = body.split_first_chunk::<2>().unwrap_or((&[0, 0], &[]));
        let mut notification = Self::new(code, subcode, data.to_vec(), "");
        notification.reason = notification.shutdown_text().unwrap_or_default();
        notification
    }

    /// The text of a shutdown or reset, also inside a Hard Reset. Bytes that
    /// are no text, and control characters, are replaced.
    pub fn shutdown_text(&self) -> Option<String> {
        let (subcode, data) = match (self.code, self.subcode) {
            (6, cease::HARD_RESET) => match self.data.split_first_chunk::<2>() {
                Some(([6, subcode], data)) => (*subcode, data),
                _ => return None,
            },
            (6, subcode) => (subcode, &self.data[..]),
            _ => return None,
        };
        if !matches!(subcode, cease::SHUTDOWN | cease::RESET) {
            return None;
        }
        let (length, text) = data.split_first()?;
        let text = String::from_utf8_lossy(text.get(..usize::from(*length))?);
        Some(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
    }

    /// The names of code and subcode.
    pub fn name(&self) -> &'static str {
        match (self.code, self.subcode) {
            (1, 1) => "message header: connection not synchronized",
            (1, 2) => "message header: bad message length",
            (1, 3) => "message header: bad message type",
            (2, 1) => "OPEN: unsupported version",
            (2, 2) => "OPEN: bad peer AS",
            (2, 3) => "OPEN: bad BGP identifier",
            (2, 4) => "OPEN: unsupported optional parameter",
            (2, 6) => "OPEN: unacceptable hold time",
            (2, 7) => "OPEN: unsupported capability",
            (2, _) => "OPEN: unspecific",
            (3, 1) => "UPDATE: malformed attribute list",
            (3, 9) => "UPDATE: optional attribute error",
            (3, 10) => "UPDATE: invalid network field",
            (3, _) => "UPDATE: error",
            (4, _) => "hold timer expired",
            (5, _) => "finite state machine error",
            (6, cease::MAX_PREFIXES) => "cease: maximum number of prefixes reached",
            (6, cease::SHUTDOWN) => "cease: administrative shutdown",
            (6, cease::DECONFIGURED) => "cease: peer deconfigured",
            (6, cease::RESET) => "cease: administrative reset",
            (6, cease::REJECTED) => "cease: connection rejected",
            (6, cease::CONFIGURATION) => "cease: other configuration change",
            (6, cease::COLLISION) => "cease: connection collision resolution",
            (6, cease::RESOURCES) => "cease: out of resources",
            (6, cease::HARD_RESET) => "cease: hard reset",
            (6, _) => "cease",
            (7, _) => "ROUTE-REFRESH: invalid message length",
            (8, _) => "send hold timer expired",
            _ => "unknown error code",
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.name(), self.code, self.subcode)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(notification: &Notification) -> Notification {
        let mut bytes = Vec::new();
        notification.encode(&mut bytes);
        Notification::decode(&bytes[19..])
    }

    #[test]
    fn a_shutdown_carries_its_text_also_when_hard() {
        let soft = Notification::cease(cease::SHUTDOWN, "maintenance until 14:00");
        assert_eq!(back(&soft).reason, "maintenance until 14:00");
        let hard = back(&soft.hard());
        assert!(hard.is_hard());
        assert_eq!(hard.shutdown_text().as_deref(), Some("maintenance until 14:00"));
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_an_odd_one_is_no_text() {
        let long = "ä".repeat(200);
        let read = back(&Notification::cease(cease::RESET, &long));
        assert_eq!(read.reason, "ä".repeat(127));
        assert_eq!(Notification::decode(&[6, 2, 9, b'x']).shutdown_text(), None);
        assert_eq!(Notification::decode(&[6, 2, 1, 7]).shutdown_text().as_deref(), Some("\u{fffd}"));
        assert_eq!(Notification::decode(&[]).code, 0);
    }
}

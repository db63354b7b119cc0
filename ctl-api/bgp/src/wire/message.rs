//! Messages as frames (RFC 4271 section 4.1), KEEPALIVE, and ROUTE-REFRESH
//! (RFC 2918, RFC 7313).

use super::family::Family;
use super::notification::Notification;

/// Bytes of a header: marker, length, type.
pub const HEADER: usize = 19;
/// Longest message, unless both sides announced extended messages.
pub const LIMIT: usize = 4096;
/// Longest message with extended messages (RFC 8654).
pub const EXTENDED_LIMIT: usize = 65535;

/// The kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// OPEN.
    Open = 1,
    /// UPDATE.
    Update = 2,
    /// NOTIFICATION.
    Notification = 3,
    /// KEEPALIVE.
    Keepalive = 4,
    /// ROUTE-REFRESH.
    RouteRefresh = 5,
}

/// Appends a message. A body that is too long for any message is not appended;
/// those that write bodies keep to the limits of their session.
pub(crate) fn frame(kind: Kind, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0xff; 16]);
    out.extend_from_slice(&[0, 0, kind as u8]);
    body(out);
    match u16::try_from(out.len() - start) {
        Ok(length) => out[start + 16..start + 18].copy_from_slice(&length.to_be_bytes()),
        Err(_) => out.truncate(start),
    }
}

/// Appends a KEEPALIVE.
pub fn encode_keepalive(out: &mut Vec<u8>) {
    frame(Kind::Keepalive, out, |_| {});
}

/// Bytes of a connection, cut into messages.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Read up to here.
    start: usize,
}

impl Framer {
    /// Takes bytes that came. The buffer holds at most what one call brings
    /// and one unfinished message, when [`Self::next`] is called until it is
    /// empty.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The kind and body of the next message, if all of it is there. `extended`
    /// is whether long messages were agreed on.
    ///
    /// # Errors
    /// The notification to close with: a header that is none (RFC 4271 section
    /// 6.1).
    pub fn next(&mut self, extended: bool) -> Result<Option<(Kind, &[u8])>, Notification> {
        let Some(header) = self.buffer[self.start..].first_chunk::<HEADER>() else { return Ok(None) };
        if header[..16] != [0xff; 16] {
            return Err(Notification::new(1, 1, Vec::new(), "message header without the marker"));
        }
        let (length, kind) = (u16::from_be_bytes([header[16], header[17]]), header[18]);
        let bad_length =
            || Notification::new(1, 2, length.to_be_bytes().to_vec(), "message of a wrong length");
        let (kind, least) = match kind {
            1 => (Kind::Open, 29),
            2 => (Kind::Update, 23),
            3 => (Kind::Notification, 21),
            4 => (Kind::Keepalive, 19),
            5 => (Kind::RouteRefresh, 23),
            _ => return Err(Notification::new(1, 3, vec![kind], "message of an unknown type")),
        };
        let size = usize::from(length);
        // RFC 8654 section 4: OPEN and KEEPALIVE keep the old limit.
        let limit = match kind {
            Kind::Keepalive => HEADER,
            Kind::Open => LIMIT,
            _ if extended => EXTENDED_LIMIT,
            _ => LIMIT,
        };
        if size < least || size > limit {
            return Err(bad_length());
        }
        let Some(message) = self.buffer.get(self.start..self.start + size) else { return Ok(None) };
        self.start += size;
        Ok(Some((kind, &message[HEADER..])))
    }
}

/// What a ROUTE-REFRESH says (RFC 7313 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Send all routes again.
    Request = 0,
    /// All routes follow.
    Begin = 1,
    /// All routes were sent.
    End = 2,
}

/// Appends a ROUTE-REFRESH.
pub fn encode_refresh(family: Family, refresh: Refresh, out: &mut Vec<u8>) {
    frame(Kind::RouteRefresh, out, |out| {
        let [high, low] = family.afi().to_be_bytes();
        out.extend_from_slice(&[high, low, refresh as u8, family.safi()]);
    });
}

/// Reads the body of a ROUTE-REFRESH; `None` is one of a family or sub-type
/// that is not known, which is ignored.
///
/// # Errors
/// With RFC 7313 section 5, a wrong length of one with a known sub-type.
pub fn decode_refresh(body: &[u8]) -> Result<Option<(Family, Refresh)>, Notification> {
    let [high, low, kind, safi] = *body else {
        return match body.get(2) {
            Some(1 | 2) => Err(Notification::new(7, 1, body.to_vec(), "ROUTE-REFRESH of a wrong length")),
            _ => Ok(None),
        };
    };
    let refresh = match kind {
        0 => Refresh::Request,
        1 => Refresh::Begin,
        2 => Refresh::End,
        _ => return Ok(None),
    };
    Ok(Family::from_pair(u16::from_be_bytes([high, low]), safi).map(|family| (family, refresh)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_of_any_pieces() {
        let mut bytes = Vec::new();
        encode_keepalive(&mut bytes);
        encode_refresh(Family::Evpn, Refresh::Begin, &mut bytes);
        encode_keepalive(&mut bytes);
        for size in 1..bytes.len() {
            let mut framer = Framer::default();
            let mut kinds = Vec::new();
            for piece in bytes.chunks(size) {
                framer.push(piece);
                while let Some((kind, body)) = framer.next(false).unwrap() {
                    if kind == Kind::RouteRefresh {
                        assert_eq!(decode_refresh(body), Ok(Some((Family::Evpn, Refresh::Begin))));
                    }
                    kinds.push(kind);
                }
            }
            assert_eq!(kinds, [Kind::Keepalive, Kind::RouteRefresh, Kind::Keepalive]);
        }
    }

    #[test]
    fn a_wrong_header_names_what_is_wrong() {
        let mut good = Vec::new();
        encode_keepalive(&mut good);
        for (at, value, code) in
            [(3, 0, (1, 1)), (17, 18, (1, 2)), (17, 20, (1, 2)), (16, 0x20, (1, 2)), (18, 9, (1, 3))]
        {
            let mut bytes = good.clone();
            bytes[at] = value;
            let mut framer = Framer::default();
            framer.push(&bytes);
            let error = framer.next(false).unwrap_err();
            assert_eq!((error.code, error.subcode), code);
        }
        let mut long = vec![0xff; 16];
        long.extend_from_slice(&[0x20, 0, 2]);
        let mut framer = Framer::default();
        framer.push(&long);
        assert!(framer.next(false).is_err());
        assert_eq!(framer.next(true), Ok(None), "an extended update that is still on its way");
    }
}

//! AS paths (RFC 4271 section 5.1.2) of 4-byte AS numbers (RFC 6793).

use std::fmt;

use super::reader::Reader;

/// Stands for an AS number above 65535 where there are two bytes (RFC 6793).
pub const AS_TRANS: u16 = 23456;

/// The kind of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SegmentKind {
    /// An unordered set: the result of aggregation.
    Set = 1,
    /// In the order of travel, the latest AS first.
    Sequence = 2,
    /// A sequence inside a confederation (RFC 5065).
    ConfederationSequence = 3,
    /// A set inside a confederation.
    ConfederationSet = 4,
}

/// A segment of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Its kind.
    pub kind: SegmentKind,
    /// 1 to 255 AS numbers.
    pub asns: Vec<u32>,
}

/// An AS path.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct AsPath(pub Vec<Segment>);

impl AsPath {
    /// One sequence.
    pub fn sequence(asns: impl IntoIterator<Item = u32>) -> Self {
        let asns: Vec<u32> = asns.into_iter().collect();
        if asns.is_empty() {
            Self::default()
        } else {
            Self(vec![Segment { kind: SegmentKind::Sequence, asns }])
        }
    }

    /// Length for the comparison of paths: a set counts one, a confederation
    /// nothing (RFC 4271 section 9.1.2.2, RFC 5065 section 5.3).
    pub fn hops(&self) -> usize {
        let count = |segment: &Segment| match segment.kind {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => segment.asns.len(),
            SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet => 0,
        };
        self.0.iter().map(count).sum()
    }

    /// The AS that the route came from last, unless the path is empty or
    /// begins with a set.
    pub fn neighbour(&self) -> Option<u32> {
        let first = self.0.iter().find(|segment| {
            !matches!(segment.kind, SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet)
        })?;
        (first.kind == SegmentKind::Sequence).then(|| first.asns.first().copied())?
    }

    /// The AS that originated the route, where the path ends in a sequence.
    pub fn origin(&self) -> Option<u32> {
        let last = self.0.last()?;
        (last.kind == SegmentKind::Sequence).then(|| last.asns.last().copied())?
    }

    /// Whether an AS is anywhere in the path.
    pub fn contains(&self, asn: u32) -> bool {
        self.0.iter().any(|segment| segment.asns.contains(&asn))
    }

    /// Whether a part of it is of a confederation.
    pub fn has_confederation(&self) -> bool {
        let inside = |segment: &Segment| {
            matches!(segment.kind, SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet)
        };
        self.0.iter().any(inside)
    }

    /// Puts an AS in front (RFC 4271 section 5.1.2).
    pub fn prepend(&mut self, asn: u32) {
        match self.0.first_mut() {
            Some(first) if first.kind == SegmentKind::Sequence && first.asns.len() < 255 => {
                first.asns.insert(0, asn);
            }
            _ => self.0.insert(0, Segment { kind: SegmentKind::Sequence, asns: vec![asn] }),
        }
    }

    /// Reads a path; `wide` is with 4-byte AS numbers.
    pub(crate) fn decode(bytes: &[u8], wide: bool) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut path = Vec::new();
        while !reader.is_empty() {
            let kind = match reader.u8()? {
                1 => SegmentKind::Set,
                2 => SegmentKind::Sequence,
                3 => SegmentKind::ConfederationSequence,
                4 => SegmentKind::ConfederationSet,
                _ => return None,
            };
            let count = usize::from(reader.u8()?);
            if count == 0 {
                // RFC 7606 section 7.2: a segment of length zero is malformed.
                return None;
            }
            let mut asns = Vec::with_capacity(count);
            let mut body = reader.sub(count * if wide { 4 } else { 2 })?;
            for _ in 0..count {
                asns.push(if wide { body.u32()? } else { u32::from(body.u16()?) });
            }
            path.push(Segment { kind, asns });
        }
        Some(Self(path))
    }

    /// Appends the path; without `wide`, AS numbers above 65535 become
    /// [`AS_TRANS`].
    pub(crate) fn encode(&self, wide: bool, out: &mut Vec<u8>) {
        for segment in &self.0 {
            for part in segment.asns.chunks(255) {
                out.push(segment.kind as u8);
                out.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
                for asn in part {
                    if wide {
                        out.extend_from_slice(&asn.to_be_bytes());
                    } else {
                        out.extend_from_slice(&u16::try_from(*asn).unwrap_or(AS_TRANS).to_be_bytes());
                    }
                }
            }
        }
    }

    /// Whether two bytes are not enough for some AS of it.
    pub(crate) fn needs_wide(&self) -> bool {
        self.0.iter().any(|segment| segment.asns.iter().any(|asn| *asn > u32::from(u16::MAX)))
    }

    /// The path as a speaker with 4-byte AS numbers would have sent it, from
    /// what came through one without (RFC 6793 section 4.2.3).
    pub(crate) fn merge(self, as4: Self) -> Self {
        let Some(extra) = self.hops().checked_sub(as4.hops()) else { return self };
        let mut lead = Vec::new();
        let mut left = extra;
        for segment in self.0 {
            if left == 0 {
                break;
            }
            match segment.kind {
                SegmentKind::Sequence => {
                    let taken = left.min(segment.asns.len());
                    lead.push(Segment { kind: segment.kind, asns: segment.asns[..taken].to_vec() });
                    left -= taken;
                }
                SegmentKind::Set => {
                    left -= 1;
                    lead.push(segment);
                }
                _ => lead.push(segment),
            }
        }
        let mut rest = as4.0;
        if let (Some(last), Some(first)) = (lead.last_mut(), rest.first())
            && last.kind == SegmentKind::Sequence
            && first.kind == SegmentKind::Sequence
            && last.asns.len() + first.asns.len() <= 255
        {
            last.asns.extend(rest.remove(0).asns);
        }
        lead.append(&mut rest);
        Self(lead)
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            let text = segment.asns.iter().map(u32::to_string).collect::<Vec<_>>();
            let space = if index == 0 { "" } else { " " };
            match segment.kind {
                SegmentKind::Sequence => write!(f, "{space}{}", text.join(" "))?,
                SegmentKind::Set => write!(f, "{space}{{{}}}", text.join(","))?,
                SegmentKind::ConfederationSequence => write!(f, "{space}({})", text.join(" "))?,
                SegmentKind::ConfederationSet => write!(f, "{space}[{}]", text.join(","))?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_neighbours_follow_the_segments() {
        let mut path = AsPath::sequence([2, 3]);
        path.0.push(Segment { kind: SegmentKind::Set, asns: vec![4, 5, 6] });
        assert_eq!((path.hops(), path.neighbour(), path.origin()), (3, Some(2), None));
        path.prepend(1);
        assert_eq!(path.to_string(), "1 2 3 {4,5,6}");
        assert!(path.contains(5) && !path.contains(7));
        let mut full = AsPath::sequence(std::iter::repeat_n(9, 255));
        full.prepend(8);
        assert_eq!((full.0.len(), full.hops()), (2, 256));
    }

    #[test]
    fn bytes_come_back_and_odd_ones_do_not() {
        let path = AsPath::sequence([64512, 4_200_000_000]);
        let mut bytes = Vec::new();
        path.encode(true, &mut bytes);
        assert_eq!(AsPath::decode(&bytes, true), Some(path.clone()));
        let mut narrow = Vec::new();
        path.encode(false, &mut narrow);
        assert_eq!(AsPath::decode(&narrow, false), Some(AsPath::sequence([64512, u32::from(AS_TRANS)])));
        for wrong in [&[2, 0][..], &[5, 1, 0, 0, 0, 1], &[2, 2, 0, 0, 0, 1], &[2]] {
            assert_eq!(AsPath::decode(wrong, true), None);
        }
    }

    #[test]
    fn a_path_through_an_old_speaker_is_restored() {
        let seen = AsPath::sequence([100, u32::from(AS_TRANS), u32::from(AS_TRANS)]);
        let real = AsPath::sequence([4_200_000_000, 4_200_000_001]);
        assert_eq!(seen.clone().merge(real), AsPath::sequence([100, 4_200_000_000, 4_200_000_001]));
        // An AS4_PATH longer than the path is not believed.
        assert_eq!(seen.clone().merge(AsPath::sequence([1, 2, 3, 4])), seen);
    }
}

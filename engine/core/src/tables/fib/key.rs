//! Addresses as the longest-prefix match sees them.
//!
//! A node of the tree starts at some bit of the address and covers a few
//! lengths from there, six at most. Where nodes may start is fixed, so that
//! the lengths that most routes have are the last of their node, which 32
//! neighbours then share: /24 and /32 of IPv4, and /48, /64 and /128 of IPv6.

/// Most lengths in a node.
pub(super) const ROWS: u8 = 6;

/// An address type that a [`Fib`](super::Fib) can be keyed by: `u32` for
/// IPv4 and `u128` for IPv6, both in host order.
pub trait FibKey: sealed::Bits {
    /// Length of the longest prefix.
    const WIDTH: u8;
}

impl FibKey for u32 {
    const WIDTH: u8 = 32;
}

impl FibKey for u128 {
    const WIDTH: u8 = 128;
}

/// Which bits of an address a node is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Bits of the address before it: the path of the node, and the first
    /// length that it covers.
    pub start: u8,
    /// How far its chunk is from the end of the address, plus one: the chunk
    /// of the last span goes one bit past the end, and that bit is 0.
    pub shift: u8,
    /// Ones for the bits of its chunk.
    pub mask: u8,
}

impl Span {
    /// The span that prefixes of this length stand in.
    pub fn of_length<K: FibKey>(length: u8) -> Self {
        let next = K::STARTS.partition_point(|start| *start <= length);
        let start = K::STARTS[next - 1];
        let end = K::STARTS.get(next).copied().unwrap_or(K::WIDTH + 1);
        Self { start, shift: K::WIDTH + 1 - end, mask: ((1u16 << (end - start)) - 1) as u8 }
    }

    /// How many bits a length is past the first bit that the node could
    /// have, were it six bits wide.
    pub fn row(self, length: u8) -> u8 {
        length + self.lead() - self.start
    }

    /// The length of a row.
    pub fn length(self, row: u8) -> u8 {
        self.start + row - self.lead()
    }

    /// How many bits are missing to six.
    pub fn lead(self) -> u8 {
        ROWS - self.mask.count_ones() as u8
    }
}

pub(super) mod sealed {
    use std::fmt::Debug;

    use super::{ROWS, Span};

    /// What the table does with an address.
    pub trait Bits: Copy + Ord + Debug + Default + Send + Sync + 'static {
        /// Where nodes may start, ascending, first of all at 0.
        const STARTS: &'static [u8];

        /// How a node stores it: `u128` would pad each node to 16 bytes.
        type Packed: Copy + Debug + Send + Sync;

        /// To storage.
        fn pack(self) -> Self::Packed;
        /// From storage.
        fn unpack(packed: Self::Packed) -> Self;
        /// The bits in a span, below 64, if those before it are the ones of
        /// `path`, which has zeros from the span on.
        fn chunk(self, path: Self, span: Span) -> Option<u32>;
        /// `chunk`(Self::chunk) for a search, at less cost: bits that are not
        /// those of `path` may also show as a chunk above the span's mask. No
        /// prefix and no child of a node has such a chunk.
        fn window(self, path: Self::Packed, span: Span) -> Option<u32>;
        /// How many leading bits are the same.
        fn common_bits(self, other: Self) -> u8;
        /// Without the bits past `length`.
        fn truncate(self, length: u8) -> Self;
        /// With `bits` set, the last of them being bit `end - 1`.
        fn place(self, bits: u8, end: u8) -> Self;
    }

    impl Bits for u32 {
        const STARTS: &'static [u8] = &[0, 1, 7, 13, 19, 25, 27];
        type Packed = u32;

        #[inline]
        fn pack(self) -> u32 {
            self
        }

        #[inline]
        fn unpack(packed: u32) -> Self {
            packed
        }

        #[inline]
        fn chunk(self, path: Self, span: Span) -> Option<u32> {
            // Anything but zeros before the span leaves more than the mask.
            let chunk = (u64::from(self ^ path) << 1) >> (span.shift & 63);
            (chunk <= u64::from(span.mask)).then_some(chunk as u32)
        }

        #[inline(always)]
        fn window(self, path: u32, span: Span) -> Option<u32> {
            let window = (u64::from(self ^ path) << 1) >> (span.shift & 63);
            (window < 1 << ROWS).then_some(window as u32)
        }

        #[inline]
        fn common_bits(self, other: Self) -> u8 {
            (self ^ other).leading_zeros() as u8
        }

        fn truncate(self, length: u8) -> Self {
            self & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
        }

        fn place(self, bits: u8, end: u8) -> Self {
            self | u32::from(bits).checked_shl(32 - u32::from(end)).unwrap_or(0)
        }
    }

    /// The two halves of a packed IPv6 address.
    #[inline(always)]
    fn halves(packed: [u32; 4]) -> [u64; 2] {
        let [a, b, c, d] = packed.map(u64::from);
        [a << 32 | b, c << 32 | d]
    }

    impl Bits for u128 {
        const STARTS: &'static [u8] =
            &[0, 1, 7, 13, 19, 25, 31, 37, 43, 49, 53, 59, 65, 69, 75, 81, 87, 93, 99, 105, 111, 117, 123];
        type Packed = [u32; 4];

        #[inline]
        fn pack(self) -> [u32; 4] {
            [(self >> 96) as u32, (self >> 64) as u32, (self >> 32) as u32, self as u32]
        }

        #[inline(always)]
        fn unpack(packed: [u32; 4]) -> Self {
            let [high, low] = halves(packed);
            u128::from(high) << 64 | u128::from(low)
        }

        #[inline]
        fn chunk(self, path: Self, span: Span) -> Option<u32> {
            let difference = self ^ path;
            let chunk = match span.shift {
                // The top bit must not fall out.
                0 => difference.min(1 << 64) << 1,
                shift => difference >> ((shift - 1) & 127),
            };
            (chunk <= u128::from(span.mask)).then_some(chunk as u32)
        }

        #[inline(always)]
        fn window(self, path: [u32; 4], span: Span) -> Option<u32> {
            let [high, low] = halves(path);
            let high = (self >> 64) as u64 ^ high;
            // Most routes are decided by the first half of the address.
            if span.shift > 64 {
                let window = high >> ((span.shift - 1) & 63);
                return (window < 1 << ROWS).then_some(window as u32);
            }
            // No window begins farther ahead in the first half.
            if high >> ROWS != 0 {
                return None;
            }
            let low = self as u64 ^ low;
            let window = (u128::from(high) << 64 | u128::from(low)) << 1 >> span.shift;
            (window < 1 << ROWS).then_some(window as u32)
        }

        #[inline]
        fn common_bits(self, other: Self) -> u8 {
            (self ^ other).leading_zeros() as u8
        }

        fn truncate(self, length: u8) -> Self {
            self & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
        }

        fn place(self, bits: u8, end: u8) -> Self {
            self | u128::from(bits).checked_shl(128 - u32::from(end)).unwrap_or(0)
        }
    }
}

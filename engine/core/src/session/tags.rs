//! Which entries of a bucket have a tag: a kernel, and what it stands for.

/// Tags that are compared: those of a bucket, and what stands behind them.
const COMPARED: usize = 16;

/// A bit for each of the first sixteen 16-bit lanes of a bucket, lowest bits
/// of the first word first: whether it is `tag`.
#[inline(always)]
pub(super) fn equal(bucket: &[u64; 8], tag: u16) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    return with_sse2(bucket, tag);
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    one_by_one(bucket, tag)
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn with_sse2(bucket: &[u64; 8], tag: u16) -> u32 {
    use core::arch::x86_64::{
        __m128i, _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
    };
    let first = bucket.as_ptr().cast::<__m128i>();
    // SAFETY: SSE2 is part of every x86-64. The bucket has 64 bytes, of which
    // the first 32 are read; the loads need no alignment.
    unsafe {
        let wanted = _mm_set1_epi16(tag as i16);
        let low = _mm_cmpeq_epi16(_mm_loadu_si128(first), wanted);
        let high = _mm_cmpeq_epi16(_mm_loadu_si128(first.add(1)), wanted);
        // Lanes of ones and zeros become bytes of ones and zeros.
        _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32
    }
}

/// The same in plain code.
#[cfg_attr(all(target_arch = "x86_64", not(miri), not(test)), expect(dead_code, reason = "the reference"))]
fn one_by_one(bucket: &[u64; 8], tag: u16) -> u32 {
    (0..COMPARED)
        .filter(|lane| (bucket[lane / 4] >> (lane % 4 * 16)) as u16 == tag)
        .fold(0, |mask, lane| mask | 1 << lane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_kernel_finds_what_plain_code_finds(words: [u64; 8], small: [u8; 16], tag in 0u16..3, sparse: bool) {
            let mut bucket = words;
            if sparse {
                for (lane, tag) in small.iter().enumerate() {
                    let shift = lane % 4 * 16;
                    bucket[lane / 4] = bucket[lane / 4] & !(0xffff << shift) | u64::from(tag % 3) << shift;
                }
            }
            for tag in [tag, words[0] as u16, (words[3] >> 48) as u16, u16::MAX, 0x8000] {
                prop_assert_eq!(equal(&bucket, tag), one_by_one(&bucket, tag));
            }
        }
    }
}

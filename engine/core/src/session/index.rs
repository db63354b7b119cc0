//! From the hash of a flow key to the sessions that may have it.
//!
//! Buckets of one cache line hold ten entries: a 16-bit tag from the hash and
//! a session reference each. Every key has two buckets, a home and an
//! alternate, and stands in the alternate only if the home was full; the home
//! counts those, so that most lookups read one line. When both are full, an
//! entry that has room in its own other bucket moves there.
//!
//! A bucket is eight 64-bit words. Words 0 to 2 hold the ten tags, four to a
//! word, lowest bits first; tag 0 marks a free entry. The upper half of
//! word 2 counts the keys at home here that stand in their alternate. Words 3
//! to 7 hold the references, two to a word.

use crate::huge_pages;
use crate::prefetch::prefetch;
use crate::session::entry::SessionRef;
use crate::session::hash::KeyHash;
use crate::session::tags;

/// Entries in one bucket.
const ENTRIES: usize = 10;
/// Entries of a bucket that are planned for: four of five, so that a key
/// without a place is no more than a theoretical possibility.
const PLANNED: usize = 8;
const WORDS: usize = 8;
const FIRST_REFERENCE_WORD: usize = 3;
const LINE: usize = 64;

type Bucket = [u64; WORDS];

/// Bytes for each key.
pub(super) const BYTES_PER_KEY: usize = LINE / PLANNED;

/// The buckets.
pub(super) struct Index {
    /// All buckets in one zeroed allocation, which costs no memory until a
    /// bucket is used. The first words may be left out for alignment.
    words: Vec<u64>,
    /// Words before the first bucket.
    skip: usize,
    buckets: u32,
}

impl Index {
    /// An index for up to `keys` keys.
    pub(super) fn new(keys: usize) -> Self {
        // In a very small table the few entries spread less evenly.
        let buckets = keys.div_ceil(PLANNED) + 4;
        let mut words = vec![0; (buckets + 1) * WORDS];
        huge_pages::prefer(&mut words);
        // Alignment only makes it faster, so any answer is correct.
        let skip = words.as_ptr().align_offset(LINE).min(WORDS);
        Self { words, skip, buckets: buckets as u32 }
    }

    /// Starts to fetch the home bucket of a hash.
    #[inline]
    pub(super) fn prefetch(&self, hash: KeyHash) {
        prefetch(self.bucket(self.home(hash)));
    }

    /// The first entry whose tag fits: most likely the one that a lookup will
    /// find. `None`: a lookup will find none.
    #[inline]
    pub(super) fn likely(&self, hash: KeyHash) -> Option<SessionRef> {
        let home = self.bucket(self.home(hash));
        let found = matching_mask(home, tag(hash));
        if found != 0 {
            return reference(home, found.trailing_zeros() as usize);
        }
        if strayed(home) == 0 { None } else { self.likely_strayed(hash) }
    }

    /// The same, of the entries that stand in their alternate bucket.
    #[inline(never)]
    fn likely_strayed(&self, hash: KeyHash) -> Option<SessionRef> {
        let places = self.places(hash);
        let bucket = self.bucket(places.alternate);
        find_in(bucket, places.tag, &mut |_| true).map(|(_, at)| at)
    }

    /// The first entry with the tag of `hash` that `is_it` accepts.
    #[inline(always)]
    pub(super) fn find(&self, hash: KeyHash, is_it: impl FnMut(SessionRef) -> bool) -> Option<SessionRef> {
        let home = self.bucket(self.home(hash));
        if matching_mask(home, tag(hash)) | strayed(home) == 0 {
            return None;
        }
        self.find_among(hash, is_it)
    }

    /// The same where there is something to look at.
    #[inline(never)]
    fn find_among(&self, hash: KeyHash, mut is_it: impl FnMut(SessionRef) -> bool) -> Option<SessionRef> {
        let home = self.bucket(self.home(hash));
        let found = find_in(home, tag(hash), &mut is_it);
        if found.is_some() || strayed(home) == 0 {
            return found.map(|(_, at)| at);
        }
        find_in(self.bucket(self.places(hash).alternate), tag(hash), &mut is_it).map(|(_, at)| at)
    }

    /// Adds an entry. `hash_of` gives the hash of any entry. Returns false,
    /// with nothing changed, if there is no place for it.
    #[inline(always)]
    pub(super) fn insert(
        &mut self,
        hash: KeyHash,
        at: SessionRef,
        hash_of: impl Fn(SessionRef) -> KeyHash,
    ) -> bool {
        let home = self.bucket_mut(self.home(hash));
        if let Some(entry) = free_entry(home) {
            flip(home, entry, tag(hash), at);
            return true;
        }
        self.insert_elsewhere(hash, at, &hash_of)
    }

    /// Adds an entry whose home is full.
    #[cold]
    fn insert_elsewhere(
        &mut self,
        hash: KeyHash,
        at: SessionRef,
        hash_of: &impl Fn(SessionRef) -> KeyHash,
    ) -> bool {
        let places = self.places(hash);
        if let Some(entry) = free_entry(self.bucket(places.alternate)) {
            flip(self.bucket_mut(places.alternate), entry, places.tag, at);
            self.add_strayed(places.home, 1);
            return true;
        }
        for number in [places.home, places.alternate] {
            if let Some(entry) = self.make_room(number, hash_of) {
                flip(self.bucket_mut(number), entry, places.tag, at);
                if number == places.alternate {
                    self.add_strayed(places.home, 1);
                }
                return true;
            }
        }
        false
    }

    /// Takes an entry out. Returns whether it was there.
    #[inline]
    pub(super) fn remove(&mut self, hash: KeyHash, at: SessionRef) -> bool {
        let home = self.bucket_mut(self.home(hash));
        if let Some((entry, _)) = find_in(home, tag(hash), &mut |found| found == at) {
            flip(home, entry, tag(hash), at);
            return true;
        }
        self.remove_strayed(hash, at)
    }

    /// Takes out an entry that is not in its home.
    #[cold]
    fn remove_strayed(&mut self, hash: KeyHash, at: SessionRef) -> bool {
        let places = self.places(hash);
        let alternate = self.bucket_mut(places.alternate);
        let Some((entry, _)) = find_in(alternate, places.tag, &mut |found| found == at) else {
            return false;
        };
        flip(alternate, entry, places.tag, at);
        self.add_strayed(places.home, -1);
        true
    }

    /// Moves one entry of a full bucket to its other bucket, if one has room
    /// there. Returns the place that became free.
    fn make_room(&mut self, number: u32, hash_of: &impl Fn(SessionRef) -> KeyHash) -> Option<usize> {
        for entry in 0..ENTRIES {
            let Some(at) = reference(self.bucket(number), entry) else { continue };
            let places = self.places(hash_of(at));
            let leaves_home = number == places.home;
            let other = if leaves_home { places.alternate } else { places.home };
            if let Some(free) = free_entry(self.bucket(other)) {
                flip(self.bucket_mut(other), free, places.tag, at);
                flip(self.bucket_mut(number), entry, places.tag, at);
                self.add_strayed(places.home, if leaves_home { 1 } else { -1 });
                return Some(entry);
            }
        }
        None
    }

    #[inline]
    fn home(&self, hash: KeyHash) -> u32 {
        part((hash.0 >> 32) as u32, self.buckets)
    }

    #[inline]
    fn places(&self, hash: KeyHash) -> Places {
        let home = self.home(hash);
        let distance = 1 + part(hash.0 as u32, self.buckets - 1);
        let alternate = home + distance;
        let alternate = if alternate >= self.buckets { alternate - self.buckets } else { alternate };
        Places { home, alternate, tag: tag(hash) }
    }

    #[inline]
    fn bucket(&self, number: u32) -> &Bucket {
        &self.words[self.skip..].as_chunks().0[number as usize]
    }

    #[inline]
    fn bucket_mut(&mut self, number: u32) -> &mut Bucket {
        &mut self.words[self.skip..].as_chunks_mut().0[number as usize]
    }

    fn add_strayed(&mut self, number: u32, change: i32) {
        let bucket = self.bucket_mut(number);
        let count = strayed(bucket).wrapping_add_signed(change);
        bucket[2] = bucket[2] & u64::from(u32::MAX) | u64::from(count) << 32;
    }
}

/// So many of `of` as `bits` are of 2^32.
#[inline]
fn part(bits: u32, of: u32) -> u32 {
    ((u64::from(bits) * u64::from(of)) >> 32) as u32
}

/// The tag of a hash; 0 marks free entries.
#[inline]
fn tag(hash: KeyHash) -> u16 {
    (hash.0 as u16).max(1)
}

/// Where the entry of one hash may stand, and its tag.
struct Places {
    home: u32,
    alternate: u32,
    tag: u16,
}

/// Keys at home in a bucket that stand in their alternate.
#[inline]
fn strayed(bucket: &Bucket) -> u32 {
    (bucket[2] >> 32) as u32
}

#[inline]
fn reference(bucket: &Bucket, entry: usize) -> Option<SessionRef> {
    SessionRef::from_bits((bucket[FIRST_REFERENCE_WORD + entry / 2] >> (entry % 2 * 32)) as u32)
}

#[inline]
fn free_entry(bucket: &Bucket) -> Option<usize> {
    let free = matching_mask(bucket, 0);
    (free != 0).then_some(free.trailing_zeros() as usize)
}

/// The first entry with this tag that `is_it` accepts, and its place.
#[inline(always)]
fn find_in(
    bucket: &Bucket,
    tag: u16,
    is_it: &mut impl FnMut(SessionRef) -> bool,
) -> Option<(usize, SessionRef)> {
    let mut mask = matching_mask(bucket, tag);
    while mask != 0 {
        let entry = mask.trailing_zeros() as usize;
        if let Some(at) = reference(bucket, entry)
            && is_it(at)
        {
            return Some((entry, at));
        }
        mask &= mask - 1;
    }
    None
}

/// Fills a free entry, or frees one that holds just this: free ones are zero.
#[inline]
fn flip(bucket: &mut Bucket, entry: usize, tag: u16, at: SessionRef) {
    bucket[entry / 4] ^= u64::from(tag) << (entry % 4 * 16);
    bucket[FIRST_REFERENCE_WORD + entry / 2] ^= u64::from(at.to_bits()) << (entry % 2 * 32);
}

/// A bit for each of the ten entries: whether it has this tag.
#[inline]
fn matching_mask(bucket: &Bucket, tag: u16) -> u32 {
    tags::equal(bucket, tag) & ((1 << ENTRIES) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::entry::Direction;
    use proptest::prelude::*;

    /// Writes over an entry.
    fn set(bucket: &mut Bucket, entry: usize, tag: u16, reference: u32) {
        let replace = |word: &mut u64, shift: usize, mask: u64, value: u64| {
            *word = *word & !(mask << shift) | value << shift;
        };
        replace(&mut bucket[entry / 4], entry % 4 * 16, u64::from(u16::MAX), u64::from(tag));
        let word = &mut bucket[FIRST_REFERENCE_WORD + entry / 2];
        replace(word, entry % 2 * 32, u64::from(u32::MAX), u64::from(reference));
    }

    /// The entries with this tag, lowest first.
    fn matching(bucket: &Bucket, tag: u16) -> impl Iterator<Item = usize> {
        let mask = matching_mask(bucket, tag);
        (0..32).filter(move |entry| mask >> entry & 1 != 0)
    }

    proptest! {
        #[test]
        fn tags_are_found_as_a_loop_would_find_them(
            words: [u64; WORDS],
            small in proptest::collection::vec(0u16..3, ENTRIES),
            tag: u16,
            sparse: bool,
        ) {
            let mut bucket = words;
            if sparse {
                for (entry, tag) in small.iter().enumerate() {
                    set(&mut bucket, entry, *tag, 9);
                }
            }
            for tag in [tag, 0, 1, 2, u16::MAX, words[1] as u16] {
                let expected: Vec<usize> = (0..ENTRIES)
                    .filter(|entry| (bucket[entry / 4] >> (entry % 4 * 16)) as u16 == tag)
                    .collect();
                prop_assert_eq!(matching(&bucket, tag).collect::<Vec<_>>(), expected);
            }
            prop_assert_eq!(strayed(&bucket), (words[2] >> 32) as u32, "tags leave the counter alone");
        }
    }

    /// A hash for a number, as different from its neighbours as real ones are.
    fn hash(number: u32) -> KeyHash {
        crate::session::hash::KeyedHash::new(5).of_words(&[u64::from(number), 0, 0, 0, 0])
    }

    #[test]
    fn it_holds_all_that_it_is_made_for_and_empties_without_trace() {
        for keys in [1u32, 2, 10, 100, 1000, 100_000] {
            let mut index = Index::new(keys as usize);
            let at = |number: u32| SessionRef::new(number, Direction::Reverse);
            for number in 0..keys {
                assert!(index.insert(hash(number), at(number), |at| hash(at.index())), "{number} of {keys}");
            }
            for number in 0..keys {
                assert_eq!(index.find(hash(number), |found| found == at(number)), Some(at(number)));
                assert_eq!(index.find(hash(keys + number), |found| found == at(keys + number)), None);
            }
            assert!(!index.remove(hash(keys), at(keys)));
            for number in 0..keys {
                assert!(index.remove(hash(number), at(number)));
            }
            assert!(index.words.iter().all(|word| *word == 0), "{keys} keys left traces");
        }
    }

    #[test]
    fn a_bucket_that_cannot_take_more_refuses_and_stays_as_it_was() {
        let mut index = Index::new(1000);
        let same = hash(1);
        let at = |number: u32| SessionRef::new(number, Direction::Forward);
        // One hash for all of them: two buckets, and nowhere to move to.
        for number in 0..2 * ENTRIES as u32 {
            assert!(index.insert(same, at(number), |_| same));
        }
        let before = index.words.clone();
        assert!(!index.insert(same, at(99), |_| same));
        assert_eq!(index.words, before);
    }

    #[test]
    fn buckets_are_cache_lines() {
        let index = Index::new(1000);
        assert_eq!(std::ptr::from_ref(index.bucket(3)).addr() % LINE, 0);
        let last = index.buckets - 1;
        assert_eq!(index.bucket(last).len(), WORDS);
    }
}

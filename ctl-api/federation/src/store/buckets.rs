//! Entries in a fixed number of values, so that a change of any number of
//! entries is one transaction of etcd, which takes 128 operations.
//!
//! A bucket is the JSON of its entries, deflated (RFC 1951): objects of one
//! kind are much alike and shrink to a tenth.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::Entries;

/// Number of buckets. It is part of the format: it says where an entry is.
pub(super) const BUCKETS: u64 = 64;
/// Largest bucket when it is inflated, in bytes.
const MAX_BUCKET: u64 = 64 << 20;

/// The bucket of a key (FNV-1a, 64 bit).
pub(super) fn of(key: &str) -> u64 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash % BUCKETS
}

/// Entries by bucket; empty buckets are left out.
pub(super) fn split(entries: &Entries) -> BTreeMap<u64, Entries> {
    let mut buckets: BTreeMap<u64, Entries> = BTreeMap::new();
    for (key, value) in entries {
        buckets.entry(of(key)).or_default().insert(key.clone(), value.clone());
    }
    buckets
}

/// A bucket as bytes.
pub(super) fn encode(entries: &Entries) -> Result<Vec<u8>, String> {
    let json = serde_json::to_vec(entries).map_err(|error| error.to_string())?;
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&json).and_then(|()| encoder.finish()).map_err(|error| error.to_string())
}

/// A bucket from bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Entries, String> {
    let mut json = Vec::new();
    DeflateDecoder::new(bytes)
        .take(MAX_BUCKET + 1)
        .read_to_end(&mut json)
        .map_err(|error| error.to_string())?;
    if json.len() as u64 > MAX_BUCKET {
        return Err(format!("it is larger than {} MiB", MAX_BUCKET >> 20));
    }
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_read_back_and_every_key_is_in_its_own() {
        let entries: Entries = (0..1000).map(|n| (format!("object/{n}"), format!("{{\"n\":{n}}}"))).collect();
        let buckets = split(&entries);
        assert_eq!(buckets.len() as u64, BUCKETS, "they are spread");
        let mut all = Entries::new();
        for (number, bucket) in buckets {
            assert!(bucket.keys().all(|key| of(key) == number));
            all.extend(decode(&encode(&bucket).expect("encoded")).expect("decoded"));
        }
        assert_eq!(all, entries);
        assert_eq!(of("VirtualNetwork/default/red"), 52, "the format does not change");
    }

    #[test]
    fn noise_and_bombs_are_refused() {
        assert!(decode(b"noise").is_err());
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![b' '; 1 << 20];
        for _ in 0..=(MAX_BUCKET >> 20) {
            encoder.write_all(&zeros).expect("memory");
        }
        let bomb = encoder.finish().expect("memory");
        assert!(decode(&bomb).expect_err("too large").contains("larger than"), "{} bytes", bomb.len());
    }
}

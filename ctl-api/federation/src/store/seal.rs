//! Passwords as they are stored: sealed, so that a copy of the store tells nobody.
//!
//! A password of a Peer stands in the store as `sealed:v1:` and, in hexadecimal
//! digits, a nonce and what ChaCha20-Poly1305 (RFC 8439) makes of it. It is bound to
//! its entry: in another one it does not open. The key is a file of its own with 64
//! hexadecimal digits, which nobody else may read. Stores of earlier programs have
//! passwords as they are; they are read, and sealed when they are opened.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;

use super::{Entries, StoreError};

/// What a sealed password begins with.
pub const SEALED: &str = "sealed:v1:";

/// Entries that may have a password.
const PEERS: &str = "object/Peer/";
const KEY_BYTES: usize = 32;

/// Seals passwords, and opens them.
pub struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// A key that somebody has made, as `openssl rand -hex 32` does.
    ///
    /// # Errors
    /// It cannot be read, others can get at it, or it is no key.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let text = tieline_private::read(path).map_err(StoreError::exposed)?;
        Self::from_text(&text, path)
    }

    /// The key of a store of our own; it is made where there is none.
    ///
    /// # Errors
    /// It cannot be made or read, or it is no key.
    pub(super) fn read_or_make(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| StoreError::Unavailable {
            reason: format!("the key {}: {error}", path.display()),
        };
        let (mut file, _) = tieline_private::open(path).map_err(StoreError::exposed)?;
        let mut text = Vec::new();
        (&file).take(1024).read_to_end(&mut text).map_err(failed)?;
        if text.is_empty() {
            let mut key = [0; KEY_BYTES];
            SystemRandom::new().fill(&mut key).map_err(|_| failed(std::io::Error::other("no randomness")))?;
            text = (to_hex(&key) + "\n").into_bytes();
            file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        Self::from_text(&text, path)
    }

    fn from_text(text: &[u8], path: &Path) -> Result<Self, StoreError> {
        let bytes = std::str::from_utf8(text).ok().and_then(|text| from_hex(text.trim_end()));
        let key = bytes
            .filter(|bytes| bytes.len() == KEY_BYTES)
            .and_then(|bytes| UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok());
        let key = key.ok_or_else(|| StoreError::Exposed {
            reason: format!(
                "{} is no key of a store, which is 64 hexadecimal digits: put the right one back; or remove it, \
                 and apply each Peer with its password again",
                path.display()
            ),
        })?;
        Ok(Self { key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// Entries as they are stored.
    pub(super) fn seal(&self, entries: &Entries) -> Result<Entries, StoreError> {
        let seal = |(key, text): (&String, &String)| Ok((key.clone(), self.seal_text(key, text)?));
        entries.iter().map(seal).collect()
    }

    /// An entry as it is stored.
    pub(super) fn seal_text(&self, key: &str, text: &str) -> Result<String, StoreError> {
        let Some((mut document, password)) = password_of(key, text) else { return Ok(text.to_owned()) };
        if password.starts_with(SEALED) {
            // With a key that is not at hand: it stays as it was.
            return Ok(text.to_owned());
        }
        let failed = || StoreError::Unavailable { reason: format!("{key}: its password cannot be sealed") };
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| failed())?;
        let mut sealed = password.into_bytes();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key), &mut sealed)
            .map_err(|_| failed())?;
        document["spec"]["password"] = format!("{SEALED}{}{}", to_hex(&nonce), to_hex(&sealed)).into();
        Ok(document.to_string())
    }

    /// An entry as it was before it was sealed. With another key it stays sealed.
    pub(super) fn open_text(&self, key: &str, text: &str) -> String {
        let open = || {
            let (mut document, password) = password_of(key, text)?;
            let mut bytes = from_hex(password.strip_prefix(SEALED)?)?;
            let mut sealed = bytes.split_off(NONCE_LEN.min(bytes.len()));
            let nonce = Nonce::try_assume_unique_for_key(&bytes).ok()?;
            let opened = self.key.open_in_place(nonce, Aad::from(key), &mut sealed).ok()?;
            document["spec"]["password"] = std::str::from_utf8(opened).ok()?.into();
            Some(document.to_string())
        };
        open().unwrap_or_else(|| text.to_owned())
    }

    /// Entries as they were before they were sealed.
    pub(super) fn open(&self, entries: Entries) -> Entries {
        let open = |(key, text): (String, String)| {
            let text = self.open_text(&key, &text);
            (key, text)
        };
        entries.into_iter().map(open).collect()
    }
}

/// Whether an entry has a password that everybody can read.
pub(super) fn is_clear(key: &str, text: &str) -> bool {
    password_of(key, text).is_some_and(|(_, password)| !password.starts_with(SEALED))
}

fn password_of(key: &str, text: &str) -> Option<(Value, String)> {
    if !key.starts_with(PEERS) {
        return None;
    }
    let document: Value = serde_json::from_str(text).ok()?;
    let password = document.pointer("/spec/password")?.as_str()?.to_owned();
    Some((document, password))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEST: &str = "object/Peer/west";

    fn seal(byte: u8) -> Seal {
        Seal::from_text(to_hex(&[byte; KEY_BYTES]).as_bytes(), Path::new("key")).expect("a key")
    }

    fn peer(password: &str) -> String {
        format!(r#"{{"kind":"Peer","spec":{{"asn":64513,"password":"{password}"}}}}"#)
    }

    #[test]
    fn a_sealed_password_opens_with_its_key_in_its_entry_and_nowhere_else() {
        let (one, other) = (seal(1), seal(2));
        let text = one.seal_text(WEST, &peer("swordfish")).expect("sealed");
        assert!(!text.contains("swordfish") && text.contains(SEALED) && !is_clear(WEST, &text), "{text}");
        assert_eq!(one.open_text(WEST, &text), peer("swordfish"));
        assert_eq!(other.open_text(WEST, &text), text, "another key");
        assert_eq!(one.open_text("object/Peer/east", &text), text, "another entry");
        assert_ne!(one.seal_text(WEST, &peer("swordfish")).expect("sealed"), text, "it tells no equality");
        assert_eq!(other.seal_text(WEST, &text).expect("as it is"), text, "it is not sealed twice");
        assert_eq!(one.open_text(WEST, &peer("swordfish")), peer("swordfish"), "of an earlier program");
        for damaged in ["sealed:v1:", "sealed:v1:0", "sealed:v1:zz", "sealed:v1:00112233445566778899aabb00"] {
            assert_eq!(one.open_text(WEST, &peer(damaged)), peer(damaged));
        }
    }

    #[test]
    fn what_has_no_password_stays_as_it_is() {
        for (key, text) in [
            ("object/VirtualNetwork/default/red", peer("x")),
            (WEST, "noise".to_owned()),
            (WEST, r#"{ "spec": {} }"#.to_owned()),
        ] {
            assert_eq!(seal(1).seal_text(key, &text).expect("as it is"), text);
            assert!(!is_clear(key, &text));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "00", &"0".repeat(63), &"g".repeat(64), &"0".repeat(66), &"\u{e9}".repeat(32)] {
            assert!(Seal::from_text(text.as_bytes(), Path::new("key")).is_err(), "{text:?}");
        }
        assert!(Seal::from_text(format!("{}\n", "0".repeat(64)).as_bytes(), Path::new("key")).is_ok());
    }
}

//! Names of objects: 1 to 63 characters of `a-z A-Z 0-9 . _ - /`.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A valid name. Copies share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Longest name, in characters.
    pub const MAX_LENGTH: usize = 63;

    /// The name, or `None` if the text is not one.
    pub fn new(text: &str) -> Option<Self> {
        Self::is_valid(text).then(|| Self(Arc::from(text)))
    }

    /// Whether the text is a name.
    pub fn is_valid(text: &str) -> bool {
        (1..=Self::MAX_LENGTH).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b'/'))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// Equality, order and hash of `Name` are those of its text.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet_and_length() {
        let longest = "a".repeat(63);
        for good in ["a", "net/blue-1.2_X", longest.as_str()] {
            assert_eq!(Name::new(good).expect("a name").as_str(), good);
        }
        let too_long = "a".repeat(64);
        for bad in ["", "a b", "ä", "a:b", too_long.as_str()] {
            assert!(Name::new(bad).is_none(), "{bad}");
        }
    }
}

//! Which of two controllers counts, where they declare one thing differently.
//!
//! The configuration ranks them; among equals, the name decides. Neither who was
//! first nor who was here at the last restart matters, so that what is in force
//! follows from what is declared.

use tieline_names::Name;

/// Most entries of a list.
const MOST: usize = 256;

/// A controller's rank. The least counts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u16);

/// One entry: a name, or how names begin.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(Name),
    Prefix(String),
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some("") => Some(Self::Prefix(String::new())),
            // What may stand at the beginning of a name is a name.
            Some(prefix) => Name::new(prefix).map(|prefix| Self::Prefix(prefix.as_str().to_owned())),
            None => Name::new(text).map(Self::Exact),
        }
    }

    fn takes(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == name,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }

    /// Whether it takes all that the other takes.
    fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Exact(name) => self.takes(name.as_str()),
            Self::Prefix(prefix) => matches!(self, Self::Prefix(own) if prefix.starts_with(own)),
        }
    }
}

/// The ranks of all controllers: those of the first entry count first, those
/// that no entry names count last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranks(Vec<Pattern>);

impl Ranks {
    /// Reads a list of names, and of beginnings of names with a `*` behind.
    ///
    /// # Errors
    /// A sentence that quotes the entry which is none, or never counts.
    pub fn new(entries: &[String]) -> Result<Self, String> {
        if entries.len() > MOST {
            return Err(format!("there are {} entries: use at most {MOST}", entries.len()));
        }
        let mut patterns: Vec<Pattern> = Vec::with_capacity(entries.len());
        for text in entries {
            let pattern = Pattern::parse(text).ok_or_else(|| {
                format!("{text:?} is no name of a controller: use one, or its beginning with a * behind")
            })?;
            if let Some(at) = patterns.iter().position(|before| before.covers(&pattern)) {
                return Err(format!("{text:?} never counts: {:?} before it takes all of that", entries[at]));
            }
            patterns.push(pattern);
        }
        Ok(Self(patterns))
    }

    /// The rank of a controller.
    pub(crate) fn of(&self, name: &str) -> Rank {
        let at = self.0.iter().position(|pattern| pattern.takes(name)).unwrap_or(self.0.len());
        // There are at most MOST of them.
        Rank(u16::try_from(at).unwrap_or(u16::MAX))
    }

    /// The rank for people: 1 counts first; 0 is that of those that no entry
    /// names.
    pub(crate) fn shown(&self, rank: Rank) -> u32 {
        if usize::from(rank.0) < self.0.len() { u32::from(rank.0) + 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(entries: &[&str]) -> Result<Ranks, String> {
        Ranks::new(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_entry_counts_first_and_those_without_one_last() {
        let ranks = ranks(&["central", "site-a*", "site-*"]).expect("good");
        let names = ["central", "site-a", "site-a1", "site-b", "aaa", "central-2"];
        let shown = names.map(|name| ranks.shown(ranks.of(name)));
        assert_eq!(shown, [1, 2, 2, 3, 0, 0]);
        assert!(ranks.of("central") < ranks.of("site-a") && ranks.of("site-b") < ranks.of("aaa"));
        assert_eq!(Ranks::default().of("a"), Ranks::default().of("b"));
        assert_eq!(Ranks::default().shown(Ranks::default().of("a")), 0);
    }

    #[test]
    fn entries_that_are_none_or_never_count_are_refused() {
        for (entries, quoted) in [
            (&["a b"][..], "\"a b\" is no name"),
            (&[""], "\"\" is no name"),
            (&["a**"], "\"a**\" is no name"),
            (&["a", "a"], "\"a\" never counts: \"a\" before it"),
            (&["a*", "ab"], "\"ab\" never counts: \"a*\" before it"),
            (&["a*", "ab*"], "\"ab*\" never counts"),
            (&["*", "a"], "\"a\" never counts: \"*\" before it"),
        ] {
            let sentence = ranks(entries).expect_err(quoted);
            assert!(sentence.contains(quoted), "{sentence}");
        }
        assert!(ranks(&["ab", "ab*", "a*", "*"]).is_ok());
        assert!(ranks(&["x"; MOST + 1]).is_err());
    }
}

//! What is wrong at the moment. Whoever notices says so, and says when it is
//! over; the gateway goes on forwarding meanwhile. Operators read the list, and
//! those who watch hear of its changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tieline_proto::v1;
use tieline_proto::v1::ProblemKind;

/// All problems of a daemon: a handle that its parts share.
#[derive(Debug, Clone, Default)]
pub struct Problems(Arc<Mutex<Inner>>);

/// A kind of problem (its number in the API, which orders the list), and what
/// it is about.
type Key = (i32, String);

#[derive(Debug, Default)]
struct Inner {
    now: BTreeMap<Key, Problem>,
    /// What those who watch have heard last.
    told: BTreeMap<Key, String>,
}

#[derive(Debug)]
struct Problem {
    message: String,
    since: Instant,
}

/// A difference between what is wrong and what those who watch know.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// What it is about.
    pub subject: String,
    /// A sentence.
    pub message: String,
    /// Whether the problem has ended.
    pub is_over: bool,
}

impl Problems {
    /// Something is wrong. If it was before, it stays so with these words.
    pub fn begin(&self, kind: ProblemKind, subject: &str, message: impl Into<String>) {
        let message = message.into();
        let mut inner = self.lock();
        let key = (kind.into(), subject.to_owned());
        inner
            .now
            .entry(key)
            .or_insert_with(|| Problem { message: String::new(), since: Instant::now() })
            .message = message;
    }

    /// It is not wrong, or not any more.
    pub fn end(&self, kind: ProblemKind, subject: &str) {
        self.lock().now.remove(&(kind.into(), subject.to_owned()));
    }

    /// These are all problems of a kind: what they are about, and the sentences.
    pub fn set_all(&self, kind: ProblemKind, problems: impl IntoIterator<Item = (String, String)>) {
        let problems: BTreeMap<String, String> = problems.into_iter().collect();
        let number = i32::from(kind);
        self.lock().now.retain(|(other, subject), _| *other != number || problems.contains_key(subject));
        for (subject, message) in problems {
            self.begin(kind, &subject, message);
        }
    }

    /// All that is wrong.
    pub fn list(&self) -> Vec<v1::Problem> {
        let message = |((kind, subject), problem): (&Key, &Problem)| v1::Problem {
            kind: *kind,
            subject: subject.clone(),
            message: problem.message.clone(),
            since_seconds: problem.since.elapsed().as_secs(),
        };
        self.lock().now.iter().map(message).collect()
    }

    /// What has begun and ended since the last time. What did both in between is
    /// left out.
    pub fn news(&self) -> Vec<News> {
        let mut inner = self.lock();
        let now: BTreeMap<Key, String> =
            inner.now.iter().map(|(key, problem)| (key.clone(), problem.message.clone())).collect();
        let told = std::mem::replace(&mut inner.told, now);
        let of = |(kind, subject): &Key, message: &str, is_over| News {
            kind: ProblemKind::try_from(*kind).unwrap_or_default(),
            subject: subject.clone(),
            message: message.to_owned(),
            is_over,
        };
        let over = told.iter().filter(|(key, _)| !inner.told.contains_key(*key));
        let over: Vec<News> = over.map(|(key, message)| of(key, message, true)).collect();
        let begun = inner.told.iter().filter(|(key, _)| !told.contains_key(*key));
        over.into_iter().chain(begun.map(|(key, message)| of(key, message, false))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_once_and_its_end_too() {
        let problems = Problems::default();
        let other_end = problems.clone();
        assert_eq!(problems.news(), []);
        problems.begin(ProblemKind::Port, "p1", "it does not open");
        problems.begin(ProblemKind::Store, "", "it is full");
        problems.end(ProblemKind::Port, "p2");
        let news = |kind, subject: &str, message: &str, is_over| News {
            kind,
            subject: subject.into(),
            message: message.into(),
            is_over,
        };
        assert_eq!(
            other_end.news(),
            [
                news(ProblemKind::Store, "", "it is full", false),
                news(ProblemKind::Port, "p1", "it does not open", false)
            ]
        );
        problems.begin(ProblemKind::Port, "p1", "it still does not open");
        assert_eq!(other_end.news(), [], "other words are no other problem");
        let list = other_end.list();
        assert_eq!((list.len(), list[1].message.as_str()), (2, "it still does not open"));
        problems.end(ProblemKind::Port, "p1");
        problems.begin(ProblemKind::Listener, "tcp", "in use");
        problems.end(ProblemKind::Listener, "tcp");
        assert_eq!(other_end.news(), [news(ProblemKind::Port, "p1", "it still does not open", true)]);
        assert_eq!(other_end.list().len(), 1);
        let ports = ["p2", "p3"].map(|name| (name.to_owned(), "gone".to_owned()));
        problems.set_all(ProblemKind::Port, ports);
        problems.set_all(ProblemKind::Port, [("p3".to_owned(), "gone".to_owned())]);
        assert_eq!(other_end.news(), [news(ProblemKind::Port, "p3", "gone", false)]);
        assert_eq!(other_end.list().len(), 2, "the store's stays");
    }
}

//! What others ask the running controller, and how.
//!
//! The controller owns all its state and answers between two other things that
//! it does. Whoever asks gets a snapshot and holds nothing up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tieline_proto::federation::v1;
use tokio::sync::{mpsc, oneshot};

use super::journal::{Page, Position};
use crate::audit::Audit;

/// Questions that wait for the controller; who comes later waits too.
const WAITING: usize = 16;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// There is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unanswered {
    /// It does not know yet who it is.
    #[error("the controller does not answer yet: {0}")]
    Waiting(String),
    /// Its task is elsewhere.
    #[error("the controller does not answer: it is busy, or is stopping; its log says which")]
    Busy,
}

/// Why the controller waits; empty when it does not.
type Waiting = Arc<Mutex<String>>;

/// A question, and where the answer goes.
#[derive(Debug)]
pub(super) enum Question {
    /// How is everything?
    Status(oneshot::Sender<v1::GetStatusReply>),
    /// What came after a position? None is the beginning.
    Events(Option<Position>, oneshot::Sender<Page>),
    /// What does an audit need?
    Audit(oneshot::Sender<Audit>),
}

/// Asks a controller.
#[derive(Debug, Clone)]
pub struct Asker {
    questions: mpsc::Sender<Question>,
    waiting: Waiting,
}

/// The controller's end.
#[derive(Debug)]
pub struct Questions {
    questions: mpsc::Receiver<Question>,
    waiting: Waiting,
}

/// The two ends.
pub fn channel() -> (Asker, Questions) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let waiting = Waiting::new(Mutex::new("it starts, and reads the intent".to_owned()));
    (Asker { questions: sender, waiting: Arc::clone(&waiting) }, Questions { questions: receiver, waiting })
}

impl Asker {
    /// How everything is.
    ///
    /// # Errors
    /// The controller does not answer.
    pub async fn status(&self) -> Result<v1::GetStatusReply, Unanswered> {
        self.ask(Question::Status).await
    }

    /// What came after a position; none is the beginning.
    ///
    /// # Errors
    /// The controller does not answer.
    pub async fn events(&self, after: Option<Position>) -> Result<Page, Unanswered> {
        self.ask(|answer| Question::Events(after, answer)).await
    }

    /// What an audit needs. It is carried out by who asks: it takes long.
    ///
    /// # Errors
    /// The controller does not answer.
    pub async fn audit(&self) -> Result<Audit, Unanswered> {
        self.ask(Question::Audit).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, Unanswered> {
        let (sender, answer) = oneshot::channel();
        let asking = async {
            self.questions.send(question(sender)).await.map_err(|_| self.unanswered())?;
            answer.await.map_err(|_| self.unanswered())
        };
        tokio::time::timeout(PATIENCE, asking).await.map_err(|_| self.unanswered())?
    }

    fn unanswered(&self) -> Unanswered {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() { Unanswered::Busy } else { Unanswered::Waiting(waiting.clone()) }
    }
}

impl Questions {
    /// The next question; none when nobody can ask any more.
    pub(super) async fn next(&mut self) -> Option<Question> {
        self.questions.recv().await
    }

    /// Leaves questions unanswered for as long as it is polled.
    pub(super) async fn turn_away(&mut self) {
        while self.next().await.is_some() {}
        std::future::pending::<()>().await;
    }

    /// What says why the controller waits; an empty text: it does not.
    pub(super) fn waiting(&self) -> impl Fn(String) + use<> {
        let waiting = Arc::clone(&self.waiting);
        move |reason| *waiting.lock().unwrap_or_else(PoisonError::into_inner) = reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_not_answered_is_told_so() {
        let (asker, mut questions) = channel();
        let say = questions.waiting();
        say("no cluster".to_owned());
        tokio::select! {
            answer = asker.status() => assert_eq!(answer, Err(Unanswered::Waiting("no cluster".to_owned()))),
            () = questions.turn_away() => panic!("it never ends"),
        }
        say(String::new());
        drop(questions);
        assert_eq!(asker.status().await, Err(Unanswered::Busy));
    }

    #[tokio::test]
    async fn an_answer_goes_to_who_asked() {
        let (asker, mut questions) = channel();
        let answering = async {
            let Some(Question::Status(answer)) = questions.next().await else { panic!("a question") };
            let reply = v1::GetStatusReply { cluster: "east".to_owned(), ..Default::default() };
            answer.send(reply).expect("who asked waits");
        };
        let (answer, ()) = tokio::join!(asker.status(), answering);
        assert_eq!(answer.expect("an answer").cluster, "east");
    }
}

//! What a service answers, on its way to a client: in small parts, so that what
//! the client does not take stays here, once; and if it takes nothing for too
//! long, not even that.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body as _, Bytes, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

use crate::accounts::Call;

/// Bytes that HTTP/2 gets at once: one of its frames.
const PART: usize = 16 << 10;

/// The body of a reply. The call stays in the account until it is gone.
pub struct ReplyBody {
    state: Arc<Mutex<State>>,
    _call: Call,
}

struct State {
    /// `None` after it was taken away.
    body: Option<Body>,
    /// Of the last frame, what the client has not taken.
    rest: Bytes,
    /// When the client took something last, or the service had nothing.
    taken: Instant,
    /// Whether the service is what is waited for.
    waits_for_service: bool,
    /// The turn to read, given on when the reply is gone.
    turn: Option<OwnedSemaphorePermit>,
}

impl ReplyBody {
    /// A reply that may take as long as the client wants.
    pub fn new(body: Body, call: Call) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(body, None))), _call: call }
    }

    /// A reply that is taken away if the client takes no part of it for so
    /// long; the turn to read goes on then.
    pub fn limited(body: Body, call: Call, turn: OwnedSemaphorePermit, patience: Duration) -> Self {
        let state = Arc::new(Mutex::new(State::new(body, Some(turn))));
        let watched = Arc::downgrade(&state);
        tokio::spawn(async move {
            let mut sleep = patience;
            loop {
                tokio::time::sleep(sleep).await;
                let Some(state) = watched.upgrade() else { return };
                let mut state = lock(&state);
                let idle = if state.waits_for_service { Duration::ZERO } else { state.taken.elapsed() };
                if idle >= patience {
                    state.take_away();
                    return;
                }
                sleep = patience - idle;
            }
        });
        Self { state, _call: call }
    }
}

impl State {
    fn new(body: Body, turn: Option<OwnedSemaphorePermit>) -> Self {
        Self { body: Some(body), rest: Bytes::new(), taken: Instant::now(), waits_for_service: false, turn }
    }

    fn take_away(&mut self) {
        self.body = None;
        self.rest = Bytes::new();
        self.turn = None;
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            let sentence =
                "the reply was given up, because no part of it was taken for too long: read replies";
            return Poll::Ready(Some(Err(Status::deadline_exceeded(sentence))));
        };
        self.taken = Instant::now();
        if self.rest.is_empty() {
            let polled = Pin::new(body).poll_frame(cx);
            self.waits_for_service = polled.is_pending();
            match polled {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    self.rest = frame.into_data().unwrap_or_default();
                }
                other => return other,
            }
        }
        let part = self.rest.split_to(self.rest.len().min(PART));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl hyper::body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        lock(&self.state).next(cx)
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.state);
        state.rest.is_empty() && state.body.as_ref().is_some_and(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::accounts::{Accounts, Owner};
    use crate::limits::ApiLimits;

    /// One frame, then the end.
    struct One(Option<Bytes>);

    impl hyper::body::Body for One {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_none()
        }
    }

    fn call() -> Call {
        let accounts = Accounts::new(ApiLimits::default());
        let connected = accounts.connect(Owner::User(1), Instant::now()).expect("the first connection");
        connected.account().call().expect("the first call")
    }

    async fn next(body: &mut ReplyBody) -> Option<Result<Bytes, Status>> {
        let polled = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        polled.map(|result| result.map(|frame| frame.into_data().expect("data")))
    }

    #[tokio::test]
    async fn a_large_reply_goes_out_in_parts_and_is_the_same() {
        let bytes: Bytes = (0..5 * PART + 3).map(|at| at as u8).collect();
        let mut body = ReplyBody::new(Body::new(One(Some(bytes.clone()))), call());
        let mut received = Vec::new();
        while !body.is_end_stream() {
            let part = next(&mut body).await.expect("more").expect("it is good");
            assert!(part.len() <= PART);
            received.extend(part);
        }
        assert_eq!(received, bytes);
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn a_reply_that_nobody_takes_is_given_up_and_the_turn_goes_on() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = Arc::clone(&turns).try_acquire_owned().expect("the only one");
        let patience = Duration::from_millis(200);
        let reply = Body::new(One(Some(vec![0; 10 * PART].into())));
        let mut body = ReplyBody::limited(reply, call(), turn, patience);
        // Taking parts, however slowly, keeps it.
        for _ in 0..4 {
            tokio::time::sleep(patience * 2 / 3).await;
            next(&mut body).await.expect("more").expect("it is good");
        }
        assert_eq!(turns.available_permits(), 0);
        let _turn = tokio::time::timeout(Duration::from_secs(10), turns.acquire()).await.expect("in time");
        let error = next(&mut body).await.expect("an answer").expect_err("it is gone");
        assert_eq!(error.code(), tonic::Code::DeadlineExceeded);
        assert!(!body.is_end_stream(), "the end would look like a whole reply");
    }
}

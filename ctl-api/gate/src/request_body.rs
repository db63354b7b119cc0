//! What a client sends, on its way to a service: at a bounded rate, in messages
//! of a bounded size that arrive in a bounded time, with bounded memory for
//! those that have arrived in part.

use std::error::Error;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use crate::accounts::{Account, LimitReached};

/// Bytes before each message: a flag, and its length.
const PREFIX: usize = 5;

/// Where in a sequence of messages a stream is.
#[derive(Debug, Default)]
struct Framing {
    prefix: [u8; PREFIX],
    /// Bytes of the current prefix that have arrived.
    arrived: usize,
    /// Bytes of the current message that have not.
    missing: usize,
    /// Length of the current message.
    length: usize,
}

impl Framing {
    /// Goes over bytes.
    ///
    /// # Errors
    /// The length of a message that is longer than `longest`.
    fn advance(&mut self, mut bytes: &[u8], longest: usize) -> Result<(), usize> {
        while !bytes.is_empty() {
            if self.arrived < PREFIX {
                let take = bytes.len().min(PREFIX - self.arrived);
                self.prefix[self.arrived..][..take].copy_from_slice(&bytes[..take]);
                self.arrived += take;
                bytes = &bytes[take..];
                if self.arrived < PREFIX {
                    return Ok(());
                }
                let [_, length @ ..] = self.prefix;
                self.length = u32::from_be_bytes(length) as usize;
                self.missing = self.length;
                if self.length > longest {
                    return Err(self.length);
                }
            }
            let take = bytes.len().min(self.missing);
            self.missing -= take;
            bytes = &bytes[take..];
            if self.missing == 0 {
                self.arrived = 0;
                self.length = 0;
            }
        }
        Ok(())
    }

    /// Memory for the message that has arrived in part: all of it, as the
    /// decoder makes room when it knows the length.
    fn held(&self) -> usize {
        if self.arrived == 0 { 0 } else { PREFIX + self.length }
    }
}

/// The body of a request.
pub struct RequestBody<B> {
    inner: B,
    account: Arc<Account>,
    framing: Framing,
    /// Bytes that stand in the account.
    held: usize,
    /// Until when the client is not listened to.
    pause: Option<Pin<Box<Sleep>>>,
    /// Until when the current message has to have arrived.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> RequestBody<B> {
    /// A body of one call of a peer.
    pub fn new(inner: B, account: Arc<Account>) -> Self {
        Self { inner, account, framing: Framing::default(), held: 0, pause: None, deadline: None }
    }

    /// Counts what has arrived.
    fn arrived(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let limits = Arc::clone(self.account.limits());
        let whole_before = self.framing.arrived == 0;
        self.framing.advance(bytes, limits.message).map_err(|length| {
            Status::resource_exhausted(format!(
                "a message of {length} bytes is larger than api.limits.message_kib = {}: \
                 send less at once",
                limits.message >> 10
            ))
        })?;
        self.hold(self.framing.held())?;
        let pause = self.account.received(bytes.len(), Instant::now());
        if !pause.is_zero() {
            self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        }
        self.set_deadline(whole_before, bytes.len(), limits.stalled, pause);
        Ok(())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        if bytes <= self.held {
            self.account.release(self.held - bytes);
        } else {
            self.account.hold(bytes - self.held).map_err(|LimitReached { key, value }| {
                Status::resource_exhausted(format!(
                    "messages that have not arrived whole take more than {key} = {value}: send fewer at once"
                ))
            })?;
        }
        self.held = bytes;
        Ok(())
    }

    /// A message has its time from its first byte on; time in which the
    /// client is not listened to does not count.
    fn set_deadline(&mut self, whole_before: bool, bytes: usize, patience: Duration, pause: Duration) {
        let partial = self.framing.arrived > 0;
        // More than the message that has arrived in part: that one is new.
        let begun = whole_before || bytes > self.framing.length - self.framing.missing + self.framing.arrived;
        match &mut self.deadline {
            _ if !partial => self.deadline = None,
            Some(deadline) if !begun => {
                if !pause.is_zero() {
                    let until = deadline.deadline() + pause;
                    deadline.as_mut().reset(until);
                }
            }
            deadline => *deadline = Some(Box::pin(tokio::time::sleep(patience + pause))),
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let Poll::Ready(polled) = Pin::new(&mut self.inner).poll_frame(cx) else {
            if let Some(deadline) = &mut self.deadline {
                ready!(deadline.as_mut().poll(cx));
                let seconds = self.account.limits().stalled.as_secs();
                return Poll::Ready(Some(Err(Status::deadline_exceeded(format!(
                    "a message has not arrived whole within api.limits.stalled_s = {seconds}"
                ))
                .into())));
            }
            return Poll::Pending;
        };
        Poll::Ready(match polled {
            Some(Ok(frame)) => match frame.data_ref().cloned() {
                Some(data) => Some(self.arrived(&data).map(|()| frame).map_err(Into::into)),
                None => Some(Ok(frame)),
            },
            Some(Err(error)) => Some(Err(error.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.account.release(self.held);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::accounts::{Accounts, Owner};
    use crate::limits::ApiLimits;

    /// Frames that have come; then silence.
    struct Frames(VecDeque<Bytes>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.pop_front().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
        }
    }

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((length as u32).to_be_bytes());
        bytes.resize(PREFIX + length, 7);
        bytes
    }

    fn body(limits: ApiLimits, frames: &[&[u8]]) -> (RequestBody<Frames>, Arc<Account>) {
        let connected =
            Accounts::new(limits).connect(Owner::User(1), Instant::now()).expect("the first connection");
        let account = Arc::clone(connected.account());
        let frames = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        (RequestBody::new(Frames(frames), Arc::clone(&account)), account)
    }

    async fn next(body: &mut RequestBody<Frames>) -> Result<Bytes, Status> {
        let polled = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        match polled.expect("it never ends") {
            Ok(frame) => Ok(frame.into_data().expect("data")),
            Err(error) => Err(Status::from_error(error)),
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_refused_by_its_length() {
        let limits = ApiLimits { message: 2048, ..ApiLimits::default() };
        let (mut body, _) = body(limits, &[&message(2048), &message(2049)[..PREFIX]]);
        next(&mut body).await.expect("it just fits");
        let refused = next(&mut body).await.expect_err("it is too large");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(
            refused.message().contains("2049") && refused.message().contains("message_kib = 2"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn messages_in_part_take_memory_until_they_are_whole() {
        let limits = ApiLimits { receive_memory: 1000, ..ApiLimits::default() };
        let whole = message(600);
        let (mut first, account) = body(limits, &[&whole[..10], &whole[10..]]);
        next(&mut first).await.expect("a part");
        let mut second =
            RequestBody::new(Frames([Bytes::copy_from_slice(&whole[..10])].into()), Arc::clone(&account));
        let refused = next(&mut second).await.expect_err("no room for both");
        assert!(refused.message().contains("receive_memory_mib"), "{refused}");
        next(&mut first).await.expect("the rest");
        account.hold(1000).expect("all is given back");
        account.release(1000);
        let mut third =
            RequestBody::new(Frames([Bytes::copy_from_slice(&whole[..10])].into()), Arc::clone(&account));
        next(&mut third).await.expect("there is room again");
        drop(third);
        account.hold(1000).expect("what is dropped gives back too");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_has_to_arrive_in_time_and_a_pause_between_two_may_last() {
        let limits = ApiLimits { stalled: Duration::from_secs(3), ..ApiLimits::default() };
        let (mut idle, _) = body(limits.clone(), &[&message(9)]);
        next(&mut idle).await.expect("a message");
        let waited = tokio::time::timeout(Duration::from_secs(60), next(&mut idle)).await;
        assert!(waited.is_err(), "nothing is missing");
        let (mut stalled, _) = body(limits, &[&[message(9), message(9)[..7].to_vec()].concat()]);
        next(&mut stalled).await.expect("one and a part");
        let started = tokio::time::Instant::now();
        let refused = next(&mut stalled).await.expect_err("it does not arrive");
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[tokio::test]
    async fn a_flood_is_slowed_down() {
        let limits = ApiLimits { bytes_per_second: 10_000, ..ApiLimits::default() };
        let (mut body, _) = body(limits, &[&message(9995), &message(995), &message(1)]);
        let started = Instant::now();
        for _ in 0..3 {
            next(&mut body).await.expect("it is not refused");
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(95) && took < Duration::from_secs(5), "{took:?}");
    }

    proptest! {
        /// However messages are cut into frames, a stream is between two of
        /// them exactly when it should be.
        #[test]
        fn framing_follows_messages(
            lengths in proptest::collection::vec(0usize..40, 1..12),
            cuts in proptest::collection::vec(1usize..30, 1..80),
        ) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
            let mut ends = vec![0];
            for length in &lengths {
                ends.push(ends[ends.len() - 1] + PREFIX + length);
            }
            let mut framing = Framing::default();
            let mut at = 0;
            for cut in cuts {
                let to = (at + cut).min(bytes.len());
                framing.advance(&bytes[at..to], 100).expect("none is too long");
                at = to;
                prop_assert_eq!(framing.held() == 0, ends.contains(&at), "at {}", at);
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut framing = Framing::default();
            for byte in bytes.chunks(7) {
                if framing.advance(byte, 1 << 20).is_err() {
                    break;
                }
                prop_assert!(framing.held() <= (1 << 20) + PREFIX);
            }
        }
    }
}

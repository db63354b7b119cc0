//! Controllers that send and do not read.

use std::time::Duration;

use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::controller_message::Message as To;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::support::{Daemon, PATIENCE, Place, discard, hello, resident, vrf};

/// A session whose client lets the gateway say one byte.
struct Greedy {
    to: mpsc::Sender<v1::ControllerMessage>,
    replies: tonic::Streaming<v1::GatewayMessage>,
}

impl Greedy {
    async fn start(daemon: &Daemon, name: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix:{}", daemon.socket().display())).expect("a URI");
        let channel = endpoint.initial_stream_window_size(1).connect().await.expect("the daemon listens");
        let (to, receiver) = mpsc::channel(1);
        let asked = hello(name, true);
        to.send(v1::ControllerMessage { message: Some(To::Hello(asked)) }).await.expect("room");
        let replies = ControlClient::new(channel).session(ReceiverStream::new(receiver)).await;
        Self { to, replies: replies.expect("it is allowed").into_inner() }
    }

    /// Sends batches until the gateway takes no more of them for a while, or has
    /// sent away who does not read. Returns how many it took.
    async fn send_until_stuck(&self, batches: impl Iterator<Item = v1::Batch>) -> usize {
        let mut taken = 0;
        for batch in batches {
            let send = self.to.send(v1::ControllerMessage { message: Some(To::Batch(batch)) });
            match tokio::time::timeout(Duration::from_secs(2), send).await {
                Ok(Ok(())) => taken += 1,
                Ok(Err(_)) | Err(_) => return taken,
            }
        }
        taken
    }
}

fn applies(kinds: impl Iterator<Item = v1::object::Kind>) -> v1::Batch {
    let operation = |kind| v1::Operation {
        operation: Some(v1::operation::Operation::Apply(v1::Object { kind: Some(kind) })),
    };
    v1::Batch { operations: kinds.map(operation).collect(), ..Default::default() }
}

/// Batches of half a MiB, after as many small ones as have places for their
/// acknowledgements.
fn large_at_last() -> impl Iterator<Item = v1::Batch> {
    let small = std::iter::repeat_with(|| applies(std::iter::once(discard("n")))).take(60);
    let name = "x".repeat(512 << 10);
    let large = std::iter::repeat_with(move || applies(std::iter::once(vrf(&name, "64512:1"))));
    small.chain(large.take(140))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_keeps_nobody_else_from_declaring() {
    let place = Place::new();
    place.configure("[api]\nwaiting_mib = 8\n");
    let daemon = Daemon::start(&place);
    let mut greedy = Vec::new();
    for at in 0..20 {
        let one = Greedy::start(&daemon, &format!("greedy-{at}")).await;
        greedy.push(tokio::spawn(async move {
            let taken = one.send_until_stuck(large_at_last()).await;
            (one, taken)
        }));
    }
    let mut stuck = Vec::new();
    for one in greedy {
        let (one, taken) = one.await.expect("it ends");
        // There are places for the answers to 64 batches, and what was on its way to
        // the client when it ceased to read may have held as many.
        assert!(taken < 200, "nobody reads, so nobody goes on");
        stuck.push(one);
    }
    let mut other = daemon.program().await;
    tokio::time::timeout(PATIENCE, other.apply(vrf("red", "64512:1"))).await.expect("its turn");
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_that_nobody_reads_take_bounded_memory() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let before = resident(&daemon);
    let mut stuck = Vec::new();
    for at in 0..6 {
        let one = Greedy::start(&daemon, &format!("greedy-{at}")).await;
        // Each is refused, with a sentence that quotes it.
        let name = "x".repeat(300);
        let batches =
            std::iter::repeat_with(move || applies(std::iter::repeat_with(|| vrf(&name, &name)).take(6_000)));
        stuck.push(tokio::spawn(async move {
            one.send_until_stuck(batches.take(200)).await;
            one
        }));
    }
    let mut most = 0;
    while !stuck.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(resident(&daemon).saturating_sub(before));
    }
    assert!(most < 300 << 20, "{most} bytes more");
}

#[tokio::test]
async fn each_refused_operation_is_named_however_many_there_are() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.program().await;
    let name = "x".repeat(200);
    let batch = applies(std::iter::repeat_with(|| vrf(&name, "64512:1")).take(10_000));
    let id = session.send_batch(batch).await;
    let (accepted, _) = session.acknowledged(id).await;
    assert_eq!(accepted.refused.len(), 10_000);
    for (index, refused) in accepted.refused.iter().enumerate() {
        assert_eq!(refused.index as usize, index);
        let refused = refused.refused.as_ref().expect("why");
        assert_eq!(refused.code(), v1::ErrorCode::InvalidField);
        assert!(!refused.message.is_empty());
    }
    assert!(prost::Message::encoded_len(&accepted) < 4 << 20, "gRPC clients take it");
}

#[tokio::test]
async fn who_does_not_read_for_long_is_sent_away_and_told_why() {
    let place = Place::new();
    place.configure("[api.limits]\nstalled_s = 1\n");
    let daemon = Daemon::start(&place);
    let mut greedy = Greedy::start(&daemon, "greedy").await;
    greedy.send_until_stuck(large_at_last()).await;
    // It begins to read.
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            match greedy.replies.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("nothing was said"),
                Err(status) => return status,
            }
        }
    });
    let status = ended.await.expect("it ends");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("were not read"), "{status}");
    let mut again = daemon.controller("greedy").await;
    again.apply(vrf("red", "64512:1")).await;
}

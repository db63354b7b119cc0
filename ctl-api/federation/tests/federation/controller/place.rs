//! A controller of one test, with its store and its socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tieline_federation::allocation::Circumstances;
use tieline_federation::api::FederationService;
use tieline_federation::controller::questions::{self, Asker};
use tieline_federation::controller::{self, Settings};
use tieline_federation::intent::read::{Documents, File};
use tieline_federation::store::Store;
use tieline_federation::store::embedded::EmbeddedStore;
use tieline_federation::store::state::{self, Request};
use tieline_proto::federation::v1;
use tieline_proto::federation::v1::federation_client::FederationClient;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};

/// Longest wait for something that should happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is there.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// The controller `c1` of the cluster `east`; it ends with this.
pub struct Place {
    directory: PathBuf,
    store: Arc<dyn Store>,
    asker: Asker,
    running: [JoinHandle<()>; 2],
}

impl Place {
    /// Starts it without an intent.
    pub async fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tieline-federation-controller-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory for the test");
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&directory.join("store")).expect("a store"));
        let name = |text: &str| text.parse().expect("a name");
        let settings = Settings { cluster: name("east"), controller: name("c1"), listen: Vec::new() };
        let (asker, questions) = questions::channel();
        let controller = controller::run(settings, Arc::clone(&store), questions, std::future::pending());
        let controller = tokio::spawn(async move { controller.await.expect("the controller runs") });
        let (own, asker) = (asker.clone(), asker);
        let listener = UnixListener::bind(directory.join("socket")).expect("a socket");
        let server = Server::builder()
            .add_service(FederationService::new(asker).into_server())
            .serve_with_incoming(UnixListenerStream::new(listener));
        let server = tokio::spawn(async move { server.await.expect("it serves") });
        Self { directory, store, asker: own, running: [controller, server] }
    }

    /// Applies objects.
    pub async fn apply(&self, text: &str) {
        let file = File { name: "test.yaml".to_owned(), text: text.to_owned() };
        let documents = Documents::read(&[file]).expect("right");
        let request = Request { documents, ..Request::default() };
        state::apply(&*self.store, &request, &Circumstances::default(), None).await.expect("applied");
    }

    /// As [`Place::apply`]; what is not among the objects goes.
    pub async fn apply_only(&self, text: &str) {
        let file = File { name: "test.yaml".to_owned(), text: text.to_owned() };
        let documents = Documents::read(&[file]).expect("right");
        let request = Request { documents, prune: true, ..Request::default() };
        state::apply(&*self.store, &request, &Circumstances::default(), None).await.expect("applied");
    }

    /// A client of its API.
    pub async fn client(&self) -> FederationClient<Channel> {
        let path = format!("unix:{}", self.directory.join("socket").display());
        let channel = Endpoint::from_shared(path).expect("a path").connect().await.expect("it listens");
        FederationClient::new(channel)
    }

    /// How it is, once it has read who it is.
    pub async fn status(&self) -> v1::GetStatusReply {
        eventually("an answer", async || {
            let reply = self.client().await.get_status(v1::GetStatusRequest {}).await;
            reply.ok().map(tonic::Response::into_inner)
        })
        .await
    }

    /// Asks the controller itself.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Where files of the test may be.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What an audit finds, as "place: what".
    pub async fn audit(&self) -> (Vec<String>, v1::AuditReply) {
        let reply = self.client().await.audit(v1::AuditRequest {}).await.expect("an answer").into_inner();
        let texts = reply.differences.iter().map(|one| format!("{}: {}", one.place, one.what));
        (texts.collect(), reply)
    }

    /// The events after a position that are there.
    pub async fn events(&self, after: &str) -> Vec<v1::Event> {
        let request = v1::WatchEventsRequest { after: after.to_owned(), follow: false };
        let mut stream = self.client().await.watch_events(request).await.expect("a stream").into_inner();
        let mut events = Vec::new();
        while let Some(reply) = stream.message().await.expect("a reply") {
            assert_eq!(reply.lost, "", "nothing is lost");
            events.push(reply.event.expect("an event"));
        }
        events
    }

    /// Waits for an event of a kind: the first one.
    pub async fn event(&self, kind: v1::EventKind) -> v1::Event {
        let what = format!("an event {}", kind.as_str_name());
        eventually(&what, async || {
            // Before the controller knows who it is it does not answer.
            let request = v1::WatchEventsRequest::default();
            self.client().await.watch_events(request).await.ok()?;
            self.events("").await.into_iter().find(|event| event.kind() == kind)
        })
        .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for task in &self.running {
            task.abort();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

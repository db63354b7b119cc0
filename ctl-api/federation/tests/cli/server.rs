//! The intent service on a unix socket, over an embedded store.

use std::path::Path;
use std::sync::Arc;

use tieline_federation::api::IntentService;
use tieline_federation::intent::rules::Author;
use tieline_federation::store::embedded::EmbeddedStore;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

/// A server that ends with this.
pub struct Server {
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// Listens on `socket` in a directory.
    pub fn start(directory: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let store = EmbeddedStore::open(&directory.join("served")).expect("a store");
        let service = IntentService::new(Arc::new(store), Author::Central);
        let entered = runtime.enter();
        let listener = UnixListener::bind(directory.join("socket")).expect("a socket");
        drop(entered);
        runtime.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(service.into_server())
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .expect("it serves");
        });
        Self { _runtime: runtime }
    }
}

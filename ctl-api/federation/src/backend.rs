//! Where the intent is: a running controller, a store in a file, or etcd. The
//! latter two are asked through the very service that a controller offers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tieline_federation::api::IntentService;
use tieline_federation::intent::rules::Author;
use tieline_federation::store::Store;
use tieline_federation::store::embedded::EmbeddedStore;
use tieline_federation::store::etcd::{EtcdOptions, EtcdStore};
use tieline_federation::store::seal::Seal;
use tieline_proto::federation::v1;
use tieline_proto::federation::v1::federation_client::FederationClient;
use tieline_proto::federation::v1::intent_client::IntentClient;
use tieline_proto::federation::v1::intent_server::Intent as _;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::cli::{Connection, SOCKET};
use crate::error::Error;

/// How long to try to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest message in bytes: files are at most 64 MiB each.
const MAX_MESSAGE: usize = 256 << 20;

/// Where the intent is.
pub enum Backend {
    /// A running controller.
    Server(IntentClient<Channel>),
    /// A store that this process has opened.
    Local(IntentService),
}

/// Asks either in the same words.
macro_rules! ask {
    ($self:ident . $method:ident ($message:expr), $what:expr) => {
        match $self {
            Backend::Server(client) => client.$method($message).await,
            Backend::Local(service) => service.$method(Request::new($message)).await,
        }
        .map(tonic::Response::into_inner)
        .map_err(|status| Error::from_status(&status, $what))
    };
}

impl Backend {
    /// Connects or opens.
    pub async fn open(connection: &Connection) -> Result<Self, Error> {
        if let Some(server) = &connection.server {
            let channel = connect(server, connection).await?;
            let client = IntentClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            return Ok(Self::Server(client));
        }
        let store = store(connection).await?;
        Ok(Self::Local(IntentService::new(store, Author::Central)))
    }

    /// Declares and removes objects.
    pub async fn apply(&mut self, message: v1::ApplyRequest) -> Result<v1::ApplyReply, Error> {
        ask!(self.apply(message), "apply")
    }

    /// What that would do.
    pub async fn diff(&mut self, message: v1::DiffRequest) -> Result<v1::DiffReply, Error> {
        ask!(self.diff(message), "compare")
    }

    /// One object.
    pub async fn get(&mut self, key: &str) -> Result<v1::GetReply, Error> {
        ask!(self.get(v1::GetRequest { key: key.to_owned() }), &format!("read {key}"))
    }

    /// Objects, all pages of them.
    pub async fn list(&mut self, kind: &str, namespace: &str) -> Result<v1::ListReply, Error> {
        let mut all = v1::ListReply::default();
        loop {
            let message = v1::ListRequest {
                kind: kind.to_owned(),
                namespace: namespace.to_owned(),
                page_size: 0,
                page_token: all.next_page_token.clone(),
            };
            let page: v1::ListReply = ask!(self.list(message), "list objects")?;
            let mut objects = std::mem::take(&mut all.objects);
            objects.extend(page.objects);
            let last = page.next_page_token.is_empty();
            all = v1::ListReply { objects, ..page };
            if last {
                return Ok(all);
            }
        }
    }

    /// What gateways should hold; an empty name means all.
    pub async fn desired(&mut self, gateway: &str) -> Result<v1::GetDesiredReply, Error> {
        let message = v1::GetDesiredRequest { gateway: gateway.to_owned() };
        ask!(self.get_desired(message), "work out what gateways should hold")
    }

    /// Changes as they come.
    pub async fn watch(
        &mut self,
        after: u64,
    ) -> Result<impl Stream<Item = Result<v1::WatchReply, Status>> + use<>, Error> {
        let message = v1::WatchRequest { after_revision: after };
        let stream: std::pin::Pin<Box<dyn Stream<Item = _> + Send>> = match self {
            Self::Server(client) => {
                let stream =
                    client.watch(message).await.map_err(|status| Error::from_status(&status, "watch"))?;
                Box::pin(stream.into_inner())
            }
            Self::Local(service) => {
                let stream = service.watch(Request::new(message)).await;
                stream.map_err(|status| Error::from_status(&status, "watch"))?.into_inner()
            }
        };
        Ok(stream.map(|reply| reply))
    }
}

/// Connects to a running controller, by default the one of this machine.
pub async fn controller(connection: &Connection) -> Result<FederationClient<Channel>, Error> {
    let local = format!("unix:{SOCKET}");
    let channel = connect(connection.server.as_deref().unwrap_or(&local), connection).await?;
    Ok(FederationClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}

/// Opens the store: a file, or etcd.
pub async fn store(connection: &Connection) -> Result<Arc<dyn Store>, Error> {
    if connection.etcd.is_empty() {
        return Ok(Arc::new(EmbeddedStore::open(&connection.store)?));
    }
    etcd(connection).await
}

/// Opens the store as a controller does: a file that is damaged is set aside.
pub async fn controllers_store(connection: &Connection) -> Result<Arc<dyn Store>, Error> {
    if connection.etcd.is_empty() {
        return Ok(Arc::new(EmbeddedStore::open_or_set_aside(&connection.store)?));
    }
    etcd(connection).await
}

async fn etcd(connection: &Connection) -> Result<Arc<dyn Store>, Error> {
    let prefix = connection.etcd_prefix.clone();
    let secure = connection.etcd.iter().any(|member| member.starts_with("https://"));
    let tls = secure.then(|| tls(connection)).transpose()?;
    let seal = connection.seal_key.as_deref().map(Seal::read).transpose()?.map(Arc::new);
    let options = EtcdOptions { prefix, tls, seal, ..EtcdOptions::new(connection.etcd.clone()) };
    Ok(Arc::new(EtcdStore::connect(options).await?))
}

async fn connect(server: &str, connection: &Connection) -> Result<Channel, Error> {
    let usage = |error: tonic::transport::Error| Error::Usage(format!("--server {server}: {error}"));
    let known = ["unix:", "http://", "https://"].iter().any(|scheme| server.starts_with(scheme));
    if !known {
        let sentence = format!("--server {server}: must be unix:PATH, http://HOST:PORT or https://HOST:PORT");
        return Err(Error::Usage(sentence));
    }
    let mut endpoint =
        Endpoint::from_shared(server.to_owned()).map_err(usage)?.connect_timeout(CONNECT_TIMEOUT);
    if server.starts_with("https://") {
        let tls = tls(connection)?;
        let tls = match &connection.server_name {
            Some(name) => tls.domain_name(name),
            None => tls,
        };
        endpoint = endpoint.tls_config(tls).map_err(usage)?;
    }
    endpoint.connect().await.map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Error::Unreachable(format!(
            "cannot reach the controller at {server}: {cause}. Check that it is running"
        ))
    })
}

fn tls(connection: &Connection) -> Result<ClientTlsConfig, Error> {
    let read = |path: &Option<PathBuf>, option: &str| {
        let path = path.as_ref().ok_or_else(|| Error::Usage(format!("https needs --{option} FILE")))?;
        std::fs::read(path).map_err(|error| Error::Usage(format!("--{option} {}: {error}", path.display())))
    };
    let path = connection.key.as_ref().ok_or_else(|| Error::Usage("https needs --key FILE".to_owned()))?;
    let key = tieline_private::read(path).map_err(|exposed| Error::Usage(format!("--key: {exposed}")))?;
    let identity = Identity::from_pem(read(&connection.cert, "cert")?, key);
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&connection.ca, "ca")?))
        .identity(identity))
}

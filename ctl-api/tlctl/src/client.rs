//! The daemon's address and the connection to it.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::operations_client::OperationsClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::error::Error;
use crate::tls::{self, TlsFiles};

/// How long to try to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the whole answer to one question.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest reply in bytes: the counters of a million interfaces.
const MAX_REPLY_BYTES: usize = 256 << 20;

/// Where the daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Path of its unix socket.
    Unix(String),
    /// URL of something that leads to the socket, such as a forwarded port.
    Http(String),
    /// URL of its TCP port, with mutual TLS.
    Https {
        /// The URL.
        url: String,
        /// Who we are, and whom we trust.
        files: Box<TlsFiles>,
    },
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        for scheme in ["http", "https"] {
            match text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")) {
                Some("") => return Err(format!("host and port are missing: {scheme}://HOST:PORT")),
                Some(_) if scheme == "http" => return Ok(Self::Http(text.to_owned())),
                Some(_) => return Ok(Self::Https { url: text.to_owned(), files: Box::default() }),
                None => {}
            }
        }
        let path = text.strip_prefix("unix://").or(text.strip_prefix("unix:")).unwrap_or(text);
        if path.contains("://") {
            return Err("must be the path of a unix socket or https://HOST:PORT".to_owned());
        }
        if path.is_empty() {
            return Err("the path of the socket is empty".to_owned());
        }
        Ok(Self::Unix(path.to_owned()))
    }
}

impl Target {
    /// Connects to the daemon.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let uri = match self {
            Self::Unix(path) => format!("unix:{path}"),
            Self::Http(url) => url.clone(),
            // The connector does TLS; the transport shall not.
            Self::Https { url, .. } => url.replacen("https", "http", 1),
        };
        let endpoint = Endpoint::from_shared(uri)
            .map_err(|error| Error::Usage(format!("{} is no address of a daemon: {error}", self.place())))?
            .connect_timeout(CONNECT_TIMEOUT);
        let connecting = async {
            match self {
                Self::Https { files, .. } => {
                    let connector = files.connector()?;
                    Ok(endpoint.connect_with_connector(connector).await)
                }
                _ => Ok(endpoint.connect().await),
            }
        };
        // The unix connector of the transport has no time limit of its own.
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(Ok(channel))) => Ok(Connection { channel }),
            Ok(Ok(Err(error))) => Err(Error::Unreachable(self.explain(&error))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Unreachable(self.explain_io(&io::ErrorKind::TimedOut.into()))),
        }
    }

    /// A sentence for an operator: what failed, where, and what to do.
    fn explain(&self, error: &tonic::transport::Error) -> String {
        if let Some(sentence) = tls::explain(error) {
            return format!("cannot connect to the daemon at {}: {sentence}", self.place());
        }
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return self.explain_io(io);
            }
            source = inner.source();
        }
        self.explain_io(&io::Error::other(error.to_string()))
    }

    fn explain_io(&self, error: &io::Error) -> String {
        const ADVICE: &str = "Start the daemon (tieline), or say where it listens with --daemon or --socket";
        match (self, error.kind()) {
            (Self::Unix(path), io::ErrorKind::NotFound) => {
                format!("no daemon at {path}: there is no such socket. {ADVICE}")
            }
            (Self::Unix(path), io::ErrorKind::ConnectionRefused) => {
                format!("no daemon at {path}: nobody listens on that socket any more. {ADVICE}")
            }
            (Self::Unix(path), io::ErrorKind::PermissionDenied) => format!(
                "no access to {path}: permission denied. Run tlctl as root or as a user who may write to the socket"
            ),
            (_, io::ErrorKind::TimedOut) => format!(
                "the daemon at {} did not answer within {} s. Check that it is not stopped or stuck",
                self.place(),
                CONNECT_TIMEOUT.as_secs()
            ),
            _ => format!("cannot reach the daemon at {}: {error}. {ADVICE}", self.place()),
        }
    }

    /// Where the daemon is, in a few words.
    fn place(&self) -> &str {
        match self {
            Self::Unix(place) | Self::Http(place) | Self::Https { url: place, .. } => place,
        }
    }
}

/// A connection to the daemon.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: Channel,
}

impl Connection {
    /// The client of the control service.
    pub fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY_BYTES)
    }

    /// The client of the operations service.
    pub fn operations(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY_BYTES)
    }
}

/// Like [`ask`], for an answer in several replies.
pub async fn ask_for_all<T>(
    what: &str,
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
) -> Result<Vec<T>, Error> {
    let all = async {
        let mut stream = call.await?.into_inner();
        let mut replies = Vec::new();
        while let Some(reply) = stream.message().await? {
            replies.push(reply);
        }
        Ok(Response::new(replies))
    };
    ask(what, all).await
}

/// Waits for the answer to one question; `what` names it, as in "read vrf/red".
pub async fn ask<T>(what: &str, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Error> {
    match tokio::time::timeout(REPLY_TIMEOUT, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Error::from_status(&status, what)),
        Err(_) => Err(Error::Unreachable(format!(
            "the daemon did not answer within {} s when asked to {what}. Check that it is not stopped or stuck",
            REPLY_TIMEOUT.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_paths_or_urls() {
        let unix = |path: &str| Ok(Target::Unix(path.to_owned()));
        assert_eq!("/run/x.sock".parse(), unix("/run/x.sock"));
        assert_eq!("unix:/run/x.sock".parse(), unix("/run/x.sock"));
        assert_eq!("unix:///run/x.sock".parse(), unix("/run/x.sock"));
        assert_eq!("x.sock".parse(), unix("x.sock"));
        assert_eq!("http://[::1]:9000".parse(), Ok(Target::Http("http://[::1]:9000".to_owned())));
        let Ok(Target::Https { url, .. }) = "https://gw.example:7070".parse() else { panic!("not https") };
        assert_eq!(url, "https://gw.example:7070");
        for bad in ["https://", "http://", "", "unix:", "ftp://x"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn connection_errors_say_what_to_do() {
        let target = Target::Unix("/run/x.sock".to_owned());
        assert_eq!(
            target.explain_io(&io::ErrorKind::NotFound.into()),
            "no daemon at /run/x.sock: there is no such socket. Start the daemon (tieline), \
             or say where it listens with --daemon or --socket"
        );
        assert!(target.explain_io(&io::ErrorKind::PermissionDenied.into()).contains("Run tlctl as root"));
        assert!(target.explain_io(&io::ErrorKind::TimedOut.into()).contains("within 5 s"));
    }
}

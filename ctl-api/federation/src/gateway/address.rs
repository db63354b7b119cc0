//! Where a gateway's control API is, and the way there.

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::intent::kinds::cluster::Tls;

/// How long to try to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a gateway's control API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket, on the same machine.
    Unix(PathBuf),
    /// TCP with mutual TLS.
    Https {
        /// `https://HOST:PORT`.
        url: String,
        /// Who we are, and whom we trust.
        tls: Tls,
    },
}

impl Address {
    /// Reads `unix:PATH`, or `https://HOST:PORT` with its files.
    ///
    /// # Errors
    /// When it is neither, or https without files.
    pub fn new(endpoint: &str, tls: Option<&Tls>) -> Result<Self, String> {
        if let Some(path) = endpoint.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => {
                    Err(format!("{endpoint:?} has no absolute path: write unix:/run/tieline/control.sock"))
                }
            };
        }
        match (endpoint.strip_prefix("https://"), tls) {
            (None, _) => Err(format!("{endpoint:?} is no endpoint: write unix:PATH or https://HOST:PORT")),
            (Some(""), _) => Err(format!("{endpoint:?} has no host: write https://HOST:PORT")),
            (Some(_), None) => Err(format!("{endpoint:?} needs tls: name ca, certificate and key")),
            (Some(_), Some(tls)) => Ok(Self::Https { url: endpoint.to_owned(), tls: tls.clone() }),
        }
    }

    /// Connects. Files are read anew, so that a certificate can be replaced.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(&self) -> Result<Channel, String> {
        let connecting = async {
            let endpoint = self.endpoint().await?.connect_timeout(CONNECT_TIMEOUT);
            endpoint.connect().await.map_err(|error| format!("cannot connect to {self}: {}", causes(&error)))
        };
        let timed_out = |_| format!("{self} did not answer within {} s", CONNECT_TIMEOUT.as_secs());
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(timed_out)?
    }

    async fn endpoint(&self) -> Result<Endpoint, String> {
        let unusable = |error| format!("{self} is no address of a gateway: {error}");
        match self {
            Self::Unix(path) => Endpoint::from_shared(format!("unix:{}", path.display())).map_err(unusable),
            Self::Https { url, tls } => {
                let mut config = ClientTlsConfig::new()
                    .ca_certificate(Certificate::from_pem(read("ca", &tls.ca).await?))
                    .identity(Identity::from_pem(
                        read("certificate", &tls.certificate).await?,
                        secret("key", &tls.key)?,
                    ));
                if let Some(name) = &tls.server_name {
                    config = config.domain_name(name);
                }
                let endpoint = Endpoint::from_shared(url.clone()).map_err(unusable)?.tcp_nodelay(true);
                endpoint.tls_config(config).map_err(|error| {
                    format!(
                        "tls.ca {}, tls.certificate {} and tls.key {} cannot be used together: {}",
                        tls.ca,
                        tls.certificate,
                        tls.key,
                        causes(&error)
                    )
                })
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Https { url, .. } => f.write_str(url),
        }
    }
}

async fn read(field: &str, path: &str) -> Result<Vec<u8>, String> {
    tokio::fs::read(Path::new(path)).await.map_err(|error| format!("cannot read tls.{field} {path}: {error}"))
}

/// A key. It is small, and on a local disk.
fn secret(field: &str, path: &str) -> Result<Vec<u8>, String> {
    tieline_private::read(Path::new(path)).map_err(|exposed| format!("tls.{field}: {exposed}"))
}

/// What is behind an error, down to the cause: the transport's own words are
/// only "transport error".
fn causes(error: &tonic::transport::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if words.last() != Some(&said) {
            words.push(said);
        }
        next = cause.source();
    }
    match words.is_empty() {
        true => error.to_string(),
        false => words.join(": "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> Tls {
        let file = |name: &str| format!("/nowhere/{name}.pem");
        Tls { ca: file("ca"), certificate: file("cert"), key: file("key"), server_name: None }
    }

    #[test]
    fn endpoints_are_sockets_or_urls() {
        for text in ["unix:/run/x.sock", "unix:///run/x.sock"] {
            assert_eq!(Address::new(text, None), Ok(Address::Unix("/run/x.sock".into())));
        }
        let https = Address::new("https://gw.example:7447", Some(&tls())).expect("an address");
        assert_eq!(https.to_string(), "https://gw.example:7447");
        for (text, words) in [
            ("unix:x.sock", "absolute path"),
            ("http://198.18.0.1:7447", "unix:PATH or https"),
            ("https://", "no host"),
            ("https://198.18.0.1:7447", "needs tls"),
        ] {
            let error = Address::new(text, None).expect_err(text);
            assert!(error.contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let https = Address::new("https://198.18.0.1:7447", Some(&tls())).expect("an address");
        let error = https.connect().await.expect_err("no files");
        assert!(error.contains("cannot read tls.ca /nowhere/ca.pem"), "{error}");
        let unix = Address::new("unix:/nowhere/x.sock", None).expect("an address");
        let error = unix.connect().await.expect_err("no socket");
        assert!(
            error.contains("cannot connect to unix:/nowhere/x.sock") && error.contains("No such file"),
            "{error}"
        );
    }
}

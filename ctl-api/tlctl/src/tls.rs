//! TLS to a daemon, and what can be wrong with it, in words.

use std::error::Error as StdError;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore,
};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use crate::error::Error;

/// Port of a URL without one.
const DEFAULT_PORT: u16 = 443;

/// Who we are, and whom we trust.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// CA of the daemon's certificate.
    pub ca: PathBuf,
    /// Certificate to show.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Name in the daemon's certificate, if it is not the host of the URL.
    pub server_name: Option<String>,
}

impl TlsFiles {
    /// What connects with these files.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn connector(&self) -> Result<Connector, Error> {
        let mut roots = RootCertStore::empty();
        for authority in certificates("--ca", &self.ca)? {
            roots.add(authority).map_err(unusable("--ca", &self.ca))?;
        }
        let chain = certificates("--cert", &self.cert)?;
        let secret = tieline_private::read(&self.key).map_err(unusable("--key", &self.key))?;
        let key = PrivateKeyDer::from_pem_slice(&secret).map_err(unusable("--key", &self.key))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable("--ca", &self.ca))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| {
                Error::Usage(format!(
                    "--cert {} with --key {} cannot be used: {error}: the key must be that of the certificate, \
                     and the certificate X.509 version 3",
                    self.cert.display(),
                    self.key.display()
                ))
            })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Connector { config: Arc::new(config), server_name: self.server_name.clone() })
    }
}

fn certificates(option: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unusable = unusable(option, path);
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(&unusable)?.collect();
    let all = all.map_err(&unusable)?;
    match all.is_empty() {
        true => Err(unusable(tokio_rustls::rustls::pki_types::pem::Error::NoItemsFound)),
        false => Ok(all),
    }
}

fn unusable<E: Display>(option: &'static str, path: &Path) -> impl Fn(E) -> Error {
    move |error| Error::Usage(format!("{option} {} cannot be used: {error}", path.display()))
}

/// Connects over TCP and TLS.
pub struct Connector {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (config, server_name) = (Arc::clone(&self.config), self.server_name.clone());
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let name = server_name.unwrap_or_else(|| host.clone());
            let name = ServerName::try_from(name).map_err(io::Error::other)?;
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(DEFAULT_PORT))).await?;
            stream.set_nodelay(true)?;
            let mut stream = TlsConnector::from(config).connect(name, stream).await?;
            // In TLS 1.3 the daemon judges our certificate after the handshake
            // has ended for us. Its first bytes say that it is good; else why.
            if stream.fill_buf().await?.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    "it closed the connection at once: too many may be open, see its log",
                ));
            }
            Ok(TokioIo::new(stream))
        })
    }
}

/// If TLS is what went wrong: how, and what to do.
pub fn explain(error: &(dyn StdError + 'static)) -> Option<String> {
    let error = find(error)?;
    Some(match error {
        TlsError::InvalidCertificate(about) => daemons_certificate(about),
        TlsError::AlertReceived(alert) => our_certificate(*alert),
        other => format!("TLS failed: {other}"),
    })
}

/// The certificate that the daemon has shown.
fn daemons_certificate(about: &CertificateError) -> String {
    match about {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not from the CA in --ca: give the CA that has signed it".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: replace the file that api.tls.certificate names there".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: compare the clocks".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{about}: use a name that is in it, or say which with --server-name")
        }
        other => format!("its certificate cannot be trusted: {other}"),
    }
}

/// What the daemon says about ours.
fn our_certificate(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => {
            "it says that the certificate in --cert has expired: get a new one".to_owned()
        }
        AlertDescription::CertificateRevoked => {
            "it says that the certificate in --cert is revoked: get a new one".to_owned()
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it does not trust the CA of the certificate in --cert: use one from the CA that api.tls.client_ca names there"
                .to_owned()
        }
        AlertDescription::CertificateRequired => "it wants a certificate: give --cert and --key".to_owned(),
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => {
            "it does not accept the certificate in --cert: its log says why".to_owned()
        }
        AlertDescription::ProtocolVersion => "it speaks TLS 1.3 only".to_owned(),
        other => format!("it has ended TLS: {other:?}"),
    }
}

fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // What an I/O error has inside is not its source, but beside it.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_found_inside_and_explained() {
        let inside = |error| io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        let cases = [
            (TlsError::InvalidCertificate(CertificateError::UnknownIssuer), "not from the CA in --ca"),
            (TlsError::InvalidCertificate(CertificateError::Expired), "its certificate has expired"),
            (TlsError::InvalidCertificate(CertificateError::NotValidForName), "--server-name"),
            (TlsError::AlertReceived(AlertDescription::CertificateExpired), "--cert has expired"),
            (TlsError::AlertReceived(AlertDescription::UnknownCA), "api.tls.client_ca"),
            (TlsError::AlertReceived(AlertDescription::CertificateRequired), "give --cert"),
        ];
        for (error, words) in cases {
            let sentence = explain(&inside(error.clone())).expect("it is TLS");
            assert!(sentence.contains(words), "{error}: {sentence}");
        }
        assert_eq!(explain(&io::Error::other("something else")), None);
    }
}

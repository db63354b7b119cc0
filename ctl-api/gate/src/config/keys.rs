//! The keys of `[api]` that all servers have, and what they mean: TCP with TLS,
//! roles, limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{Objection, within};
use crate::limits::ApiLimits;
use crate::roles::{Pattern, Roles, Who};
use crate::tls::TlsSettings;

/// `[api.tls]`: PEM files.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The server's certificate, and those between it and its CA.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The CAs of clients.
    pub client_ca: Option<PathBuf>,
    /// Lists of revoked certificates.
    pub crl: Option<PathBuf>,
    /// How often to look whether a file has changed, seconds.
    pub check_s: Option<u64>,
}

/// `[api.limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "they are documented with the limits themselves")]
pub struct Limits {
    pub connections: Option<usize>,
    pub connections_per_peer: Option<usize>,
    pub handshakes: Option<usize>,
    pub streams_per_connection: Option<u32>,
    pub calls_per_peer: Option<usize>,
    pub reads_per_peer: Option<usize>,
    pub requests_per_second: Option<u32>,
    pub kib_per_second: Option<u64>,
    pub message_kib: Option<usize>,
    pub receive_memory_mib: Option<usize>,
    pub reply_memory_mib: Option<usize>,
    pub headers_kib: Option<u32>,
    pub resets: Option<usize>,
    pub handshake_s: Option<u64>,
    pub keepalive_s: Option<u64>,
    pub keepalive_timeout_s: Option<u64>,
    pub stalled_s: Option<u64>,
}

impl Limits {
    /// The limits; `default` are those of keys that are not there.
    ///
    /// # Errors
    /// The key that will not do, and why.
    pub fn check(&self, default: ApiLimits) -> Result<ApiLimits, Objection> {
        let seconds = |key, value, default: Duration| {
            within(key, value, default.as_secs(), 1..=3600).map(Duration::from_secs)
        };
        Ok(ApiLimits {
            connections: within("api.limits.connections", self.connections, default.connections, 1..=65_536)?,
            connections_per_peer: within(
                "api.limits.connections_per_peer",
                self.connections_per_peer,
                default.connections_per_peer,
                1..=65_536,
            )?,
            handshakes: within("api.limits.handshakes", self.handshakes, default.handshakes, 1..=65_536)?,
            streams_per_connection: within(
                "api.limits.streams_per_connection",
                self.streams_per_connection,
                default.streams_per_connection,
                1..=65_536,
            )?,
            calls_per_peer: within(
                "api.limits.calls_per_peer",
                self.calls_per_peer,
                default.calls_per_peer,
                1..=1_000_000,
            )?,
            reads_per_peer: within(
                "api.limits.reads_per_peer",
                self.reads_per_peer,
                default.reads_per_peer,
                1..=1024,
            )?,
            requests_per_second: within(
                "api.limits.requests_per_second",
                self.requests_per_second,
                default.requests_per_second,
                1..=10_000_000,
            )?,
            bytes_per_second: 1024
                * within(
                    "api.limits.kib_per_second",
                    self.kib_per_second,
                    default.bytes_per_second >> 10,
                    1..=100 << 20,
                )?,
            message: 1024
                * within("api.limits.message_kib", self.message_kib, default.message >> 10, 16..=1 << 20)?,
            receive_memory: (1 << 20)
                * within(
                    "api.limits.receive_memory_mib",
                    self.receive_memory_mib,
                    default.receive_memory >> 20,
                    1..=1 << 20,
                )?,
            waiting: default.waiting,
            replies: (1 << 20)
                * within(
                    "api.limits.reply_memory_mib",
                    self.reply_memory_mib,
                    default.replies >> 20,
                    8..=1 << 20,
                )?,
            headers: 1024
                * within("api.limits.headers_kib", self.headers_kib, default.headers >> 10, 1..=1024)?,
            resets: within("api.limits.resets", self.resets, default.resets, 1..=65_536)?,
            handshake: seconds("api.limits.handshake_s", self.handshake_s, default.handshake)?,
            keepalive: seconds("api.limits.keepalive_s", self.keepalive_s, default.keepalive)?,
            keepalive_timeout: seconds(
                "api.limits.keepalive_timeout_s",
                self.keepalive_timeout_s,
                default.keepalive_timeout,
            )?,
            stalled: seconds("api.limits.stalled_s", self.stalled_s, default.stalled)?,
        })
    }
}

/// Where a server listens for TCP, if anywhere.
///
/// # Errors
/// When the keys do not go together, or one of them is missing.
pub fn tcp<G>(
    listen: Option<String>,
    tls: Option<Tls>,
    roles: &Roles<G>,
) -> Result<Option<(SocketAddr, TlsSettings)>, Objection> {
    let Some(text) = listen else {
        return match tls {
            None => Ok(None),
            Some(_) => Err(("api.tls", "there is no api.listen for it: add that, or remove this".to_owned())),
        };
    };
    let address = text.parse().map_err(|_| {
        let sentence = format!(
            "{text:?} is no IP address with a port: use one such as \"127.0.0.1:7070\" or \"[::1]:7070\""
        );
        ("api.listen", sentence)
    })?;
    let Some(tls) = tls else {
        let sentence = "TCP is served with mutual TLS only: add [api.tls] with certificate, key and client_ca, \
                        or remove this key and use the Unix socket";
        return Err(("api.listen", sentence.to_owned()));
    };
    if !roles.entries.iter().any(|entry| matches!(entry.who, Who::Certificate(_))) {
        let sentence = "nobody could do anything there: add [[api.roles]] with the name in a certificate and a role, \
                        such as name = \"ctl-*.example\", role = \"controller\"";
        return Err(("api.listen", sentence.to_owned()));
    }
    Ok(Some((address, check_tls(tls)?)))
}

fn check_tls(tls: Tls) -> Result<TlsSettings, Objection> {
    let needed = |key: &'static str, path: Option<PathBuf>| {
        path.filter(|path| path.file_name().is_some())
            .ok_or((key, "it is missing: name a PEM file".to_owned()))
    };
    Ok(TlsSettings {
        certificate: needed("api.tls.certificate", tls.certificate)?,
        key: needed("api.tls.key", tls.key)?,
        client_ca: needed("api.tls.client_ca", tls.client_ca)?,
        crl: tls.crl,
        check: Duration::from_secs(within("api.tls.check_s", tls.check_s, 5, 1..=3600)?),
    })
}

/// Whom an entry of `[[api.roles]]` means.
///
/// # Errors
/// When it means nobody, or cannot be told.
pub fn who(name: Option<String>, uid: Option<u32>) -> Result<Who, Objection> {
    match (name, uid) {
        (Some(name), None) => Ok(Who::Certificate(Pattern::new(name).map_err(|text| ("api.roles", text))?)),
        (None, Some(uid)) => Ok(Who::User(uid)),
        _ => {
            let sentence = "each entry means certificates by name, or a user of the Unix socket by uid: \
                            give one of the two";
            Err(("api.roles", sentence.to_owned()))
        }
    }
}

//! What `[api]` means: where clients come in, who may do what, and how much.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tieline_gate::Role;
use tieline_gate::limits::ApiLimits;
use tieline_gate::roles::{Pattern, RoleEntry, Roles, Who};
use tieline_gate::tls::TlsSettings;

use super::{DEFAULT_SOCKET, Objection, check_socket, file, within};
use crate::rights::{Grants, Objects};
use crate::socket::Permissions;

/// Where the system keeps its groups.
const GROUPS: &str = "/etc/group";

/// The control API, checked.
#[derive(Debug, Clone)]
pub struct Api {
    /// Path of its Unix socket.
    pub socket: PathBuf,
    /// Who may use the socket.
    pub permissions: Permissions,
    /// Its TCP address with the TLS that is spoken there, if it has one.
    pub tcp: Option<(SocketAddr, TlsSettings)>,
    /// Who has which role.
    pub roles: Roles<Grants>,
    /// How much of everything clients may have.
    pub limits: ApiLimits,
}

/// Checks `[api]`.
///
/// # Errors
/// The key that will not do, and why.
pub fn check(api: file::Api) -> Result<Api, Objection> {
    let socket = api.socket.unwrap_or_else(|| DEFAULT_SOCKET.into());
    let default = Permissions::default();
    let permissions = Permissions {
        mode: check_mode("api.socket_mode", api.socket_mode, default.mode)?,
        directory_mode: check_mode(
            "api.socket_directory_mode",
            api.socket_directory_mode,
            default.directory_mode,
        )?,
        group: check_group(api.socket_group)?,
    };
    let roles = Roles {
        entries: api.roles.into_iter().map(check_role).collect::<Result<_, _>>()?,
        socket_role: api.socket_role.unwrap_or(Role::Controller),
    };
    Ok(Api {
        socket: check_socket(socket).map_err(|message| ("api.socket", message))?,
        permissions,
        tcp: check_tcp(api.listen, api.tls, &roles)?,
        roles,
        limits: check_limits(&api.limits, api.waiting_mib)?,
    })
}

fn check_tcp(
    listen: Option<String>,
    tls: Option<file::Tls>,
    roles: &Roles<Grants>,
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

fn check_tls(tls: file::Tls) -> Result<TlsSettings, Objection> {
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

fn check_role(entry: file::RoleEntry) -> Result<RoleEntry<Grants>, Objection> {
    let who = match (entry.name, entry.uid) {
        (Some(name), None) => Who::Certificate(Pattern::new(name).map_err(|text| ("api.roles", text))?),
        (None, Some(uid)) => Who::User(uid),
        _ => {
            let sentence = "each entry means certificates by name, or a user of the Unix socket by uid: \
                            give one of the two";
            return Err(("api.roles", sentence.to_owned()));
        }
    };
    let parse = |text: String| Objects::parse(&text).map_err(|sentence| ("api.roles", sentence));
    let objects = match entry.objects {
        None => None,
        Some(all) => Some(all.into_iter().map(parse).collect::<Result<_, _>>()?),
    };
    let grant = Grants { controllers: entry.controllers.map(Into::into), objects };
    Ok(RoleEntry { who, role: entry.role, grant })
}

/// Permissions as `chmod` takes them.
fn check_mode(key: &'static str, text: Option<String>, default: u32) -> Result<u32, Objection> {
    let Some(text) = text else { return Ok(default) };
    match u32::from_str_radix(&text, 8) {
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        _ => Err((key, format!("{text:?} is no mode: use octal digits such as \"0660\""))),
    }
}

/// A group by name or number.
fn check_group(group: Option<String>) -> Result<Option<u32>, Objection> {
    let Some(group) = group else { return Ok(None) };
    if let Ok(number) = group.parse() {
        return Ok(Some(number));
    }
    let key = "api.socket_group";
    let groups = std::fs::read_to_string(GROUPS).map_err(|error| (key, format!("{GROUPS}: {error}")))?;
    match group_number(&groups, &group) {
        Some(number) => Ok(Some(number)),
        None => Err((key, format!("there is no group {group:?} in {GROUPS}: make it, or give its number"))),
    }
}

/// Of lines such as `wheel:x:10:root`.
fn group_number(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn check_limits(limits: &file::ApiLimits, waiting_mib: Option<usize>) -> Result<ApiLimits, Objection> {
    let default = ApiLimits::default();
    let seconds = |key, value, default: Duration| {
        within(key, value, default.as_secs(), 1..=3600).map(Duration::from_secs)
    };
    Ok(ApiLimits {
        connections: within("api.limits.connections", limits.connections, default.connections, 1..=65_536)?,
        connections_per_peer: within(
            "api.limits.connections_per_peer",
            limits.connections_per_peer,
            default.connections_per_peer,
            1..=65_536,
        )?,
        handshakes: within("api.limits.handshakes", limits.handshakes, default.handshakes, 1..=65_536)?,
        streams_per_connection: within(
            "api.limits.streams_per_connection",
            limits.streams_per_connection,
            default.streams_per_connection,
            1..=65_536,
        )?,
        calls_per_peer: within(
            "api.limits.calls_per_peer",
            limits.calls_per_peer,
            default.calls_per_peer,
            1..=1_000_000,
        )?,
        reads_per_peer: within(
            "api.limits.reads_per_peer",
            limits.reads_per_peer,
            default.reads_per_peer,
            1..=1024,
        )?,
        requests_per_second: within(
            "api.limits.requests_per_second",
            limits.requests_per_second,
            default.requests_per_second,
            1..=10_000_000,
        )?,
        bytes_per_second: 1024
            * within(
                "api.limits.kib_per_second",
                limits.kib_per_second,
                default.bytes_per_second >> 10,
                1..=100 << 20,
            )?,
        message: 1024
            * within("api.limits.message_kib", limits.message_kib, default.message >> 10, 16..=1 << 20)?,
        receive_memory: (1 << 20)
            * within(
                "api.limits.receive_memory_mib",
                limits.receive_memory_mib,
                default.receive_memory >> 20,
                1..=1 << 20,
            )?,
        waiting: within("api.waiting_mib", waiting_mib, default.waiting >> 20, 8..=65_536)? << 20,
        replies: (1 << 20)
            * within(
                "api.limits.reply_memory_mib",
                limits.reply_memory_mib,
                default.replies >> 20,
                8..=1 << 20,
            )?,
        headers: 1024
            * within("api.limits.headers_kib", limits.headers_kib, default.headers >> 10, 1..=1024)?,
        resets: within("api.limits.resets", limits.resets, default.resets, 1..=65_536)?,
        handshake: seconds("api.limits.handshake_s", limits.handshake_s, default.handshake)?,
        keepalive: seconds("api.limits.keepalive_s", limits.keepalive_s, default.keepalive)?,
        keepalive_timeout: seconds(
            "api.limits.keepalive_timeout_s",
            limits.keepalive_timeout_s,
            default.keepalive_timeout,
        )?,
        stalled: seconds("api.limits.stalled_s", limits.stalled_s, default.stalled)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name() {
        let groups = "root:x:0:\nwheel:x:10:root,me\nbad\nworse:x\n";
        assert_eq!(group_number(groups, "wheel"), Some(10));
        assert_eq!(group_number(groups, "root"), Some(0));
        for none in ["whee", "bad", "worse", "x", ""] {
            assert_eq!(group_number(groups, none), None, "{none}");
        }
        assert_eq!(check_group(Some("77".to_owned())), Ok(Some(77)));
    }

    #[test]
    fn the_defaults_are_those_of_the_limits() {
        assert_eq!(check_limits(&file::ApiLimits::default(), None), Ok(ApiLimits::default()));
    }
}

//! What `[api]` means: where clients come in, who may do what, and how much.

use std::net::SocketAddr;
use std::path::PathBuf;

use tieline_gate::Role;
use tieline_gate::config::{Objection, keys, within};
use tieline_gate::limits::ApiLimits;
use tieline_gate::roles::{RoleEntry, Roles};
use tieline_gate::tls::TlsSettings;

use super::{DEFAULT_SOCKET, check_socket, file};
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
        tcp: keys::tcp(api.listen, api.tls, &roles)?,
        roles,
        limits: check_limits(&api.limits, api.waiting_mib)?,
    })
}

fn check_role(entry: file::RoleEntry) -> Result<RoleEntry<Grants>, Objection> {
    let who = keys::who(entry.name, entry.uid)?;
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

fn check_limits(limits: &keys::Limits, waiting_mib: Option<usize>) -> Result<ApiLimits, Objection> {
    let default = ApiLimits::default();
    let waiting = within("api.waiting_mib", waiting_mib, default.waiting >> 20, 8..=65_536)? << 20;
    limits.check(ApiLimits { waiting, ..default })
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
        assert_eq!(check_limits(&keys::Limits::default(), None), Ok(ApiLimits::default()));
    }
}

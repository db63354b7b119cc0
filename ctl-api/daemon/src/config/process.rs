//! What `[process]` means.

use tieline_process::privileges::{Capability, Keep, User};

use super::{Objection, file};
use crate::process::DEFAULT_USER;

/// Checks `[process]`; the process is also in the group of the control socket, so
/// that it can give it to that.
///
/// # Errors
/// The key that will not do, and why.
pub fn check(process: &file::Process, socket_group: Option<u32>) -> Result<Keep, Objection> {
    let cannot_tell = |error: std::io::Error| ("process.user", format!("users cannot be looked up: {error}"));
    let user = match &process.user {
        Some(text) => {
            let found = User::find(text).map_err(cannot_tell)?;
            Some(found.ok_or_else(|| {
                ("process.user", format!("there is no user {text:?}: make it, or give its number"))
            })?)
        }
        None if User::own().uid == 0 => User::find(DEFAULT_USER).map_err(cannot_tell)?,
        None => None,
    };
    let parse = |text: &String| {
        text.parse::<Capability>().map_err(|_| {
            let sentence =
                format!("{text:?} is no capability: use a name such as \"CAP_SYS_ADMIN\" (capabilities(7))");
            ("process.capabilities", sentence)
        })
    };
    let capabilities = process.capabilities.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(Keep { user, groups: socket_group.into_iter().collect(), capabilities })
}

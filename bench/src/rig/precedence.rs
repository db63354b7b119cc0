//! Precedence over what else runs on the machine.

use std::fs;
use std::io;

use anyhow::{Result, ensure};

/// The highest priority in the kernel's words.
const HIGHEST: libc::c_int = -20;
/// The scheduler shares a core between sessions first, and then between the
/// processes of a session, where the kernel groups them so.
const SESSION: &str = "/proc/self/autogroup";

/// While this lives, the rig and what it starts run before everything else of
/// normal priority: a shared machine's other work then goes to other cores.
#[derive(Debug)]
pub struct Precedence {
    session_before: Option<String>,
}

impl Precedence {
    /// Takes it.
    pub fn new() -> Result<Self> {
        // SAFETY: touches no memory of ours.
        let status = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, HIGHEST) };
        ensure!(status == 0, "cannot raise the priority: {}. The rig needs root", io::Error::last_os_error());
        // Kernels without the grouping have no such file.
        let session_before = fs::read_to_string(SESSION).ok().and_then(|text| nice_of(&text));
        if session_before.is_some() {
            fs::write(SESSION, HIGHEST.to_string())?;
        }
        Ok(Self { session_before })
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        if let Some(before) = &self.session_before {
            // The session may belong to a shell that goes on; there is no
            // other way to give it back.
            let _ = fs::write(SESSION, before);
        }
    }
}

/// The priority in a text such as "/autogroup-151 nice 0".
fn nice_of(text: &str) -> Option<String> {
    Some(text.split_once(" nice ")?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_tells_its_priority() {
        assert_eq!(nice_of("/autogroup-151 nice -5\n").as_deref(), Some("-5"));
        assert_eq!(nice_of("/"), None);
    }
}

//! Where DPDK's messages go: to standard error, or, while DPDK starts or opens
//! a port, to the caller, as part of the error if it fails.

use std::ffi::c_char;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use tieline_dpdk_sys as sys;

/// Most bytes of messages that are kept for one error.
const CAPTURE_LIMIT: usize = 4096;

/// The least severe messages of DPDK that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// What makes something fail.
    Error,
    /// What may surprise.
    #[default]
    Warning,
    /// What is worth knowing: drivers found, ports changing state.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    /// DPDK's name of the level.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warning => "warning",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}

/// Messages being kept, if they are.
static CAPTURED: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// Sends DPDK's messages here from now on. False if the C library refuses,
/// and then they go where DPDK sends them: to standard error and syslog.
pub(crate) fn install() -> bool {
    // SAFETY: the sink stays valid for ever and may be called by any thread.
    unsafe { sys::tieline_log_to(Some(receive)) == 0 }
}

/// Runs `action` and returns with its result what DPDK has said meanwhile.
/// Calls do not nest and must not overlap.
pub(crate) fn capture<T>(action: impl FnOnce() -> T) -> (T, Messages) {
    *lock() = Some(Vec::new());
    let result = action();
    let bytes = lock().take().unwrap_or_default();
    (result, Messages(String::from_utf8_lossy(&bytes).into_owned()))
}

fn lock() -> std::sync::MutexGuard<'static, Option<Vec<u8>>> {
    CAPTURED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What DPDK has said during an action.
#[derive(Debug)]
pub(crate) struct Messages(String);

impl Messages {
    /// The messages in one line, for an error.
    pub(crate) fn in_one_line(&self) -> String {
        let lines: Vec<&str> = self.0.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() { "nothing more".to_owned() } else { lines.join("; ") }
    }

    /// The messages as they came.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// The messages, a line each.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

unsafe extern "C" fn receive(text: *const c_char, length: usize) {
    // SAFETY: the C library hands over `length` bytes of its buffer.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    match lock().as_mut() {
        Some(kept) => {
            let room = CAPTURE_LIMIT.saturating_sub(kept.len());
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        None => write_to_stderr(bytes),
    }
}

fn write_to_stderr(bytes: &[u8]) {
    // Nobody is left to tell if standard error is closed.
    let _ = std::io::stderr().lock().write_all(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(text: &str) {
        // SAFETY: pointer and length are of one string.
        unsafe { receive(text.as_ptr().cast(), text.len()) };
    }

    #[test]
    fn captured_messages_are_bounded_and_fit_into_one_line() {
        let ((), messages) = capture(|| {
            say("EAL: first\n");
            say("\n");
            say("  second\n");
        });
        assert_eq!(messages.in_one_line(), "EAL: first; second");
        let ((), messages) = capture(|| (0..1000).for_each(|_| say("0123456789")));
        assert_eq!(messages.0.len(), CAPTURE_LIMIT);
        let ((), messages) = capture(|| ());
        assert_eq!(messages.in_one_line(), "nothing more");
    }
}

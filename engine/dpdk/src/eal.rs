//! DPDK's environment abstraction layer (EAL).
//!
//! It is started once a process and lives until the process ends; nothing of
//! it stays on disk or in the way of another daemon on the same host: memory
//! is anonymous, there is no shared configuration and no telemetry socket.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use tieline_dpdk_sys as sys;

use crate::affinity::Affinity;
use crate::hugepages;
use crate::log::{self, LogLevel};

/// Memory without hugepages unless the configuration says otherwise, MiB. It
/// is address space: the kernel gives pages as they are used.
pub const DEFAULT_MEMORY_MIB: u32 = 256;

/// Set by the first start, whether it succeeds or not: DPDK cannot begin anew
/// after a failure halfway.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Whether hugepages may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hugepages {
    /// If enough of them are free for the memory wanted.
    #[default]
    Auto,
    /// No, even if there are some.
    Never,
}

/// How to start.
#[derive(Debug, Clone)]
pub struct EalConfig {
    /// Names this process among DPDK's on the host: letters, digits, `-`, `_`
    /// and `.`.
    pub file_prefix: String,
    /// Whether hugepages may be used.
    pub hugepages: Hugepages,
    /// Memory for pools and rings, MiB. With hugepages this much is taken at
    /// start (nothing, if not given) and more when needed; without them it is
    /// all there is, [`DEFAULT_MEMORY_MIB`] if not given.
    pub memory_mib: Option<u32>,
    /// Whether PCI devices may be opened. If not, none is looked for.
    pub pci: bool,
    /// The least severe messages of DPDK that are shown.
    pub log_level: LogLevel,
    /// More arguments for `rte_eal_init`, behind ours.
    pub extra_args: Vec<String>,
}

impl Default for EalConfig {
    /// Hugepages if there are enough, virtual devices only, warnings and worse
    /// on standard error.
    fn default() -> Self {
        Self {
            file_prefix: "tieline".to_owned(),
            hugepages: Hugepages::Auto,
            memory_mib: None,
            pci: false,
            log_level: LogLevel::Warning,
            extra_args: Vec::new(),
        }
    }
}

/// Why the EAL did not start.
#[derive(Debug, Error)]
pub enum EalError {
    /// It was started before, or a start has failed before.
    #[error("DPDK was started in this process before, and it can be started only once: restart the process")]
    AlreadyStarted,
    /// The prefix would not do as a file name.
    #[error("DPDK file prefix {0:?} is not usable: use letters, digits, '-', '_' and '.'")]
    FilePrefix(String),
    /// An argument would be cut short in C.
    #[error("DPDK argument {0:?} holds a zero byte: remove it")]
    Argument(String),
    /// The cores of the starting thread could not be saved or restored.
    #[error("the cores that the starting thread may run on could not be {0}: {1}")]
    Affinity(&'static str, #[source] io::Error),
    /// `rte_eal_init` failed.
    #[error(
        "DPDK did not start: {reason}. It was started with \"{arguments}\" and says: {messages}. \
         Check the memory wanted against free hugepages and the memory limit of the service"
    )]
    Init {
        /// `rte_errno` in words.
        reason: String,
        /// The arguments, separated by spaces.
        arguments: String,
        /// DPDK's own messages.
        messages: String,
    },
}

/// Proof that the EAL runs, which it does until the process ends.
#[derive(Debug, Clone)]
pub struct Eal {
    hugepages: bool,
    pci: bool,
    messages: String,
}

impl Eal {
    /// Starts DPDK. The calling thread, and threads that it starts later, stay
    /// free to run on all the cores that they could run on before.
    ///
    /// # Errors
    /// See [`EalError`].
    pub fn start(config: EalConfig) -> Result<Self, EalError> {
        check_prefix(&config.file_prefix)?;
        let saved = Affinity::of_this_thread().map_err(|error| EalError::Affinity("read", error))?;
        let hugepages = match config.hugepages {
            Hugepages::Auto => {
                hugepages::free_mib() >= u64::from(config.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB))
            }
            Hugepages::Never => false,
        };
        let arguments = arguments(&config, hugepages, &saved);
        let owned = arguments
            .iter()
            .map(|argument| CString::new(argument.as_str()).map_err(|_| EalError::Argument(argument.clone())))
            .collect::<Result<Vec<_>, _>>()?;

        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(EalError::AlreadyStarted);
        }
        log::install();
        let (status, messages) = log::capture(|| init(owned));
        let restored = saved.apply_to_this_thread();
        remove_runtime_directory();
        if status < 0 {
            return Err(EalError::Init {
                reason: crate::errno_text(crate::last_errno()),
                arguments: arguments.join(" "),
                messages: messages.in_one_line(),
            });
        }
        restored.map_err(|error| EalError::Affinity("restored", error))?;
        Ok(Self { hugepages, pci: config.pci, messages: messages.into_text() })
    }

    /// Whether packets lie in hugepages.
    pub fn hugepages(&self) -> bool {
        self.hugepages
    }

    /// What DPDK has said while it started, for a debug log: it also warns of
    /// what does not matter, such as a size of hugepages that nobody reserved.
    pub fn messages(&self) -> &str {
        &self.messages
    }

    /// Whether PCI devices may be opened.
    pub fn pci(&self) -> bool {
        self.pci
    }
}

/// Whether a start was attempted; a successful one has left an [`Eal`].
pub(crate) fn was_started() -> bool {
    STARTED.load(Ordering::Acquire)
}

fn check_prefix(prefix: &str) -> Result<(), EalError> {
    let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good =
        !prefix.is_empty() && prefix.len() <= 64 && prefix.chars().all(usable) && !prefix.starts_with('.');
    if good { Ok(()) } else { Err(EalError::FilePrefix(prefix.to_owned())) }
}

fn arguments(config: &EalConfig, hugepages: bool, cores: &Affinity) -> Vec<String> {
    let mut arguments: Vec<String> = ["tieline", "--no-telemetry"].map(str::to_owned).into();
    arguments.push(format!("--file-prefix={}", config.file_prefix));
    arguments.push(format!("--log-level={}", config.log_level.name()));

    // One lcore that floats over all cores: workers bring their own threads,
    // and DPDK's service threads inherit this set.
    let cores = cores.list_below(sys::RTE_MAX_LCORE as usize);
    if !cores.is_empty() {
        arguments.push(format!("--lcores=0@({cores})"));
    }
    if !config.pci {
        arguments.push("--no-pci".to_owned());
    }
    // Without hugepages memory is anonymous anyway, and DPDK refuses to be
    // told so.
    let memory_kind: &[&str] = if hugepages { &["--in-memory"] } else { &["--no-huge", "--no-shconf"] };
    arguments.extend(memory_kind.iter().map(|&argument| argument.to_owned()));
    // Physical addresses matter to NICs bound to UIO alone, and cannot be
    // known without hugepages.
    if !hugepages || !config.pci {
        arguments.push("--iova-mode=va".to_owned());
    }
    let memory = config.memory_mib.or((!hugepages).then_some(DEFAULT_MEMORY_MIB));
    if let Some(mib) = memory {
        arguments.push("-m".to_owned());
        arguments.push(mib.to_string());
    }
    arguments.extend(config.extra_args.iter().cloned());
    arguments
}

fn init(arguments: Vec<CString>) -> c_int {
    // DPDK may reorder the array and keep pointers into it.
    let arguments: &'static [CString] = arguments.leak();
    let mut pointers: Vec<*mut c_char> =
        arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
    pointers.push(std::ptr::null_mut());
    // SAFETY: `pointers` holds `count` terminated strings that live for ever
    // and, as C wants it, a null pointer behind them; it is leaked as well.
    unsafe { sys::rte_eal_init(count, pointers.leak().as_mut_ptr()) }
}

/// DPDK makes a directory for sockets and locks even if it is to keep
/// everything in memory. It is empty then.
fn remove_runtime_directory() {
    // SAFETY: returns a terminated string that lives for ever, or null.
    let directory = unsafe { sys::rte_eal_get_runtime_dir() };
    if directory.is_null() {
        return;
    }
    // SAFETY: not null, see above.
    let directory = unsafe { CStr::from_ptr(directory) };
    if let Ok(directory) = directory.to_str() {
        // Another process with the same prefix may have removed it.
        let _ = std::fs::remove_dir(Path::new(directory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_file_names() {
        for good in ["tieline", "gw-1", "a.b_c"] {
            assert!(check_prefix(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "..", ".a", "a b", "a\0", "ü", &"x".repeat(65)] {
            assert!(matches!(check_prefix(bad), Err(EalError::FilePrefix(_))), "{bad}");
        }
    }

    #[test]
    fn memory_is_always_limited_without_hugepages() {
        let cores = Affinity::of_this_thread().expect("the kernel tells");
        let text = |config: &EalConfig, hugepages| arguments(config, hugepages, &cores).join(" ");
        let config = EalConfig::default();
        assert!(text(&config, false).ends_with("--no-pci --no-huge --no-shconf --iova-mode=va -m 256"));
        assert!(!text(&config, true).contains("-m "));
        let config = EalConfig { memory_mib: Some(64), pci: true, ..config };
        assert!(text(&config, true).ends_with("-m 64"));
        assert!(!text(&config, true).contains("--no-pci"));
        assert!(!text(&config, true).contains("--iova-mode"));
        assert!(text(&config, false).contains("--iova-mode=va"));
    }
}

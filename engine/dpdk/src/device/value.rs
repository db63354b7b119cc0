//! Values of arguments. Whatever has a meaning in DPDK's syntax (`,` `=` `[` `]`
//! `(` `)` and quotes) stands in none of them.

use tieline_engine::types::MacAddr;

/// Bytes of an interface's name: IFNAMSIZ less the zero behind it.
const LONGEST_INTERFACE: usize = 15;
/// Bytes of a socket's path: `sun_path` less the zero behind it.
const LONGEST_PATH: usize = 107;
/// Bytes of a memif secret.
const LONGEST_SECRET: usize = 24;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The name of an interface of the kernel.
    Interface,
    /// The path of a Unix socket, or of a character device.
    Socket,
    /// The path of a capture file.
    File,
    /// A decimal number in a range.
    Number(u64, u64),
    /// 0 or 1.
    Flag,
    /// One of these.
    Word(&'static [&'static str]),
    /// The MAC of a station.
    Mac,
    /// The MAC of a station, or this word.
    MacOr(&'static str),
    /// What both ends of a memif have to know.
    Secret,
}

impl Kind {
    /// Whether a value is of this kind. A refusal says what it should be.
    pub fn check(self, value: &str) -> Result<(), String> {
        let is_one = match self {
            Kind::Interface => is_interface(value),
            Kind::Socket | Kind::File => is_path(value),
            Kind::Number(least, most) => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                digits && value.parse().is_ok_and(|number| (least..=most).contains(&number))
            }
            Kind::Flag => matches!(value, "0" | "1"),
            Kind::Word(words) => words.contains(&value),
            Kind::Mac => is_mac(value),
            Kind::MacOr(word) => value == word || is_mac(value),
            Kind::Secret => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-./_".contains(&byte);
                (1..=LONGEST_SECRET).contains(&value.len()) && value.bytes().all(plain)
            }
        };
        if is_one { Ok(()) } else { Err(self.expected()) }
    }

    fn expected(self) -> String {
        match self {
            Kind::Interface => format!("the name of an interface, 1 to {LONGEST_INTERFACE} bytes"),
            Kind::Socket | Kind::File => format!(
                "an absolute path of at most {LONGEST_PATH} bytes without \".\", \"..\", brackets and quotes"
            ),
            Kind::Number(least, most) => format!("a number from {least} to {most}"),
            Kind::Flag => "0 or 1".to_owned(),
            Kind::Word(words) => words.join(" or "),
            Kind::Mac => "a MAC such as 02:00:00:00:00:01".to_owned(),
            Kind::MacOr(word) => format!("{word}, or a MAC such as 02:00:00:00:00:01"),
            Kind::Secret => format!("1 to {LONGEST_SECRET} letters, digits and \"+-./_\""),
        }
    }
}

fn has_no_meaning(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b",=[](){}<>\"'`\\;|&$*?!#".contains(&byte)
}

/// Whether the kernel could have an interface of this name. It makes names of
/// those with a percent sign.
fn is_interface(value: &str) -> bool {
    (1..=LONGEST_INTERFACE).contains(&value.len())
        && value.bytes().all(|byte| has_no_meaning(byte) && !b"/:%".contains(&byte))
        && !matches!(value, "." | "..")
}

fn is_path(value: &str) -> bool {
    value.len() <= LONGEST_PATH
        && value.bytes().all(has_no_meaning)
        && value
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|component| !matches!(component, "" | "." | "..")))
}

fn is_mac(value: &str) -> bool {
    value.parse::<MacAddr>().is_ok_and(|mac| mac.is_unicast())
}

//! The configuration of a controller's API: who comes in over TCP, who may do
//! what, how much of it. Every key is optional, and means what it means to the
//! gateways' daemon.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tieline_federation::api;
use tieline_gate::Role;
use tieline_gate::config::{self, ConfigError, Objection, keys};
use tieline_gate::limits::ApiLimits;
use tieline_gate::roles::{RoleEntry, Roles};
use tieline_gate::tls::TlsSettings;

/// Where the configuration is looked for when none is named.
pub const DEFAULT: &str = "/etc/tieline/federation.toml";

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    api: Api,
}

/// `[api]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Api {
    /// Role of users on the Unix socket that no entry of `roles` means.
    socket_role: Option<Role>,
    /// TCP address and port.
    listen: Option<String>,
    /// Files of mutual TLS.
    tls: Option<keys::Tls>,
    /// Who may do what.
    roles: Vec<Entry>,
    /// How much of everything.
    limits: keys::Limits,
}

/// `[[api.roles]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Certificates with such a name.
    name: Option<String>,
    /// This user on the Unix socket.
    uid: Option<u32>,
    /// What they may do.
    role: Role,
}

/// A configuration that has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The TCP address with the TLS that is spoken there, if there is one.
    pub tcp: Option<(SocketAddr, TlsSettings)>,
    /// Who has which role.
    pub roles: Roles<()>,
    /// How much of everything clients may have.
    pub limits: ApiLimits,
}

impl Config {
    /// Reads the file that the command line names, or the one at its usual place
    /// if there is one.
    ///
    /// # Errors
    /// When it cannot be read, or says something that will not do.
    pub fn read(named: Option<&PathBuf>) -> Result<Self, ConfigError> {
        let usual = Path::new(DEFAULT);
        match named {
            Some(path) => config::read(path, Self::check),
            None if usual.exists() => config::read(usual, Self::check),
            None => config::parse("", usual, Self::check),
        }
    }

    fn check(File { api }: File) -> Result<Self, Objection> {
        let entry = |Entry { name, uid, role }| Ok(RoleEntry { who: keys::who(name, uid)?, role, grant: () });
        let roles = Roles {
            entries: api.roles.into_iter().map(entry).collect::<Result<_, Objection>>()?,
            socket_role: api.socket_role.unwrap_or(Role::Controller),
        };
        if api.limits.reply_memory_mib.is_some() {
            let sentence = "it is for gateways, which acknowledge batches: leave it out";
            return Err(("api.limits.reply_memory_mib", sentence.to_owned()));
        }
        let limits = api.limits.check(api::limits())?;
        if limits.receive_memory < limits.message {
            let sentence = format!(
                "{} MiB have no room for one message of api.limits.message_kib = {}: give more, or less there",
                limits.receive_memory >> 20,
                limits.message >> 10
            );
            return Err(("api.limits.receive_memory_mib", sentence));
        }
        Ok(Self { tcp: keys::tcp(api.listen, api.tls, &roles)?, roles, limits })
    }
}

#[cfg(test)]
mod tests {
    use tieline_gate::roles::Who;

    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        config::parse(text, Path::new("federation.toml"), Config::check)
    }

    #[test]
    fn an_empty_file_is_the_socket_alone() {
        let config = parse("").expect("every key is optional");
        assert_eq!(config.tcp, None);
        assert_eq!((config.roles.socket_role, config.roles.entries.len()), (Role::Controller, 0));
        assert_eq!(config.limits, api::limits());
    }

    #[test]
    fn every_key_has_its_effect() {
        let text = r#"
            [api]
            listen = "[::1]:7080"
            socket_role = "read-only"
            [api.tls]
            certificate = "/c"
            key = "/k"
            client_ca = "/a"
            crl = "/r"
            check_s = 7
            [[api.roles]]
            name = "spiffe://site/ops/*"
            role = "operator"
            [[api.roles]]
            uid = 7
            role = "read-only"
            [api.limits]
            message_kib = 2048
            receive_memory_mib = 2
        "#;
        let config = parse(text).expect("all good");
        let (address, tls) = config.tcp.as_ref().expect("it listens");
        assert_eq!(address.to_string(), "[::1]:7080");
        assert_eq!((tls.key.as_path(), tls.crl.as_deref()), (Path::new("/k"), Some(Path::new("/r"))));
        assert_eq!(tls.check.as_secs(), 7);
        assert_eq!(config.roles.socket_role, Role::ReadOnly);
        assert_eq!(config.roles.entries[0].role, Role::Operator);
        assert_eq!(config.roles.entries[1].who, Who::User(7));
        assert_eq!((config.limits.message, config.limits.receive_memory), (2 << 20, 2 << 20));
    }

    #[test]
    fn complaints_name_the_line_and_the_key() {
        let tls = "[api.tls]\ncertificate = \"/c\"\nkey = \"/k\"\nclient_ca = \"/a\"\n";
        for (text, line, key, word) in [
            ("[ap]\n".to_owned(), 1, "ap", "unknown field"),
            ("[api]\nsocket = \"/x\"\n".to_owned(), 2, "api.socket", "unknown field"),
            ("[api]\nlisten = \"127.0.0.1:1\"\n".to_owned(), 2, "api.listen", "mutual TLS only"),
            (format!("[api]\nlisten = \"127.0.0.1:1\"\n{tls}"), 2, "api.listen", "[[api.roles]]"),
            (tls.to_owned(), 1, "api.tls", "no api.listen"),
            ("[[api.roles]]\nrole = \"operator\"\n".to_owned(), 1, "api.roles", "one of the two"),
            ("[[api.roles]]\nuid = 1\nrole = \"viewer\"\n".to_owned(), 3, "", "read-only"),
            ("[api.limits]\nreply_memory_mib = 9\n".to_owned(), 2, "api.limits.reply_memory_mib", "gateways"),
            (
                "[api.limits]\nreceive_memory_mib = 1\n".to_owned(),
                2,
                "api.limits.receive_memory_mib",
                "no room",
            ),
        ] {
            let error = parse(&text).expect_err(&text);
            assert_eq!(
                (error.line(), error.key()),
                (Some(line), Some(key).filter(|key| !key.is_empty())),
                "{error}"
            );
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

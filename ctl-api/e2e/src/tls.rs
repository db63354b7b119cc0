//! Certificates for a gateway that serves its API over TCP, and for its client.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// The name in the gateway's certificate.
const GATEWAY: &str = "gateway.example";
/// The name in the operator's.
const OPERATOR: &str = "operator.example";

/// A CA, and what it has issued, as files.
#[derive(Debug, Clone)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes all of it in a directory.
    pub fn make(directory: &Path) -> Result<Self> {
        let this = Self { directory: directory.to_owned() };
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "CA of a test");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        this.write("ca.pem", &ca.pem())?;
        for name in [GATEWAY, OPERATOR] {
            let key = KeyPair::generate()?;
            let certificate = CertificateParams::new([name.to_owned()])?.signed_by(&key, &ca)?;
            this.write(&format!("{name}.pem"), &certificate.pem())?;
            this.write(&format!("{name}.key"), &key.serialize_pem())?;
        }
        Ok(this)
    }

    /// The daemon's configuration, from `[api]` on, to serve at an address.
    pub fn toml(&self, listen: &str) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        format!(
            "listen = \"{listen}\"\n[api.tls]\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n\
             [[api.roles]]\nname = \"{OPERATOR}\"\nrole = \"operator\"\n",
            path(&format!("{GATEWAY}.pem")),
            path(&format!("{GATEWAY}.key")),
            path("ca.pem"),
        )
    }

    /// Arguments of `tlctl` to come in there.
    pub fn arguments(&self, listen: &str) -> Vec<String> {
        let path = |name: String| self.path(&name).display().to_string();
        let pairs = [
            ("--daemon", format!("https://{listen}")),
            ("--server-name", GATEWAY.to_owned()),
            ("--ca", path("ca.pem".to_owned())),
            ("--cert", path(format!("{OPERATOR}.pem"))),
            ("--key", path(format!("{OPERATOR}.key"))),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        // Keys that others can read are refused.
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

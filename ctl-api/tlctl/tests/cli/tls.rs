//! TLS to a daemon, and what `tlctl` says when it fails.

use std::net::SocketAddr;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::fake_daemon::{TempDir, serve_tls};
use crate::{finish, tlctl};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// A certificate and its key, PEM.
fn issue(ca: &Authority, name: &str, until: i32) -> (String, String) {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().expect("a key");
    (params.signed_by(&key, ca).expect("a certificate").pem(), key.serialize_pem())
}

struct Daemon {
    dir: TempDir,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    /// One with a certificate for gw.example.
    fn start(ca: &Authority, until: i32) -> Self {
        let (certificate, key) = issue(ca, "gw.example", until);
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(Certificate::from_pem(ca.pem()));
        let (runtime, address) = serve_tls(tls);
        let daemon = Self { dir: TempDir::new(), address, _runtime: runtime };
        daemon.put("ca.pem", &ca.pem());
        daemon.put_identity(&issue(ca, "reader.example", 2050));
        daemon
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a file of the test");
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("its mode");
    }

    fn put_identity(&self, (certificate, key): &(String, String)) {
        self.put("cert.pem", certificate);
        self.put("key.pem", key);
    }

    fn command(&self, args: &str) -> Command {
        let mut command = tlctl(args);
        command.env("TLCTL_DAEMON", format!("https://{}", self.address));
        command.env("TLCTL_SERVER_NAME", "gw.example");
        for (variable, name) in [("TLCTL_CA", "ca.pem"), ("TLCTL_CERT", "cert.pem"), ("TLCTL_KEY", "key.pem")]
        {
            command.env(variable, self.dir.path().join(name));
        }
        command
    }

    /// Fails with this code, and says this.
    fn fails(&self, args: &str, code: i32, words: &str) {
        let (_, stderr) = finish(self.command(args), "", code);
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
}

#[test]
fn a_good_certificate_gets_in_and_a_role_that_does_not_reach_is_said() {
    let daemon = Daemon::start(&authority("one"), 2050);
    let (stdout, _) = finish(daemon.command("version"), "", 0);
    assert!(stdout.contains("tieline  9.9.9"), "{stdout}");
    daemon.fails("delete vrf red", 1, "not allowed: reader.example has the role read-only");
    let mut other_name = daemon.command("version");
    let (_, stderr) = finish(
        {
            other_name.env("TLCTL_SERVER_NAME", "x.example");
            other_name
        },
        "",
        3,
    );
    assert!(stderr.contains("--server-name"), "{stderr}");
}

#[test]
fn what_is_wrong_with_certificates_is_said() {
    let (ca, other) = (authority("one"), authority("other"));
    let daemon = Daemon::start(&ca, 2050);
    daemon.put_identity(&issue(&ca, "reader.example", 2010));
    daemon.fails("version", 3, "the certificate in --cert has expired");
    daemon.put_identity(&issue(&other, "reader.example", 2050));
    daemon.fails("version", 3, "does not trust the CA of the certificate in --cert");
    daemon.put("key.pem", &issue(&other, "reader.example", 2050).1);
    daemon.fails("version", 2, "cannot be used");
    daemon.put_identity(&issue(&ca, "reader.example", 2050));
    for mode in [0o644, 0o602] {
        let key = daemon.dir.path().join("key.pem");
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("its mode");
        daemon.fails("version", 2, "chmod 0600");
    }
    daemon.put_identity(&issue(&ca, "reader.example", 2050));
    daemon.put("ca.pem", &other.pem());
    daemon.fails("version", 3, "its certificate is not from the CA in --ca");
    let expired = Daemon::start(&ca, 2010);
    expired.fails("version", 3, "its certificate has expired");
}

//! Mutual TLS, and what is wrong with it in words.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tieline_federation::gateway::events::Cause;
use tieline_federation::gateway::{Address, Gateway};
use tieline_federation::intent::kinds::cluster::Tls;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::owner::{Owner, settings, vrf};
use crate::fake;
use crate::place::Place;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// A certificate for a name, and its key.
fn certificate(by: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    (params.signed_by(&key, by).expect("a certificate").pem(), key.serialize_pem())
}

/// Files of a client with a certificate of `by`, who trusts `trusts`.
fn files(directory: &Path, by: &Authority, trusts: &Authority) -> Tls {
    let (certificate, key) = certificate(by, "controller");
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("its mode");
        path.display().to_string()
    };
    Tls {
        ca: write("ca.pem", trusts.pem()),
        certificate: write("certificate.pem", certificate),
        key: write("key.pem", key),
        server_name: Some("gateway.example".to_owned()),
    }
}

fn client(port: u16, tls: &Tls) -> Owner {
    let address = Address::new(&format!("https://127.0.0.1:{port}"), Some(tls)).expect("an address");
    let (gateway, events) = Gateway::start(address, settings());
    gateway.lead(Some(0));
    Owner { gateway, events }
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused_by_name() {
    let place = Place::new();
    let tls = files(place.path(), &authority(), &authority());
    std::fs::set_permissions(&tls.key, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("its mode");
    let address = Address::new("https://127.0.0.1:1", Some(&tls)).expect("an address");
    let refusal = address.connect().await.expect_err("everybody can read it");
    assert!(refusal.contains("tls.key") && refusal.contains("chmod 0600"), "{refusal}");
}

#[tokio::test]
async fn both_sides_show_certificates() {
    let place = Place::new();
    let fake = fake::Gateway::new(place.path());
    let (ours, others) = (authority(), authority());
    let (pem, key) = certificate(&ours, "gateway.example");
    let server = ServerTlsConfig::new()
        .identity(Identity::from_pem(pem, key))
        .client_ca_root(Certificate::from_pem(ours.pem()));
    let port = fake.start_tls(server).await;

    // A gateway that is not from the right CA, and a client that is not.
    let mut owner = client(port, &files(place.path(), &ours, &others));
    let (cause, reason, _) = owner.down().await;
    assert_eq!(cause, Cause::Unreachable);
    assert!(reason.contains("invalid peer certificate"), "{reason}");
    owner.gateway.stop().await;
    let mut owner = client(port, &files(place.path(), &others, &ours));
    let (_, reason, _) = owner.down().await;
    assert!(reason.contains("https://127.0.0.1") || reason.contains("session"), "{reason}");
    assert!(fake.model().hellos.is_empty());

    // The files are replaced, and the same client comes in.
    files(place.path(), &ours, &ours);
    owner.up().await;
    owner.program(vec![vrf("red", 16)]).await;
    assert_eq!(fake.model().objects.len(), 1);
}

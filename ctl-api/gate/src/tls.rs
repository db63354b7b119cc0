//! Mutual TLS for the TCP side, and its files, which may be replaced while the
//! server runs.
//!
//! TLS 1.3 alone: every gRPC library of the last years speaks it, and it has no
//! weak choices to configure away. Sessions are not resumed, so that each
//! connection shows its certificate, and it is checked against the present
//! list of revocations.

use std::convert::Infallible;
use std::fmt::Display;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime,
};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::certificate::CertificateFacts;
use crate::signals::received;

/// A certificate that ends this soon is warned about.
const SOON: i64 = 14 * DAY;
const DAY: i64 = 24 * 3600;

/// Where the files are, and how often to look at them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate and those between it and its CA, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The CAs of clients, PEM.
    pub client_ca: PathBuf,
    /// Their lists of revoked certificates, PEM.
    pub crl: Option<PathBuf>,
    /// How often to look whether a file has changed.
    pub check: Duration,
}

/// Why the files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("api.tls.{key} = {path:?}: {problem}")]
pub struct TlsError {
    key: &'static str,
    path: PathBuf,
    problem: String,
}

/// What the files say.
pub struct Loaded {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    facts: CertificateFacts,
}

impl Loaded {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> = all("certificate", &settings.certificate)?;
        let unusable = bad("certificate", &settings.certificate);
        let facts = CertificateFacts::read(&chain[0]).map_err(unusable)?;
        let secret = tieline_private::read(&settings.key).map_err(bad("key", &settings.key))?;
        let key = PrivateKeyDer::from_pem_slice(&secret).map_err(pem("key", &settings.key))?;
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(settings, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(bad("certificate", &settings.certificate))?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(chain, key)
            .map_err(|error| {
                let problem = format!(
                    "it does not go with {}, which must be X.509 version 3: {error}",
                    settings.certificate.display()
                );
                TlsError { key: "key", path: settings.key.clone(), problem }
            })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), verifier, facts })
    }

    /// Whether the holder of a chain of certificates may still come in.
    ///
    /// # Errors
    /// Why it may not.
    pub fn still_trusts(&self, chain: &[CertificateDer<'_>]) -> Result<(), String> {
        let Some((end, between)) = chain.split_first() else { return Err("no certificate".to_owned()) };
        let verdict = self.verifier.verify_client_cert(end, between, UnixTime::now());
        verdict.map(|_| ()).map_err(|error| error.to_string())
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.facts.names.iter().map(ToString::to_string).collect();
        names.join(", ")
    }
}

fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in all::<CertificateDer<'static>>("client_ca", &settings.client_ca)? {
        roots.add(authority).map_err(bad("client_ca", &settings.client_ca))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(path) = &settings.crl {
        let lists: Vec<CertificateRevocationListDer<'static>> = all("crl", path)?;
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
    }
    let (key, path) = match &settings.crl {
        Some(path) => ("crl", path),
        None => ("client_ca", &settings.client_ca),
    };
    builder.build().map_err(bad(key, path))
}

/// Everything of one kind in a PEM file; at least one.
fn all<T: PemObject>(key: &'static str, path: &Path) -> Result<Vec<T>, TlsError> {
    let items: Result<Vec<T>, _> = T::pem_file_iter(path).map_err(pem(key, path))?.collect();
    let items = items.map_err(pem(key, path))?;
    if items.is_empty() {
        return Err(pem(key, path)(PemError::NoItemsFound));
    }
    Ok(items)
}

fn bad<E: Display>(key: &'static str, path: &Path) -> impl Fn(E) -> TlsError {
    move |error| TlsError { key, path: path.into(), problem: error.to_string() }
}

fn pem(key: &'static str, path: &Path) -> impl Fn(PemError) -> TlsError {
    move |error| {
        let what = match key {
            "key" => "private key",
            "crl" => "list of revoked certificates",
            _ => "certificate",
        };
        let problem = match error {
            PemError::NoItemsFound => format!("there is no {what} in it: it must be PEM"),
            PemError::Io(error) => format!("it cannot be read: {error}"),
            other => format!("it is not good PEM: {other:?}"),
        };
        TlsError { key, path: path.into(), problem }
    }
}

/// Which file stands at a path: device, inode, size, and time of its change.
type Identity = Option<(u64, u64, u64, i64, i64)>;

fn identity(path: &Path) -> Identity {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

/// The files in force, and their replacement.
pub struct Tls {
    settings: TlsSettings,
    state: Mutex<State>,
    /// Counts replacements.
    versions: watch::Sender<u64>,
}

struct State {
    loaded: Option<Arc<Loaded>>,
    files: Vec<Identity>,
    /// Why the files that are there now are not in force.
    problem: Option<TlsError>,
    /// When the end of the certificate was warned about, seconds since 1970.
    warned: i64,
}

impl Tls {
    /// Reads the files for the first time. Files that cannot be used are said
    /// in the log, and tried again: everything but TCP goes on without them.
    pub fn start(settings: TlsSettings) -> Self {
        let state = State { loaded: None, files: Vec::new(), problem: None, warned: 0 };
        let tls = Self { settings, state: Mutex::new(state), versions: watch::Sender::new(0) };
        tls.look(true, now());
        tls
    }

    /// What is in force; `None` while there has been nothing usable.
    pub fn current(&self) -> Option<Arc<Loaded>> {
        self.state().loaded.clone()
    }

    /// Changes at each replacement.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.versions.subscribe()
    }

    /// How often to look at the files.
    pub fn check(&self) -> Duration {
        self.settings.check
    }

    /// Looks at the files, and takes them if they have changed (or `always`)
    /// and are good. What is in force stays otherwise. `now` is in seconds
    /// since 1970.
    pub fn look(&self, always: bool, now: i64) {
        // Taken before the files are read: a change in between is seen next
        // time.
        let files = self.identities();
        let changed = {
            let state = self.state();
            always || state.files != files || state.loaded.is_none()
        };
        if changed {
            let read = Loaded::read(&self.settings).and_then(|loaded| self.improves(loaded, now));
            self.take(read, files, always);
        }
        self.warn_of_the_end(now);
    }

    /// Refuses a certificate that has ended in the place of one that has not.
    fn improves(&self, loaded: Loaded, now: i64) -> Result<Loaded, TlsError> {
        let old = self.state().loaded.as_ref().map(|loaded| loaded.facts.not_after);
        if loaded.facts.not_after < now && old.is_some_and(|old| old >= now) {
            let problem = "it has expired, and the one in force has not".to_owned();
            return Err(TlsError { key: "certificate", path: self.settings.certificate.clone(), problem });
        }
        Ok(loaded)
    }

    fn take(&self, read: Result<Loaded, TlsError>, files: Vec<Identity>, always: bool) {
        let mut state = self.state();
        state.files = files;
        match read {
            Ok(loaded) => {
                tracing::info!(certificate = %loaded.names(), "TLS files are in force for new connections");
                state.loaded = Some(Arc::new(loaded));
                state.problem = None;
                state.warned = 0;
                self.versions.send_modify(|version| *version += 1);
            }
            Err(problem) if always || state.problem.as_ref() != Some(&problem) => {
                match state.loaded {
                    Some(_) => tracing::error!("{problem}. What was in force stays so"),
                    None => tracing::error!("{problem}. Nobody can connect over TCP until this is repaired"),
                }
                state.problem = Some(problem);
            }
            Err(_) => {}
        }
    }

    fn warn_of_the_end(&self, now: i64) {
        let mut state = self.state();
        let Some(not_after) = state.loaded.as_ref().map(|loaded| loaded.facts.not_after) else { return };
        if not_after - now > SOON || now - state.warned < DAY {
            return;
        }
        state.warned = now;
        let path = self.settings.certificate.display();
        match not_after - now {
            left if left < 0 => tracing::error!("{path} has expired: clients refuse it; replace it"),
            left => tracing::warn!("{path} expires in {} days: replace it", left / DAY),
        }
    }

    fn identities(&self) -> Vec<Identity> {
        let TlsSettings { certificate, key, client_ca, crl, .. } = &self.settings;
        [certificate, key, client_ca].into_iter().chain(crl).map(|path| identity(path)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after the files of TLS: now and then, and at once at SIGHUP.
pub async fn look_after(tls: Option<Arc<Tls>>, mut hangup: Signal) -> Infallible {
    let Some(tls) = tls else {
        loop {
            received(&mut hangup).await;
            tracing::info!("SIGHUP: there are no TLS files to read again");
        }
    };
    let mut ticks = tokio::time::interval(tls.check());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let always = tokio::select! {
            _ = ticks.tick() => false,
            () = received(&mut hangup) => true,
        };
        let tls = Arc::clone(&tls);
        // Files may be slow.
        let look = move || tls.look(always, now());
        if let Err(error) = tokio::task::spawn_blocking(look).await {
            tracing::error!("TLS files could not be looked at: {error}");
        }
    }
}

/// Seconds since 1970, by the clock that certificates are judged by.
pub fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
        KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tieline-tls-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }

        fn settings(&self) -> TlsSettings {
            let at = |name| self.0.join(name);
            TlsSettings {
                certificate: at("cert.pem"),
                key: at("key.pem"),
                client_ca: at("ca.pem"),
                crl: None,
                check: Duration::from_secs(5),
            }
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(name), text).expect("a file");
            self.set_mode(name, 0o600);
        }

        fn set_mode(&self, name: &str, mode: u32) {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(self.0.join(name), mode).expect("its mode");
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
    }

    fn issue(ca: &Authority, name: &str, until: i32, serial: u64) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, ca).expect("a certificate"), key)
    }

    fn put(place: &Place, (certificate, key): &(rcgen::Certificate, KeyPair)) {
        place.write("cert.pem", &certificate.pem());
        place.write("key.pem", &key.serialize_pem());
    }

    fn names(tls: &Tls) -> String {
        tls.current().expect("something is in force").names()
    }

    #[test]
    fn good_files_replace_and_bad_ones_do_not() {
        let (place, ca) = (Place::new("replace"), authority());
        place.write("ca.pem", &ca.pem());
        put(&place, &issue(&ca, "one.example", 2050, 1));
        let tls = Tls::start(place.settings());
        assert_eq!(names(&tls), "one.example");
        let versions = tls.versions();

        // A certificate without its key, as between two writes.
        let two = issue(&ca, "two.example", 2050, 2);
        place.write("cert.pem", &two.0.pem());
        tls.look(false, now());
        assert_eq!(names(&tls), "one.example");
        let problem = tls.state().problem.clone().expect("it is said").to_string();
        assert!(problem.contains("api.tls.key") && problem.contains("does not go with"), "{problem}");
        put(&place, &two);
        tls.look(false, now());
        assert_eq!(names(&tls), "two.example");
        assert_eq!((*versions.borrow(), &tls.state().problem), (2, &None));

        for (file, text, word) in [
            ("cert.pem", "", "no certificate"),
            ("cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no X.509"),
            ("ca.pem", "nonsense", "no certificate"),
            ("key.pem", "nonsense", "no private key"),
        ] {
            let before = std::fs::read_to_string(place.0.join(file)).expect("a file");
            place.write(file, text);
            tls.look(false, now());
            assert_eq!(names(&tls), "two.example", "{file} {text}");
            let problem = tls.state().problem.clone().expect("it is said").to_string();
            assert!(problem.contains(word) && problem.contains(file), "{problem}");
            place.write(file, &before);
        }
        for mode in [0o644, 0o620, 0o602] {
            place.set_mode("key.pem", mode);
            tls.look(true, now());
            assert_eq!(names(&tls), "two.example");
            let problem = tls.state().problem.clone().expect("it is said").to_string();
            assert!(problem.contains("api.tls.key") && problem.contains("chmod 0600"), "{mode:o}: {problem}");
        }
        place.set_mode("key.pem", 0o600);
        put(&place, &issue(&ca, "old.example", 2001, 3));
        tls.look(true, now());
        assert_eq!(names(&tls), "two.example", "an expired one does not replace a good one");
        std::fs::remove_file(place.0.join("cert.pem")).expect("it is there");
        tls.look(false, now());
        assert_eq!(names(&tls), "two.example");
    }

    #[test]
    fn files_that_come_late_are_taken() {
        let (place, ca) = (Place::new("late"), authority());
        let tls = Tls::start(place.settings());
        assert!(tls.current().is_none());
        place.write("ca.pem", &ca.pem());
        put(&place, &issue(&ca, "one.example", 2050, 1));
        tls.look(false, now());
        assert_eq!(names(&tls), "one.example");
    }

    #[test]
    fn who_is_revoked_or_of_another_authority_is_not_trusted() {
        let (place, ca) = (Place::new("revoked"), authority());
        place.write("ca.pem", &ca.pem());
        put(&place, &issue(&ca, "gw.example", 2050, 1));
        let (good, _) = issue(&ca, "good.example", 2050, 2);
        let (revoked, _) = issue(&ca, "bad.example", 2050, 3);
        let (foreign, _) = issue(&authority(), "good.example", 2050, 2);
        let (expired, _) = issue(&ca, "good.example", 2001, 4);
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2050, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(3),
                revocation_time: date_time_ymd(2025, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        place.write("crl.pem", &list.signed_by(&ca).expect("a list").pem().expect("PEM"));
        let crl = Some(place.0.join("crl.pem"));
        let with = Loaded::read(&TlsSettings { crl, ..place.settings() }).expect("good files");
        let without = Loaded::read(&place.settings()).expect("good files");
        let trusts = |loaded: &Loaded, certificate: &rcgen::Certificate| {
            loaded.still_trusts(&[certificate.der().clone()]).is_ok()
        };
        assert!(trusts(&with, &good) && !trusts(&with, &revoked));
        assert!(trusts(&without, &good) && trusts(&without, &revoked));
        assert!(!trusts(&with, &foreign) && !trusts(&with, &expired));
        assert!(with.still_trusts(&[]).is_err());
    }
}

//! What a certificate says about its holder (RFC 5280). The certificate has
//! been verified by TLS before; this only reads it.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Most names of one certificate that are looked at.
const MOST_NAMES: usize = 64;
/// Longest name that is looked at: that of a domain (RFC 1035, 2.3.4), and
/// enough for URIs.
const LONGEST_NAME: usize = 255;

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// A domain name, of the subject's alternative names; or the common name
    /// of a certificate that has no alternative name.
    Domain(String),
    /// A URI, such as `spiffe://cluster-a/controller`.
    Uri(String),
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) | Self::Uri(name) => f.write_str(name),
        }
    }
}

/// What matters about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Names of its holder.
    pub names: Vec<CertificateName>,
    /// End of its validity, seconds since 1970.
    pub not_after: i64,
}

impl CertificateFacts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// A sentence, when it is none.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| format!("it is no X.509 certificate: {error}"))?;
        Ok(Self { names: names(&certificate), not_after: certificate.validity().not_after.timestamp() })
    }
}

/// RFC 6125, 6.4.4: the common name counts only if there is no alternative.
fn names(certificate: &X509Certificate<'_>) -> Vec<CertificateName> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    let names: Vec<CertificateName> = alternatives
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(CertificateName::Domain((*name).to_owned())),
            GeneralName::URI(uri) => Some(CertificateName::Uri((*uri).to_owned())),
            _ => None,
        })
        .filter(is_plain)
        .take(MOST_NAMES)
        .collect();
    if !names.is_empty() {
        return names;
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(|name| CertificateName::Domain(name.to_owned())).filter(is_plain).take(MOST_NAMES).collect()
}

/// Names stand in logs and errors: nothing that a terminal obeys, and nothing
/// that looks like another name.
fn is_plain(name: &CertificateName) -> bool {
    let (CertificateName::Domain(name) | CertificateName::Uri(name)) = name;
    !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn facts(sans: &[SanType], common: &str) -> CertificateFacts {
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans.to_vec();
        params.distinguished_name.push(DnType::CommonName, common);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        CertificateFacts::read(certificate.der()).expect("it can be read")
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().expect("ASCII"))
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().expect("ASCII"))
    }

    #[test]
    fn alternative_names_count_before_the_common_name() {
        let both = facts(&[dns("a.example"), uri("spiffe://x/a")], "admin");
        assert_eq!(
            both.names,
            [CertificateName::Domain("a.example".into()), CertificateName::Uri("spiffe://x/a".into())]
        );
        assert_eq!(facts(&[], "admin").names, [CertificateName::Domain("admin".into())]);
        assert_eq!(both.not_after, 1_893_456_000);
    }

    #[test]
    fn names_that_are_not_plain_do_not_count() {
        assert_eq!(facts(&[], "ad\u{1b}[2Jmin").names, []);
        assert_eq!(facts(&[], "аdmin").names, [], "the first letter is Cyrillic");
        assert_eq!(facts(&[dns("a b.example"), dns("b.example")], "x").names.len(), 1);
        assert_eq!(facts(&[], &"x".repeat(LONGEST_NAME + 1)).names, []);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = CertificateFacts::read(&bytes);
        }

        #[test]
        fn no_damage_is_too_strange(at in 0usize..400, byte in any::<u8>()) {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![dns("a.example"), uri("spiffe://x/a")];
            let mut der = params.self_signed(&key).expect("a certificate").der().to_vec();
            let at = at % der.len();
            der[at] = byte;
            let _ = CertificateFacts::read(&der);
        }
    }
}

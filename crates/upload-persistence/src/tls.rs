//! TLS to Postgres, as `sslmode` in `DATABASE_URL` sets it.
//!
//! - `disable` never encrypts, `prefer` does if the server can, `require` always; neither of the two looks at the certificate.
//!   `verify-full` encrypts, checks the certificate's chain up to a trusted authority, and that it is for the host.
//! - libpq would let `require` check the chain too as soon as there is an `sslrootcert`
//!   (<https://www.postgresql.org/docs/current/libpq-ssl.html>). Here `sslrootcert` is allowed only with `verify-full`, so that nobody
//!   relies on a check of the host name that does not happen. `verify-ca` and `allow` are refused.
//! - Host names count only as the certificate's subject alternative names, and only X.509 version 3 is read: both are webpki's
//!   rules (<https://docs.rs/rustls-webpki>), and stricter than OpenSSL's.
//! - The handshake's signature is checked in every mode: channel binding (SCRAM-SHA-256-PLUS) depends on it.
//! - The crypto provider is the one that the AWS SDK builds with.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::DateTime;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::SettingsError;

/// The ALPN protocol that direct TLS (`sslnegotiation=direct`) needs; servers before 17 ignore it.
const ALPN: &[u8] = b"postgresql";

/// Whether connections are encrypted, and what the server must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyFull(Roots),
}

/// The authorities that are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Roots {
    System,
    File(PathBuf),
}

impl Mode {
    /// Reads the values of `sslmode` and `sslrootcert`; without either it is libpq's default.
    pub(crate) fn read(mode: Option<&str>, roots: Option<&str>) -> Result<Self, SettingsError> {
        let mode = match mode {
            Some("verify-full") => {
                return Ok(Self::VerifyFull(match roots {
                    None | Some("system") => Roots::System,
                    Some(path) => Roots::File(path.into()),
                }));
            }
            None | Some("prefer") => Self::Prefer,
            Some("disable") => Self::Disable,
            Some("require") => Self::Require,
            Some("verify-ca") => return Err(SettingsError::VerifyCa),
            Some("allow") => return Err(SettingsError::Allow),
            Some(other) => return Err(SettingsError::SslMode(other.to_owned())),
        };
        if roots.is_some() { Err(SettingsError::RootsUnused) } else { Ok(mode) }
    }

    /// What `tokio-postgres` is to do; the rest is up to the connector.
    pub(crate) fn ssl_mode(&self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyFull(_) => SslMode::Require,
        }
    }

    /// What wraps the connections. Reads the files of the roots.
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect, SettingsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let mut config = match self {
            Self::VerifyFull(roots) => builder.with_root_certificates(roots.load()?).with_no_client_auth(),
            Self::Disable | Self::Prefer | Self::Require => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate::of(&provider)))
                .with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(MakeRustlsConnect::new(config))
    }

    /// What is wrong with the server's certificate, and what to do about it.
    pub(crate) fn fault(&self, error: &CertificateError) -> String {
        match error {
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("expired on {}; renew it on the server", date(*not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!(
                    "is valid only from {} on; check this machine's clock, or renew it on the server",
                    date(*not_before)
                )
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => match self {
                Self::VerifyFull(Roots::File(_)) => "was not signed by an authority in the file of sslrootcert; \
                                                     put the certificate of its authority into that file"
                    .to_owned(),
                _ => "was signed by an authority that is not among the system's roots; \
                      set sslrootcert to a PEM file with that authority's certificate"
                    .to_owned(),
            },
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "is for {} and not for {}; use a name that it is for, or give the server a certificate for this name",
                names(presented),
                expected.to_str()
            ),
            // This is a certificate of `openssl req -x509`. webpki's own error is inside, and only its name is visible.
            CertificateError::Other(inner) if format!("{inner:?}").contains("CaUsedAsEndEntity") => {
                "belongs to an authority (CA:TRUE), and a server must not use that; \
                 sign another certificate for the server with it, or create it again with CA:FALSE"
                    .to_owned()
            }
            other => format!("cannot be used ({other}); give the server another certificate"),
        }
    }
}

/// As in the URL.
impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disable => formatter.write_str("sslmode=disable"),
            Self::Prefer => formatter.write_str("sslmode=prefer"),
            Self::Require => formatter.write_str("sslmode=require"),
            Self::VerifyFull(Roots::System) => formatter.write_str("sslmode=verify-full without sslrootcert"),
            Self::VerifyFull(Roots::File(path)) => {
                write!(formatter, "sslmode=verify-full, sslrootcert={}", path.display())
            }
        }
    }
}

impl Roots {
    fn load(&self) -> Result<RootCertStore, SettingsError> {
        match self {
            Self::System => system_roots(),
            Self::File(path) => {
                roots_in(path).map_err(|cause| SettingsError::Roots { path: path.clone(), cause: cause.to_string() })
            }
        }
    }
}

fn system_roots() -> Result<RootCertStore, SettingsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some of a system's roots may not be readable; the others can still be used.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let causes: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(SettingsError::NoSystemRoots(causes.join("; ")));
    }
    Ok(roots)
}

fn roots_in(path: &Path) -> Result<RootCertStore, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err("it contains no certificate".into());
    }
    Ok(roots)
}

/// Accepts every certificate, from any authority; but the server must have its key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    fn of(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    match seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0)) {
        Some(time) => time.format("%Y-%m-%d").to_string(),
        None => format!("{time:?}"),
    }
}

/// The names as they are in the certificate; rustls gives them as `DnsName("localhost")` and the like.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_kind, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"').to_owned()
    };
    if presented.is_empty() {
        "no host at all".to_owned()
    } else {
        presented.iter().map(bare).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use rustls::client::WebPkiServerVerifier;

    use super::*;

    /// What is said of a certificate that is trusted and shown by the server `db.example` at once.
    fn said(make: impl FnOnce(&mut CertificateParams)) -> Option<String> {
        let mut params = CertificateParams::new(["db.example".to_owned()]).unwrap();
        make(&mut params);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        let name = "db.example".try_into().unwrap();
        match verifier.verify_server_cert(certificate.der(), &[], &name, &[], UnixTime::now()) {
            Ok(_verified) => None,
            Err(rustls::Error::InvalidCertificate(error)) => Some(Mode::VerifyFull(Roots::System).fault(&error)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_servers_own_certificate_may_be_its_authority_unless_it_is_made_for_that_alone() {
        assert_eq!(said(|_| {}), None);
        let of_authority = said(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).unwrap();
        assert!(of_authority.contains("CA:TRUE") && of_authority.contains("CA:FALSE"), "{of_authority}");
        let nameless = said(|params| params.subject_alt_names.clear()).unwrap();
        assert!(nameless.starts_with("is for no host at all and not for db.example"), "{nameless}");
        let early = said(|params| params.not_before = date_time_ymd(4000, 1, 1)).unwrap();
        assert!(early.starts_with("is valid only from 4000-01-01 on"), "{early}");
    }
}

//! The certificate of a server with TLS. Its authority is made with it, so nobody else knows that authority.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// The only names for which the certificates are valid.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Which certificate a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// For `localhost` and `127.0.0.1`, by the server's own authority.
    Good,
    /// The same, but expired since 2001.
    Expired,
}

/// An authority's certificate, and a server's certificate with its key, each as PEM.
pub(crate) struct Papers {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Papers {
    pub(crate) fn make(certificate: Certificate) -> Result<Self> {
        make(certificate).context("no certificate can be made")
    }
}

fn make(certificate: Certificate) -> Result<Papers, rcgen::Error> {
    let mut of_authority = CertificateParams::new([])?;
    of_authority.distinguished_name.push(DnType::CommonName, "upload-sandbox authority");
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    of_authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(of_authority, KeyPair::generate()?)?;

    let mut of_server = CertificateParams::new(NAMES.map(str::to_owned))?;
    of_server.distinguished_name.push(DnType::CommonName, "upload-sandbox");
    of_server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if certificate == Certificate::Expired {
        of_server.not_before = date_time_ymd(2000, 1, 1);
        of_server.not_after = date_time_ymd(2001, 1, 1);
    }
    let key = KeyPair::generate()?;
    let server = of_server.signed_by(&key, &authority)?;
    Ok(Papers { authority: authority.pem(), certificate: server.pem(), key: key.serialize_pem() })
}

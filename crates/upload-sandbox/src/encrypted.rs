//! TLS before a stand's store, which has none itself: decrypts each connection and passes its bytes on unchanged.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::{
    Stand,
    postgres::{Certificate, Papers},
};

/// A stand's store over https, as long as this value lives.
#[derive(Debug)]
pub struct EncryptedStore {
    endpoint: String,
    authority: PathBuf,
    accepting: JoinHandle<()>,
    _folder: TempDir,
}

impl EncryptedStore {
    /// Starts it on the runtime of the caller, with a certificate from an authority that nobody knows.
    ///
    /// # Errors
    /// If it cannot make a certificate or get a port.
    pub async fn before(stand: &Stand, certificate: Certificate) -> Result<Self> {
        let papers = Papers::make(certificate)?;
        let folder = TempDir::new().context("there is no folder for a certificate")?;
        let authority = folder.path().join("authority.pem");
        std::fs::write(&authority, &papers.authority).context("a certificate cannot be written")?;
        let chain = vec![CertificateDer::from_pem_slice(papers.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(papers.key.as_bytes())?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port is free")?;
        let endpoint = format!("https://localhost:{}", listener.local_addr()?.port());
        let store = &stand.storage_settings.endpoint;
        let target =
            format!("{}:{}", store.host_str().unwrap_or_default(), store.port_or_known_default().unwrap_or(80));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _peer)) = listener.accept().await {
                let (acceptor, target) = (acceptor.clone(), target.clone());
                tokio::spawn(async move {
                    // A client that rejects the certificate closes the connection.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    if let Ok(mut store) = TcpStream::connect(target).await {
                        let _broken = copy_bidirectional(&mut client, &mut store).await;
                    }
                });
            }
        });
        Ok(Self { endpoint, authority, accepting, _folder: folder })
    }

    /// `https://localhost:<port>`
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The certificate of the authority, as PEM.
    pub fn authority(&self) -> &Path {
        &self.authority
    }
}

impl Drop for EncryptedStore {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

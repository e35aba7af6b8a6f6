//! An S3 store for tests and the demo: embedded in this process, or a real one named by the environment.
//!
//! Embedded means the crate `s3s` (SigV4, POST policies, XML) over a small in-memory `store`: one lock per bucket; every
//! condition and checksum is decided before anything is visible; a copy takes the very bytes whose ETag it accepted. It is
//! not `s3s-fs`, whose copy-if-match is not atomic. `access` holds the three-key rule, `front` what `s3s` 0.14 lacks.
//!
//! What is deliberately absent: multipart uploads, versions, ACLs, virtual-host addressing, `${filename}` in POST keys, and
//! session tokens (embedded keys have none). `s3s` holds the whole file of a POST in memory before the backend sees it, and it
//! refuses a POST whose `x-amz-date` is more than 15 minutes old even where the policy lives longer (AWS asks the policy only).
//! It logs every refusal as an error: whoever installs a subscriber in this process should silence the target `s3s`.

mod access;
mod backend;
mod cors;
mod front;
mod grant;
mod keys;
mod store;
mod traffic;
mod upload;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

pub use grant::grant;
pub use keys::{Key, S3Connection, ThreeKeys};
pub use traffic::Traffic;

use access::KeyRing;
use backend::Backend;
use front::Front;
use store::Store;

/// The region that the embedded store accepts in signatures; a signature for another region is refused, as AWS does.
pub const REGION: &str = "us-east-1";

/// An S3 server on a free port of 127.0.0.1 that lives as long as this value. It runs on threads of its own, so that it outlives
/// the runtime of the test that happened to start it.
#[derive(Debug)]
pub struct EmbeddedS3 {
    connection: S3Connection,
    store: Arc<Store>,
    /// Taken by `drop` alone.
    runtime: Option<Runtime>,
}

impl EmbeddedS3 {
    /// Starts a store with no buckets and three random keys.
    ///
    /// # Errors
    /// When no thread or no port can be had.
    pub async fn start() -> anyhow::Result<Self> {
        // The listener must belong to the store's own runtime, and `block_on` may not be called on a thread of the caller's.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        thread::Builder::new()
            .name("embedded-s3-start".into())
            .spawn(move || {
                // Nobody may be waiting any more; then the store just ends again.
                let _ = sender.send(Self::start_blocking());
            })
            .context("cannot start a thread for the embedded S3")?;
        receiver.await.context("the embedded S3 did not start")?
    }

    fn start_blocking() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("embedded-s3")
            .enable_all()
            .build()
            .context("cannot start the threads of the embedded S3")?;
        let listener = runtime
            .block_on(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
            .context("cannot bind a port for the embedded S3")?;
        let endpoint = format!("http://{}", listener.local_addr().context("the embedded S3 has no address")?);

        let store = Arc::new(Store::default());
        let keys = ThreeKeys::random();
        let key_ring = KeyRing::new(&keys);
        let mut builder = S3ServiceBuilder::new(Backend::new(Arc::clone(&store)));
        builder.set_auth(key_ring.clone());
        builder.set_access(key_ring);
        runtime.spawn(Front::new(builder.build(), Arc::clone(&store)).serve(listener));

        Ok(Self { connection: S3Connection { endpoint, keys }, store, runtime: Some(runtime) })
    }

    /// `http://127.0.0.1:<port>`, for path-style addressing.
    pub fn endpoint(&self) -> &str {
        &self.connection.endpoint
    }

    /// The store's three keys; they hold for all of its buckets.
    pub fn keys(&self) -> &ThreeKeys {
        &self.connection.keys
    }

    /// Endpoint and keys together, the shape that a store from the environment has too.
    pub fn connection(&self) -> &S3Connection {
        &self.connection
    }

    /// What has reached `bucket` so far, also while a body is still on its way: wait with
    /// `traffic(bucket).wait_for(|traffic| traffic.received_bytes >= 1 << 20)` instead of sleeping.
    /// The bucket need not exist yet.
    pub fn traffic(&self, bucket: &str) -> watch::Receiver<Traffic> {
        self.store.traffic.subscribe(bucket)
    }
}

impl Drop for EmbeddedS3 {
    fn drop(&mut self) {
        // A plain drop of a runtime waits for it, which panics inside of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

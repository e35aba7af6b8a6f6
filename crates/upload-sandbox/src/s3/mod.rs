//! An S3 store for tests and the demo: embedded in this process, or a real one named by the environment.
//!
//! Embedded means the crate `s3s` (SigV4, POST policies, XML) over a small in-memory `store`. The store has one lock per bucket,
//! and decides every condition and checksum before anything is visible. A copy takes the very bytes whose ETag it accepted. The
//! store is not `s3s-fs`, whose copy-if-match is not atomic. `access` has the rights of each key, `front` what `s3s` 0.14 lacks.
//!
//! Absent on purpose: multipart uploads, ACLs, `${filename}` in POST keys, and session tokens (embedded keys have
//! none). `s3s` holds the whole file of a POST in memory before the backend sees it. It refuses a POST whose `x-amz-date` is more
//! than 15 minutes old, even if the policy lives longer (AWS checks only the policy). It logs every refusal as an error: if you
//! install a subscriber in this process, silence the target `s3s`.

mod access;
mod backend;
mod cors;
mod front;
mod grant;
mod host;
mod keys;
mod store;
mod traffic;
mod upload;
mod versions;

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

use access::{KeyRing, Policy};
use backend::Backend;
use front::Front;
use host::BucketHosts;
use store::Store;

/// The rights of the three keys, which a MinIO gets, too. `${S3_BUCKET}` stands for the bucket.
pub const SERVER_POLICY: &str = include_str!("../../../../compose/minio/policies/server.json");
/// See [`SERVER_POLICY`].
pub const SIGNER_POLICY: &str = include_str!("../../../../compose/minio/policies/signer.json");
/// See [`SERVER_POLICY`].
pub const READER_POLICY: &str = include_str!("../../../../compose/minio/policies/reader.json");
/// The server's rights in a bucket with versions, which include those of [`SERVER_POLICY`].
pub const VERSION_SERVER_POLICY: &str = include_str!("../../../../compose/minio/policies/version/server.json");
/// The reader's rights in a bucket with versions, which include those of [`READER_POLICY`].
pub const VERSION_READER_POLICY: &str = include_str!("../../../../compose/minio/policies/version/reader.json");
/// The rights of the key that creates a bucket and sets its rules.
pub const OPERATOR_POLICY: &str = include_str!("../../../../compose/minio/policies/operator.json");
const ADMIN_POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}]}"#;

/// The region that an embedded store accepts in signatures, unless it is started in another. As AWS, it refuses a signature for any
/// other region than its own.
pub const REGION: &str = "us-east-1";

/// The one session token that an embedded store reports as expired. It reports every other token as unknown.
pub const EXPIRED_TOKEN: &str = "a-token-of-yesterday";

/// An S3 server on a free port of 127.0.0.1 that lives as long as this value. It runs on threads of its own, so that it outlives
/// the runtime of the test that happened to start it.
pub struct EmbeddedS3 {
    connection: S3Connection,
    store: Arc<Store>,
    key_ring: KeyRing,
    /// Only `drop` takes it.
    runtime: Option<Runtime>,
}

impl EmbeddedS3 {
    /// Starts a store with no buckets and three random keys, in [`REGION`].
    ///
    /// # Errors
    /// If there is no free port, or no thread can start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_in(REGION).await
    }

    /// The same in another region.
    ///
    /// # Errors
    /// If there is no free port, or no thread can start.
    pub async fn start_in(region: &'static str) -> anyhow::Result<Self> {
        // The listener must belong to the store's own runtime, and `block_on` may not be called on a thread of the caller's.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        thread::Builder::new()
            .name("embedded-s3-start".into())
            .spawn(move || {
                // If nobody waits any more, the store just ends again.
                let _ = sender.send(Self::start_blocking(region));
            })
            .context("cannot start a thread for the embedded S3")?;
        receiver.await.context("the embedded S3 did not start")?
    }

    fn start_blocking(region: &'static str) -> anyhow::Result<Self> {
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
        let admin = Key::random("admin");
        let key_ring = KeyRing::new(Arc::clone(&store), region);
        for (key, policy) in [
            (&admin, ADMIN_POLICY),
            // Its buckets may have versions or not, so its keys have the rights for both.
            (&keys.server, VERSION_SERVER_POLICY),
            (&keys.signer, SIGNER_POLICY),
            (&keys.reader, VERSION_READER_POLICY),
        ] {
            key_ring.add(key, Policy::parse(policy).context("a key's policy cannot be read")?);
        }
        let mut builder = S3ServiceBuilder::new(Backend::new(Arc::clone(&store), region));
        builder.set_auth(key_ring.clone());
        builder.set_access(key_ring.clone());
        builder.set_host(BucketHosts);
        runtime.spawn(Front::new(builder.build(), Arc::clone(&store), region).serve(listener));

        Ok(Self { connection: S3Connection { endpoint, keys, admin }, store, key_ring, runtime: Some(runtime) })
    }

    /// `http://127.0.0.1:<port>`, for path-style addressing.
    pub fn endpoint(&self) -> &str {
        &self.connection.endpoint
    }

    /// The store's three keys, valid for all of its buckets.
    pub fn keys(&self) -> &ThreeKeys {
        &self.connection.keys
    }

    /// Makes a further key. Its policy is JSON in the words of IAM: allowing statements only, with lists of actions and of resources;
    /// `${S3_BUCKET}` in it stands for every bucket.
    ///
    /// # Errors
    /// When the policy is not of that kind.
    pub fn add_key(&self, policy: &str) -> anyhow::Result<Key> {
        let key = Key::random("other");
        self.key_ring.add(&key, Policy::parse(policy).context("the policy cannot be read")?);
        Ok(key)
    }

    /// Endpoint and keys together, in the same type as for a store from the environment.
    pub fn connection(&self) -> &S3Connection {
        &self.connection
    }

    /// `http://localhost:<port>`, for virtual-host addressing.
    pub fn domain_endpoint(&self) -> String {
        self.endpoint().replace("127.0.0.1", host::DOMAIN)
    }

    /// The traffic that has reached `bucket` so far, also while a body is still on its way: wait with
    /// `traffic(bucket).wait_for(|traffic| traffic.received_bytes >= 1 << 20)` instead of sleeping.
    /// The bucket need not exist yet.
    pub fn traffic(&self, bucket: &str) -> watch::Receiver<Traffic> {
        self.store.traffic.subscribe(bucket)
    }
}

impl std::fmt::Debug for EmbeddedS3 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EmbeddedS3").field("connection", &self.connection).finish_non_exhaustive()
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

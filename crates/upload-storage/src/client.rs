//! The client: one bucket, one set of timeouts.
//!
//! Differences from the SDK's defaults, and the reasons:
//! - `RequestChecksumCalculation::WhenRequired` (a setting): the default turns streamed bodies into aws-chunked and, over plain http,
//!   signs each 64 KiB with SHA-256 (aws-sdk-s3 1.157, `aws_chunked.rs`); several stores refuse it (awslabs/aws-sdk-rust#1240).
//! - Timeouts: the SDK has none of its own for attempts and operations. `read_timeout` stays unset, because it spans the upload of a body.
//! - No identity cache: a key keeps its own credentials fresh, and shares them between clients.
//! - HTTP_PROXY, HTTPS_PROXY and NO_PROXY are obeyed, which is the SDK's own default (aws-smithy-runtime 1.16, `client/http.rs`).
//! - Stalled-stream protection is off: a store that is merely slow counts as 0 bytes a second (awslabs/aws-sdk-rust#1146). Reads have a
//!   time limit of their own here, and the code that streams a body limits its stalls.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_s3::{
    Client, Config,
    config::{
        BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use s3_presigned_post::Bucket;
use tokio::try_join;

use crate::{
    Addressing, ChecksumMode, Pin, SettingsError, Signer, StorageError, StorageSettings,
    key::Key,
    objects::{CACHE_CONTROL, CONTENT_DISPOSITION},
    url_signer::{UrlSigner, encode_key, query_of},
};

/// How long a TCP (and TLS) handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one attempt may take, from the request to the answer's headers.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an operation may take with all its attempts, and with the answer's body.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one attempt to send a whole file from memory may take.
const BUFFERED_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a whole file may take, to or from memory, with all attempts.
const WHOLE_FILE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one attempt to delete up to a thousand objects may take: stores delete them one after another.
const DELETIONS_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the deletion of up to a thousand objects may take with all attempts.
const DELETIONS_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request is tried in all.
const ATTEMPTS: u32 = 3;
/// The first pause before another attempt; it doubles, with jitter.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// One bucket, opened with the server's key. Cheap to clone.
///
/// Connections live on the tokio runtime of the call that opened them: a `Storage` that is used on several runtimes loses its idle
/// connections when one of them ends (hyperium/hyper#2113), so make one for each.
#[derive(Debug, Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    settings: StorageSettings,
    public_bucket: Bucket,
    server: Key,
    reader: Option<Key>,
}

/// Where an object can be read. `Debug` hides the signature.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadUrl {
    /// The URL.
    pub url: String,
    /// How long it works: at most as long as requested, and at most as long as the credentials that signed it.
    pub lasts: Duration,
}

impl Storage {
    /// Builds the client. Nothing is sent to the store yet, but temporary credentials are fetched: now, of both keys at once and in no
    /// more than ten seconds, and later by this runtime.
    ///
    /// # Errors
    /// [`SettingsError`] when the endpoint, the region or the bucket cannot stand in a URL, there are no credentials, or the server's
    /// and the reader's are one.
    pub async fn new(settings: &StorageSettings) -> Result<Self, SettingsError> {
        settings.bucket_at(&settings.endpoint, "S3_ENDPOINT")?;
        let public_bucket = settings.public_bucket()?;
        let (server, reader) = (settings.server()?, settings.reader()?);
        let (server, reader) = try_join!(Key::open(server, &settings.region), async {
            match reader {
                Some(source) => Key::open(source, &settings.region).await.map(Some),
                None => Ok(None),
            }
        })?;
        if let Some(reader) = &reader {
            settings.check_distinct(&server, reader)?;
        }
        let client = client(settings, server.clone());
        Ok(Self { shared: Arc::new(Shared { client, settings: settings.clone(), public_bucket, server, reader }) })
    }

    /// Refuses a signer whose key also has another role.
    ///
    /// # Errors
    /// [`SettingsError::OneKey`].
    pub fn check_distinct(&self, signer: &Signer) -> Result<(), SettingsError> {
        let Shared { settings, server, reader, .. } = self.shared.as_ref();
        settings.check_distinct(server, signer.key())?;
        reader.as_ref().map_or(Ok(()), |reader| settings.check_distinct(reader, signer.key()))
    }

    /// The same bucket and keys, with connections of its own: for use on another runtime.
    #[must_use]
    pub fn with_own_connections(&self) -> Self {
        let Shared { settings, public_bucket, server, reader, .. } = self.shared.as_ref();
        let shared = Shared {
            client: client(settings, server.clone()),
            settings: settings.clone(),
            public_bucket: public_bucket.clone(),
            server: server.clone(),
            reader: reader.clone(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A URL at which anyone can read the object for `lasts`, signed by the reader's key; or, where media is public, its lasting URL.
    /// With a version it leads to that version alone.
    ///
    /// # Errors
    /// [`StorageError::Refused`] when there is neither a reader's key nor a public address; [`StorageError::Unavailable`] when the
    /// reader's credentials have ended.
    pub async fn read_url(&self, key: &str, version: Option<&str>, lasts: Duration) -> Result<ReadUrl, StorageError> {
        let shared = self.shared.as_ref();
        if let Some(base) = &shared.settings.media_public_base_url {
            let mut url = format!("{}/{}", base.as_str().trim_end_matches('/'), encode_key(key));
            if let Some(version) = version {
                url.push_str(&query_of(&[("versionId", version)]));
            }
            return Ok(ReadUrl { url, lasts });
        }
        let reader = shared.reader.as_ref().ok_or_else(|| StorageError::Refused(SettingsError::NoReader.into()))?;
        let credentials = reader.credentials(lasts).await?;
        let now = SystemTime::now();
        let life = credentials.expiry().map(|expiry| expiry.duration_since(now).unwrap_or_default());
        // Signatures count whole seconds.
        let lasts = Duration::from_secs(life.map_or(lasts, |life| life.min(lasts)).as_secs());
        let query: Vec<(&str, &str)> = version.map_or_else(Vec::new, |version| {
            // A copy has these two headers. A form does not let its client set them.
            let (disposition, caching) = ("response-content-disposition", "response-cache-control");
            vec![("versionId", version), (disposition, CONTENT_DISPOSITION), (caching, CACHE_CONTROL)]
        });
        let url = UrlSigner::new(&shared.public_bucket, &credentials).sign("GET", key, &query, &[], now, lasts);
        Ok(ReadUrl { url: url.map_err(|error| StorageError::Refused(error.into()))?, lasts })
    }

    /// How a link makes verified bytes unchangeable.
    pub fn pin(&self) -> Pin {
        self.shared.settings.pin
    }

    pub(crate) fn settings(&self) -> &StorageSettings {
        &self.shared.settings
    }

    pub(crate) fn server(&self) -> &Key {
        &self.shared.server
    }

    pub(crate) fn reader(&self) -> Option<&Key> {
        self.shared.reader.as_ref()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    pub(crate) fn bucket(&self) -> &str {
        &self.shared.settings.bucket
    }

    pub(crate) fn region(&self) -> &str {
        &self.shared.settings.region
    }
}

impl std::fmt::Debug for ReadUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.url.split('?').next().unwrap_or_default();
        formatter.debug_struct("ReadUrl").field("url", &address).field("lasts", &self.lasts).finish()
    }
}

/// Bounds an answer's body too, which the SDK's own timeouts leave out.
pub(crate) async fn within_operation_timeout<T, E: From<StorageError>>(
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    within(OPERATION_TIMEOUT, operation).await
}

/// Bounds the reading of a whole file.
pub(crate) async fn within_whole_file_timeout<T, E: From<StorageError>>(
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    within(WHOLE_FILE_TIMEOUT, operation).await
}

async fn within<T, E: From<StorageError>>(
    limit: Duration,
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(limit, operation).await.unwrap_or_else(|elapsed| Err(StorageError::timeout(elapsed).into()))
}

/// For a body whose pace the client sets: only the handshake is bounded.
pub(crate) fn without_timeouts() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .disable_read_timeout()
        .disable_operation_attempt_timeout()
        .disable_operation_timeout();
    Config::builder().timeout_config(timeouts.build())
}

/// For a body that comes from memory but is large.
pub(crate) fn with_whole_file_timeouts() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(BUFFERED_ATTEMPT_TIMEOUT)
        .operation_timeout(WHOLE_FILE_TIMEOUT);
    Config::builder().timeout_config(timeouts.build())
}

/// For a small request that makes much work for the store.
pub(crate) fn with_deletions_timeouts() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(DELETIONS_ATTEMPT_TIMEOUT)
        .operation_timeout(DELETIONS_TIMEOUT);
    Config::builder().timeout_config(timeouts.build())
}

fn client(settings: &StorageSettings, server: Key) -> Client {
    let checksums = match settings.checksums {
        ChecksumMode::WhenRequired => RequestChecksumCalculation::WhenRequired,
        ChecksumMode::WhenSupported => RequestChecksumCalculation::WhenSupported,
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT);
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(settings.endpoint.as_str())
        .region(Region::new(settings.region.clone()))
        .credentials_provider(server)
        .identity_cache(IdentityCache::no_cache())
        .force_path_style(settings.addressing == Addressing::Path)
        .request_checksum_calculation(checksums)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(INITIAL_BACKOFF))
        .timeout_config(timeouts.build());
    Client::from_conf(config.build())
}

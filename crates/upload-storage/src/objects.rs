//! Objects: store, read, promote and list them.

use aws_sdk_s3::{
    primitives::{ByteStream, SdkBody},
    types::MetadataDirective,
};
use bytes::{Bytes, BytesMut};
use http_body::Body;
use sha2::{Digest, Sha256};
use upload_domain::ImageFormat;

use crate::{
    BoxError, Listing, Storage, StorageError, VersionError, body,
    client::{with_whole_file_timeouts, within_operation_timeout, within_whole_file_timeout, without_timeouts},
    error::{is_bucket_missing, status},
    url_signer::encode_key,
};

/// Media keys are never written twice, so a cached copy stays correct.
pub(crate) const CACHE_CONTROL: &str = "public, max-age=31536000, immutable";
/// Browsers show the file, and do not save it under a name that a client chose.
pub(crate) const CONTENT_DISPOSITION: &str = "inline";

/// The beginning of an object and what the store says of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The first bytes.
    pub bytes: Bytes,
    /// The whole object's length, in bytes.
    pub total_bytes: u64,
    /// Its Content-Type, as set by the client that stored it.
    pub content_type: Option<String>,
    /// The ETag, with its quotation marks. Empty for an empty object, because the answer to a refused range has no ETag.
    pub etag: String,
    /// The id of the version, if the bucket has versions and gave this one an id of its own.
    pub version: Option<String>,
    /// Whether the client has told browsers how to decode the file, or to save it and under which name.
    pub has_client_headers: bool,
}

/// What a HEAD says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its length.
    pub bytes: u64,
    /// Its Content-Type.
    pub content_type: Option<String>,
}

impl Storage {
    /// Stores `body` in one PUT of exactly `length` bytes and answers with the ETag, quotation marks included.
    ///
    /// The object appears only if the body yields exactly `length` bytes and then ends without an error: the frame that completes the
    /// length waits until then (hyper would otherwise cut a longer body off and store that). A `length` of zero stores an empty object
    /// without a look at the body. Nothing is stored either when the future is dropped before the body has ended.
    ///
    /// Only the handshake has a time limit: the caller watches the progress. A failed connect, or a 503 before the first byte was taken, is
    /// tried again, up to three times in all. After the first byte nothing is tried again.
    ///
    /// # Errors
    /// [`StorageError`]; an error of the body itself comes back as the source of [`StorageError::Unavailable`].
    pub async fn put_stream<B>(
        &self,
        key: &str,
        format: ImageFormat,
        length: u64,
        body: B,
    ) -> Result<String, StorageError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.put_media(key, format, body::once(body, length), without_timeouts()).await
    }

    /// Stores a whole file from memory, in at most 30 seconds and three attempts, and answers with the ETag, quotation marks included.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn put_buffered(
        &self,
        key: &str,
        format: ImageFormat,
        chunks: Vec<Bytes>,
    ) -> Result<String, StorageError> {
        self.put_media(key, format, body::rope(chunks), with_whole_file_timeouts()).await
    }

    async fn put_media(
        &self,
        key: &str,
        format: ImageFormat,
        body: SdkBody,
        timeouts: aws_sdk_s3::config::Builder,
    ) -> Result<String, StorageError> {
        let put = self
            .client()
            .put_object()
            .bucket(self.bucket())
            .key(key)
            .content_type(format.as_str())
            .cache_control(CACHE_CONTROL)
            .content_disposition(CONTENT_DISPOSITION)
            .body(ByteStream::new(body));
        let stored = put.customize().config_override(timeouts).send().await?;
        Ok(stored.e_tag.unwrap_or_default())
    }

    /// Stores bytes under any key with any type, as a client's form would. For tests and demonstrations.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn put(&self, key: &str, content_type: &str, bytes: Bytes) -> Result<(), StorageError> {
        let put = self.client().put_object().bucket(self.bucket()).key(key).content_type(content_type);
        put.body(bytes.into()).send().await?;
        Ok(())
    }

    /// Reads at most the first `max_bytes` (at least one) of this version, or of the newest, in one request; `None` if it is not there.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn read_head(
        &self,
        key: &str,
        version: Option<&str>,
        max_bytes: usize,
    ) -> Result<Option<Head>, StorageError> {
        let max_bytes = max_bytes.max(1);
        within_operation_timeout(async {
            let get =
                self.client().get_object().bucket(self.bucket()).key(key).set_version_id(version.map(str::to_owned));
            let object = match get.range(format!("bytes=0-{}", max_bytes - 1)).send().await {
                Ok(object) => object,
                // No first byte: the object is empty (RFC 9110, section 14.1.2).
                Err(error) if status(&error) == Some(416) => return Ok(Some(Head::of_nothing())),
                Err(error) if status(&error) == Some(404) && !is_bucket_missing(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let total_bytes = object
                .content_range
                .as_deref()
                .and_then(|range| range.rsplit_once('/')?.1.parse().ok())
                .or_else(|| object.content_length.and_then(|length| u64::try_from(length).ok()))
                .ok_or_else(|| StorageError::unavailable("the store did not say how long the object is"))?;
            let etag = object.e_tag.ok_or_else(|| StorageError::unavailable("the store sent no ETag"))?;
            // An object without an id of its own has the id `null`. A later write may take its place.
            let version = object.version_id.filter(|id| id != "null");
            let encoding = object.content_encoding.is_some_and(|encoding| !encoding.is_empty());
            let disposition = object.content_disposition.is_some_and(|disposition| disposition != CONTENT_DISPOSITION);
            let bytes = read_up_to(object.body, max_bytes).await?;
            Ok(Some(Head {
                bytes,
                total_bytes,
                content_type: object.content_type,
                etag,
                version,
                has_client_headers: encoding || disposition,
            }))
        })
        .await
    }

    /// The SHA-256 of the whole object, if it still has this ETag. With a version it is that version's. Reads it in steps, in at most 30
    /// seconds.
    ///
    /// # Errors
    /// [`VersionError`].
    pub async fn sha256(&self, key: &str, version: Option<&str>, etag: &str) -> Result<[u8; 32], VersionError> {
        within_whole_file_timeout(async {
            let get = self.client().get_object().bucket(self.bucket()).key(key).if_match(etag);
            let get = get.set_version_id(version.map(str::to_owned));
            let mut object = get.send().await.map_err(VersionError::from_sdk)?;
            let mut digest = Sha256::new();
            while let Some(bytes) = object.body.next().await {
                digest.update(bytes.map_err(StorageError::unavailable)?);
            }
            Ok(digest.finalize().into())
        })
        .await
    }

    /// Copies the version that `etag` names to another key, and sets type, disposition and caching anew.
    ///
    /// Whatever comes back but `Ok`, the copy may exist: a retry can fail after an attempt whose answer was lost.
    ///
    /// # Errors
    /// [`VersionError`].
    pub async fn promote(&self, from: &str, to: &str, etag: &str, format: ImageFormat) -> Result<(), VersionError> {
        let copy = self
            .client()
            .copy_object()
            .bucket(self.bucket())
            .key(to)
            .copy_source(format!("{}/{}", self.bucket(), encode_key(from)))
            .copy_source_if_match(etag)
            .metadata_directive(MetadataDirective::Replace)
            .content_type(format.as_str())
            .cache_control(CACHE_CONTROL)
            .content_disposition(CONTENT_DISPOSITION);
        copy.send().await.map_err(VersionError::from_sdk)?;
        Ok(())
    }

    /// The object's length in bytes; `None` if the key holds nothing.
    ///
    /// # Errors
    /// [`StorageError`]. A missing bucket cannot be told from a missing key here: a HEAD has no error code.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, StorageError> {
        Ok(self.describe(key, None).await?.map(|stored| stored.bytes))
    }

    /// What the store says of this version, or of the newest; `None` if it is not there.
    ///
    /// # Errors
    /// As [`Storage::size`].
    pub async fn describe(&self, key: &str, version: Option<&str>) -> Result<Option<Stored>, StorageError> {
        let head = self.client().head_object().bucket(self.bucket()).key(key);
        match head.set_version_id(version.map(str::to_owned)).send().await {
            Ok(object) => Ok(Some(Stored {
                bytes: object.content_length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0),
                content_type: object.content_type,
            })),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A whole object, in memory; `None` if the key holds nothing.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>, StorageError> {
        within_whole_file_timeout(async {
            let object = match self.client().get_object().bucket(self.bucket()).key(key).send().await {
                Ok(object) => object,
                Err(error) if status(&error) == Some(404) && !is_bucket_missing(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            read_up_to(object.body, usize::MAX).await.map(Some)
        })
        .await
    }

    /// Every key that begins with the prefix, in the store's order.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        Ok(self.list_with_sizes(prefix).await?.into_iter().map(|(key, _size_bytes)| key).collect())
    }

    /// The same, each key with its object's length in bytes.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn list_with_sizes(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError> {
        let objects = Listing::of_objects(self, prefix).all().await?;
        Ok(objects.into_iter().map(|object| (object.key, object.bytes)).collect())
    }
}

impl Head {
    fn of_nothing() -> Self {
        Self {
            bytes: Bytes::new(),
            total_bytes: 0,
            content_type: None,
            etag: String::new(),
            version: None,
            has_client_headers: false,
        }
    }
}

/// Reads until the end or the limit, whichever comes first: a store may ignore a range and send everything.
async fn read_up_to(mut body: ByteStream, max_bytes: usize) -> Result<Bytes, StorageError> {
    let mut read = BytesMut::new();
    while read.len() < max_bytes {
        let Some(bytes) = body.next().await else { break };
        read.extend_from_slice(&bytes.map_err(StorageError::unavailable)?);
    }
    read.truncate(max_bytes);
    Ok(read.freeze())
}

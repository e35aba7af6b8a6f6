//! The S3 operations that this project uses, as `s3s` calls them; every other one answers 501 `NotImplemented`.

use std::sync::Arc;
use std::time::SystemTime;

use hyper::Method;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderValue, LOCATION};
use s3s::dto::*;
use s3s::{Body, S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::store::{Bucket, Conditions, Object as StoredObject, Store};
use super::versions::{Found, Version, Versioning};
use super::{host, upload};

/// The type that S3 serves if an upload named none.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";
const LARGEST_PAGE_KEYS: usize = 1000;

pub(super) struct Backend {
    store: Arc<Store>,
    region: &'static str,
}

impl Backend {
    pub(super) fn new(store: Arc<Store>, region: &'static str) -> Self {
        Self { store, region }
    }
}

/// Kept with the answer to a POST, so that `front` can write it into the XML body: `s3s` 0.14 has only the path there.
#[derive(Clone)]
pub(super) struct Posted {
    pub(super) location: String,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) etag: String,
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.store.create_bucket(&request.input.bucket)?;
        Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{}", request.input.bucket)) }))
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.store.remove_bucket(&request.input.bucket)?;
        Ok(S3Response::new(DeleteBucketOutput {}))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.store.bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(self.region.into()), ..Default::default() }))
    }

    /// A PUT, and through the default `post_object` of `s3s` a POST.
    async fn put_object(&self, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (bucket_name, key) = (request.input.bucket.clone(), request.input.key.clone());
        if key.is_empty() {
            return Err(s3_error!(InvalidArgument, "User key must have a length greater than 0."));
        }
        let bucket = self.store.bucket(&bucket_name)?;
        let traffic = self.store.traffic.sender(&bucket_name);
        let object = upload::receive(&mut request, &traffic).await?;
        let conditions =
            Conditions { if_match: request.input.if_match.take(), if_none_match: request.input.if_none_match.take() };
        let found = bucket.insert(key.clone(), object, &conditions)?;
        let version_id = version_id(&bucket, &found);
        let object = found.object;
        traffic.send_modify(|traffic| traffic.uploads_stored += 1);

        let mut response = S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            checksum_crc32: object.checksum.checksum_crc32.clone(),
            checksum_crc32c: object.checksum.checksum_crc32c.clone(),
            checksum_crc64nvme: object.checksum.checksum_crc64nvme.clone(),
            checksum_sha1: object.checksum.checksum_sha1.clone(),
            checksum_sha256: object.checksum.checksum_sha256.clone(),
            version_id: version_id.clone(),
            ..Default::default()
        });
        if request.method == Method::POST {
            let location = location(&request.headers, &bucket_name, &key);
            let posted = Posted { location, bucket: bucket_name, key, etag: format!("\"{}\"", object.etag) };
            response.headers.insert(ETAG, header_value(&posted.etag)?);
            response.headers.insert(LOCATION, header_value(&posted.location)?);
            if let Some(version_id) = &version_id {
                response.headers.insert("x-amz-version-id", header_value(version_id)?);
            }
            response.extensions.insert(posted);
        }
        Ok(response)
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let found = bucket.get(&input.key, input.version_id.as_deref())?;
        let version_id = version_id(&bucket, &found);
        let object = found.object;
        Conditions { if_match: input.if_match, if_none_match: input.if_none_match }.allow_read(&object)?;
        let range = input.range.map(|range| part(&range, &object)).transpose()?;
        let body = range.clone().map_or_else(|| object.bytes.clone(), |range| object.bytes.slice(range));
        let checksum = match (input.checksum_mode, &range) {
            (Some(_), None) => object.checksum.clone(),
            _ => Checksum::default(),
        };
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            cache_control: input.response_cache_control.or_else(|| object.headers.cache_control.clone()),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            content_disposition: input
                .response_content_disposition
                .or_else(|| object.headers.content_disposition.clone()),
            content_encoding: object.headers.content_encoding.clone(),
            content_language: object.headers.content_language.clone(),
            content_length: Some(length(body.len())?),
            content_range: range.map(|range| format!("bytes {}-{}/{}", range.start, range.end - 1, object.bytes.len())),
            content_type: Some(content_type(&object)),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            expires: object.headers.expires.clone(),
            last_modified: Some(Timestamp::from(object.modified_at)),
            metadata: object.headers.metadata.clone(),
            version_id,
            body: Some(StreamingBlob::from(Body::from(body))),
            ..Default::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let found = bucket.get(&input.key, input.version_id.as_deref())?;
        let version_id = version_id(&bucket, &found);
        let object = found.object;
        Conditions { if_match: input.if_match, if_none_match: input.if_none_match }.allow_read(&object)?;
        let checksum = input.checksum_mode.map(|_| object.checksum.clone()).unwrap_or_default();
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            cache_control: object.headers.cache_control.clone(),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            content_disposition: object.headers.content_disposition.clone(),
            content_encoding: object.headers.content_encoding.clone(),
            content_language: object.headers.content_language.clone(),
            content_length: Some(length(object.bytes.len())?),
            content_type: Some(content_type(&object)),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            expires: object.headers.expires.clone(),
            last_modified: Some(Timestamp::from(object.modified_at)),
            metadata: object.headers.metadata.clone(),
            version_id,
            ..Default::default()
        }))
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = request.input;
        let CopySource::Bucket { bucket, key, version_id: None } = &input.copy_source else {
            return Err(s3_error!(NotImplemented, "Only <bucket>/<key> can be a copy source"));
        };
        let source = self.store.bucket(bucket)?.get(key, None)?.object;
        Conditions { if_match: input.copy_source_if_match, if_none_match: input.copy_source_if_none_match }
            .allow_copy(&source)?;
        let replace =
            input.metadata_directive.is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
        if !replace && **bucket == *input.bucket && **key == *input.key {
            return Err(s3_error!(InvalidRequest, "A copy onto itself must change something"));
        }
        let headers = if replace {
            super::store::ObjectHeaders {
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                content_encoding: input.content_encoding,
                content_language: input.content_language,
                content_type: input.content_type,
                expires: input.expires,
                metadata: input.metadata,
            }
        } else {
            source.headers.clone()
        };
        let copy = StoredObject {
            bytes: source.bytes.clone(),
            etag: source.etag.clone(),
            modified_at: SystemTime::now(),
            headers,
            checksum: source.checksum.clone(),
        };
        let bucket = self.store.bucket(&input.bucket)?;
        let found = bucket.insert(input.key, copy, &Conditions::default())?;
        let version_id = version_id(&bucket, &found);
        let copy = found.object;
        Ok(S3Response::new(CopyObjectOutput {
            version_id,
            copy_object_result: Some(CopyObjectResult {
                e_tag: Some(ETag::Strong(copy.etag.clone())),
                last_modified: Some(Timestamp::from(copy.modified_at)),
                ..Default::default()
            }),
            ..Default::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let DeleteObjectInput { bucket, key, version_id, .. } = request.input;
        let removed = self.store.bucket(&bucket)?.delete(&key, version_id.as_deref());
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: removed.as_ref().map(Version::is_delete_marker).filter(|is_marker| *is_marker),
            version_id: removed.map(|version| version.id).or(version_id),
            ..Default::default()
        }))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let Delete { objects, quiet } = request.input.delete;
        if objects.is_empty() || objects.len() > LARGEST_PAGE_KEYS {
            return Err(s3_error!(MalformedXML, "1 to {LARGEST_PAGE_KEYS} keys can be deleted at once"));
        }
        let bucket = self.store.bucket(&request.input.bucket)?;
        let deleted = objects
            .into_iter()
            .map(|object| {
                let removed = bucket.delete(&object.key, object.version_id.as_deref());
                let marker = removed.filter(Version::is_delete_marker);
                DeletedObject {
                    key: Some(object.key),
                    version_id: object.version_id,
                    delete_marker: marker.as_ref().map(|_| true),
                    delete_marker_version_id: marker.map(|marker| marker.id),
                }
            })
            .collect();
        let deleted = (quiet != Some(true)).then_some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let max_keys = page_keys(input.max_keys)?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        // The token is the last entry of the page before. As a real store's token, it is opaque to clients.
        let after = input.continuation_token.as_deref().or(input.start_after.as_deref());
        let page = self.store.bucket(&input.bucket)?.list(prefix, delimiter, after, max_keys);
        let contents = page.objects.into_iter().map(|(key, object)| {
            Ok(Object {
                key: Some(key),
                e_tag: Some(ETag::Strong(object.etag.clone())),
                size: Some(length(object.bytes.len())?),
                last_modified: Some(Timestamp::from(object.modified_at)),
                ..Default::default()
            })
        });
        let contents: Vec<Object> = contents.collect::<S3Result<_>>()?;
        let common_prefixes: Vec<CommonPrefix> =
            page.common_prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect();
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(contents.len() + common_prefixes.len()).ok(),
            max_keys: i32::try_from(max_keys).ok(),
            is_truncated: Some(page.resume_after.is_some()),
            next_continuation_token: page.resume_after,
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            ..Default::default()
        }))
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        if input.delimiter.is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(s3_error!(NotImplemented, "Versions are listed without a delimiter"));
        }
        let max_keys = page_keys(input.max_keys)?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let after = input.key_marker.as_deref().filter(|key| !key.is_empty());
        let after = after.zip(input.version_id_marker.as_deref());
        let page = self.store.bucket(&input.bucket)?.list_versions(prefix, after, max_keys);
        let last = page.versions.last().filter(|_| page.is_truncated);
        let (next_key_marker, next_version_id_marker) =
            last.map(|(key, version, _is_latest)| (key.clone(), version.id.clone())).unzip();
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        for (key, version, is_latest) in page.versions {
            let (key, is_latest) = (Some(key), Some(is_latest));
            let (version_id, last_modified) = (Some(version.id), Some(Timestamp::from(version.modified_at)));
            match version.object {
                Some(object) => versions.push(ObjectVersion {
                    key,
                    is_latest,
                    version_id,
                    last_modified,
                    e_tag: Some(ETag::Strong(object.etag.clone())),
                    size: Some(length(object.bytes.len())?),
                    ..Default::default()
                }),
                None => {
                    markers.push(DeleteMarkerEntry { key, is_latest, version_id, last_modified, ..Default::default() })
                }
            }
        }
        Ok(S3Response::new(ListObjectVersionsOutput {
            versions: Some(versions),
            delete_markers: Some(markers),
            is_truncated: Some(page.is_truncated),
            next_key_marker,
            next_version_id_marker,
            max_keys: i32::try_from(max_keys).ok(),
            name: Some(input.bucket),
            prefix: input.prefix,
            key_marker: input.key_marker,
            version_id_marker: input.version_id_marker,
            ..Default::default()
        }))
    }

    async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let status = request.input.versioning_configuration.status;
        let versioning = match status.as_ref().map(BucketVersioningStatus::as_str) {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            _ => return Err(s3_error!(MalformedXML)),
        };
        self.store.bucket(&request.input.bucket)?.set_versioning(versioning);
        Ok(S3Response::new(PutBucketVersioningOutput {}))
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let status = match self.store.bucket(&request.input.bucket)?.versioning() {
            Versioning::Never => None,
            Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
            Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
        };
        let status = status.map(BucketVersioningStatus::from_static);
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
    }

    async fn put_bucket_cors(
        &self,
        request: S3Request<PutBucketCorsInput>,
    ) -> S3Result<S3Response<PutBucketCorsOutput>> {
        let bucket = self.store.bucket(&request.input.bucket)?;
        bucket.set_cors(request.input.cors_configuration.cors_rules);
        Ok(S3Response::new(PutBucketCorsOutput {}))
    }

    async fn get_bucket_cors(
        &self,
        request: S3Request<GetBucketCorsInput>,
    ) -> S3Result<S3Response<GetBucketCorsOutput>> {
        let rules = self.store.bucket(&request.input.bucket)?.cors();
        if rules.is_empty() {
            return Err(s3_error!(NoSuchCORSConfiguration));
        }
        Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(rules) }))
    }

    async fn delete_bucket_cors(
        &self,
        request: S3Request<DeleteBucketCorsInput>,
    ) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
        self.store.bucket(&request.input.bucket)?.set_cors(Vec::new());
        Ok(S3Response::new(DeleteBucketCorsOutput {}))
    }

    /// Kept and shown, never acted on: nothing here lives long enough to expire.
    async fn put_bucket_lifecycle_configuration(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
        let bucket = self.store.bucket(&request.input.bucket)?;
        let configuration = request.input.lifecycle_configuration.ok_or_else(|| s3_error!(MalformedXML))?;
        bucket.set_lifecycle(Some(configuration.rules));
        Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
    }

    async fn delete_bucket_lifecycle(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
        self.store.bucket(&request.input.bucket)?.set_lifecycle(None);
        Ok(S3Response::new(DeleteBucketLifecycleOutput {}))
    }

    async fn get_bucket_lifecycle_configuration(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        let rules = self.store.bucket(&request.input.bucket)?.lifecycle();
        let rules = rules.ok_or_else(|| s3_error!(NoSuchLifecycleConfiguration))?;
        Ok(S3Response::new(GetBucketLifecycleConfigurationOutput { rules: Some(rules), ..Default::default() }))
    }
}

/// The id that S3 shows with an object: none in a bucket that never had versioning.
fn version_id(bucket: &Bucket, found: &Found) -> Option<String> {
    (bucket.versioning() != Versioning::Never).then(|| found.version_id.clone())
}

/// How many entries a page may have.
fn page_keys(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.map_or(Ok(LARGEST_PAGE_KEYS), usize::try_from);
    Ok(asked.map_err(|_| s3_error!(InvalidArgument, "max-keys must be positive"))?.min(LARGEST_PAGE_KEYS))
}

/// The bytes that a `Range` asks for. If there are none, 416 with the real size, as for every range of an empty object.
fn part(range: &Range, object: &StoredObject) -> S3Result<std::ops::Range<usize>> {
    let total = object.bytes.len();
    let unsatisfiable = || {
        let mut error = s3_error!(InvalidRange);
        let mut headers = HeaderMap::new();
        // Headers set here replace those that `s3s` would send with its XML.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        if let Ok(value) = HeaderValue::from_str(&format!("bytes */{total}")) {
            headers.insert(CONTENT_RANGE, value);
        }
        error.set_headers(headers);
        error
    };
    let part = range.check(total as u64).map_err(|_| unsatisfiable())?;
    match (usize::try_from(part.start), usize::try_from(part.end)) {
        // `s3s` treats a range of the last n bytes of an empty object as satisfiable.
        (Ok(start), Ok(end)) if start < end => Ok(start..end),
        _ => Err(unsatisfiable()),
    }
}

fn content_type(object: &StoredObject) -> String {
    object.headers.content_type.clone().unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned())
}

fn length(bytes: usize) -> S3Result<i64> {
    i64::try_from(bytes).map_err(S3Error::internal_error)
}

/// The object's URL at the address that the client used.
fn location(headers: &HeaderMap, bucket: &str, key: &str) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let mut path = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    match host::bucket_of(headers) {
        Some(_bucket) => format!("http://{host}/{path}"),
        None => format!("http://{host}/{bucket}/{path}"),
    }
}

fn header_value(text: &str) -> S3Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(S3Error::internal_error)
}

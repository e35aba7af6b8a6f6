//! Who may do what: each key has a policy in the words of IAM, and the hooks of `s3s` ask it.
//!
//! The three keys have the same policies that `compose/minio` gives to a MinIO. The module knows only the part of the language that those
//! use: allowing statements of actions and resources, with `*` for anything, and one condition.
//!
//! A POST tells its key only after its form is parsed, and a copy or a DeleteObjects names further keys, so the hooks run in two steps:
//! `check` decides on the operation and the path, and those for single operations decide on the rest. As on AWS a refusal names the action
//! that is missing, and a key that may not list is not told that an object is missing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::dto::{CopyObjectInput, CopySource, DeleteObjectsInput, GetObjectInput, HeadObjectInput, PutObjectInput};
use s3s::path::S3Path;
use s3s::{S3Error, S3Request, S3Result, s3_error};
use serde::Deserialize;

use super::Key;
use super::store::Store;

/// Stands in a policy for the name of the bucket.
const ANY_BUCKET: &str = "${S3_BUCKET}";

/// What a key may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Policy {
    statement: Vec<Statement>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Statement {
    #[serde(rename = "Effect")]
    _effect: Allow,
    action: Vec<String>,
    resource: Vec<String>,
    condition: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize)]
enum Allow {
    Allow,
}

#[derive(Clone)]
pub(super) struct KeyRing {
    keys: Arc<RwLock<HashMap<String, (String, Policy)>>>,
    store: Arc<Store>,
    region: &'static str,
}

impl Policy {
    /// Reads the JSON of a policy; [`ANY_BUCKET`] in it stands for every bucket.
    ///
    /// It knows the conditions of `compose/minio`, which a MinIO needs (docs/OPERATIONS.md says why). Here they always hold: the actions of
    /// versions are asked for only if a request names one, every request is signed, and a write ignores a version that it names.
    pub(super) fn parse(json: &str) -> serde_json::Result<Self> {
        let policy: Self = serde_json::from_str(json)?;
        let any = serde_json::json!(["?*"]);
        let names_version = serde_json::json!({ "StringLike": { "s3:versionid": any } });
        let signed_without_version = serde_json::json!({
            "StringLike": { "s3:authType": any },
            "StringNotLike": { "s3:versionid": any },
        });
        let mut conditions = policy.statement.iter().filter_map(|statement| statement.condition.as_ref());
        match conditions.find(|condition| ![&names_version, &signed_without_version].contains(condition)) {
            Some(unknown) => Err(serde::de::Error::custom(format!("the condition {unknown} is not known"))),
            None => Ok(policy),
        }
    }

    fn allows(&self, action: &str, resource: &str) -> bool {
        self.statement.iter().any(|statement| {
            statement.action.iter().any(|pattern| fits(pattern, action))
                && statement.resource.iter().any(|pattern| fits(pattern, resource))
        })
    }
}

/// Whether the text fits the pattern. Each `*` stands for any text, also an empty one, and [`ANY_BUCKET`] for a bucket's name.
fn fits(pattern: &str, text: &str) -> bool {
    if let Some((start, rest)) = pattern.split_once(ANY_BUCKET) {
        let Some(text) = text.strip_prefix(start) else { return false };
        return fits(rest, &text[text.find('/').unwrap_or(text.len())..]);
    }
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    rest.is_empty() || (0..=text.len()).any(|at| text.is_char_boundary(at) && fits(rest, &text[at..]))
}

impl KeyRing {
    pub(super) fn new(store: Arc<Store>, region: &'static str) -> Self {
        Self { keys: Arc::default(), store, region }
    }

    pub(super) fn add(&self, key: &Key, policy: Policy) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.id.clone(), (key.secret.clone(), policy));
    }

    /// Refuses what the key's policy does not allow.
    fn allow(&self, credentials: Option<&Credentials>, action: &str, resource: &str) -> S3Result<()> {
        let id = &credentials.ok_or_else(|| s3_error!(AccessDenied, "The request is not signed"))?.access_key;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let (_secret, policy) = keys.get(id).ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
        if policy.allows(action, resource) { Ok(()) } else { Err(denied(id, action, resource)) }
    }

    /// If a key may not list, it learns of a missing object only that listing is not allowed.
    fn hide_missing(
        &self,
        credentials: Option<&Credentials>,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
    ) -> S3Result<()> {
        match self.store.bucket(bucket).and_then(|bucket| bucket.get(key, version_id)) {
            Err(error) if *error.code() == s3s::S3ErrorCode::NoSuchKey => {
                self.allow(credentials, "s3:ListBucket", &bucket_resource(bucket))
            }
            Err(error) if *error.code() == s3s::S3ErrorCode::NoSuchVersion => {
                self.allow(credentials, "s3:ListBucketVersions", &bucket_resource(bucket))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl S3Auth for KeyRing {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let (secret, _policy) = keys.get(access_key).ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
        Ok(SecretKey::from(secret.as_str()))
    }
}

#[async_trait::async_trait]
impl S3Access for KeyRing {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = context.s3_op().name();
        // Their keys are in a form, or in the body: see below.
        if matches!(operation, "PostObject" | "DeleteObjects") && context.credentials().is_some() {
            return Ok(());
        }
        let resource = match context.s3_path() {
            S3Path::Object { bucket, key } => object_resource(bucket, key),
            S3Path::Bucket { bucket } => bucket_resource(bucket),
            S3Path::Root => bucket_resource("*"),
        };
        let query = context.uri().query().unwrap_or_default();
        let names_version = query.split('&').any(|parameter| parameter.starts_with("versionId="));
        self.allow(context.credentials(), action(operation, names_version).as_ref(), &resource)
    }

    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        let resource = object_resource(&request.input.bucket, &request.input.key);
        let allowed = self.allow(request.credentials.as_ref(), "s3:PutObject", &resource);
        let region = self.region;
        // `front` checks signatures in headers and queries. Those of forms can be checked only here. This also refuses a form with
        // the old SigV2, which knows no region.
        if request.region.as_ref().map(|region| region.as_str()) != Some(region)
            || request.service.as_deref() != Some("s3")
        {
            return Err(s3_error!(AuthorizationHeaderMalformed, "The credential must be for {region}/s3/aws4_request"));
        }
        allowed
    }

    async fn get_object(&self, request: &mut S3Request<GetObjectInput>) -> S3Result<()> {
        let version_id = request.input.version_id.as_deref();
        self.hide_missing(request.credentials.as_ref(), &request.input.bucket, &request.input.key, version_id)
    }

    async fn head_object(&self, request: &mut S3Request<HeadObjectInput>) -> S3Result<()> {
        let version_id = request.input.version_id.as_deref();
        self.hide_missing(request.credentials.as_ref(), &request.input.bucket, &request.input.key, version_id)
    }

    async fn copy_object(&self, request: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        let CopySource::Bucket { bucket, key, .. } = &request.input.copy_source else {
            return Err(s3_error!(NotImplemented, "Only <bucket>/<key> can be a copy source"));
        };
        self.allow(request.credentials.as_ref(), "s3:GetObject", &object_resource(bucket, key))?;
        self.hide_missing(request.credentials.as_ref(), bucket, key, None)
    }

    /// S3 itself would refuse single keys in its answer. Here one forbidden key refuses the whole request.
    async fn delete_objects(&self, request: &mut S3Request<DeleteObjectsInput>) -> S3Result<()> {
        request.input.delete.objects.iter().try_for_each(|object| {
            let resource = object_resource(&request.input.bucket, &object.key);
            let action = action("DeleteObject", object.version_id.is_some());
            self.allow(request.credentials.as_ref(), &action, &resource)
        })
    }
}

/// The action that an operation needs; most have the operation's name.
fn action(operation: &str, names_version: bool) -> std::borrow::Cow<'static, str> {
    match operation {
        "GetObject" | "HeadObject" if names_version => "s3:GetObjectVersion".into(),
        "DeleteObject" if names_version => "s3:DeleteObjectVersion".into(),
        "HeadObject" => "s3:GetObject".into(),
        "CopyObject" => "s3:PutObject".into(),
        "HeadBucket" | "ListObjectsV2" => "s3:ListBucket".into(),
        "ListObjectVersions" => "s3:ListBucketVersions".into(),
        "GetBucketLifecycleConfiguration" => "s3:GetLifecycleConfiguration".into(),
        "PutBucketLifecycleConfiguration" | "DeleteBucketLifecycle" => "s3:PutLifecycleConfiguration".into(),
        other => format!("s3:{other}").into(),
    }
}

fn bucket_resource(bucket: &str) -> String {
    format!("arn:aws:s3:::{bucket}")
}

fn object_resource(bucket: &str, key: &str) -> String {
    format!("arn:aws:s3:::{bucket}/{key}")
}

fn denied(id: &str, action: &str, resource: &str) -> S3Error {
    s3_error!(
        AccessDenied,
        "User: {id} is not authorized to perform: {action} on resource: {resource} because no policy allows the {action} action"
    )
}

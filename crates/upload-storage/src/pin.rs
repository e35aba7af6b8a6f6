//! The start-up checks of `S3_PIN`. With `version` the store must keep each version, and the reader's key must be able to read it. With
//! `copy` that matters only if an earlier link has pinned a version.
//!
//! A header proves nothing. Garage answers with version ids, but keeps no versions; SeaweedFS makes versions by PUT, but not by POST. So
//! the check writes twice under a key that nothing else uses, reads the first bytes again, and removes both versions.
//!
//! It also tries to write a version that is there. MinIO takes `versionId` in the query of a write, for its replication, and the query of
//! a form is not signed. The signer's policy refuses that. Other stores refuse or ignore `versionId`.
//!
//! A program that is stopped while it probes leaves versions behind. All keys of probes have one prefix, so that the next probe finds them.

use std::time::SystemTime;

use aws_sdk_s3::{
    Config,
    config::http::HttpResponse,
    error::SdkError,
    operation::put_object::PutObjectError,
    primitives::ByteStream,
    types::{ExpirationStatus, LifecycleRule},
};
use chrono::{DateTime, TimeDelta, Utc};
use tracing::warn;
use upload_domain::{INCOMING_PREFIX, ImageFormat, ImageId, incoming_key};
use uuid::Uuid;

use crate::{
    FormRequest, Listing, Pin, PostForm, Signer, Storage, StorageError,
    bucket::{self, Versioning},
    error::{chain, code, status},
    plain::Plain,
};

/// How long the form of the probe may be used, in minutes.
const FORM_MINUTES: i64 = 5;
/// How old a probe's versions are when their probe must be over, in minutes: its form, and the difference of two clocks.
const PROBE_MINUTES: i64 = 2 * FORM_MINUTES;
/// How the ids of a probe begin. An image's id begins with a time (version 7).
const PROBE_IDS: &str = "00000000-0000-0000-";

/// Why the bucket cannot be used with `S3_PIN=version`: one sentence that names a setting and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PinError(String);

/// What the store answers to a probe's write.
type Answer = Result<(), SdkError<PutObjectError, HttpResponse>>;

/// How a probe writes.
#[derive(Debug, Clone, Copy)]
enum Write<'a> {
    /// With the server's key.
    Put,
    /// With a form, as clients do.
    Post(&'a Signer),
}

/// With `S3_PIN=version`, checks that the bucket keeps what a link pins; pass `signer` if there is one. Else there is nothing to check.
///
/// # Errors
/// [`PinError`] with the first fault.
pub async fn check(storage: &Storage, signer: Option<&Signer>) -> Result<(), PinError> {
    if storage.settings().pin == Pin::Copy {
        return Ok(());
    }
    check_versioning(storage).await?;
    if let Some(rule) = rule_against_versions(storage).await? {
        return Err(PinError(format!("{rule}; remove the rule or give it another prefix, or set S3_PIN=copy")));
    }
    remove_left_over(storage, Utc::now()).await?;
    probe(storage, Write::Put).await?;
    match signer {
        Some(signer) => probe(storage, Write::Post(signer)).await,
        None => Ok(()),
    }
}

/// With `S3_PIN=copy`, checks that the bucket keeps the versions that earlier links have pinned, and that the reader's key can read them.
/// The key and the version are those of any such link.
///
/// # Errors
/// [`PinError`] with the first fault.
pub async fn check_pinned(storage: &Storage, key: &str, version: &str) -> Result<(), PinError> {
    if let Some(rule) = rule_against_versions(storage).await? {
        return Err(PinError(format!("{rule}; remove the rule or give it another prefix")));
    }
    match storage.read_head(key, Some(version), 1).await {
        Ok(Some(_there)) => check_reader(storage, key, version).await,
        Ok(None) => {
            warn!(key, "a linked image is missing: the store does not have the version that its row names");
            Ok(())
        }
        Err(error) => Err(fault(storage, error, "get versions of incoming/*")),
    }
}

/// Removes what the probes of programs that were stopped have left. What is so young at the time `now` that its probe may still run stays.
///
/// # Errors
/// [`PinError`].
pub async fn remove_left_over(storage: &Storage, now: DateTime<Utc>) -> Result<(), PinError> {
    let over = SystemTime::from(now - TimeDelta::minutes(PROBE_MINUTES));
    let delete = async {
        let mut left = Listing::of_versions(storage, &format!("{INCOMING_PREFIX}{PROBE_IDS}")).all().await?;
        left.retain(|version| version.written_at.is_some_and(|time| time < over));
        storage.delete_listed(&left).await
    };
    // What the store does not delete now is left for the next probe.
    delete.await.map(drop).map_err(|error| fault(storage, error, "list and delete versions of incoming/*"))
}

async fn check_versioning(storage: &Storage) -> Result<(), PinError> {
    let state = match bucket::versioning(storage).await {
        Ok(Versioning::Enabled) => return Ok(()),
        Ok(Versioning::Never) => "has no versioning",
        Ok(Versioning::Suspended) => "has its versioning suspended",
        Err(error) => return Err(fault(storage, error, "get the bucket's versioning")),
    };
    Err(PinError(format!(
        "S3_PIN: the bucket `{}` {state}; run `upload-ops bucket --versioning`, or set S3_PIN=copy",
        storage.bucket()
    )))
}

/// A lifecycle rule that would remove pinned versions, as the beginning of a sentence. A form may be used again after the link. Then the
/// linked version is no longer the newest, and such a rule would remove it.
pub(crate) async fn rule_against_versions(storage: &Storage) -> Result<Option<String>, PinError> {
    let rules = match bucket::lifecycle(storage).await {
        Ok(rules) => rules,
        Err(error) if code(&error) == Some("AccessDenied") => return Err(lacks(storage, "get the bucket's lifecycle")),
        Err(error) => match bucket::not_supported(error) {
            Ok(_no_rules) => return Ok(None),
            Err(error) => return Err(PinError(error.advice())),
        },
    };
    let rule = rules.iter().find(|(rule, xml)| removes_old_versions(rule, xml));
    Ok(rule.map(|(rule, _xml)| {
        format!(
            "S3_PIN: the lifecycle rule `{}` of the bucket `{}` removes old versions under {INCOMING_PREFIX}, which may be linked images",
            rule.id().unwrap_or_default(),
            storage.bucket()
        )
    }))
}

fn removes_old_versions(rule: &LifecycleRule, xml: &str) -> bool {
    // MinIO alone has these two (its internal/bucket/lifecycle), and the SDK does not know them.
    let removes_all = ["<DelMarkerExpiration>", "<ExpiredObjectAllVersions>true"].iter().any(|word| xml.contains(word));
    let prefix = bucket::prefix(rule);
    rule.status() == &ExpirationStatus::Enabled
        && (rule.noncurrent_version_expiration().is_some() || removes_all)
        && (INCOMING_PREFIX.starts_with(prefix) || prefix.starts_with(INCOMING_PREFIX))
}

/// An id that no image has. All of these begin with [`PROBE_IDS`].
pub(crate) fn probe_id() -> ImageId {
    let (_replaced, random) = Uuid::new_v4().as_u64_pair();
    ImageId::from(Uuid::from_u64_pair(0, random))
}

/// Two writes under one key, and whether the first can still be read. Leaves nothing behind.
async fn probe(storage: &Storage, write: Write<'_>) -> Result<(), PinError> {
    let image = probe_id();
    let outcome = write_twice(storage, write, image).await;
    match storage.delete(&incoming_key(image)).await {
        Ok(()) => outcome,
        Err(second) if outcome.is_err() => {
            warn!(cause = chain(&second), "cannot delete the test object of the check of S3_PIN");
            outcome
        }
        Err(error) => Err(fault(storage, error, "list and delete versions of incoming/*")),
    }
}

async fn write_twice(storage: &Storage, write: Write<'_>, image: ImageId) -> Result<(), PinError> {
    let key = incoming_key(image);
    let none = || {
        let method = write.method();
        PinError(format!("S3_PIN: the store does not keep the versions of what it gets by {method}; set S3_PIN=copy"))
    };
    let mut versions = Vec::new();
    for byte in ["1", "2"] {
        write.send(storage, image, byte).await?;
        let head = storage.read_head(&key, None, 1).await.map_err(|error| PinError(error.advice()))?;
        let head = head.filter(|head| head.bytes == byte).ok_or_else(none)?;
        versions.push(head.version.ok_or_else(none)?);
    }
    let first = versions.first().filter(|first| versions.last() != Some(first)).ok_or_else(none)?;
    if !is_unchanged(storage, &key, first).await? {
        return Err(none());
    }
    check_reader(storage, &key, first).await?;
    match write {
        Write::Put => Ok(()),
        Write::Post(signer) => check_forms(storage, signer, image, first).await,
    }
}

/// Whatever the store answers to a form with `versionId` in its URL, the version must not change. If the store has not even judged the
/// form, nothing is known.
async fn check_forms(storage: &Storage, signer: &Signer, image: ImageId, version: &str) -> Result<(), PinError> {
    let answer = Write::Post(signer).send_to(storage, image, "3", Some(version)).await?;
    let fault = match is_unchanged(storage, &incoming_key(image), version).await? {
        false => "changes a version that is already there",
        true if answer.as_ref().err().is_none_or(refuses_version) => return Ok(()),
        true => "may change a version that is already there",
    };
    let said = answer.map_or_else(|error| chain(&StorageError::from(error)), |()| "the store accepts it".to_owned());
    Err(PinError(format!(
        "{}: with `versionId` in its URL, a form of the signer's key {fault} ({said}); use the signer's policy in docs/OPERATIONS.md, or \
         set S3_PIN=copy",
        signer.key().origin()
    )))
}

/// A policy refuses with 403. A store that knows no such write has another answer, in AWS's words "This operation does not accept a
/// version-id".
fn refuses_version(error: &SdkError<PutObjectError, HttpResponse>) -> bool {
    status(error) == Some(403) || (status(error) == Some(400) && code(error) == Some("InvalidArgument"))
}

/// Whether the version still has what the first write brought.
async fn is_unchanged(storage: &Storage, key: &str, version: &str) -> Result<bool, PinError> {
    match storage.read_head(key, Some(version), 1).await {
        Ok(head) => Ok(head.is_some_and(|head| head.bytes == "1")),
        Err(error) => Err(fault(storage, error, "get versions of incoming/*")),
    }
}

impl Write<'_> {
    fn method(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Post(_) => "POST",
        }
    }

    async fn send(self, storage: &Storage, image: ImageId, content: &'static str) -> Result<(), PinError> {
        let (origin, role) = match self {
            Self::Put => (storage.server().origin(), "server's"),
            Self::Post(signer) => (signer.key().origin(), "signer's"),
        };
        match self.send_to(storage, image, content, None).await?.map_err(StorageError::from) {
            Ok(()) => Ok(()),
            Err(StorageError::Refused(_)) => Err(PinError(format!(
                "{origin}: the {role} key lacks the right to put incoming/*; use the policies in docs/OPERATIONS.md"
            ))),
            Err(error) => Err(PinError(error.advice())),
        }
    }

    /// A form can also be sent to the URL of a version. MinIO takes that as the version to write.
    async fn send_to(
        self,
        storage: &Storage,
        image: ImageId,
        content: &'static str,
        version: Option<&str>,
    ) -> Result<Answer, PinError> {
        let format = ImageFormat::Png.as_str();
        let put = storage.client().put_object().bucket(storage.bucket()).key(incoming_key(image)).content_type(format);
        let put = put.body(ByteStream::from_static(content.as_bytes())).customize();
        let put = match self {
            Self::Put => put,
            Self::Post(signer) => {
                let form = sign(signer, image).await?;
                // The form leads to the address for clients, which this process may not reach. Its signature is good for any address.
                let bucket = storage.settings().bucket_at(&storage.settings().endpoint, "S3_ENDPOINT");
                let url = bucket.map_err(|error| PinError(error.to_string()))?.url().to_owned();
                let url = version.map_or_else(|| url.clone(), |version| format!("{url}?versionId={version}"));
                put.interceptor(Plain::form(url, &form, content))
            }
        };
        Ok(put.send().await.map(|_stored| ()))
    }
}

async fn sign(signer: &Signer, image: ImageId) -> Result<PostForm, PinError> {
    let now = Utc::now();
    let expires_at = now + TimeDelta::minutes(FORM_MINUTES);
    let (format, checksum_sha256) = (ImageFormat::Png, None);
    let request = FormRequest { image, format, min_bytes: 1, max_bytes: 1, checksum_sha256, now, expires_at };
    let form = signer.post_form(&request).await;
    form.map_err(|error| PinError(format!("{}: cannot sign a form ({})", signer.key().origin(), chain(&error))))
}

/// The reader's key must be able to read a version that is no longer the newest.
async fn check_reader(storage: &Storage, key: &str, version: &str) -> Result<(), PinError> {
    let Some(reader) = storage.reader() else { return Ok(()) };
    let get = storage.client().get_object().bucket(storage.bucket()).key(key).version_id(version).range("bytes=0-0");
    let credentials = Config::builder().credentials_provider(reader.clone());
    match get.customize().config_override(credentials).send().await.map_err(StorageError::from) {
        Ok(_object) => Ok(()),
        Err(StorageError::Refused(_)) => Err(PinError(format!(
            "{}: the reader's key lacks the right to get versions of incoming/*; use the policies for S3_PIN=version in docs/OPERATIONS.md",
            reader.origin()
        ))),
        Err(error) => Err(PinError(error.advice())),
    }
}

/// What an error of the store means, for a request that needs this right.
fn fault(storage: &Storage, error: StorageError, right: &str) -> PinError {
    match error {
        StorageError::Refused(_) => lacks(storage, right),
        error => PinError(error.advice()),
    }
}

fn lacks(storage: &Storage, right: &str) -> PinError {
    PinError(format!(
        "{}: the server's key lacks the right to {right}; use the policies for S3_PIN=version in docs/OPERATIONS.md",
        storage.server().origin()
    ))
}

//! Checks that each of the three keys has the rights that it needs, and no others. The check runs at start-up, with requests that change
//! nothing.
//!
//! How to test a right without using it, always with object keys that nothing else uses:
//! - to *write*: a PUT of one byte with the Content-MD5 of no bytes. Without the right the store answers that access is denied; with it,
//!   that the digest is wrong.
//! - to *read*: a GET, and for the server's key a copy of a missing object. The copy is needed because MinIO answers a key that may list
//!   that the object is missing, even if the key may not read it (`GetObjectHandler`). A key that may read but not list gets 404 from
//!   MinIO, Garage and most others. AWS answers 403 and names `s3:ListBucket` as the missing right
//!   (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>). If a 403 names nothing, the check reads an existing object;
//!   if there is none yet, the log says that it could not check.
//! - to *delete*: a DELETE of a missing object. In a bucket with versions that leaves a delete marker, which the server's key then removes.
//!   With `S3_PIN=version` that key is asked to delete the version `null`, which leaves no marker.
//! - to *list*: for one key.
//!
//! With `S3_PIN=version` [`pin::check`](crate::pin::check) also reads a version with the server's and the reader's key.
//!
//! Requests are boxed: an SDK future has some kilobytes, and two dozen of them at once would be on the caller's stack.
//!
//! Deliberately absent: bucket policies, ACLs and other rights over the bucket itself. They cannot be tested without using them, or
//! stores do not have them.

use std::{error::Error, fmt};

use aws_sdk_s3::{
    Config,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use tokio::join;
use tracing::warn;
use upload_domain::{INCOMING_PREFIX, MEDIA_PREFIX};

use crate::{
    KeyCheck, Listed, Pin, Signer, Storage, StorageError,
    error::{code, status},
    key::Key,
    url_signer::encode_key,
};

/// The name after the prefix. No image has it, and nothing is ever stored there.
const NOBODYS_KEY: &str = "rights-check";
/// Outside of both prefixes.
const OUTSIDE: &str = "";
/// The version of an object from a time without versioning. Every store knows this id.
const NULL_VERSION: &str = "null";
/// The MD5 of no bytes.
const WRONG_MD5: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";
/// An ETag that no object has.
const WRONG_ETAG: &str = "\"rights-check\"";

/// What is wrong with a key: one sentence that names its setting and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RightsError(String);

/// Checks the rights of each key; pass `signer` if there is one. With `S3_KEY_CHECK=warn` wrong rights are only logged. With
/// `S3_ALLOW_ONE_KEY=true` that is so for rights that a key must not have. A key or a bucket that the store does not know is always refused.
///
/// # Errors
/// [`RightsError`] with the first fault (an unknown key, a wrong secret, a missing bucket), or else with all wrong rights.
pub async fn check(storage: &Storage, signer: Option<&Signer>) -> Result<(), RightsError> {
    if storage.settings().key_check == KeyCheck::Off {
        return Ok(());
    }
    let (server, signer, reader) = join!(
        Role::Server.rights(storage, Some(storage.server())),
        Role::Signer.rights(storage, signer.map(Signer::key)),
        Role::Reader.rights(storage, storage.reader()),
    );
    verdict(storage, [server?, signer?, reader?].into_iter().flatten())
}

/// The same of the server's key alone, for a program that uses no other.
///
/// # Errors
/// As [`check`].
pub async fn check_server(storage: &Storage) -> Result<(), RightsError> {
    if storage.settings().key_check == KeyCheck::Off {
        return Ok(());
    }
    verdict(storage, Role::Server.rights(storage, Some(storage.server())).await?)
}

/// Why HeadBucket fails with the server's key, in one sentence. The store's answer to HeadBucket has no body with a reason, so this also
/// asks for a list.
pub async fn refusal(storage: &Storage, error: &StorageError) -> RightsError {
    let server = Asker { storage, key: storage.server() };
    let listed = match error {
        StorageError::Refused(_) => server.list().await,
        StorageError::Unavailable(_) | StorageError::Timeout(_) => return RightsError(error.advice()),
    };
    let origin = server.key.origin();
    RightsError(match listed {
        Ok(Answer::Denied) => format!(
            "{origin}: the server's key lacks the right to list the bucket of S3_BUCKET; correct the key or the name, or use the policies in docs/OPERATIONS.md"
        ),
        Ok(Answer::Allowed | Answer::Unclear) => error.advice(),
        Err(fault) => fault.sentence(Role::Server, origin, storage),
    })
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    Signer,
    Reader,
}

/// The rights that a key lacks, and those that it must not have.
struct Rights {
    role: Role,
    origin: &'static str,
    lacking: Vec<&'static str>,
    excessive: Vec<&'static str>,
    /// A sentence about a right that could not be checked.
    untold: Option<String>,
}

/// One request's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Allowed,
    Denied,
    /// It may be either.
    Unclear,
}

/// Why an answer says nothing about rights.
enum Fault {
    UnknownKey,
    WrongSecret,
    WrongToken,
    ExpiredToken,
    NoBucket,
    Clocks,
    Region,
    /// Another refusal, with the store's words.
    Refused(String),
    Store(StorageError),
}

/// Asks with one key.
struct Asker<'a> {
    storage: &'a Storage,
    key: &'a Key,
}

impl Role {
    async fn rights(self, storage: &Storage, key: Option<&Key>) -> Result<Option<Rights>, RightsError> {
        let Some(key) = key else { return Ok(None) };
        let asker = Asker { storage, key };
        let rights = match self {
            Self::Server => Box::pin(asker.server()).await,
            Self::Signer => Box::pin(asker.signer()).await,
            Self::Reader => Box::pin(asker.reader()).await,
        };
        rights.map(Some).map_err(|fault| RightsError(fault.sentence(self, key.origin(), storage)))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Server => "server's",
            Self::Signer => "signer's",
            Self::Reader => "reader's",
        })
    }
}

impl Asker<'_> {
    async fn server(&self) -> Result<Rights, Fault> {
        let (incoming, media) = (at(INCOMING_PREFIX), at(MEDIA_PREFIX));
        let (list, write, read_incoming, read_media, delete_incoming, delete_media, write_outside) = join!(
            self.list(),
            self.write(MEDIA_PREFIX),
            self.copy(&incoming, &media),
            self.copy(&media, &media),
            self.clean_up(INCOMING_PREFIX),
            self.clean_up(MEDIA_PREFIX),
            self.write(OUTSIDE),
        );
        let (list, write) = (list?, write?);
        // A copy also needs the right to write, and on AWS to list: without those its refusal says nothing about reading.
        let clear = |read: Answer| if [list, write].contains(&Answer::Denied) { Answer::Unclear } else { read };
        let mut must = vec![
            ("list the bucket", list),
            ("put media/*", write),
            ("get incoming/*", clear(read_incoming?)),
            ("get media/*", clear(read_media?)),
        ];
        match self.storage.settings().pin {
            Pin::Copy => must.extend([("delete incoming/*", delete_incoming?), ("delete media/*", delete_media?)]),
            Pin::Version => must.extend([
                ("list the versions in the bucket", self.list_versions().await?),
                ("delete versions of incoming/*", delete_incoming?),
                ("delete versions of media/*", delete_media?),
            ]),
        }
        let must_not = [("put outside of incoming/* and media/*", write_outside?)];
        Ok(self.judge(Role::Server, &must, &must_not))
    }

    async fn signer(&self) -> Result<Rights, Fault> {
        let (write, write_media, write_outside, excessive) =
            join!(self.write(INCOMING_PREFIX), self.write(MEDIA_PREFIX), self.write(OUTSIDE), self.no_client_may());
        let (read_media, excessive) = (self.read(MEDIA_PREFIX).await?, excessive?);
        let must = [("put incoming/*", write?)];
        let must_not = [("put media/*", write_media?), ("put outside of incoming/*", write_outside?)];
        let must_not: Vec<_> = must_not.into_iter().chain(excessive).chain([("get media/*", read_media)]).collect();
        Ok(self.judge(Role::Signer, &must, &must_not))
    }

    async fn reader(&self) -> Result<Rights, Fault> {
        let (read, write_incoming, write_media, write_outside, excessive) = join!(
            self.read_for_sure(MEDIA_PREFIX),
            self.write(INCOMING_PREFIX),
            self.write(MEDIA_PREFIX),
            self.write(OUTSIDE),
            self.no_client_may(),
        );
        let must = [("get media/*", read?)];
        let must_not = [
            ("put incoming/*", write_incoming?),
            ("put media/*", write_media?),
            ("put outside of incoming/* and media/*", write_outside?),
        ];
        let must_not: Vec<_> = must_not.into_iter().chain(excessive?).collect();
        let untold = (must[0].1 == Answer::Unclear).then(|| {
            let origin = self.key.origin();
            format!("{origin}: cannot check whether the reader's key may get media/* before there is an image")
        });
        Ok(Rights { untold, ..self.judge(Role::Reader, &must, &must_not) })
    }

    /// The rights that neither the signer's nor the reader's key may have. Clients see the ids of these two.
    async fn no_client_may(&self) -> Result<Vec<(&'static str, Answer)>, Fault> {
        let (list, read, delete_incoming, delete_media) = join!(
            self.list(),
            self.read(INCOMING_PREFIX),
            self.delete(INCOMING_PREFIX, None),
            self.delete(MEDIA_PREFIX, None)
        );
        let mut rights = vec![
            ("list the bucket", list?),
            ("get incoming/*", read?),
            ("delete incoming/*", delete_incoming?),
            ("delete media/*", delete_media?),
        ];
        if self.storage.settings().pin == Pin::Version {
            rights.push(("delete versions of incoming/*", self.delete(INCOMING_PREFIX, Some(NULL_VERSION)).await?));
            rights.push(("delete versions of media/*", self.delete(MEDIA_PREFIX, Some(NULL_VERSION)).await?));
        }
        Ok(rights)
    }

    fn judge(&self, role: Role, must: &[(&'static str, Answer)], must_not: &[(&'static str, Answer)]) -> Rights {
        let which = |rights: &[(&'static str, Answer)], wrong: Answer| {
            rights.iter().filter(|(_right, answer)| *answer == wrong).map(|(right, _answer)| *right).collect()
        };
        Rights {
            role,
            origin: self.key.origin(),
            lacking: which(must, Answer::Denied),
            excessive: which(must_not, Answer::Allowed),
            untold: None,
        }
    }

    async fn write(&self, prefix: &str) -> Result<Answer, Fault> {
        let put = self.storage.client().put_object().bucket(self.storage.bucket()).key(at(prefix));
        let put = put.content_md5(WRONG_MD5).body(ByteStream::from_static(b"?"));
        match Box::pin(put.customize().config_override(self.credentials()).send()).await {
            // The store did not compare the digest, so it has stored the byte. The server's key deletes it again.
            Ok(_stored) => {
                if let Err(error) = Box::pin(self.storage.delete(&at(prefix))).await {
                    warn!(key = at(prefix), %error, "Cannot delete the test object of the rights check; the store had accepted it despite a wrong Content-MD5");
                }
                Ok(Answer::Allowed)
            }
            Err(error) => answer(error),
        }
    }

    /// The DELETE that this bucket's clean-up needs.
    async fn clean_up(&self, prefix: &str) -> Result<Answer, Fault> {
        let version = (self.storage.settings().pin == Pin::Version).then_some(NULL_VERSION);
        self.delete(prefix, version).await
    }

    async fn delete(&self, prefix: &str, version: Option<&str>) -> Result<Answer, Fault> {
        let delete = self.storage.client().delete_object().bucket(self.storage.bucket()).key(at(prefix));
        let delete = delete.set_version_id(version.map(str::to_owned));
        match Box::pin(delete.customize().config_override(self.credentials()).send()).await {
            Ok(deleted) => {
                if let (None, Some(marker)) = (version, deleted.version_id) {
                    let marker = Listed { key: at(prefix), version: Some(marker), bytes: 0, written_at: None };
                    if let Err(error) = Box::pin(self.storage.delete_listed(&[marker])).await {
                        warn!(key = at(prefix), %error, "Cannot remove the delete marker of the rights check");
                    }
                }
                Ok(Answer::Allowed)
            }
            Err(error) => answer(error),
        }
    }

    async fn list(&self) -> Result<Answer, Fault> {
        let list = self.storage.client().list_objects_v2().bucket(self.storage.bucket()).max_keys(1);
        let sent = Box::pin(list.customize().config_override(self.credentials()).send()).await;
        sent.map_or_else(answer, |_listed| Ok(Answer::Allowed))
    }

    async fn list_versions(&self) -> Result<Answer, Fault> {
        let list = self.storage.client().list_object_versions().bucket(self.storage.bucket()).max_keys(1);
        let sent = Box::pin(list.customize().config_override(self.credentials()).send()).await;
        sent.map_or_else(answer, |_listed| Ok(Answer::Allowed))
    }

    /// Whether the key may read at the one place and write at the other. The ETag makes sure that nothing is ever copied.
    async fn copy(&self, from: &str, to: &str) -> Result<Answer, Fault> {
        let bucket = self.storage.bucket();
        let copy = self.storage.client().copy_object().bucket(bucket).key(to);
        let copy = copy.copy_source(format!("{bucket}/{}", encode_key(from))).copy_source_if_match(WRONG_ETAG);
        let sent = Box::pin(copy.customize().config_override(self.credentials()).send()).await;
        sent.map_or_else(answer, |_copied| Ok(Answer::Allowed))
    }

    async fn read(&self, prefix: &str) -> Result<Answer, Fault> {
        self.get(&at(prefix)).await.map(|(answer, _sure)| answer)
    }

    /// As [`read`](Self::read), but a refusal counts only if it is certain.
    async fn read_for_sure(&self, prefix: &str) -> Result<Answer, Fault> {
        match self.get(&at(prefix)).await? {
            (Answer::Denied, Sure::No) => {}
            (answer, _sure) => return Ok(answer),
        }
        let first = self.storage.client().list_objects_v2().bucket(self.storage.bucket()).prefix(prefix).max_keys(1);
        let first = Box::pin(first.send()).await.ok().and_then(|page| page.contents?.into_iter().next()?.key);
        match first {
            Some(key) => self.get(&key).await.map(|(answer, _sure)| answer),
            None => Ok(Answer::Unclear),
        }
    }

    async fn get(&self, key: &str) -> Result<(Answer, Sure), Fault> {
        let get = self.storage.client().get_object().bucket(self.storage.bucket()).key(key).range("bytes=0-0");
        let error = match Box::pin(get.customize().config_override(self.credentials()).send()).await {
            Ok(_object) => return Ok((Answer::Allowed, Sure::Yes)),
            Err(error) => error,
        };
        let refusal = error.as_service_error().and_then(ProvideErrorMetadata::message).unwrap_or_default().to_owned();
        let is_minio = error.raw_response().and_then(|response| response.headers().get("server")) == Some("MinIO");
        let is_missing = status(&error) == Some(404);
        match answer(error)? {
            // MinIO's answer to a key that may list; see the module's documentation.
            Answer::Allowed if is_missing && self.list().await? == Answer::Allowed => Ok((Answer::Unclear, Sure::No)),
            Answer::Denied if refusal.contains("s3:ListBucket") => Ok((Answer::Allowed, Sure::Yes)),
            Answer::Denied if is_minio || refusal.contains("s3:GetObject") => Ok((Answer::Denied, Sure::Yes)),
            answer => Ok((answer, Sure::No)),
        }
    }

    fn credentials(&self) -> aws_sdk_s3::config::Builder {
        Config::builder().credentials_provider(self.key.clone())
    }
}

/// Whether a refusal to read can mean nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sure {
    Yes,
    No,
}

fn at(prefix: &str) -> String {
    format!("{prefix}{NOBODYS_KEY}")
}

/// What a refusal says: some come only after the right was found to be there.
fn answer<E>(error: SdkError<E, HttpResponse>) -> Result<Answer, Fault>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    Err(match code(&error) {
        Some(
            "BadDigest"
            | "InvalidDigest"
            | "XAmzContentChecksumMismatch"
            | "NoSuchKey"
            | "NoSuchVersion"
            | "PreconditionFailed"
            | "InvalidRange",
        ) => return Ok(Answer::Allowed),
        Some("InvalidAccessKeyId") => Fault::UnknownKey,
        Some("SignatureDoesNotMatch") => Fault::WrongSecret,
        Some("InvalidToken" | "InvalidTokenId") => Fault::WrongToken,
        Some("ExpiredToken" | "TokenRefreshRequired") => Fault::ExpiredToken,
        Some("NoSuchBucket") => Fault::NoBucket,
        Some("RequestTimeTooSkewed") => Fault::Clocks,
        Some("AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect") => Fault::Region,
        _ if status(&error) == Some(403) => match error.as_service_error().and_then(ProvideErrorMetadata::message) {
            // Garage has one code for all of these (garage_api_common 2.5.0, signature/payload.rs).
            Some(message) if message.contains("No such key:") => Fault::UnknownKey,
            Some(message) if message.contains("Invalid signature") => Fault::WrongSecret,
            _ => return Ok(Answer::Denied),
        },
        _ => match (words(&error), StorageError::from(error)) {
            (Some(words), StorageError::Refused(_)) => Fault::Refused(words),
            (_, error) => Fault::Store(error),
        },
    })
}

/// What the store answered, such as `405 MethodNotAllowed: …`, in one line.
fn words<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    let code = code(error).map_or_else(String::new, |code| format!(" {code}"));
    let message = error.as_service_error().and_then(ProvideErrorMetadata::message);
    let message =
        message.map_or_else(String::new, |message| format!(": {}", message.lines().collect::<Vec<_>>().join(" ")));
    status(error).map(|status| format!("{status}{code}{message}"))
}

impl Fault {
    fn sentence(&self, role: Role, origin: &str, storage: &Storage) -> String {
        match self {
            Self::UnknownKey => format!(
                "{origin}: the store does not know the {role} key; correct its id, or create the key as docs/OPERATIONS.md describes"
            ),
            Self::WrongSecret => {
                format!("{origin}: the store knows the {role} key, but its secret is wrong; correct the secret of that key")
            }
            Self::WrongToken => {
                format!("{origin}: the store does not accept the session token of the {role} key; set the token that belongs to this key, or none")
            }
            Self::ExpiredToken => format!(
                "{origin}: the session token of the {role} key has expired; set new credentials, or use a profile or role that renews them"
            ),
            Self::NoBucket => storage.advice_without_bucket(),
            Self::Clocks => {
                "S3_ENDPOINT: the clocks of this machine and of the store are too far apart for signatures; check NTP on both"
                    .to_owned()
            }
            Self::Region => {
                "S3_REGION: the store is in another region; correct S3_REGION, S3_ADDRESSING or S3_ENDPOINT".to_owned()
            }
            Self::Refused(words) => format!(
                "S3_ENDPOINT: the store refused a request that checks the {role} key ({words}); correct the URL if it is not that of an \
                 S3 store, or set S3_KEY_CHECK=off if this store does not support such requests"
            ),
            Self::Store(error) => error.advice(),
        }
    }
}

impl Rights {
    /// `None` if all rights are correct.
    fn sentence(&self) -> Option<String> {
        let lacking = (!self.lacking.is_empty()).then(|| format!("lacks the right to {}", in_words(&self.lacking)));
        let excessive = (!self.excessive.is_empty())
            .then(|| format!("has the right to {}, which it must not have", in_words(&self.excessive)));
        let both: Vec<String> = lacking.into_iter().chain(excessive).collect();
        (!both.is_empty()).then(|| format!("{}: the {} key {}", self.origin, self.role, both.join(", and ")))
    }
}

/// Which of the keys' rights are refused, and which are only logged.
fn verdict(storage: &Storage, rights: impl IntoIterator<Item = Rights>) -> Result<(), RightsError> {
    let (mode, allow_one_key) = (storage.settings().key_check, storage.settings().allow_one_key);
    let (mut wrong, mut tolerated) = (Vec::new(), Vec::new());
    for rights in rights {
        let only_warn = mode == KeyCheck::Warn || (rights.lacking.is_empty() && allow_one_key);
        if only_warn { &mut tolerated } else { &mut wrong }.extend(rights.sentence());
        tolerated.extend(rights.untold);
    }
    if wrong.is_empty() {
        tolerated.iter().for_each(|sentence| warn!("{sentence}"));
        return Ok(());
    }
    Err(RightsError(format!(
        "{}; use the policies in docs/OPERATIONS.md, or set S3_KEY_CHECK=warn if the store has no rights for prefixes, such as Garage",
        wrong.join("; ")
    )))
}

/// `a`, `a and b`, `a, b and c`.
fn in_words(list: &[&str]) -> String {
    match list {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

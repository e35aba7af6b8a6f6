//! Whether each of the three keys may do what it must, and no more. The store is asked at start-up, by requests that change nothing.
//!
//! How a right is asked for without being used, always at keys that nothing else uses:
//! - to *write*: a PUT of one byte with the Content-MD5 of none. Who may not write is told so; who may is told that the digest is wrong.
//! - to *read*: a GET, and for the server's key a copy from where nothing lies, since MinIO tells whoever may list that a key is missing
//!   even if it may not be read (`GetObjectHandler`). A key that may read but not list gets 404 from MinIO, Garage and most others, but
//!   403 from AWS, which then names `s3:ListBucket` as what is missing
//!   (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>). Where a 403 names nothing, an object that is there is tried;
//!   where there is none yet, the log says that it could not be told.
//! - to *delete*: a DELETE of nothing. On a bucket with versions that leaves a delete marker, as every DELETE does.
//! - to *list*: for one key.
//!
//! Requests are boxed: an SDK's future is some kilobytes, and two dozen of them at once would be on the caller's stack.
//!
//! Deliberately absent: bucket policies, ACLs and other rights over the bucket itself. They cannot be asked for without being used, or
//! stores lack them.

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
    KeyCheck, Signer, Storage, StorageError,
    error::{code, status},
    key::Key,
    url_signer::encode_key,
};

/// Behind the prefixes. No image is called so, and nothing is ever stored there.
const NOBODYS_KEY: &str = "rights-check";
/// Outside of both prefixes.
const OUTSIDE: &str = "";
/// The MD5 of no bytes.
const WRONG_MD5: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";
/// An ETag that no object has.
const WRONG_ETAG: &str = "\"rights-check\"";

/// What is wrong with a key: one sentence that names its setting and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RightsError(String);

/// Asks the store what each key may do; `signer` where there is one. With `S3_KEY_CHECK=warn` rights are only logged, and with
/// `S3_ALLOW_ONE_KEY=true` those that go too far; a key, or a bucket, that the store does not know is refused all the same.
///
/// # Errors
/// [`RightsError`] with the first thing that is wrong: an unknown key, a wrong secret, a missing bucket; else with all rights that are.
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

/// Why the bucket cannot be looked at with the server's key, in one sentence. A refusal of HeadBucket has no body that would say, so the
/// store is asked for a list.
pub async fn refusal(storage: &Storage, error: &StorageError) -> RightsError {
    let server = Asker { storage, key: storage.server() };
    let listed = match error {
        StorageError::Refused(_) => server.list().await,
        StorageError::Unavailable(_) | StorageError::Timeout(_) => return RightsError(error.advice()),
    };
    let origin = server.key.origin();
    RightsError(match listed {
        Ok(Answer::Denied) => format!(
            "{origin}: the server's key may not list the bucket of S3_BUCKET; correct the key or the name, or use the policies in docs/OPERATIONS.md"
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

/// What a key may not but must, and may but must not.
struct Rights {
    role: Role,
    origin: &'static str,
    lacking: Vec<&'static str>,
    excessive: Vec<&'static str>,
    /// A sentence about what the store does not tell.
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

/// Why a request tells nothing about rights.
enum Fault {
    UnknownKey,
    WrongSecret,
    WrongToken,
    ExpiredToken,
    NoBucket,
    Clocks,
    Region,
    /// What it said is no answer to the question.
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
            self.delete(INCOMING_PREFIX),
            self.delete(MEDIA_PREFIX),
            self.write(OUTSIDE),
        );
        let (list, write) = (list?, write?);
        // A copy also needs the right to write, and on AWS to list: without those its refusal says nothing about reading.
        let clear = |read: Answer| if [list, write].contains(&Answer::Denied) { Answer::Unclear } else { read };
        let must = [
            ("list the bucket", list),
            ("put media/*", write),
            ("get incoming/*", clear(read_incoming?)),
            ("get media/*", clear(read_media?)),
            ("delete incoming/*", delete_incoming?),
            ("delete media/*", delete_media?),
        ];
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
            format!("{origin}: whether the reader's key may get media/* cannot be told before there is an image")
        });
        Ok(Rights { untold, ..self.judge(Role::Reader, &must, &must_not) })
    }

    /// What neither of the keys may whose ids clients see.
    async fn no_client_may(&self) -> Result<[(&'static str, Answer); 4], Fault> {
        let (list, read, delete_incoming, delete_media) =
            join!(self.list(), self.read(INCOMING_PREFIX), self.delete(INCOMING_PREFIX), self.delete(MEDIA_PREFIX));
        Ok([
            ("list the bucket", list?),
            ("get incoming/*", read?),
            ("delete incoming/*", delete_incoming?),
            ("delete media/*", delete_media?),
        ])
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
            // A store that does not compare has stored the byte. It is nobody's, and the server's key can take it away again.
            Ok(_stored) => {
                if let Err(error) = Box::pin(self.storage.delete(&at(prefix))).await {
                    warn!(key = at(prefix), %error, "The store keeps a byte of the check of rights: it ignores Content-MD5");
                }
                Ok(Answer::Allowed)
            }
            Err(error) => answer(error),
        }
    }

    async fn delete(&self, prefix: &str) -> Result<Answer, Fault> {
        let delete = self.storage.client().delete_object().bucket(self.storage.bucket()).key(at(prefix));
        let sent = Box::pin(delete.customize().config_override(self.credentials()).send()).await;
        sent.map_or_else(answer, |_deleted| Ok(Answer::Allowed))
    }

    async fn list(&self) -> Result<Answer, Fault> {
        let list = self.storage.client().list_objects_v2().bucket(self.storage.bucket()).max_keys(1);
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

    /// As [`read`](Self::read), but a refusal is believed only where it is certain.
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
            // MinIO's word to whoever may list, see above.
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
                "{origin}: the store does not know the {role} key; correct its id, or make the key as docs/OPERATIONS.md says"
            ),
            Self::WrongSecret => {
                format!("{origin}: the store knows the {role} key, but not its signature; correct the secret of that key")
            }
            Self::WrongToken => {
                format!("{origin}: the store does not accept the session token of the {role} key; set the one that belongs to it, or none")
            }
            Self::ExpiredToken => format!(
                "{origin}: the session token of the {role} key has expired; take new credentials, or a profile or role that renews them"
            ),
            Self::NoBucket => storage.advice_without_bucket(),
            Self::Clocks => {
                "S3_ENDPOINT: the clocks of this machine and of the store are too far apart for any signature; look after NTP on both"
                    .to_owned()
            }
            Self::Region => {
                "S3_REGION: the store is in another region; correct S3_REGION, S3_ADDRESSING or S3_ENDPOINT".to_owned()
            }
            Self::Refused(words) => format!(
                "S3_ENDPOINT: the store does not answer a question about the {role} key ({words}); correct the URL if it leads to no S3 \
                 store, or set S3_KEY_CHECK=off if this one knows no such requests"
            ),
            Self::Store(error) => error.advice(),
        }
    }
}

impl Rights {
    /// `None` where all is as it should be.
    fn sentence(&self) -> Option<String> {
        let lacking = (!self.lacking.is_empty()).then(|| format!("may not {}, which it must", in_words(&self.lacking)));
        let excessive =
            (!self.excessive.is_empty()).then(|| format!("may {}, which it must not", in_words(&self.excessive)));
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
        "{}; use the policies in docs/OPERATIONS.md, or set S3_KEY_CHECK=warn if the store's keys know no prefixes, as Garage's",
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

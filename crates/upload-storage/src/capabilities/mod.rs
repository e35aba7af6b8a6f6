//! What a store can do, found out by doing it. A header or a status proves nothing: Garage accepts `If-None-Match` and overwrites all the
//! same. So each question writes under a fresh key in `incoming/` or `media/`, and then looks at what is there.
//!
//! Start-up asks only what the deployment's settings need ([`pin`], [`rights`](crate::rights)). These questions are for
//! `upload-ops doctor`, which also asks them where the settings do not need the answer. The words are the command's own.
//!
//! If the program is killed, its test objects stay until `upload-ops reconcile` removes them: no row names them.

mod bucket;
mod forged;
mod forms;
mod public;
mod writes;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use s3_presigned_post::Bucket;
use upload_domain::{AttemptId, ImageId, incoming_key, media_key};
use uuid::Uuid;

use crate::{SettingsError, Signer, SignerSettings, Storage, StorageError, StorageSettings, chain, pin};

pub use forged::Forged;
pub use forms::{PostForms, PutForms};

/// What the store has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// It does this.
    Yes,
    /// It does not; the text says what it does instead, as the end of a sentence.
    No(String),
    /// It did not let us find out; the text says why.
    Unknown(String),
}

/// Asks the questions, and remembers what to clean up.
#[derive(Debug)]
pub struct Examination {
    storage: Storage,
    /// The bucket, at the address that this process uses.
    bucket: Bucket,
    /// Signs for the address that this process uses. `None` without a signer's key.
    signer: Option<Signer>,
    /// Signs for the address that clients use.
    public_signer: Option<Signer>,
    written: Mutex<Vec<String>>,
}

impl Shown {
    /// Whether it is [`Shown::Yes`].
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }

    /// What it does instead, or why nobody knows.
    pub fn said(&self) -> Option<&str> {
        match self {
            Self::Yes => None,
            Self::No(said) | Self::Unknown(said) => Some(said),
        }
    }

    fn unknown(error: &StorageError) -> Self {
        Self::Unknown(chain(error))
    }
}

/// So that `?` gives up a question when the store fails.
impl From<StorageError> for Shown {
    fn from(error: StorageError) -> Self {
        Self::unknown(&error)
    }
}

impl Examination {
    /// Opens the signer's key twice: a presigned PUT is for one host, and clients may use another one than this process. Without a
    /// signer's key, questions about forms are not asked.
    ///
    /// # Errors
    /// [`SettingsError`] when the signer's settings are wrong, or its key is also another role's.
    pub async fn new(
        storage: &Storage,
        settings: &StorageSettings,
        signer: &SignerSettings,
    ) -> Result<Self, SettingsError> {
        let inside = StorageSettings { public_endpoint: None, ..settings.clone() };
        let (signer, public_signer) = match Signer::new(&inside, signer).await {
            Ok(inside) => (Some(inside), Some(Signer::new(settings, signer).await?)),
            Err(SettingsError::NoSigner) => (None, None),
            Err(error) => return Err(error),
        };
        signer.as_ref().map_or(Ok(()), |signer| storage.check_distinct(signer))?;
        let bucket = inside.public_bucket()?;
        Ok(Self { storage: storage.clone(), bucket, signer, public_signer, written: Mutex::default() })
    }

    /// The signer, for the address that this process uses.
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }

    /// Removes everything that the questions have written, every version of it too.
    ///
    /// # Errors
    /// [`StorageError`], also if something is still there, or if an object has a version and the server's key may not list versions.
    pub async fn clean_up(&self) -> Result<(), StorageError> {
        let written = std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        let left = self.remove(&written).await?;
        match left.is_empty() {
            true => Ok(()),
            false => Err(StorageError::unavailable(format!("the store did not delete {}", left.join(", ")))),
        }
    }

    /// Removes what is under these keys, and answers with those that may still have something.
    ///
    /// The server's key may have no right to ask whether the bucket has versions. Then an object says it: one with a version stays, whatever
    /// is deleted without naming the version. So its versions must be listed.
    async fn remove(&self, written: &[String]) -> Result<Vec<String>, StorageError> {
        match crate::bucket::versioning(&self.storage).await {
            Err(StorageError::Refused(_)) if self.has_version(written).await? => {
                let removed = self.storage.delete_versions(written, &BTreeMap::new()).await;
                if removed.is_err() {
                    // At least nothing is to be seen of them.
                    self.storage.delete_many(written).await?;
                }
                removed
            }
            _ => self.storage.empty(written, &BTreeMap::new()).await,
        }
    }

    /// Whether the first of these objects that is there has a version.
    async fn has_version(&self, written: &[String]) -> Result<bool, StorageError> {
        for key in written {
            if let Some(head) = self.storage.read_head(key, None, 1).await? {
                return Ok(head.version.is_some());
            }
        }
        Ok(false)
    }

    /// A fresh key, which [`clean_up`](Self::clean_up) removes.
    fn fresh(&self) -> (ImageId, String) {
        let image = pin::probe_id();
        (image, self.noted(incoming_key(image)))
    }

    /// A fresh key that no form is for; it is removed, too.
    fn fresh_media(&self) -> String {
        self.noted(media_key(pin::probe_id(), AttemptId::from(Uuid::new_v4())))
    }

    fn noted(&self, key: String) -> String {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
        key
    }

    /// What is under the key.
    async fn content(&self, key: &str) -> Result<Option<String>, StorageError> {
        let head = self.storage.read_head(key, None, 100).await?;
        Ok(head.map(|head| String::from_utf8_lossy(&head.bytes).into_owned()))
    }
}

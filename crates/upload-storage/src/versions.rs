//! Deleting: objects, and in a bucket with versions each version of a key.
//!
//! In such a bucket a plain DELETE only hides the object behind a delete marker, and its bytes stay. So whatever cleans up deletes by
//! version, delete markers too.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tracing::warn;

use crate::{
    Listed, Listing, Pin, Storage, StorageError,
    bucket::{self, Versioning},
    client::with_deletions_timeouts,
};

/// S3's most keys in one DeleteObjects.
const DELETE_BATCH: usize = 1000;
/// How many keys' versions are listed at once.
const LISTS_AT_ONCE: usize = 16;

impl Storage {
    /// Removes what is under the key; with `S3_PIN=version` every version. A key that holds nothing is no error.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        if self.settings().pin == Pin::Copy {
            self.client().delete_object().bucket(self.bucket()).key(key).send().await?;
            return Ok(());
        }
        match self.delete_versions(&[key.to_owned()], &BTreeMap::new()).await?.is_empty() {
            true => Ok(()),
            false => Err(StorageError::unavailable("the store did not delete every version")),
        }
    }

    /// Leaves nothing under these keys but the pinned versions (a version id for its key), and answers with the keys that may still have
    /// more. In a bucket that has or had versioning it deletes every other version and every delete marker, whatever `S3_PIN` is now.
    ///
    /// # Errors
    /// [`StorageError`] when a whole request failed.
    pub async fn empty(&self, keys: &[String], pinned: &BTreeMap<String, String>) -> Result<Vec<String>, StorageError> {
        // A pinned version has another id than `null`, so its bucket has versions, whatever the store says of the bucket.
        if self.settings().pin == Pin::Version || !pinned.is_empty() || self.has_versions().await? {
            self.delete_versions(keys, pinned).await
        } else {
            self.delete_many(keys).await
        }
    }

    /// Removes objects, a thousand at a time and each thousand in at most a minute, and answers with the keys that may still be there.
    ///
    /// # Errors
    /// [`StorageError`] when a whole request failed; earlier batches are gone then.
    pub async fn delete_many(&self, keys: &[String]) -> Result<Vec<String>, StorageError> {
        let objects: Result<Vec<_>, _> = keys.iter().map(|key| identifier(key, None)).collect();
        self.delete_identified(&objects?).await
    }

    /// Removes every version of these keys but the pinned ones, and answers with the keys that may still have more.
    ///
    /// If a pinned version is not there, the other versions of its key stay: they may be all that is left.
    ///
    /// # Errors
    /// As [`Storage::delete_many`].
    pub async fn delete_versions(
        &self,
        keys: &[String],
        pinned: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, StorageError> {
        // Owned values: the compiler does not see that such a future is `Send` if the stream lends its items.
        let list = |key: String| {
            let storage = self.clone();
            async move {
                let mut versions = Listing::of_versions(&storage, &key).all().await?;
                // Longer keys have this prefix, too.
                versions.retain(|found| found.key == key);
                Ok::<_, StorageError>(versions)
            }
        };
        let lists = stream::iter(keys.to_vec()).map(list).buffer_unordered(LISTS_AT_ONCE);
        let (kept, mut doomed): (Vec<Listed>, Vec<Listed>) =
            lists.try_concat().await?.into_iter().partition(|found| pinned.get(&found.key) == found.version.as_ref());
        let there: BTreeSet<String> = kept.into_iter().map(|found| found.key).collect();
        let mut stranded = BTreeSet::new();
        doomed.retain(|found| {
            let lost = pinned.contains_key(&found.key) && !there.contains(&found.key);
            if lost {
                stranded.insert(found.key.clone());
            }
            !lost
        });
        for key in &stranded {
            warn!(key, version = pinned.get(key), "a pinned version is missing, so the other versions of its key stay");
        }
        let mut failed = self.delete_listed(&doomed).await?;
        failed.extend(stranded);
        Ok(failed)
    }

    /// Removes what was listed, each version by its id, and answers with the keys that may still be there.
    ///
    /// # Errors
    /// As [`Storage::delete_many`].
    pub async fn delete_listed(&self, listed: &[Listed]) -> Result<Vec<String>, StorageError> {
        let objects: Result<Vec<_>, _> =
            listed.iter().map(|listed| identifier(&listed.key, listed.version.clone())).collect();
        self.delete_identified(&objects?).await
    }

    /// Every version and delete marker of the keys with this prefix, as a key and a version id.
    ///
    /// # Errors
    /// [`StorageError`], also if the store answers with the same page again.
    pub async fn list_versions(&self, prefix: &str) -> Result<Vec<(String, String)>, StorageError> {
        let listed = Listing::of_versions(self, prefix).all().await?;
        Ok(listed.into_iter().filter_map(|listed| Some((listed.key, listed.version?))).collect())
    }

    /// A quiet answer names errors alone. One that names no key of its batch may concern any of them, so all of them count.
    async fn delete_identified(&self, objects: &[ObjectIdentifier]) -> Result<Vec<String>, StorageError> {
        let mut failed = Vec::new();
        for batch in objects.chunks(DELETE_BATCH) {
            let delete = Delete::builder().quiet(true).set_objects(Some(batch.to_vec())).build();
            let delete = delete.map_err(|error| StorageError::Refused(error.into()))?;
            let delete = self.client().delete_objects().bucket(self.bucket()).delete(delete);
            let answer = delete.customize().config_override(with_deletions_timeouts()).send().await?;
            let in_batch = |key: &String| batch.iter().any(|object| object.key() == key);
            let errors = answer.errors.unwrap_or_default().into_iter();
            let named: Option<Vec<String>> = errors.map(|error| error.key.filter(in_batch)).collect();
            let all = || batch.iter().map(|object| object.key().to_owned()).collect();
            failed.extend(named.unwrap_or_else(all));
        }
        Ok(failed)
    }

    /// Whether the bucket has or had versioning. A store that does not know the question has no versions, and so it is taken to be if the
    /// key may not ask: the policies for buckets with versions have this right.
    pub(crate) async fn has_versions(&self) -> Result<bool, StorageError> {
        match bucket::versioning(self).await {
            Ok(versioning) => Ok(versioning != Versioning::Never),
            Err(StorageError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn identifier(key: &str, version: Option<String>) -> Result<ObjectIdentifier, StorageError> {
    let object = ObjectIdentifier::builder().key(key).set_version_id(version).build();
    object.map_err(|error| StorageError::Refused(error.into()))
}

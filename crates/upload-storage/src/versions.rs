//! Deleting: objects, and in a bucket with versions each version of a key.
//!
//! In such a bucket a plain DELETE only hides the object behind a delete marker, and its bytes stay. So whatever cleans up deletes by
//! version, delete markers too.

use std::collections::BTreeMap;

use aws_sdk_s3::{
    primitives::DateTime,
    types::{Delete, ObjectIdentifier},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    Pin, Storage, StorageError,
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
                let mut versions = storage.list_versions(&key).await?;
                // Longer keys have this prefix, too.
                versions.retain(|(found, _version)| *found == key);
                Ok::<_, StorageError>(versions)
            }
        };
        let lists = stream::iter(keys.to_vec()).map(list).buffer_unordered(LISTS_AT_ONCE);
        let mut doomed: Vec<(String, String)> = lists.try_concat().await?;
        doomed.retain(|(key, version)| pinned.get(key) != Some(version));
        self.delete_these(&doomed).await
    }

    /// Removes these versions, each given by its key and its id.
    pub(crate) async fn delete_these(&self, versions: &[(String, String)]) -> Result<Vec<String>, StorageError> {
        let objects: Result<Vec<_>, _> =
            versions.iter().map(|(key, version)| identifier(key, Some(version.clone()))).collect();
        self.delete_identified(&objects?).await
    }

    /// Every version and delete marker of the keys with this prefix, as a key and a version id.
    ///
    /// # Errors
    /// [`StorageError`], also if the store answers with the same page again.
    pub async fn list_versions(&self, prefix: &str) -> Result<Vec<(String, String)>, StorageError> {
        let listed = self.list_versions_with_times(prefix).await?;
        Ok(listed.into_iter().map(|(key, version, _written_at)| (key, version)).collect())
    }

    /// The same, each with the time at which the store got it.
    pub(crate) async fn list_versions_with_times(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, String, Option<DateTime>)>, StorageError> {
        let mut versions = Vec::new();
        let mut after = (None, None);
        loop {
            let list = self.client().list_object_versions().bucket(self.bucket()).prefix(prefix);
            let page = list.set_key_marker(after.0.clone()).set_version_id_marker(after.1.clone()).send().await?;
            let objects = page.versions.unwrap_or_default().into_iter();
            let objects = objects.map(|object| (object.key, object.version_id, object.last_modified));
            let markers = page.delete_markers.unwrap_or_default().into_iter();
            let markers = markers.map(|marker| (marker.key, marker.version_id, marker.last_modified));
            versions.extend(objects.chain(markers).filter_map(|(key, version, time)| Some((key?, version?, time))));
            if page.is_truncated != Some(true) {
                return Ok(versions);
            }
            let next = (page.next_key_marker, page.next_version_id_marker);
            if next == after {
                return Err(StorageError::unavailable("the store lists the same versions again and again"));
            }
            after = next;
        }
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
    async fn has_versions(&self) -> Result<bool, StorageError> {
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

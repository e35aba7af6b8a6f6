//! Listing a bucket page by page, however large it is: objects, or all versions and delete markers.

use std::time::SystemTime;

use aws_sdk_s3::primitives::DateTime;

use crate::{Pin, Storage, StorageError};

/// An object, or a version of it, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its version id, if versions were listed.
    pub version: Option<String>,
    /// Its length in bytes; 0 for a delete marker.
    pub bytes: u64,
    /// When the store got it, by the store's clock. `None` if the store does not say.
    pub written_at: Option<SystemTime>,
}

/// The pages of a list.
#[derive(Debug)]
pub struct Listing {
    storage: Storage,
    prefix: String,
    next: Option<Page>,
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    Objects { token: Option<String> },
    Versions { after_key: Option<String>, after_version: Option<String> },
}

impl Listing {
    /// What is under this prefix: in a bucket that has or had versioning every version and every delete marker, else every object. With
    /// `S3_PIN=version` the bucket has versions, whatever the store says of it.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn of_all(storage: &Storage, prefix: &str) -> Result<Self, StorageError> {
        let versions = storage.settings().pin == Pin::Version || storage.has_versions().await?;
        Ok(match versions {
            true => Self::of_versions(storage, prefix),
            false => Self::of_objects(storage, prefix),
        })
    }

    /// The objects under this prefix.
    pub fn of_objects(storage: &Storage, prefix: &str) -> Self {
        Self::from(storage, prefix, Page::Objects { token: None })
    }

    /// The versions and delete markers under this prefix.
    pub fn of_versions(storage: &Storage, prefix: &str) -> Self {
        Self::from(storage, prefix, Page::Versions { after_key: None, after_version: None })
    }

    fn from(storage: &Storage, prefix: &str, first: Page) -> Self {
        Self { storage: storage.clone(), prefix: prefix.to_owned(), next: Some(first) }
    }

    /// The next page, of at most a thousand; `None` after the last one.
    ///
    /// # Errors
    /// [`StorageError`], also if the store answers with the same page again, or does not say where the next page begins.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Listed>>, StorageError> {
        let Some(page) = self.next.take() else { return Ok(None) };
        let (listed, next) = match &page {
            Page::Objects { token } => self.objects(token.clone()).await?,
            Page::Versions { after_key, after_version } => {
                self.versions(after_key.clone(), after_version.clone()).await?
            }
        };
        if next.as_ref() == Some(&page) {
            return Err(StorageError::unavailable("the store lists the same page again and again"));
        }
        self.next = next;
        Ok(Some(listed))
    }

    /// All pages, in memory.
    ///
    /// # Errors
    /// As [`Listing::next_page`].
    pub async fn all(mut self) -> Result<Vec<Listed>, StorageError> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }

    async fn objects(&self, token: Option<String>) -> Result<(Vec<Listed>, Option<Page>), StorageError> {
        let Self { storage, prefix, .. } = self;
        let list = storage.client().list_objects_v2().bucket(storage.bucket()).prefix(prefix);
        let page = list.set_continuation_token(token).send().await?;
        let objects = page.contents.unwrap_or_default().into_iter();
        let listed = objects.filter_map(|object| {
            Some(Listed {
                key: object.key?,
                version: None,
                bytes: bytes(object.size),
                written_at: time(object.last_modified),
            })
        });
        let next = next_page(page.is_truncated, page.next_continuation_token)?;
        Ok((listed.collect(), next.map(|token| Page::Objects { token: Some(token) })))
    }

    async fn versions(
        &self,
        after_key: Option<String>,
        after_version: Option<String>,
    ) -> Result<(Vec<Listed>, Option<Page>), StorageError> {
        let Self { storage, prefix, .. } = self;
        let list = storage.client().list_object_versions().bucket(storage.bucket()).prefix(prefix);
        let page = list.set_key_marker(after_key).set_version_id_marker(after_version).send().await?;
        let versions = page.versions.unwrap_or_default().into_iter();
        let versions = versions.map(|object| (object.key, object.version_id, object.size, object.last_modified));
        let markers = page.delete_markers.unwrap_or_default().into_iter();
        let markers = markers.map(|marker| (marker.key, marker.version_id, None, marker.last_modified));
        let listed = versions.chain(markers).filter_map(|(key, version, size, written_at)| {
            Some(Listed { key: key?, version: Some(version?), bytes: bytes(size), written_at: time(written_at) })
        });
        let after_version = page.next_version_id_marker;
        let next = next_page(page.is_truncated, page.next_key_marker)?;
        Ok((listed.collect(), next.map(|key| Page::Versions { after_key: Some(key), after_version })))
    }
}

/// Where the next page begins. Without that a list that goes on would begin again, or seem to end.
fn next_page(is_truncated: Option<bool>, begins: Option<String>) -> Result<Option<String>, StorageError> {
    match (is_truncated, begins) {
        (Some(true), None) => Err(StorageError::unavailable(
            "the store's list goes on, but the store does not say where the next page begins",
        )),
        (Some(true), begins) => Ok(begins),
        _ => Ok(None),
    }
}

fn bytes(size: Option<i64>) -> u64 {
    size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

fn time(time: Option<DateTime>) -> Option<SystemTime> {
    SystemTime::try_from(time?).ok()
}

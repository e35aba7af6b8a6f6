//! Buckets and objects in memory: one lock per bucket, objects that never change once they are there.
//!
//! An object is an `Arc` of immutable bytes and headers. A reader or a copy takes that `Arc` under the lock and decides its
//! conditions on it, so it can never mix two versions; a writer decides its conditions and inserts under one lock.
//!
//! Each key has its versions in `versions`. Without versioning a key has at most one, whose id is `null`, as on AWS.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use s3s::dto::{CORSRule, Checksum, ETagCondition, LifecycleRules, Metadata, Timestamp};
use s3s::{S3Result, s3_error};

use super::traffic::TrafficByBucket;
use super::versions::{Found, Version, Versioning, Versions};

#[derive(Debug, Default)]
pub(super) struct Store {
    buckets: Mutex<HashMap<String, Arc<Bucket>>>,
    pub(super) traffic: TrafficByBucket,
}

#[derive(Debug, Default)]
pub(super) struct Bucket(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    /// Set by `Store::remove_bucket`, for writers that found the bucket before it went.
    removed: bool,
    versioning: Versioning,
    /// No key has an empty list.
    keys: BTreeMap<String, Versions>,
    cors: Vec<CORSRule>,
    lifecycle: Option<LifecycleRules>,
}

pub(super) struct Object {
    pub(super) bytes: Bytes,
    /// Hexadecimal MD5, without quotes.
    pub(super) etag: String,
    pub(super) modified_at: SystemTime,
    pub(super) headers: ObjectHeaders,
    /// The checksums that the upload declared; all of them are verified.
    pub(super) checksum: Checksum,
}

/// The headers that are kept and served with an object.
#[derive(Clone, Default)]
pub(super) struct ObjectHeaders {
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) expires: Option<Timestamp>,
    pub(super) metadata: Option<Metadata>,
}

/// The conditions of one request; for a copy, the conditions on its source.
#[derive(Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

/// One page of a listing of versions.
pub(super) struct VersionPage {
    /// Each key and version, and whether it is the newest of its key. The newest version of a key comes first.
    pub(super) versions: Vec<(String, Version, bool)>,
    /// Whether there is another page.
    pub(super) is_truncated: bool,
}

/// One page of a listing.
pub(super) struct Page {
    pub(super) objects: Vec<(String, Arc<Object>)>,
    pub(super) common_prefixes: Vec<String>,
    /// The last key or common prefix of this page, if there is another page.
    pub(super) resume_after: Option<String>,
}

impl Store {
    pub(super) fn create_bucket(&self, name: &str) -> S3Result<()> {
        match lock(&self.buckets).entry(name.to_owned()) {
            std::collections::hash_map::Entry::Occupied(_) => Err(s3_error!(BucketAlreadyOwnedByYou)),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Arc::default());
                Ok(())
            }
        }
    }

    pub(super) fn remove_bucket(&self, name: &str) -> S3Result<()> {
        let mut buckets = lock(&self.buckets);
        let bucket = buckets.get(name).ok_or_else(|| s3_error!(NoSuchBucket))?;
        {
            let mut contents = lock(&bucket.0);
            if !contents.keys.is_empty() {
                return Err(s3_error!(BucketNotEmpty));
            }
            contents.removed = true;
        }
        buckets.remove(name);
        Ok(())
    }

    pub(super) fn bucket(&self, name: &str) -> S3Result<Arc<Bucket>> {
        lock(&self.buckets).get(name).cloned().ok_or_else(|| s3_error!(NoSuchBucket))
    }
}

impl Bucket {
    /// The version as it is at this moment; without an id, the newest.
    pub(super) fn get(&self, key: &str, version_id: Option<&str>) -> S3Result<Found> {
        let contents = lock(&self.0);
        match (contents.keys.get(key), version_id) {
            (Some(versions), Some(id)) => versions.find(id),
            (Some(versions), None) => versions.current().ok_or_else(|| s3_error!(NoSuchKey)),
            (None, Some(_)) => Err(s3_error!(NoSuchVersion)),
            (None, None) => Err(s3_error!(NoSuchKey)),
        }
    }

    /// Makes a complete object visible, if the conditions hold for the object that it replaces.
    pub(super) fn insert(&self, key: String, object: Object, conditions: &Conditions) -> S3Result<Found> {
        let mut contents = lock(&self.0);
        if contents.removed {
            return Err(s3_error!(NoSuchBucket));
        }
        let present = contents.keys.get(&key).and_then(Versions::current);
        conditions.allow_write(present.map(|found| found.object).as_deref())?;
        let (versioning, object) = (contents.versioning, Arc::new(object));
        let version = contents.keys.entry(key).or_default().add(Some(Arc::clone(&object)), versioning);
        Ok(Found { version_id: version.id, object })
    }

    /// With an id, removes this version for good, and returns it. Without one, removes the object, or hides it behind a delete marker,
    /// and returns the marker. S3 does not report whether there was an object.
    pub(super) fn delete(&self, key: &str, version_id: Option<&str>) -> Option<Version> {
        let mut contents = lock(&self.0);
        let versioning = contents.versioning;
        match version_id {
            None if versioning != Versioning::Never => {
                Some(contents.keys.entry(key.to_owned()).or_default().add(None, versioning))
            }
            None => contents.keys.remove(key).and(None),
            Some(id) => {
                let versions = contents.keys.get_mut(key)?;
                let removed = versions.remove(id);
                if versions.is_empty() {
                    contents.keys.remove(key);
                }
                removed
            }
        }
    }

    /// The versions in the order of keys, those of one key from the newest to the oldest. `after` is the last one of the page before.
    pub(super) fn list_versions(&self, prefix: &str, after: Option<(&str, &str)>, max_keys: usize) -> VersionPage {
        let contents = lock(&self.0);
        let (first_key, last_id) = after.map_or((prefix, None), |(key, id)| (key.max(prefix), Some(id)));
        let mut page = VersionPage { versions: Vec::new(), is_truncated: false };
        for (key, versions) in contents.keys.range::<str, _>((Bound::Included(first_key), Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            let given = last_id.filter(|_| key == first_key).map_or(0, |id| versions.place(id) + 1);
            for (place, version) in versions.newest_first().enumerate().skip(given) {
                if page.versions.len() == max_keys {
                    page.is_truncated = true;
                    return page;
                }
                page.versions.push((key.clone(), version.clone(), place == 0));
            }
        }
        page
    }

    pub(super) fn versioning(&self) -> Versioning {
        lock(&self.0).versioning
    }

    pub(super) fn set_versioning(&self, versioning: Versioning) {
        lock(&self.0).versioning = versioning;
    }

    pub(super) fn list(&self, prefix: &str, delimiter: Option<&str>, after: Option<&str>, max_keys: usize) -> Page {
        let contents = lock(&self.0);
        let mut page = Page { objects: Vec::new(), common_prefixes: Vec::new(), resume_after: None };
        let mut last: Option<String> = None;
        let start = after.filter(|after| *after >= prefix).map_or(Bound::Included(prefix), Bound::Excluded);
        for (key, versions) in contents.keys.range::<str, _>((start, Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            let Some(Found { object, .. }) = versions.current() else { continue };
            let common = delimiter
                .and_then(|delimiter| rest.find(delimiter).map(|at| &key[..prefix.len() + at + delimiter.len()]));
            let entry = common.unwrap_or(key);
            // A whole folder is one entry, on this page or the one before.
            if common.is_some() && (last.as_deref() == Some(entry) || after.is_some_and(|after| after == entry)) {
                continue;
            }
            if page.objects.len() + page.common_prefixes.len() == max_keys {
                page.resume_after = last;
                break;
            }
            last = Some(entry.to_owned());
            match common {
                Some(common) => page.common_prefixes.push(common.to_owned()),
                None => page.objects.push((key.clone(), object)),
            }
        }
        page
    }

    pub(super) fn cors(&self) -> Vec<CORSRule> {
        lock(&self.0).cors.clone()
    }

    pub(super) fn set_cors(&self, rules: Vec<CORSRule>) {
        lock(&self.0).cors = rules;
    }

    pub(super) fn lifecycle(&self) -> Option<LifecycleRules> {
        lock(&self.0).lifecycle.clone()
    }

    pub(super) fn set_lifecycle(&self, rules: Option<LifecycleRules>) {
        lock(&self.0).lifecycle = rules;
    }
}

impl Conditions {
    /// A read: 412 if `If-Match` fails, 304 if `If-None-Match` fails.
    pub(super) fn allow_read(&self, object: &Object) -> S3Result<()> {
        if self.if_match.as_ref().is_some_and(|condition| !object.meets(condition)) {
            return Err(s3_error!(PreconditionFailed));
        }
        if self.if_none_match.as_ref().is_some_and(|condition| object.meets(condition)) {
            return Err(s3_error!(NotModified));
        }
        Ok(())
    }

    /// The source of a copy: 412 if either fails.
    pub(super) fn allow_copy(&self, source: &Object) -> S3Result<()> {
        self.allow_read(source).map_err(|_| s3_error!(PreconditionFailed))
    }

    /// A write over the present object: 404 if `If-Match` finds no object, 412 if a condition fails.
    fn allow_write(&self, present: Option<&Object>) -> S3Result<()> {
        match (&self.if_match, present) {
            (Some(_), None) => return Err(s3_error!(NoSuchKey)),
            (Some(condition), Some(object)) if !object.meets(condition) => return Err(s3_error!(PreconditionFailed)),
            _ => {}
        }
        match (&self.if_none_match, present) {
            (Some(condition), Some(object)) if object.meets(condition) => Err(s3_error!(PreconditionFailed)),
            _ => Ok(()),
        }
    }
}

impl Object {
    fn meets(&self, condition: &ETagCondition) -> bool {
        match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) => etag.value() == self.etag,
        }
    }
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Contents").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// No code panics while it holds a lock of the store. Even after a panic, all objects would be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

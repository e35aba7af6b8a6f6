//! The versions of one key: objects and delete markers, as S3 keeps them
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html>).

use std::sync::Arc;
use std::time::SystemTime;

use s3s::{S3Result, s3_error};

use super::store::Object;

/// The id of a version that was written while the bucket had no versioning, or had it suspended. A key has at most one of them.
const NULL: &str = "null";

/// Whether the bucket makes versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Versioning {
    /// It never did.
    #[default]
    Never,
    /// Each write makes a version.
    Enabled,
    /// It did. Each write replaces the version `null`.
    Suspended,
}

/// One version of a key.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) modified_at: SystemTime,
    /// `None` for a delete marker.
    pub(super) object: Option<Arc<Object>>,
}

/// An object and the id of its version.
pub(super) struct Found {
    pub(super) version_id: String,
    pub(super) object: Arc<Object>,
}

/// All versions of a key, the oldest first.
#[derive(Default)]
pub(super) struct Versions(Vec<Version>);

impl Versions {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object that a read without a version gets; `None` behind a delete marker.
    pub(super) fn current(&self) -> Option<Found> {
        self.0.last()?.found()
    }

    /// The version with this id. As on AWS, a delete marker cannot be read.
    pub(super) fn find(&self, id: &str) -> S3Result<Found> {
        let version = self.0.iter().find(|version| version.id == id).ok_or_else(|| s3_error!(NoSuchVersion))?;
        version.found().ok_or_else(|| s3_error!(MethodNotAllowed))
    }

    /// Adds the newest version. Without an object it is a delete marker.
    pub(super) fn add(&mut self, object: Option<Arc<Object>>, versioning: Versioning) -> Version {
        let id = match versioning {
            Versioning::Enabled => format!("{:032x}", rand::random::<u128>()),
            Versioning::Never | Versioning::Suspended => NULL.to_owned(),
        };
        self.0.retain(|version| version.id != id);
        let version = Version { id, modified_at: SystemTime::now(), object };
        self.0.push(version.clone());
        version
    }

    /// Removes the version with this id, and returns it.
    pub(super) fn remove(&mut self, id: &str) -> Option<Version> {
        let place = self.0.iter().position(|version| version.id == id)?;
        Some(self.0.remove(place))
    }

    /// How many versions are newer than the one with this id.
    pub(super) fn place(&self, id: &str) -> usize {
        self.newest_first().take_while(|version| version.id != id).count()
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Version> {
        self.0.iter().rev()
    }
}

impl Version {
    pub(super) fn is_delete_marker(&self) -> bool {
        self.object.is_none()
    }

    fn found(&self) -> Option<Found> {
        let object = self.object.clone()?;
        Some(Found { version_id: self.id.clone(), object })
    }
}

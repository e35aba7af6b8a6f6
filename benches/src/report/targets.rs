//! What each target is called in words, what one image of it amounts to, and what was published about it elsewhere.
//!
//! Times of different units are never set side by side without naming the units.

use crate::record::{Limits, Store, Target};

/// All targets, in the order in which the tables show them.
pub const ALL: [Target; 10] = [
    Target::V1,
    Target::V2Post,
    Target::V2Put,
    Target::V1Stream,
    Target::V2Unlinked,
    Target::NodeV1,
    Target::NodeV2,
    Target::Nginx,
    Target::Nginx128k,
    Target::Direct,
];

/// What has been done when an image counts as a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Created, uploaded, verified and linked to its owner.
    LinkedImage,
    /// Uploaded, with a row in the database; nothing was linked, which is what the original's test counted.
    UploadedImage,
    /// An object in the store and nothing else: no user, no row, nothing checked.
    StoredObject,
}

/// What has to be known of a target beside its figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// As on the command line and in `report.json`.
    pub name: &'static str,
    /// As a sentence calls it.
    pub plain: &'static str,
    /// What a client does for one image.
    pub steps: &'static str,
    /// What that amounts to.
    pub unit: Unit,
    /// The write that clients themselves send straight to the store for each image, which `server_to_store` does not count.
    pub client_write: Option<&'static str>,
}

/// A figure that others measured, on another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Whose unit and flow are the nearest to it.
    pub target: Target,
    /// Images at once.
    pub images: u32,
    /// As a cell of a table.
    pub text: &'static str,
}

/// The load test of the system that this workspace comes from.
pub const PUBLISHED: [Published; 4] = [
    Published { target: Target::V1Stream, images: 200, text: "25.9 s" },
    Published { target: Target::V2Unlinked, images: 200, text: "9.1 s" },
    Published { target: Target::V1Stream, images: 300, text: "went down" },
    Published { target: Target::V2Unlinked, images: 1000, text: "took all" },
];

/// What the published figures are, and why they are not comparable.
pub const PUBLISHED_SOURCE: &str = "Published elsewhere, another machine: the load test of the NestJS system that \
    this one comes from, in Docker with the limits of a t2.micro (app 1 CPU and 1 GB, Postgres 1 CPU and 1 GB, Redis \
    1 CPU and 555 MB, MinIO). With 200 uploads at once, V1 took 25.9 s and V2 9.1 s; V1 went down at 300, and V2 \
    took 1000. It counted uploads without the link, and its script sent an image of 147 KB that it called 5 MB. \
    These figures are shown for what they are; no ratio is made with them.";

/// Describes a target.
pub fn describe(target: Target) -> Description {
    use Unit::{LinkedImage, StoredObject, UploadedImage};
    let (name, plain, steps, unit, client_write) = match target {
        Target::V1 => ("v1", "V1 (streaming)", "create, upload to the server, link", LinkedImage, None),
        Target::V2Post => {
            ("v2-post", "V2 (presigned POST)", "create, POST to the store, link", LinkedImage, Some("PostObject"))
        }
        Target::V2Put => {
            ("v2-put", "V2 (presigned PUT)", "create, PUT to the store, link", LinkedImage, Some("PutObject"))
        }
        Target::V1Stream => ("v1-stream", "V1's one-request upload", "one upload, no link", UploadedImage, None),
        Target::V2Unlinked => {
            ("v2-unlinked", "V2 without the link", "create, POST to the store", UploadedImage, Some("PostObject"))
        }
        Target::NodeV1 => {
            ("node-v1", "Node V1 (multer-s3)", "one upload through express, no link", UploadedImage, None)
        }
        Target::NodeV2 => {
            ("node-v2", "Node V2 (createPresignedPost)", "create, POST to the store", UploadedImage, Some("PostObject"))
        }
        Target::Nginx => ("nginx", "nginx (relay)", "POST of a prepared form through nginx", StoredObject, None),
        Target::Nginx128k => {
            ("nginx-128k", "nginx (relay, 128k buffers)", "POST of a prepared form through nginx", StoredObject, None)
        }
        Target::Direct => {
            ("direct", "the bare client", "POST of a prepared form to the store", StoredObject, Some("PostObject"))
        }
    };
    Description { name, plain, steps, unit, client_write }
}

/// Whether a store bills an operation: AWS charges nothing for DELETE.
pub fn is_billed(operation: &str) -> bool {
    !operation.starts_with("Delete")
}

/// As on the command line.
pub fn name(target: Target) -> &'static str {
    describe(target).name
}

impl Unit {
    /// `linked image`.
    pub fn text(self) -> &'static str {
        match self {
            Self::LinkedImage => "linked image",
            Self::UploadedImage => "uploaded image",
            Self::StoredObject => "stored object",
        }
    }
}

/// The store, in words that stand after "on".
pub fn store(store: Store) -> &'static str {
    match store {
        Store::Minio => "a real MinIO",
        Store::Embedded => "the embedded store (no MinIO was to be had)",
        Store::Given => "the given store",
        Store::Sink => "the null sink",
    }
}

/// How the limits were enforced, as a sentence.
pub fn limits(limits: Limits) -> &'static str {
    match limits {
        Limits::CgroupV2 => {
            "Each server ran in a cgroup v2 with 1 CPU and 1 GB, the kernel's socket buffers included; both were \
             enforced."
        }
        Limits::CgroupV1 => {
            "Each server ran in a cgroup v1 with 1 CPU and 1 GB; both were enforced, but memory without the kernel's \
             socket buffers."
        }
        Limits::Taskset => "Each server was bound to one CPU with taskset; memory was not enforced.",
    }
}

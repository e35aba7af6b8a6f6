//! The targets in words: what each is called, and what one image of it is.

use crate::record::{Case, Limits, Store, Target};

/// All targets, in the order in which the tables show them.
pub const ALL: [Target; 12] = [
    Target::V1,
    Target::V1Buffered,
    Target::V2Post,
    Target::V2Version,
    Target::V2Put,
    Target::V1Stream,
    Target::V2Unlinked,
    Target::NodeV1,
    Target::NodeV2,
    Target::Nginx,
    Target::Nginx128k,
    Target::Direct,
];

/// What has happened when an image counts as a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Created, uploaded, verified and linked to its owner.
    LinkedImage,
    /// Uploaded, with a row in the database, and not linked. The original's test counted these.
    UploadedImage,
    /// An object in the store: no user, no row, no check.
    StoredObject,
}

/// A target in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Its name on the command line and in `report.json`.
    pub name: &'static str,
    /// Its name in a sentence.
    pub plain: &'static str,
    /// What a client does for one image.
    pub steps: &'static str,
    /// What it then has.
    pub unit: Unit,
    /// The write that the client itself sends to the store for each image.
    pub client_write: Option<&'static str>,
}

/// What was published elsewhere, and why it is not comparable.
pub const PUBLISHED: &str = "Published elsewhere, on another machine: the load test of the NestJS system that this one comes \
    from. It ran in Docker with the limits of a t2.micro (app 1 CPU and 1 GB, Postgres 1 CPU and 1 GB, Redis 1 CPU and \
    555 MB, MinIO). With 200 uploads at once, its V1 took 25.9 s and its V2 9.1 s; V1 went down at 300, and V2 took 1000. \
    It counted uploads without the link, and its image had 147 KB. Do not compare these figures with those above.";

/// Describes a target.
pub fn describe(target: Target) -> Description {
    use Unit::{LinkedImage, StoredObject, UploadedImage};
    let (name, plain, steps, unit, client_write) = match target {
        Target::V1 => ("v1", "V1 (streaming)", "create, upload to the server, link", LinkedImage, None),
        Target::V1Buffered => (
            "v1-buffered",
            "V1 behind nginx (buffering)",
            "create, upload through nginx's disk, link",
            LinkedImage,
            None,
        ),
        Target::V2Post => {
            ("v2-post", "V2 (presigned POST)", "create, POST to the store, link", LinkedImage, Some("PostObject"))
        }
        Target::V2Version => {
            ("v2-version", "V2 (pinned by version)", "create, POST to the store, link", LinkedImage, Some("PostObject"))
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

/// Its name on the command line.
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

/// What the clients do, in one word.
pub fn case(case: Case) -> &'static str {
    match case {
        Case::Burst => "burst",
        Case::Slow => "slow",
        Case::Mixed => "mixed",
        Case::Crossover => "crossover",
    }
}

/// A store, in words that follow "on".
pub fn store(store: Store) -> &'static str {
    match store {
        Store::Minio => "a real MinIO",
        Store::Embedded => "the embedded store (this machine has no MinIO)",
        Store::Given => "the given store",
        Store::Sink => "the null sink",
    }
}

/// How the limits were enforced, in a sentence.
pub fn limits(limits: Limits) -> &'static str {
    match limits {
        Limits::CgroupV2 => "Each server ran in a cgroup v2 with 1 CPU and 1 GB, socket buffers included.",
        Limits::CgroupV1 => "Each server ran in a cgroup v1 with 1 CPU and 1 GB, which does not count socket buffers.",
        Limits::Taskset => "Each server was bound to one CPU with taskset; its memory was not limited.",
    }
}

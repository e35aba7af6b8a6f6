//! The servers in `baselines/node`, started as the original starts its server.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Result;
use serde::Deserialize;
use upload_domain::ImageLimits;
use upload_sandbox::{Stand, process::Program};
use url::Url;

use crate::{
    builds::Node,
    limits::{Limited, Limiter},
};

/// Streams through the server.
pub(super) const V1: &str = "v1.mjs";
/// Signs forms.
pub(super) const V2: &str = "v2.mjs";

/// The heap of the original, in MB. Buffers are not in the heap.
const HEAP: &str = "--max-old-space-size=1024";

#[derive(Debug, Deserialize)]
struct Package {
    dependencies: BTreeMap<String, String>,
}

pub(super) async fn start(limiter: &Limiter, node: &Node, script: &str, stand: &Stand, store: &Url) -> Result<Limited> {
    let program = Program::new(&node.binary, stand)
        .arg(HEAP)
        .arg(node.folder.join(script))
        .env("NODE_ENV", "production")
        .env("MAX_IMAGE_BYTES", ImageLimits::default().max_image_bytes.to_string())
        .env("S3_ENDPOINT", store.as_str());
    limiter.serve(program).await
}

/// Their packages, with exact versions.
pub(super) fn packages(folder: &Path) -> BTreeMap<String, String> {
    let package = fs::read(folder.join("package.json")).ok();
    let package = package.and_then(|text| serde_json::from_slice::<Package>(&text).ok());
    package.map(|package| package.dependencies).unwrap_or_default()
}

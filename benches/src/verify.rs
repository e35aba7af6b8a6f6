//! What a run has really left in the store and the database, compared with what its clients were told.
//!
//! A run whose figures look good is worth nothing if images are missing, short or too many, so every finished run is looked
//! at before the next begins. What is deliberately absent: any look at runs that were given up, where clients do not know.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use upload_sandbox::Stand;

use crate::{
    payload::Payload,
    record::{Target, Verified},
    target::has_users,
};

/// Up to so many objects, all are read back; of more, every n-th, so that about as many are.
const MOST_CHECKSUMS: usize = 200;
/// Objects that are read back at once, each of them whole in memory.
const READERS: usize = 4;

/// What there is beside what there should be: the first thing that does not agree, in words.
pub type Finding = Result<Verified, String>;

/// Looks at the stand after a run of `images`, of which `acknowledged` succeeded: ids of images, or keys of objects where the target has
/// no rows of ours.
///
/// # Errors
/// When the store or the database cannot be looked at, which says nothing about the run.
pub async fn verify(
    stand: &Stand,
    target: Target,
    images: u64,
    acknowledged: &[String],
    payload: &Payload,
) -> Result<Finding> {
    let objects = stand.admin.list_with_sizes(prefix(target)).await.context("the bucket cannot be listed")?;
    let mut found = Verified { objects: objects.len() as u64, rows: None, checksums: 0 };
    let successes = acknowledged.len() as u64;
    let distinct: BTreeSet<&String> = acknowledged.iter().collect();
    if distinct.len() != acknowledged.len() {
        return Ok(Err(format!("{successes} successes are of {} images only", distinct.len())));
    }
    if found.objects != successes {
        return Ok(Err(format!("{successes} successes, but {} objects", found.objects)));
    }
    for (key, size_bytes) in &objects {
        if *size_bytes != payload.file.len() as u64 {
            return Ok(Err(format!("{key} has {size_bytes} bytes, not {}", payload.file.len())));
        }
        // A key of ours is `<prefix><image id>` with or without an attempt behind it.
        let id = key.strip_prefix(prefix(target)).and_then(|rest| rest.split('/').next()).unwrap_or(key);
        if has_users(target) && !distinct.contains(&id.to_owned()) {
            return Ok(Err(format!("{key} is of an image that no client was told of")));
        }
    }
    if let Some(rows) = rows(stand, target, images, payload).await? {
        found.rows = Some(rows.told);
        if rows.told != successes || rows.others > 0 {
            let others = rows.others;
            return Ok(Err(format!("{successes} successes, but {} rows, and {others} that should not be", rows.told)));
        }
    }
    let step = objects.len().div_ceil(MOST_CHECKSUMS).max(1);
    let sample: Vec<&String> = objects.iter().map(|(key, _size_bytes)| key).step_by(step).collect();
    let wrong: Vec<Option<&String>> = stream::iter(sample.iter().map(|key| differs(stand, key, payload)))
        .buffer_unordered(READERS)
        .try_collect()
        .await?;
    if let Some(key) = wrong.into_iter().flatten().next() {
        return Ok(Err(format!("{key} holds other bytes than were sent")));
    }
    found.checksums = sample.len() as u64;
    Ok(Ok(found))
}

/// Where an image ends that has come through.
fn prefix(target: Target) -> &'static str {
    match target {
        Target::V1 | Target::V2Post | Target::V2Put | Target::V1Stream | Target::NodeV1 => "media/",
        Target::V2Unlinked | Target::Direct | Target::Nginx | Target::Nginx128k | Target::NodeV2 => "incoming/",
    }
}

/// How many rows there are of images that came through, and how many that nobody was told of.
struct Rows {
    told: u64,
    others: u64,
}

/// Asks in SQL of its own: what checks the servers should not come from their code.
async fn rows(stand: &Stand, target: Target, images: u64, payload: &Payload) -> Result<Option<Rows>> {
    let bytes = payload.file.len();
    let table = match target {
        Target::V1 | Target::V2Post | Target::V2Put | Target::V1Stream | Target::V2Unlinked => "image",
        Target::NodeV1 | Target::NodeV2 => "node_image",
        Target::Direct | Target::Nginx | Target::Nginx128k => return Ok(None),
    };
    // No client makes more rows than one for each image.
    let too_many = stand.count(table).await?.saturating_sub(images);
    Ok(Some(match target {
        Target::V1 | Target::V2Post | Target::V2Put => {
            let linked = format!(
                "image JOIN user_profile_image ON image_id = image.id AND user_profile_image.user_id = image.user_id \
                 WHERE linked_at IS NOT NULL AND media_key IS NOT NULL AND byte_size = {bytes}"
            );
            let told = stand.count(&linked).await?;
            let half_linked = stand.count("image WHERE linked_at IS NOT NULL").await?.abs_diff(told);
            Rows { told, others: too_many + half_linked }
        }
        Target::V1Stream => {
            let stored = format!("image WHERE media_key IS NOT NULL AND media_byte_size = {bytes}");
            let linked = stand.count("image WHERE linked_at IS NOT NULL").await?;
            Rows { told: stand.count(&stored).await?, others: too_many + linked }
        }
        // Whether these were uploaded is not in their rows, and a failed upload leaves one.
        _ => {
            let objects = stand.admin.list(prefix(target)).await?.len() as u64;
            Rows { told: stand.count(table).await?.min(objects), others: too_many }
        }
    }))
}

/// The key itself where its object's bytes are not those that were sent.
async fn differs<'a>(stand: &Stand, key: &'a String, payload: &Payload) -> Result<Option<&'a String>> {
    let bytes = stand.admin.read(key).await.with_context(|| format!("{key} cannot be read back"))?;
    let same = bytes.is_some_and(|bytes| Sha256::digest(&bytes).as_slice() == payload.sha256);
    Ok((!same).then_some(key))
}

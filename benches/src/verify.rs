//! Compares what a round left in the store and the database with what its clients saw.
//!
//! Good figures are worth nothing if images are missing, short or too many, so every finished round is checked before the next begins.
//! Rounds that were given up are not checked: their clients do not know whether their images were stored.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use upload_sandbox::Stand;

use crate::{
    load::Outcome,
    payload::Payload,
    record::{Target, Verified},
};

/// Up to this many objects, all are read back. Of more objects, every n-th is.
const MOST_CHECKSUMS: usize = 200;
/// Objects that are read back at once, each as a whole.
const READERS: usize = 4;

/// What was found, or the first difference, in words.
pub type Finding = Result<Verified, String>;

/// What the clients of a round saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Ids of the images that succeeded, or keys of objects where the target has no rows of ours.
    pub successes: Vec<String>,
    /// Images that failed, but may have been stored all the same.
    pub undecided: u64,
    /// All images.
    pub images: u64,
}

impl Told {
    /// Adds the outcome of a load.
    pub fn add(&mut self, outcome: Outcome) {
        self.images += outcome.load.successes + outcome.load.failures.values().sum::<u64>();
        self.undecided += outcome.undecided;
        self.successes.extend(outcome.images);
    }

    /// Compares the counts of a null sink, which does not keep objects.
    pub fn sunk(&self, objects: u64, bytes: u64, payload: &Payload) -> Finding {
        self.agrees(objects, "objects")?;
        if bytes != objects * payload.file.len() as u64 {
            return Err(format!("{objects} objects have {bytes} bytes in all"));
        }
        Ok(Verified { objects, rows: None, checksums: 0 })
    }

    /// One for each success, and perhaps one for each failure that may have been stored.
    fn agrees(&self, count: u64, what: &str) -> Result<(), String> {
        let successes = self.successes.len() as u64;
        if (successes..=successes + self.undecided).contains(&count) {
            return Ok(());
        }
        let undecided = match self.undecided {
            0 => String::new(),
            undecided => format!(" and {undecided} that may have been stored"),
        };
        Err(format!("{successes} successes{undecided}, but {count} {what}"))
    }
}

/// Checks the stand after a round.
///
/// # Errors
/// When the store or the database does not answer, which says nothing about the round.
pub async fn verify(stand: &Stand, target: Target, told: &Told, payload: &Payload) -> Result<Finding> {
    let objects = stand.admin.list_with_sizes(prefix(target)).await.context("cannot list the bucket")?;
    let rows = rows(stand, target, told.images, payload).await?;
    let finding = compare(&objects, rows.as_ref(), target, told, payload);
    let Ok(mut found) = finding else { return Ok(finding) };
    let step = objects.len().div_ceil(MOST_CHECKSUMS).max(1);
    let sample: Vec<&String> = objects.iter().map(|(key, _size_bytes)| key).step_by(step).collect();
    let wrong: Vec<Option<&String>> = stream::iter(sample.iter().map(|key| differs(stand, key, payload)))
        .buffer_unordered(READERS)
        .try_collect()
        .await?;
    if let Some(key) = wrong.into_iter().flatten().next() {
        return Ok(Err(format!("{key} does not hold the bytes that were sent")));
    }
    found.checksums = sample.len() as u64;
    Ok(Ok(found))
}

/// What a client knows of an object. Our keys are `<prefix><image id>`, with or without an attempt behind it.
fn id_of(key: &str, target: Target) -> &str {
    if matches!(target, Target::Direct | Target::Nginx | Target::Nginx128k | Target::NodeV1) {
        return key;
    }
    key.strip_prefix(prefix(target)).and_then(|rest| rest.split('/').next()).unwrap_or(key)
}

fn compare(objects: &[(String, u64)], rows: Option<&Rows>, target: Target, told: &Told, payload: &Payload) -> Finding {
    let distinct: BTreeSet<&str> = told.successes.iter().map(String::as_str).collect();
    if distinct.len() != told.successes.len() {
        return Err(format!("{} successes name only {} images", told.successes.len(), distinct.len()));
    }
    told.agrees(objects.len() as u64, "objects")?;
    let mut strangers = Vec::new();
    for (key, size_bytes) in objects {
        if *size_bytes != payload.file.len() as u64 {
            return Err(format!("{key} has {size_bytes} bytes, not {}", payload.file.len()));
        }
        if !distinct.contains(id_of(key, target)) {
            strangers.push(key);
        }
    }
    // This many objects may belong to no success. If there are more, the object of a success is missing.
    let unclaimed = objects.len() - told.successes.len();
    if strangers.len() > unclaimed
        && let Some(key) = strangers.first()
    {
        return Err(format!("{key} belongs to no image that a client saw"));
    }
    if let Some(rows) = rows {
        told.agrees(rows.told, "rows")?;
        if rows.others > 0 {
            return Err(format!("there are {} unexpected rows", rows.others));
        }
    }
    Ok(Verified { objects: objects.len() as u64, rows: rows.map(|rows| rows.told), checksums: 0 })
}

/// Where a successful image is stored.
fn prefix(target: Target) -> &'static str {
    match target {
        Target::V2Version
        | Target::V2Unlinked
        | Target::Direct
        | Target::Nginx
        | Target::Nginx128k
        | Target::NodeV2 => "incoming/",
        _ => "media/",
    }
}

/// How many rows belong to successful images, and how many are unexpected.
struct Rows {
    told: u64,
    others: u64,
}

/// Uses its own SQL: a check of the servers must not depend on their code.
async fn rows(stand: &Stand, target: Target, images: u64, payload: &Payload) -> Result<Option<Rows>> {
    let bytes = payload.file.len();
    let table = match target {
        Target::NodeV1 | Target::NodeV2 => "node_image",
        Target::Direct | Target::Nginx | Target::Nginx128k => return Ok(None),
        _ => "image",
    };
    // No client makes more rows than one for each image.
    let too_many = stand.count(table).await?.saturating_sub(images);
    Ok(Some(match target {
        Target::V1 | Target::V1Buffered | Target::V2Post | Target::V2Version | Target::V2Put => {
            let linked = format!(
                "image JOIN image_link ON image_id = image.id AND target = 'profile' AND target_id = image.user_id \
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
        // These rows do not say whether the image was uploaded, and a failed upload leaves one.
        _ => {
            let objects = stand.admin.list(prefix(target)).await?.len() as u64;
            Rows { told: stand.count(table).await?.min(objects), others: too_many }
        }
    }))
}

/// The key, if its object does not hold the bytes that were sent.
async fn differs<'a>(stand: &Stand, key: &'a String, payload: &Payload) -> Result<Option<&'a String>> {
    let bytes = stand.admin.read(key).await.with_context(|| format!("cannot read {key} back"))?;
    let same = bytes.is_some_and(|bytes| Sha256::digest(&bytes).as_slice() == payload.sha256);
    Ok((!same).then_some(key))
}

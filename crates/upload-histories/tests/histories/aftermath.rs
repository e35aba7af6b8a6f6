//! What must be true after every history, when all faults are healed, all replicas run, and everything is older than every grace: after one
//! sweep, and after one reconcile.
//!
//! The names of the invariants are those of docs/RELIABILITY.md.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use upload_domain::INCOMING_PREFIX;
use upload_sandbox::Row;
use upload_storage::{Listed, Listing};

use crate::{
    history::History,
    model::{State, Target},
    script::Task,
};

const HOURS_2_SECONDS: i64 = 2 * 60 * 60;
const DAYS_40_SECONDS: i64 = 40 * 24 * 60 * 60;

/// Checks everything, and leaves the world empty for the next history.
pub async fn check(history: &mut History<'_>) -> Result<()> {
    history.note("heal, and wait for what is under way");
    history.world.rest().await.context("I7, nothing leaks")?;
    history.look_at_everything().await.context("I5, what was acknowledged stays true")?;
    history.note("two hours, sweep");
    pass_and_sweep(history, HOURS_2_SECONDS).await?;
    check_swept(history).await?;
    history.note("reconcile");
    history.world.tend(Task::Reconcile, None).await?;
    check_rows(history).await?;
    check_objects(history).await?;
    history.look_at_everything().await.context("I5, after the sweep")?;
    history.world.tend(Task::Audit, None).await.context("I2, by the audit")?;
    history.scan_logs().context("I8, no secret is logged")?;
    empty(history).await
}

async fn pass_and_sweep(history: &mut History<'_>, seconds: i64) -> Result<()> {
    history.world.pass_seconds(seconds).await?;
    history.model.pass(seconds);
    history.world.tend(Task::Sweep, None).await?;
    Ok(())
}

/// I1, as far as the sweep alone must bring it: all that is left for reconcile is what a form wrote too late for any sweep.
async fn check_swept(history: &History<'_>) -> Result<()> {
    let stand = &history.world.stand;
    let named = stand.sql(
        "SELECT media_key, coalesce(media_version, '') FROM image WHERE media_key IS NOT NULL
         UNION ALL SELECT key, '' FROM image_attempt",
    );
    let named: BTreeSet<(String, String)> =
        named.await?.into_iter().filter_map(|row| Some((row.first()?.clone()?, row.get(1)?.clone()?))).collect();
    let written_late: BTreeSet<String> =
        history.written_late.iter().map(|image| format!("{INCOMING_PREFIX}{}", history.images[*image].id)).collect();
    for object in Listing::of_all(&stand.storage, "").await?.all().await? {
        let is_named = |version: &str| named.contains(&(object.key.clone(), version.to_owned()));
        // A delete marker has no bytes: a replica's own DELETE can come after the sweep, because here hours pass in a moment.
        let may_stay = is_named("")
            || object.version.as_deref().is_some_and(|version| is_named(version) || object.bytes == 0)
            || written_late.contains(&object.key);
        ensure!(may_stay, "I1: the sweep leaves {object:?}, which no row names");
    }
    Ok(())
}

/// I3: nothing is pending, held or being removed. I4: each image has at most one link, and it is one that a state of the model has.
async fn check_rows(history: &mut History<'_>) -> Result<()> {
    let stand = &history.world.stand;
    for from in
        ["image WHERE linked_at IS NULL", "image WHERE attempt IS NOT NULL", "image WHERE deleting_at IS NOT NULL"]
    {
        ensure!(stand.count(from).await? == 0, "I3: there is still {from}");
    }
    let links =
        stand.sql("SELECT image_id, target, target_id, ended_at IS NULL FROM image_link ORDER BY image_id").await?;
    let linked = stand.sql("SELECT id FROM image ORDER BY id").await?;
    let ids = |rows: &[Row]| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    ensure!(ids(&links) == ids(&linked), "I4: links {links:?} of the images {linked:?}");
    let links: BTreeMap<String, (String, String, bool)> = links
        .into_iter()
        .filter_map(|row| {
            let [image, target, target_id, live] = <[_; 4]>::try_from(row).ok()?;
            Some((image?, (target?, target_id?, live? == "t")))
        })
        .collect();
    let known: BTreeSet<&String> = history.images.iter().map(|image| &image.id).collect();
    ensure!(links.keys().all(|image| known.contains(image)), "I4: an image is linked that nobody knows: {links:?}");

    let now = history.model.now();
    let (images, people, posts, competition) = (&history.images, &history.people, &history.posts, &history.competition);
    let agrees = |state: &State| {
        state.images.iter().zip(images).all(|(expected, image)| match (&expected.link, links.get(&image.id)) {
            (None, None) => true,
            (Some(expected), None) => expected.may_be_purged(now),
            (None, Some(_)) => false,
            (Some(expected), Some((target, id, live))) => {
                let is_target = match expected.target {
                    Target::Profile(user) => target == "profile" && *id == people[user].id.to_string(),
                    Target::Poster => target == "poster" && id == competition,
                    // The answer with the post's id may have been lost.
                    Target::Post(post) => target == "post" && posts[post].as_ref().is_none_or(|known| known == id),
                };
                is_target && *live == expected.ended_at.is_none()
            }
        })
    };
    history.model.keep("I4: these links", agrees).map_err(anyhow::Error::msg)
}

/// I1: every object has exactly one row. I2: every linked row has its object, with the bytes that were acknowledged.
async fn check_objects(history: &mut History<'_>) -> Result<()> {
    let stand = &history.world.stand;
    let named = stand.sql("SELECT id, media_key, coalesce(media_version, '') FROM image ORDER BY media_key").await?;
    let found = Listing::of_all(&stand.storage, "").await?.all().await?;
    let mut rows: BTreeMap<String, (String, String)> = BTreeMap::new();
    for row in named {
        let [Some(image), Some(key), Some(version)] = <[_; 3]>::try_from(row).ok().context("three columns")? else {
            anyhow::bail!("I2: a linked image has no key");
        };
        ensure!(rows.insert(key.clone(), (image, version)).is_none(), "I1: two rows name {key}");
    }
    for object in &found {
        let (_image, version) = rows.get(&object.key).with_context(|| format!("I1: no row names {object:?}"))?;
        let is_named = version.is_empty() || object.version.as_ref() == Some(version);
        ensure!(is_named, "I1: no row names this version: {object:?}");
    }
    let keys: BTreeMap<&String, u64> = found.iter().map(|object| (&object.key, object.bytes)).collect();
    // In a bucket with versions, a write whose answer is lost, and that is sent again, makes a second version with the same bytes. (Of an
    // incoming key, no other version than the named one has come so far.)
    let is_rewritten = |object: &Listed| object.key.starts_with(INCOMING_PREFIX) || keys[&object.key] == object.bytes;
    let is_one = keys.len() == found.len() || history.world.versions && found.iter().all(is_rewritten);
    ensure!(is_one, "I1: a key has more than one version: {found:?}");
    for key in rows.keys() {
        ensure!(keys.contains_key(key), "I2: a row names {key}, which is not there");
    }
    let mut files = BTreeMap::new();
    for (key, (image, _version)) in &rows {
        let bytes = stand.storage.read(key).await?.with_context(|| format!("I2: {key} cannot be read"))?;
        let file = history.file_of(&bytes).with_context(|| format!("I2: {key} has bytes that nobody uploaded"))?;
        files.insert(image.clone(), file);
    }
    let images = &history.images;
    let agrees = |state: &State| {
        state.images.iter().zip(images).all(|(expected, image)| {
            let stored = files.get(&image.id);
            stored.is_none_or(|stored| expected.link.as_ref().is_some_and(|link| link.file == *stored))
        })
    };
    history.model.keep("I2: these bytes", agrees).map_err(anyhow::Error::msg)
}

/// Ends every link. Forty days later one sweep must remove all that is left, in the bucket too.
async fn empty(history: &mut History<'_>) -> Result<()> {
    history.note("end every link, forty days, sweep");
    let end = "UPDATE user_profile_image SET deleted_at = now() WHERE deleted_at IS NULL;
         UPDATE competition_poster_image SET deleted_at = now() WHERE deleted_at IS NULL;
         UPDATE post SET deleted_at = now() WHERE deleted_at IS NULL";
    history.world.stand.sql(end).await?;
    pass_and_sweep(history, DAYS_40_SECONDS).await?;
    let stand = &history.world.stand;
    for table in ["image", "image_attempt", "image_link", "post"] {
        ensure!(stand.count(table).await? == 0, "the purge leaves rows of {table}");
    }
    let left = Listing::of_all(&stand.storage, "").await?.all().await?;
    ensure!(left.is_empty(), "the purge leaves objects: {left:?}");
    stand.sql("DELETE FROM competition; DELETE FROM \"user\"").await?;
    Ok(())
}

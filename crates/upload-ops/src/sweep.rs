//! `upload-ops sweep` removes four things: pending images that nobody can link any more, with their objects; objects of attempts under
//! media keys that no image names; objects of forms under the incoming keys of linked images; and images that nothing has shown for a
//! long time, with their objects: replaced profile images and posters, and the images of deleted posts, with the posts.
//!
//! The order is always the same: take rows, delete their objects, then delete the rows or mark them as done. If a sweep dies, the next one
//! takes over its rows after [`SWEEP_LEASE`](upload_persistence::images::SWEEP_LEASE). Deleting an object twice is no error, and its key is
//! never used again. If an object cannot be deleted, its row stays for the next sweep. If one of the four parts fails, the others still
//! run.
//!
//! A link deletes its incoming object, but that may fail, and a form that is still valid can write the key again. So after the last form
//! of a linked image has expired, a sweep deletes the object of that key, if any, and marks the row as done. No later sweep looks at it.
//!
//! In a bucket with versions a sweep deletes every version and every delete marker of a key, but never the version that a link has pinned.
//!
//! No database connection is held while the store works.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use upload_domain::{ImageId, LATE_WRITE, Timing, TimingSettings, incoming_key, media_key};
use upload_persistence::{
    Database, DatabaseError, DatabaseSettings,
    ended_links::{self, Ended},
    image_attempts::{self, Abandoned},
    images::{self, Doomed, LinkedIncoming},
};
use upload_storage::{Storage, StorageSettings};

use crate::{Stop, command::duration, progress::Progress, reach, stop::stop_signal};

/// Rows that are taken at a time.
const BATCH_ROWS: u32 = 500;
/// A run that has taken this long leaves the rest to the next one.
const LONGEST_RUN: Duration = Duration::from_secs(250);

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("when").required(true))]
pub(crate) struct SweepArguments {
    /// Sweep once, print the result, and exit with 0 if nothing is left to do, else with 1
    #[arg(long, group = "when")]
    once: bool,

    /// Sweep repeatedly with this interval, such as 60s, until Ctrl-C or SIGTERM, and log each result
    #[arg(long, group = "when", value_parser = duration)]
    every: Option<Duration>,

    /// How long to keep what nothing shows any more, such as 30d: replaced profile images and posters, and deleted posts with their images. No
    /// less than FORM_TTL + MAX_BODY_TIME + 60 s, and than 10m
    #[arg(long, env, default_value = "30d", value_parser = duration)]
    purge_after: Duration,

    #[command(flatten)]
    timing: TimingSettings,

    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    storage: StorageSettings,
}

/// Sweeps once or again and again. A signal ends it between two batches.
pub(crate) async fn run(arguments: &SweepArguments) -> Result<(), Stop> {
    let timing = arguments.timing.checked().map_err(Stop::settings)?;
    let last_write = timing.form_life().max(LATE_WRITE);
    if arguments.purge_after < last_write {
        return Err(Stop::settings(format!(
            "PURGE_AFTER is {} s; it must be at least {} s, or a form or a late write could still bring an object of a row that is gone",
            arguments.purge_after.as_secs(),
            last_write.as_secs()
        )));
    }
    let sweeper = Sweeper {
        database: reach::primary(&arguments.database).await?,
        storage: reach::bucket(&arguments.storage).await?,
        timing,
        purge_after: arguments.purge_after,
        stop: stop_signal()?,
    };
    match arguments.every {
        None => sweeper.once().await?,
        Some(pause) => sweeper.every(pause).await,
    }
    Ok(())
}

/// Rows by their ids, each with keys under which it may have an object.
type Objects<Id> = Vec<(Id, BTreeSet<String>)>;
/// Keys with the one version that must stay.
type PinnedVersions = BTreeMap<String, String>;

/// What a sweep removes.
#[derive(Clone, Copy)]
enum Kind {
    Expired,
    Attempts,
    Linked,
    Ended,
}

struct Sweeper {
    database: Database,
    storage: Storage,
    timing: Timing,
    purge_after: Duration,
    stop: watch::Receiver<bool>,
}

/// What a run came to.
#[derive(Debug, Default, Clone, Copy)]
struct Swept {
    /// Rows that are gone, and with them their objects.
    images: usize,
    /// Media keys of attempts that are empty for good.
    attempts: usize,
    /// Linked images whose incoming key is empty for good.
    linked: usize,
    /// Images that were linked, and are gone with their objects.
    ended: usize,
    /// Posts that are gone.
    posts: usize,
    /// Rows that are left to a later sweep, because an object of theirs could not be deleted.
    left: usize,
    /// Batches that were taken.
    batches: usize,
    /// Whether the run ended before there was nothing more to take.
    cut_short: bool,
}

impl Sweeper {
    async fn once(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let swept = self.sweep(&mut Progress::default()).await?;
        let duration_ms = started.elapsed().as_millis();
        let Swept { images, attempts, linked, ended, posts, batches, left, cut_short } = swept;
        println!(
            "swept {images} images, the leftovers of {attempts} attempts, the incoming keys of {linked} linked images, {ended} images that \
             were shown once and {posts} deleted posts, in {batches} batches, {left} left, {duration_ms} ms"
        );
        if left > 0 {
            bail!("the store could not delete the objects of {left} rows; the next sweep tries again");
        }
        if cut_short {
            bail!("the sweep stopped before it was finished");
        }
        Ok(())
    }

    async fn every(&self, pause: Duration) {
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            let started = Instant::now();
            let swept = self.sweep(&mut Progress::default()).await;
            let duration_ms = started.elapsed().as_millis() as u64;
            match swept {
                Ok(Swept { images, attempts, linked, ended, posts, left, batches, cut_short }) => {
                    tracing::info!(
                        images,
                        attempts,
                        linked,
                        ended,
                        posts,
                        left,
                        batches,
                        cut_short,
                        duration_ms,
                        "Swept"
                    );
                }
                Err(error) => tracing::error!(error = format!("{error:#}"), duration_ms, "The sweep failed"),
            }
        }
    }

    /// Takes a batch of each kind in turn, so that no kind waits for another. It ends when nothing is left, the time is over, or a signal
    /// comes. If a kind fails, the next sweep tries it again, and the error is returned after the other kinds are done.
    async fn sweep(&self, progress: &mut Progress) -> anyhow::Result<Swept> {
        let started = Instant::now();
        let mut swept = Swept::default();
        let mut kinds = vec![Kind::Expired, Kind::Attempts, Kind::Linked, Kind::Ended];
        let mut failure = None;
        while !kinds.is_empty() && !self.must_end(started) {
            let mut unfinished = Vec::new();
            for kind in kinds {
                let outcome = self.batch(kind, &mut swept).await;
                progress.show(&format!("{} batches swept, {} rows left", swept.batches, swept.left));
                match outcome {
                    Ok(true) => unfinished.push(kind),
                    Ok(false) => {}
                    Err(error) if failure.is_none() => failure = Some(error),
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "Another part of the sweep failed too")
                    }
                }
            }
            kinds = unfinished;
        }
        progress.clear();
        swept.cut_short = !kinds.is_empty();
        let Some(error) = failure else { return Ok(swept) };
        let Swept { images, attempts, linked, ended, posts, left, .. } = swept;
        tracing::warn!(
            images,
            attempts,
            linked,
            ended,
            posts,
            left,
            "A part of the sweep failed; the other parts did this"
        );
        Err(error)
    }

    fn must_end(&self, started: Instant) -> bool {
        *self.stop.borrow() || started.elapsed() > LONGEST_RUN
    }

    /// Whether there may be more of this kind. Also after a full batch of which nothing could be deleted: nobody gets those rows again before
    /// their lease is over, so they cannot keep the others from being swept.
    async fn batch(&self, kind: Kind, swept: &mut Swept) -> anyhow::Result<bool> {
        let (taken, gone) = match kind {
            Kind::Expired => self.sweep_expired(swept).await?,
            Kind::Attempts => self.sweep_attempts(swept).await?,
            Kind::Linked => self.sweep_linked(swept).await?,
            Kind::Ended => self.sweep_ended(swept).await?,
        };
        swept.batches += usize::from(taken > 0);
        swept.left += taken - gone;
        Ok(gone > 0 || taken >= BATCH_ROWS as usize)
    }

    /// Expired pending images: how many were taken, and of how many the objects are gone.
    async fn sweep_expired(&self, swept: &mut Swept) -> anyhow::Result<(usize, usize)> {
        let doomed = self.mark().await.context("cannot look up expired images")?;
        if doomed.is_empty() {
            return Ok((0, 0));
        }
        let objects = doomed.iter().map(|doomed| (doomed.id, keys_of(doomed))).collect();
        let gone = self.delete_objects(&objects, &PinnedVersions::new()).await;
        let gone = gone.context("cannot delete objects of expired images")?;
        swept.images += self.delete_rows(&gone).await.context("cannot delete rows of expired images")?;
        Ok((objects.len(), gone.len()))
    }

    /// What attempts left.
    async fn sweep_attempts(&self, swept: &mut Swept) -> anyhow::Result<(usize, usize)> {
        let abandoned = self.take_abandoned().await.context("cannot look up leftover objects of attempts")?;
        if abandoned.is_empty() {
            return Ok((0, 0));
        }
        let objects = abandoned.into_iter().map(|Abandoned { id, key }| (id, BTreeSet::from([key]))).collect();
        let gone = self.delete_objects(&objects, &PinnedVersions::new()).await;
        let gone = gone.context("cannot delete leftover objects of attempts")?;
        swept.attempts += self.forget(&gone).await.context("cannot delete rows of attempts")?;
        Ok((objects.len(), gone.len()))
    }

    /// Incoming keys of linked images.
    async fn sweep_linked(&self, swept: &mut Swept) -> anyhow::Result<(usize, usize)> {
        let linked = self.take_incoming().await.context("cannot look up linked images")?;
        if linked.is_empty() {
            return Ok((0, 0));
        }
        let objects = linked.iter().map(|image| (image.id, BTreeSet::from([incoming_key(image.id)]))).collect();
        let pinned = linked.into_iter().filter_map(|image| Some((incoming_key(image.id), image.media_version?)));
        let empty = self.delete_objects(&objects, &pinned.collect()).await;
        let empty = empty.context("cannot delete incoming objects of linked images")?;
        swept.linked += self.note_emptied(&empty).await.context("cannot update rows of linked images")?;
        Ok((objects.len(), empty.len()))
    }

    /// Images whose link ended long ago, and then the deleted posts that have none left.
    async fn sweep_ended(&self, swept: &mut Swept) -> anyhow::Result<(usize, usize)> {
        let ended = self.mark_ended().await.context("cannot look up images that nothing shows")?;
        let objects: Objects<ImageId> = ended.iter().map(|image| (image.id, keys_of_ended(image))).collect();
        let mut gone = Vec::new();
        if !ended.is_empty() {
            // A row with a version says that the bucket has versions, even if the key may not ask the bucket.
            let pins_versions = ended.iter().any(|image| image.media_version.is_some());
            let deleted = if pins_versions {
                self.delete_versions(&objects).await
            } else {
                self.delete_objects(&objects, &PinnedVersions::new()).await
            };
            gone = deleted.context("cannot delete objects of images that nothing shows")?;
            swept.ended += self.delete_ended(&gone).await.context("cannot delete rows of images that nothing shows")?;
        }
        let posts = self.delete_posts().await.context("cannot delete rows of deleted posts")?;
        swept.posts += posts;
        Ok((objects.len() + posts, gone.len() + posts))
    }

    async fn mark(&self) -> Result<Vec<Doomed>, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(images::mark_expired(&mut connection, self.timing.pending_ttl, BATCH_ROWS).await?)
    }

    async fn take_abandoned(&self) -> Result<Vec<Abandoned>, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(image_attempts::take_abandoned(&mut connection, BATCH_ROWS).await?)
    }

    async fn forget(&self, gone: &[uuid::Uuid]) -> Result<usize, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(image_attempts::forget(&mut connection, gone).await?)
    }

    async fn take_incoming(&self) -> Result<Vec<LinkedIncoming>, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(images::take_incoming(&mut connection, self.timing.form_life(), BATCH_ROWS).await?)
    }

    async fn note_emptied(&self, empty: &[ImageId]) -> Result<usize, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(images::incoming_emptied(&mut connection, empty).await?)
    }

    async fn mark_ended(&self) -> Result<Vec<Ended>, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(ended_links::mark(&mut connection, self.purge_after, BATCH_ROWS).await?)
    }

    async fn delete_ended(&self, gone: &[ImageId]) -> Result<usize, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(ended_links::delete_marked(&mut connection, gone).await?)
    }

    async fn delete_posts(&self) -> Result<usize, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(ended_links::delete_posts(&mut connection, self.purge_after, BATCH_ROWS).await?)
    }

    /// Deletes the objects except for the pinned versions, and says which rows have none of them any more.
    async fn delete_objects<Id: Copy>(
        &self,
        objects: &Objects<Id>,
        pinned: &PinnedVersions,
    ) -> anyhow::Result<Vec<Id>> {
        Ok(emptied(objects, self.storage.empty(&keys_in(objects), pinned).await?))
    }

    /// Deletes every version of the objects, and says which rows have none of them any more.
    async fn delete_versions<Id: Copy>(&self, objects: &Objects<Id>) -> anyhow::Result<Vec<Id>> {
        let failed = self.storage.delete_versions(&keys_in(objects), &PinnedVersions::new()).await?;
        Ok(emptied(objects, failed))
    }

    async fn delete_rows(&self, gone: &[ImageId]) -> Result<usize, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(images::delete_marked(&mut connection, gone).await?)
    }
}

/// Every key under which the image may have an object: what a form wrote, what was verified, and what an attempt that died may
/// have left.
fn keys_of(doomed: &Doomed) -> BTreeSet<String> {
    let attempted = doomed.attempt.map(|attempt| media_key(doomed.id, attempt));
    [Some(incoming_key(doomed.id)), doomed.media_key.clone(), attempted].into_iter().flatten().collect()
}

/// Every key under which a linked image may have an object.
fn keys_of_ended(image: &Ended) -> BTreeSet<String> {
    BTreeSet::from([incoming_key(image.id), image.media_key.clone()])
}

fn keys_in<Id>(objects: &Objects<Id>) -> Vec<String> {
    objects.iter().flat_map(|(_, keys)| keys).cloned().collect()
}

/// The rows that have none of the keys which the store could not empty.
fn emptied<Id: Copy>(objects: &Objects<Id>, failed: Vec<String>) -> Vec<Id> {
    let failed: BTreeSet<String> = failed.into_iter().collect();
    if let Some(key) = failed.first() {
        tracing::warn!(
            keys = failed.len(),
            first.key = key,
            "The store could not delete some objects; a later sweep tries again"
        );
    }
    objects.iter().filter(|(_, keys)| keys.is_disjoint(&failed)).map(|(id, _)| *id).collect()
}

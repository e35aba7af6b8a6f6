//! `upload-ops reconcile` removes objects that no row names.
//!
//! The sweep works from the rows, so it does not see an object without one: what a slow form wrote after its image was swept, or a write that
//! the store carried out long after its attempt was over. Reconcile lists the bucket instead, page by page, and asks the database for the
//! keys of each page. An object stays if a row names it, if it is younger than the grace, or if its key is not one that the servers make.
//!
//! **It cannot race an upload.** A row names a key before the first byte of its object, and no key is used twice. So if no row names an old
//! object now, none ever will. Any number of reconciles may run at once.
//!
//! **It stops before it deletes too much.** If the database is the wrong one, or was restored from an old backup, every object seems to have no
//! row. So it first lists everything. If it then finds more than `--most` or `--most-percent`, it deletes nothing and says so. It asks the
//! database once more before each batch that it deletes.
//!
//! In a bucket with versions, each version and each delete marker counts as an object.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use tokio::sync::watch;
use upload_domain::{INCOMING_PREFIX, MEDIA_PREFIX, TimingSettings, incoming_key_image, media_key_parts};
use upload_persistence::{
    Database, DatabaseError, DatabaseSettings,
    inventory::{self, FoundKey},
};
use upload_storage::{Listed, Listing, Storage, StorageSettings};

use crate::{Stop, command::duration, progress::Progress, reach, stop::stop_signal};

/// Objects that are deleted at a time.
const BATCH: usize = 500;
/// In a small bucket so many objects may go, whatever `--most-percent` says.
const ALWAYS_ALLOWED: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct ReconcileArguments {
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// How old an object must be to be removed, such as 2h. No less than PENDING_TTL
    #[arg(long, default_value = "2h", value_parser = duration)]
    grace: Duration,

    /// Remove nothing if more than this many objects would go
    #[arg(long, default_value_t = 10_000)]
    most: usize,

    /// Remove nothing if more than this share of all objects would go, in percent (ten objects may go in any case)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=100))]
    most_percent: u8,

    #[command(flatten)]
    timing: TimingSettings,

    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    storage: StorageSettings,
}

/// Lists the bucket once, and removes what no row names. A signal ends it between two pages or two batches.
pub(crate) async fn run(arguments: &ReconcileArguments) -> Result<(), Stop> {
    let timing = arguments.timing.checked().map_err(Stop::settings)?;
    if arguments.grace < timing.pending_ttl {
        return Err(Stop::settings(format!(
            "--grace is {} s; it must be at least PENDING_TTL ({} s), or an upload could still be running",
            arguments.grace.as_secs(),
            timing.pending_ttl.as_secs()
        )));
    }
    let reconciler = Reconciler {
        database: reach::database(&arguments.database).await?,
        storage: reach::bucket(&arguments.storage).await?,
        stop: stop_signal()?,
    };
    Ok(reconciler.run(arguments).await?)
}

/// Keys that a row names, each with the one version if the row names only that.
type Names = HashMap<String, Option<String>>;

struct Reconciler {
    database: Database,
    storage: Storage,
    stop: watch::Receiver<bool>,
}

/// What the bucket holds.
#[derive(Debug, Default)]
struct Found {
    /// All objects.
    listed: usize,
    /// Those whose key is not one that the servers make. They stay.
    foreign: usize,
    /// Those that no row names.
    unnamed: Vec<Listed>,
}

impl Reconciler {
    async fn run(&self, arguments: &ReconcileArguments) -> anyhow::Result<()> {
        let started = Instant::now();
        let found = self.search(arguments).await?;
        let Found { listed, foreign, unnamed } = &found;
        let allowed = (listed * usize::from(arguments.most_percent) / 100).max(ALWAYS_ALLOWED);
        if unnamed.len() > allowed {
            bail!(
                "{} of {listed} objects have no row: more than {}% of all. Nothing was removed. If DATABASE_URL and S3_BUCKET belong together and \
                 no backup was restored, run it again with a larger --most-percent",
                unnamed.len(),
                arguments.most_percent
            );
        }
        let (mut removed, mut left) = (0, 0);
        if arguments.dry_run {
            for object in unnamed {
                println!("would remove {}", shown(object));
            }
        } else {
            for batch in unnamed.chunks(BATCH) {
                self.go_on()?;
                let still = self.without_row(batch).await?;
                let failed = self.storage.delete_listed(&still).await.context("cannot delete objects")?.len();
                removed += still.len() - failed;
                left += failed;
            }
        }
        let duration_ms = started.elapsed().as_millis();
        println!(
            "reconciled {listed} objects: {} without a row, {removed} removed, {left} left, {foreign} with a foreign name, {duration_ms} ms",
            unnamed.len()
        );
        if left > 0 {
            bail!("the store could not delete {left} objects; the next run tries again");
        }
        Ok(())
    }

    /// Lists the bucket and keeps what no row names: at most `--most` objects and a page, so the memory is bounded.
    async fn search(&self, arguments: &ReconcileArguments) -> anyhow::Result<Found> {
        let now = SystemTime::from(self.database.now().await.context("cannot ask the database for its time")?);
        let youngest = now.checked_sub(arguments.grace).context("the grace is longer than all time")?;
        let (mut found, mut progress) = (Found::default(), Progress::default());
        for prefix in [INCOMING_PREFIX, MEDIA_PREFIX] {
            let listing = Listing::of_all(&self.storage, prefix).await;
            let mut listing = listing.with_context(|| format!("cannot list {prefix}"))?;
            while let Some(page) = listing.next_page().await.with_context(|| format!("cannot list {prefix}"))? {
                self.go_on()?;
                found.listed += page.len();
                found.foreign += page.iter().filter(|object| key_of(object).is_none()).count();
                let old: Vec<Listed> = page
                    .into_iter()
                    .filter(|object| object.written_at.is_some_and(|written_at| written_at < youngest))
                    .collect();
                found.unnamed.extend(self.without_row(&old).await?);
                progress.show(&format!("{} objects listed, {} without a row", found.listed, found.unnamed.len()));
                if found.unnamed.len() > arguments.most {
                    bail!(
                        "more than {} of the first {} objects have no row. Nothing was removed. If DATABASE_URL and S3_BUCKET belong together \
                         and no backup was restored, run it again with a larger --most",
                        arguments.most,
                        found.listed
                    );
                }
            }
        }
        Ok(found)
    }

    /// Those of these objects that no row names now.
    async fn without_row(&self, objects: &[Listed]) -> anyhow::Result<Vec<Listed>> {
        let keys: Vec<FoundKey> = objects.iter().filter_map(key_of).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let named = self.named(&keys).await.context("cannot ask the database for keys")?;
        let unnamed = objects.iter().filter(|object| key_of(object).is_some() && !is_named(object, &named));
        Ok(unnamed.cloned().collect())
    }

    async fn named(&self, keys: &[FoundKey]) -> Result<Names, DatabaseError> {
        let mut connection = self.database.connection().await?;
        let named = inventory::find_named(&mut connection, keys).await?;
        Ok(named.into_iter().map(|named| (named.key, named.only_version)).collect())
    }

    fn go_on(&self) -> anyhow::Result<()> {
        if *self.stop.borrow() {
            bail!("stopped before it was finished; what was removed had no row");
        }
        Ok(())
    }
}

/// A key that was listed without versions is named, whatever its row says of versions: the newest one may be the one that the row names.
fn is_named(object: &Listed, named: &Names) -> bool {
    match (named.get(&object.key), &object.version) {
        (None, _) => false,
        (Some(Some(only_version)), Some(version)) => only_version == version,
        (Some(_), _) => true,
    }
}

/// What the key says, if it is one that the servers make.
fn key_of(object: &Listed) -> Option<FoundKey> {
    let key = object.key.clone();
    if let Some(image) = incoming_key_image(&key) {
        return Some(FoundKey { key, image, attempt: None });
    }
    let (image, attempt) = media_key_parts(&key)?;
    Some(FoundKey { key, image, attempt: Some(attempt) })
}

fn shown(object: &Listed) -> String {
    match &object.version {
        None => object.key.clone(),
        Some(version) => format!("{}, version {version}", object.key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_version_than_the_named_one_has_no_name() {
        let listed = |version: Option<&str>| Listed {
            key: "incoming/x".to_owned(),
            version: version.map(str::to_owned),
            bytes: 5,
            written_at: None,
        };
        let named =
            |only_version: Option<&str>| Names::from([("incoming/x".to_owned(), only_version.map(str::to_owned))]);
        for (only_version, version, expected) in [
            (Some("a"), Some("a"), true),
            (Some("a"), Some("b"), false),
            (Some("a"), None, true),
            (None, Some("b"), true),
            (None, None, true),
        ] {
            assert_eq!(is_named(&listed(version), &named(only_version)), expected, "{only_version:?}, {version:?}");
        }
        assert!(!is_named(&listed(None), &Names::new()));
    }
}

//! `upload-ops reconcile` removes objects that no row names.
//!
//! The sweep works from the rows, so it does not see an object without one: what a slow form wrote after its image was swept, or a write that
//! the store carried out long after its attempt was over. Reconcile lists the bucket instead, page by page, and asks the database for the
//! keys of each page. An object stays if a row names it, if it is younger than the grace, or if its key is not one that the servers make.
//!
//! **It cannot race an upload.** A row names a key before the first byte of its object, and no key is used twice. So if no row names an old
//! object now, none ever will. Any number of reconciles may run at once.
//!
//! **It stops before it deletes too much.** If the database is the wrong one, or was restored from an old backup, objects seem to have no row.
//! So it first lists everything. If it then finds more than `--most` or `--most-percent`, or not one object that a row names, it deletes nothing
//! and says so. It asks the database once more before each batch that it deletes.
//!
//! In a bucket with versions, each version and each delete marker counts as an object. If a row names one version of a key, the others go only
//! while the store still has that one: if it is lost or was restored under another id, they may be all that is left of the image.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;
use upload_domain::{INCOMING_PREFIX, MEDIA_PREFIX, TimingSettings, incoming_key_image, media_key_parts};
use upload_persistence::{
    Database, DatabaseError, DatabaseSettings,
    inventory::{self, FoundKey},
};
use upload_storage::{Listed, Listing, Storage, StorageError, StorageSettings};

use crate::{Stop, command::duration, progress::Progress, reach, stop::stop_signal};

/// Objects that are deleted at a time.
const BATCH: usize = 500;
/// Requests to the store at once.
const REQUESTS_AT_ONCE: usize = 16;

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

    /// Remove nothing if more than this share of all objects would go, in percent, rounded up to whole objects; and unless it is 100, remove
    /// nothing if no object has a row
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
        database: reach::primary(&arguments.database).await?,
        storage: reach::bucket(&arguments.storage).await?,
        stop: stop_signal()?,
    };
    let (started, mut tally) = (Instant::now(), Tally::default());
    let outcome = reconciler.run(arguments, &mut tally).await;
    // Also if it failed or was stopped: what was removed is gone.
    let Tally { listed, unnamed, removed, left, foreign, stranded, .. } = tally;
    let duration_ms = started.elapsed().as_millis();
    println!(
        "reconciled {listed} objects: {unnamed} without a row, {removed} removed, {left} left, {foreign} with a foreign name, \
         {stranded} beside a missing version, {duration_ms} ms"
    );
    Ok(outcome?)
}

/// Keys that a row names, each with the one version if the row names only that.
type Names = HashMap<String, Option<String>>;

struct Reconciler {
    database: Database,
    storage: Storage,
    stop: watch::Receiver<bool>,
}

/// What a run came to so far.
#[derive(Debug, Default)]
struct Tally {
    /// All objects.
    listed: usize,
    /// Those whose key is not one that the servers make. They stay.
    foreign: usize,
    /// Those whose key a row names.
    named: usize,
    /// Old ones that no row names.
    unnamed: usize,
    /// Old ones that no row names, but whose key has a row that names a version which is not there. They stay.
    stranded: usize,
    /// Those that are gone.
    removed: usize,
    /// Those that the store could not delete.
    left: usize,
}

impl Tally {
    /// How many may go. If no row names any object, the database belongs to another bucket, or is empty.
    fn allowed(&self, most_percent: u8) -> usize {
        if self.named == 0 && most_percent < 100 {
            return 0;
        }
        ((self.listed - self.foreign) * usize::from(most_percent)).div_ceil(100)
    }
}

/// What no row names.
#[derive(Debug, Default)]
struct Nameless {
    /// These may go.
    unnamed: Vec<Listed>,
    /// These stay, because the version that a row names instead is not there. It is the second value.
    stranded: Vec<(Listed, String)>,
}

impl Reconciler {
    async fn run(&self, arguments: &ReconcileArguments, tally: &mut Tally) -> anyhow::Result<()> {
        let mut progress = Progress::default();
        let mut unnamed = Vec::new();
        let searched = self.search(arguments, tally, &mut unnamed, &mut progress).await;
        progress.clear();
        if arguments.dry_run {
            for object in unnamed.iter().take(arguments.most) {
                println!("would remove {}", shown(object));
            }
        }
        searched?;
        let ours = tally.listed - tally.foreign;
        if unnamed.len() > tally.allowed(arguments.most_percent) {
            let why = match tally.named {
                0 => format!("none of {ours} objects has a row"),
                _ => format!("{} of {ours} objects have no row: more than {}%", unnamed.len(), arguments.most_percent),
            };
            bail!(
                "{why}. Nothing was removed. If DATABASE_URL and S3_BUCKET belong together and no backup was restored, run it again with a \
                 larger --most-percent"
            );
        }
        if !arguments.dry_run {
            self.remove(&unnamed, tally, &mut progress).await?;
        }
        if tally.left > 0 {
            bail!("the store could not delete {} objects; the next run tries again", tally.left);
        }
        Ok(())
    }

    /// Lists the bucket and keeps what no row names: at most `--most` objects and a page, so the memory is bounded.
    async fn search(
        &self,
        arguments: &ReconcileArguments,
        tally: &mut Tally,
        unnamed: &mut Vec<Listed>,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let now = SystemTime::from(self.database.now().await.context("cannot ask the database for its time")?);
        let youngest = now.checked_sub(arguments.grace).context("the grace is longer than all time")?;
        for prefix in [INCOMING_PREFIX, MEDIA_PREFIX] {
            let listing = Listing::of_all(&self.storage, prefix).await;
            let mut listing = listing.with_context(|| format!("cannot list {prefix}"))?;
            while let Some(page) = listing.next_page().await.with_context(|| format!("cannot list {prefix}"))? {
                self.go_on()?;
                let all = page.len();
                let ours: Vec<Listed> = page.into_iter().filter(|object| key_of(object).is_some()).collect();
                tally.listed += all;
                tally.foreign += all - ours.len();
                let names = self.names(&ours).await?;
                tally.named += ours.iter().filter(|object| names.contains_key(&object.key)).count();
                let old = |object: &Listed| object.written_at.is_some_and(|written_at| written_at < youngest);
                let old: Vec<Listed> = ours.into_iter().filter(old).collect();
                let found = self.nameless(old, &names).await?;
                for (object, named) in &found.stranded {
                    progress.clear();
                    println!("kept {}: its row names version {named}, which is not there", shown(object));
                }
                tally.stranded += found.stranded.len();
                tally.unnamed += found.unnamed.len();
                unnamed.extend(found.unnamed);
                progress.show(&format!("{} objects listed, {} without a row", tally.listed, tally.unnamed));
                if unnamed.len() > arguments.most {
                    bail!(
                        "more than {} of the first {} objects have no row. Nothing was removed. If DATABASE_URL and S3_BUCKET belong together \
                         and no backup was restored, run it again with a larger --most",
                        arguments.most,
                        tally.listed
                    );
                }
            }
        }
        Ok(())
    }

    /// Removes what still has no name, and prints each object that is gone.
    async fn remove(&self, unnamed: &[Listed], tally: &mut Tally, progress: &mut Progress) -> anyhow::Result<()> {
        for batch in unnamed.chunks(BATCH) {
            self.go_on()?;
            let names = self.names(batch).await?;
            let still = self.nameless(batch.to_vec(), &names).await?.unnamed;
            let deleted = self.storage.delete_listed(&still).await;
            progress.clear();
            if deleted.is_err() {
                for object in &still {
                    println!("perhaps removed {}", shown(object));
                }
            }
            let failed: BTreeSet<String> = deleted.context("cannot delete objects")?.into_iter().collect();
            for object in &still {
                if failed.contains(&object.key) {
                    tally.left += 1;
                } else {
                    tally.removed += 1;
                    println!("removed {}", shown(object));
                }
            }
            progress.show(&format!("{} of {} objects removed", tally.removed, unnamed.len()));
        }
        progress.clear();
        Ok(())
    }

    /// Those of these objects, all under keys of ours, that these names leave out.
    async fn nameless(&self, objects: Vec<Listed>, names: &Names) -> anyhow::Result<Nameless> {
        let objects = objects.into_iter().filter(|object| !is_named(object, names));
        let objects: Vec<(Listed, Option<&String>)> = objects
            .map(|object| {
                let only_version = names.get(&object.key).and_then(Option::as_ref);
                (object, only_version)
            })
            .collect();
        let pinned =
            objects.iter().filter_map(|(object, only_version)| Some((object.key.clone(), (*only_version)?.clone())));
        let missing =
            self.missing(pinned.collect()).await.context("cannot ask the store for a version that a row names")?;
        let mut found = Nameless::default();
        for (object, only_version) in objects {
            match only_version {
                Some(named) if missing.contains(&object.key) => found.stranded.push((object, named.clone())),
                _ => found.unnamed.push(object),
            }
        }
        Ok(found)
    }

    /// Those of these keys whose version, the second value, is not there, or that the store refuses to tell about.
    async fn missing(&self, pinned: BTreeMap<String, String>) -> Result<BTreeSet<String>, StorageError> {
        let looks = stream::iter(pinned).map(|(key, version)| {
            let storage = self.storage.clone();
            async move {
                Ok::<_, StorageError>(match storage.describe(&key, Some(&version)).await {
                    Ok(Some(_there)) => None,
                    Ok(None) | Err(StorageError::Refused(_)) => Some(key),
                    Err(error) => return Err(error),
                })
            }
        });
        let missing: Vec<Option<String>> = looks.buffer_unordered(REQUESTS_AT_ONCE).try_collect().await?;
        Ok(missing.into_iter().flatten().collect())
    }

    /// Which keys of these objects a row names now.
    async fn names(&self, objects: &[Listed]) -> anyhow::Result<Names> {
        let keys: Vec<FoundKey> = objects.iter().filter_map(key_of).collect();
        if keys.is_empty() {
            return Ok(Names::new());
        }
        self.find_named(&keys).await.context("cannot ask the database for keys")
    }

    async fn find_named(&self, keys: &[FoundKey]) -> Result<Names, DatabaseError> {
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
    fn one_percent_is_rounded_up_and_without_any_name_nothing_goes() {
        let tally = |listed, foreign, named| Tally { listed, foreign, named, ..Tally::default() };
        for (tally, most_percent, allowed) in [
            (tally(300, 0, 292), 1, 3),
            (tally(301, 0, 301), 1, 4),
            (tally(300, 280, 10), 1, 1),
            (tally(300, 0, 300), 0, 0),
            (tally(5, 0, 0), 1, 0),
            (tally(5, 0, 0), 99, 0),
            (tally(5, 0, 0), 100, 5),
        ] {
            assert_eq!(tally.allowed(most_percent), allowed, "{tally:?}");
        }
    }

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

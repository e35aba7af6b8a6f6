//! `upload-ops audit` asks the store for the object of each linked image, and says which one is missing or is not what its row says.
//!
//! It changes nothing. A missing object is a loss, so only a person can decide what to do: restore it from a backup, or have its owner upload
//! the image again.
//!
//! The rows are read in the order of their ids, a page at a time. Before an image is reported, its row is read again: a sweep may have taken
//! it meanwhile.
//!
//! A request that fails does not end the audit: the image counts as not checked, and the exit code tells that from a loss. Only if a whole page
//! fails, the audit ends, because the store is away.
//!
//! It only lists and gets, so any key that may do that is enough.

use std::{
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, bail};
use futures::{StreamExt as _, stream};
use tokio::sync::watch;
use upload_domain::ImageId;
use upload_persistence::{
    Database, DatabaseError, DatabaseSettings,
    inventory::{self, LinkedObject},
};
use upload_storage::{Storage, StorageSettings, chain};

use crate::{Stop, progress::Progress, reach, stop::stop_signal};

/// Rows that are read at a time.
const PAGE_ROWS: u32 = 500;
/// Requests to the store at once.
const REQUESTS_AT_ONCE: usize = 16;

#[derive(Debug, clap::Args)]
pub(crate) struct AuditArguments {
    /// Also write the result to this file as Prometheus metrics, for the node exporter's textfile collector (the name must end in .prom)
    #[arg(long)]
    metrics_file: Option<PathBuf>,

    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    storage: StorageSettings,
}

/// Looks at every linked image once. A signal ends it between two pages.
pub(crate) async fn run(arguments: &AuditArguments) -> Result<(), Stop> {
    let auditor = Auditor {
        database: reach::database(&arguments.database).await?,
        storage: reach::readable_bucket(&arguments.storage).await?,
        stop: stop_signal()?,
    };
    let (started, mut audited) = (Instant::now(), Audited::default());
    let mut finished = auditor.audit(&mut audited).await;
    let Audited { images, missing, different, unknown } = audited;
    let duration_ms = started.elapsed().as_millis();
    println!(
        "audited {images} linked images: {missing} without an object, {different} with another object, {unknown} not checked, {duration_ms} ms"
    );
    // An audit that did not see all images says nothing of the rest, so its result must not replace that of an earlier one.
    if let (Ok(()), Some(file)) = (&finished, &arguments.metrics_file) {
        finished = write_metrics(file, audited).with_context(|| format!("cannot write {}", file.display()));
    }
    let lost = missing + different;
    if lost > 0 {
        return Err(
            anyhow!("{lost} linked images do not have the object that their rows name; they are listed above").into()
        );
    }
    finished.map_err(Stop::Unfinished)?;
    if unknown > 0 {
        return Err(Stop::Unfinished(anyhow!("{unknown} linked images could not be checked; they are listed above")));
    }
    Ok(())
}

struct Auditor {
    database: Database,
    storage: Storage,
    stop: watch::Receiver<bool>,
}

/// What the images came to.
#[derive(Debug, Default, Clone, Copy)]
struct Audited {
    images: usize,
    missing: usize,
    different: usize,
    unknown: usize,
}

/// What is wrong with an object.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Missing,
    Different(String),
    /// Nobody knows, because a request failed.
    Unknown(String),
}

impl Auditor {
    async fn audit(&self, audited: &mut Audited) -> anyhow::Result<()> {
        let (mut after, mut progress) = (None, Progress::default());
        loop {
            let page = self.page(after).await.context("cannot read linked images")?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id);
            let (images, unknown_before) = (page.len(), audited.unknown);
            audited.images += images;
            let faults =
                stream::iter(page.into_iter().map(|image| self.look(image))).buffer_unordered(REQUESTS_AT_ONCE);
            let faults: Vec<Option<(LinkedObject, Fault)>> = faults.collect().await;
            progress.clear();
            for (image, fault) in faults.into_iter().flatten() {
                report(&image, &fault);
                match fault {
                    Fault::Missing => audited.missing += 1,
                    Fault::Different(_) => audited.different += 1,
                    Fault::Unknown(_) => audited.unknown += 1,
                }
            }
            progress.show(&format!("{} linked images audited", audited.images));
            if audited.unknown - unknown_before == images {
                bail!("no request for the last {images} images succeeded; stopped after {} images", audited.images);
            }
            if *self.stop.borrow() {
                bail!("stopped after {} images", audited.images);
            }
        }
    }

    async fn page(&self, after: Option<ImageId>) -> Result<Vec<LinkedObject>, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(inventory::list_linked(&mut connection, after, PAGE_ROWS).await?)
    }

    /// What is wrong, if the row still says the same after the store has answered.
    async fn look(&self, image: LinkedObject) -> Option<(LinkedObject, Fault)> {
        let fault = self.compare(&image).await?;
        match self.again(image.id).await {
            Ok(now) => (now.as_ref() == Some(&image)).then_some((image, fault)),
            Err(error) => Some((image, Fault::Unknown(format!("its row could not be read again: {}", chain(&error))))),
        }
    }

    async fn compare(&self, image: &LinkedObject) -> Option<Fault> {
        let Some(key) = &image.media_key else { return Some(Fault::Missing) };
        let stored = match self.storage.describe(key, image.media_version.as_deref()).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Some(Fault::Missing),
            Err(error) => return Some(Fault::Unknown(chain(&error))),
        };
        let bytes = image.media_byte_size.unwrap_or_default();
        let content_type = stored.content_type.unwrap_or_default();
        if stored.bytes != bytes {
            Some(Fault::Different(format!("has {} bytes, and the row says {bytes}", stored.bytes)))
        } else if !content_type.eq_ignore_ascii_case(image.format.as_str()) {
            // The link compares in this way, too.
            Some(Fault::Different(format!("has the type `{content_type}`, and the row says `{}`", image.format)))
        } else {
            None
        }
    }

    async fn again(&self, id: ImageId) -> Result<Option<LinkedObject>, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(inventory::find_linked(&mut connection, id).await?)
    }
}

fn report(image: &LinkedObject, fault: &Fault) {
    let id = image.id;
    let key = image.media_key.as_deref().unwrap_or_default();
    let version = image.media_version.as_ref().map(|version| format!(", version {version}")).unwrap_or_default();
    match fault {
        Fault::Missing => println!("image {id}: there is no object {key}{version}"),
        Fault::Different(how) => println!("image {id}: the object {key}{version} {how}"),
        Fault::Unknown(why) => println!("image {id}: the object {key}{version} was not checked: {why}"),
    }
}

/// Replaces the file in one step, so that nobody reads half of it.
fn write_metrics(file: &Path, audited: Audited) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let Audited { images, missing, different, unknown } = audited;
    let text = format!(
        "# HELP linked_images Linked images at the last audit.\n# TYPE linked_images gauge\nlinked_images {images}\n\
         # HELP linked_without_object Linked images without their object at the last audit.\n# TYPE linked_without_object gauge\n\
         linked_without_object {missing}\n\
         # HELP linked_with_another_object Linked images whose object is not what the row says.\n# TYPE linked_with_another_object gauge\n\
         linked_with_another_object {different}\n\
         # HELP linked_not_checked Linked images that the last audit could not check.\n# TYPE linked_not_checked gauge\n\
         linked_not_checked {unknown}\n\
         # HELP audit_timestamp_seconds When the last audit ended.\n# TYPE audit_timestamp_seconds gauge\naudit_timestamp_seconds {now}\n"
    );
    let unfinished = file.with_extension("unfinished");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, file)
}

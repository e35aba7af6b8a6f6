//! `upload-ops audit` asks the store for the object of each linked image, and says which one is missing or is not what its row says.
//!
//! It changes nothing. A missing object is a loss, so only a person can decide what to do: restore it from a backup, or have its owner upload
//! the image again.
//!
//! The rows are read in the order of their ids, a page at a time. An image that a sweep has removed meanwhile is read again before it is
//! reported.

use std::{
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;
use upload_domain::ImageId;
use upload_persistence::{
    Database, DatabaseError, DatabaseSettings,
    inventory::{self, LinkedObject},
};
use upload_storage::{Storage, StorageSettings};

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
        storage: reach::bucket(&arguments.storage).await?,
        stop: stop_signal()?,
    };
    Ok(auditor.run(arguments.metrics_file.as_deref()).await?)
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
}

/// What is wrong with an object.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Missing,
    Different(String),
}

impl Auditor {
    async fn run(&self, metrics_file: Option<&Path>) -> anyhow::Result<()> {
        let started = Instant::now();
        let audited = self.audit().await?;
        let Audited { images, missing, different } = audited;
        if let Some(file) = metrics_file {
            write_metrics(file, audited).with_context(|| format!("cannot write {}", file.display()))?;
        }
        let duration_ms = started.elapsed().as_millis();
        println!(
            "audited {images} linked images: {missing} without an object, {different} with another object, {duration_ms} ms"
        );
        if missing + different > 0 {
            bail!(
                "{} linked images do not have the object that their rows name; they are listed above",
                missing + different
            );
        }
        Ok(())
    }

    async fn audit(&self) -> anyhow::Result<Audited> {
        let (mut audited, mut after, mut progress) = (Audited::default(), None, Progress::default());
        loop {
            let page = self.page(after).await.context("cannot read linked images")?;
            let Some(last) = page.last() else { return Ok(audited) };
            after = Some(last.id);
            audited.images += page.len();
            let faults =
                stream::iter(page.into_iter().map(|image| self.look(image))).buffer_unordered(REQUESTS_AT_ONCE);
            let faults: Vec<Option<(LinkedObject, Fault)>> = faults.try_collect().await?;
            for (image, fault) in faults.into_iter().flatten() {
                let LinkedObject { id, media_key, media_version, .. } = image;
                let version = media_version.map(|version| format!(", version {version}")).unwrap_or_default();
                let key = media_key.unwrap_or_default();
                match fault {
                    Fault::Missing => {
                        audited.missing += 1;
                        println!("image {id}: there is no object {key}{version}");
                    }
                    Fault::Different(how) => {
                        audited.different += 1;
                        println!("image {id}: the object {key}{version} {how}");
                    }
                }
            }
            progress.show(&format!("{} linked images audited", audited.images));
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
    async fn look(&self, image: LinkedObject) -> anyhow::Result<Option<(LinkedObject, Fault)>> {
        let Some(fault) = self.compare(&image).await? else { return Ok(None) };
        let now = self.again(image.id).await.context("cannot read a linked image again")?;
        Ok((now.as_ref() == Some(&image)).then_some((image, fault)))
    }

    async fn compare(&self, image: &LinkedObject) -> anyhow::Result<Option<Fault>> {
        let Some(key) = &image.media_key else { return Ok(Some(Fault::Missing)) };
        let stored = self.storage.describe(key, image.media_version.as_deref()).await;
        let Some(stored) = stored.with_context(|| format!("cannot ask the store for {key}"))? else {
            return Ok(Some(Fault::Missing));
        };
        let bytes = image.media_byte_size.unwrap_or_default();
        Ok(if stored.bytes != bytes {
            Some(Fault::Different(format!("has {} bytes, and the row says {bytes}", stored.bytes)))
        } else if stored.content_type.as_deref() != Some(image.format.as_str()) {
            let content_type = stored.content_type.unwrap_or_default();
            Some(Fault::Different(format!("has the type `{content_type}`, and the row says `{}`", image.format)))
        } else {
            None
        })
    }

    async fn again(&self, id: ImageId) -> Result<Option<LinkedObject>, DatabaseError> {
        let mut connection = self.database.connection().await?;
        Ok(inventory::find_linked(&mut connection, id).await?)
    }
}

/// Replaces the file in one step, so that nobody reads half of it.
fn write_metrics(file: &Path, audited: Audited) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let Audited { images, missing, different } = audited;
    let text = format!(
        "# HELP linked_images Linked images at the last audit.\n# TYPE linked_images gauge\nlinked_images {images}\n\
         # HELP linked_without_object Linked images without their object at the last audit.\n# TYPE linked_without_object gauge\n\
         linked_without_object {missing}\n\
         # HELP linked_with_another_object Linked images whose object is not what the row says.\n# TYPE linked_with_another_object gauge\n\
         linked_with_another_object {different}\n\
         # HELP audit_timestamp_seconds When the last audit ended.\n# TYPE audit_timestamp_seconds gauge\naudit_timestamp_seconds {now}\n"
    );
    let unfinished = file.with_extension("unfinished");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, file)
}

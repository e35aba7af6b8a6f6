//! What must be true after every case: the server stops cleanly when told to, its log has no unexpected error and no secret, and
//! rows and objects belong together.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use upload_domain::{INCOMING_PREFIX, MEDIA_PREFIX};
use upload_sandbox::Stand;

use super::subject::Subject;

/// Beginnings and names that would show a token, a policy or a signature in a log. `eyJ` is the base64 of `{"`: every JWT, V1's
/// tickets and S3's policies begin with it.
const TELL_TALES: [&str; 4] = ["eyJ", "x-amz-signature", "x-amz-credential", "bearer ey"];

/// Stops the servers and checks what they leave.
pub(super) async fn check(subject: &mut Subject) -> Result<()> {
    for server in subject.servers() {
        // A stop waits for the work in the background, so nothing moves from here on.
        let code = server.terminate().await?;
        ensure!(code == Some(0), "the server's exit code is {code:?}");
    }
    check_logs(subject)?;
    check_rows_and_objects(subject).await
}

/// The keys that rows name.
struct Named {
    media: BTreeSet<String>,
    /// Incoming keys of linked images, each with the version that is served.
    pinned: BTreeMap<String, String>,
    /// Those of pending images.
    incoming: BTreeSet<String>,
    /// Those that attempts may have written.
    trail: BTreeSet<String>,
}

impl Named {
    async fn by_rows(stand: &Stand) -> Result<Self> {
        let keys = async |sql: &str| -> Result<BTreeSet<String>> {
            Ok(stand.sql(sql).await?.into_iter().flatten().flatten().collect())
        };
        let pinned = stand.sql("SELECT media_key, media_version FROM image WHERE media_version IS NOT NULL").await?;
        let pinned = pinned.into_iter();
        Ok(Self {
            media: keys("SELECT media_key FROM image WHERE media_version IS NULL").await?,
            pinned: pinned.filter_map(|row| Some((row[0].clone()?, row[1].clone()?))).collect(),
            incoming: keys(&format!("SELECT '{INCOMING_PREFIX}' || id FROM image WHERE linked_at IS NULL")).await?,
            trail: keys("SELECT key FROM image_attempt").await?,
        })
    }
}

fn check_logs(subject: &mut Subject) -> Result<()> {
    let environment = subject.stand.environment();
    let is_secret = |name: &str| ["SECRET", "TOKEN", "DATABASE_URL"].iter().any(|part| name.contains(part));
    let secrets: Vec<&str> =
        environment.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.as_str()).collect();
    let errors_expected = subject.errors_expected;
    for server in subject.servers() {
        for line in server.log() {
            ensure!(!line.contains("panicked"), "a panic: {line}");
            ensure!(errors_expected || !line.contains("\"ERROR\""), "an error that nobody expected: {line}");
            ensure!(!secrets.iter().any(|secret| line.contains(secret)), "a secret in the log: {line}");
            let lower = line.to_ascii_lowercase();
            let told = TELL_TALES.iter().any(|tell_tale| line.contains(tell_tale) || lower.contains(tell_tale));
            ensure!(!told, "a secret in the log: {line}");
        }
    }
    Ok(())
}

async fn check_rows_and_objects(subject: &Subject) -> Result<()> {
    let stand = &subject.stand;
    let held = stand.sql("SELECT id, attempt_kind FROM image WHERE attempt_until >= now()").await?;
    ensure!(held.is_empty(), "images are still held: {held:?}");
    let half = stand.sql("SELECT id FROM image WHERE linked_at IS NOT NULL AND media_key IS NULL").await?;
    ensure!(half.is_empty(), "images are linked without a media key: {half:?}");

    let objects: BTreeSet<String> = stand.storage.list("").await?.into_iter().collect();
    let Named { media, pinned, incoming, trail } = Named::by_rows(stand).await?;
    for key in &media {
        ensure!(objects.contains(key), "a row names an object that is not there: {key}");
        ensure!(!trail.contains(key), "an image's key would be swept: {key}");
    }
    for pinned in pinned.iter().map(|(key, version)| (key.clone(), version.clone())) {
        let versions = stand.storage.list_versions(&pinned.0).await?;
        ensure!(versions.contains(&pinned), "a row names a version that is not there: {pinned:?}");
    }
    for key in &objects {
        let known = media.contains(key) || pinned.contains_key(key) || incoming.contains(key) || trail.contains(key);
        ensure!(known, "an object that no row names: {key}");
    }
    // When no attempt can write any more, the sweep removes what attempts left. Then media/ holds only the objects that images name.
    stand.sweep_attempts().await?;
    let left: BTreeSet<String> = stand.storage.list(MEDIA_PREFIX).await?.into_iter().collect();
    ensure!(left == media, "media/ holds {left:?}, images name {media:?}");
    let trail = Named::by_rows(stand).await?.trail;
    ensure!(trail.is_empty(), "the trail is not worked off: {trail:?}");

    let apart = stand
        .sql(
            "SELECT image.id FROM image FULL JOIN image_link AS link ON link.image_id = image.id \
             WHERE (image.linked_at IS NULL) <> (link.image_id IS NULL)",
        )
        .await
        .context("links cannot be compared")?;
    ensure!(apart.is_empty(), "linked_at and the link tables say different things: {apart:?}");
    Ok(())
}

//! What must be true after every case, whatever it did: the server stops cleanly when told to, has logged neither an error that
//! nobody expected nor a secret, and rows and objects belong together.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use upload_domain::{INCOMING_PREFIX, MEDIA_PREFIX};

use super::subject::Subject;

/// Beginnings and names by which a token, a policy or a signature would be seen in a log. `eyJ` is the base64 of `{"`, with which
/// every JWT, V1's tickets and S3's policies begin.
const TELL_TALES: [&str; 4] = ["eyJ", "x-amz-signature", "x-amz-credential", "bearer ey"];

/// Stops the servers and checks what they leave.
pub(super) async fn check(subject: &mut Subject) -> Result<()> {
    for server in subject.servers() {
        // What runs in the background is waited for by a stop, so from here on nothing moves.
        let code = server.terminate().await?;
        ensure!(code == Some(0), "the server's exit code is {code:?}");
    }
    check_logs(subject)?;
    check_rows_and_objects(subject).await
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

    let mut media = BTreeSet::new();
    let mut pending = BTreeSet::new();
    for row in stand.sql("SELECT id, media_key, linked_at FROM image").await? {
        let [Some(id), media_key, linked_at] = row.as_slice() else { continue };
        media.extend(media_key.clone());
        if linked_at.is_none() {
            pending.insert(format!("{INCOMING_PREFIX}{id}"));
        }
    }
    let objects: BTreeSet<String> = stand.storage.list("").await?.into_iter().collect();
    for key in &media {
        ensure!(objects.contains(key), "a row names an object that is not there: {key}");
    }
    for key in &objects {
        let known = if key.starts_with(MEDIA_PREFIX) { media.contains(key) } else { pending.contains(key) };
        ensure!(known, "an object that no row names: {key}");
    }
    let links = "SELECT image_id FROM user_profile_image UNION ALL SELECT image_id FROM competition_poster_image \
                 UNION ALL SELECT image_id FROM post_image";
    let apart = stand
        .sql(&format!(
            "SELECT image.id FROM image FULL JOIN ({links}) AS link ON link.image_id = image.id \
             WHERE (image.linked_at IS NULL) <> (link.image_id IS NULL)"
        ))
        .await
        .context("links cannot be compared")?;
    ensure!(apart.is_empty(), "linked_at and the link tables say different things: {apart:?}");
    Ok(())
}

//! A stand, and the binary on it.

use std::process::Stdio;

use bytes::Bytes;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
};
use upload_domain::{AttemptId, ImageId, Role, UserId, UserStatus, media_key};
use upload_sandbox::{
    Sandbox, Stand,
    process::{Finished, Program},
    relay::{Mode, Relay},
};
use uuid::Uuid;

pub async fn stand() -> Stand {
    Sandbox::shared().await.stand().await
}

/// The binary with these arguments, separated by spaces. `bucket` gets the key that may create buckets, which no server has.
pub fn ops(stand: &Stand, arguments: &str) -> Program {
    let mut program = Program::new(env!("CARGO_BIN_EXE_upload-ops"), stand);
    if arguments.starts_with("bucket") {
        let admin = stand.admin_environment();
        program = admin
            .into_iter()
            .fold(program.without("S3_SESSION_TOKEN"), |program, (name, value)| program.env(name, value));
    }
    arguments.split_whitespace().fold(program, |program, argument| program.arg(argument))
}

/// Runs the binary, asserts that it succeeds, and returns its output.
pub async fn answer(stand: &Stand, arguments: &str) -> String {
    let finished = ops(stand, arguments).run().await.unwrap();
    assert_eq!(finished.code, Some(0), "{arguments}: {finished:?}");
    finished.stdout
}

/// Runs the binary, and sends SIGTERM while its first deletion is on the way to the store. The deletion goes on when the binary has said that it
/// will stop.
pub async fn stopped_at_a_deletion(world: &World, arguments: &str) -> Finished {
    let (endpoint, relay) = Relay::before(&world.stand.environment()["S3_ENDPOINT"]).await.unwrap();
    relay.set(Mode::HoldRequestsWith("?delete"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_upload-ops"))
        .args(arguments.split_whitespace())
        .env_clear()
        .envs(world.stand.environment())
        .env("S3_ENDPOINT", endpoint)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let mut output = child.stdout.take().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    relay.holds(1).await;
    let id = i32::try_from(child.id().unwrap()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
    while !stderr.contains("Asked to stop") {
        assert_ne!(log.read_line(&mut stderr).await.unwrap(), 0, "it ended: {stderr}");
    }
    relay.set(Mode::Pass);
    let read = futures::future::join(output.read_to_string(&mut stdout), log.read_to_string(&mut stderr));
    let (read_output, read_log) = read.await;
    read_output.unwrap();
    read_log.unwrap();
    Finished { code: child.wait().await.unwrap().code(), stdout, stderr }
}

/// Asserts that a run ended with this code, with these texts on stderr and nothing on stdout.
pub fn assert_refused(finished: &Finished, code: i32, said: &[&str]) {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    for said in said {
        assert!(finished.stderr.contains(said), "`{said}` is not in {finished:?}");
    }
    assert_eq!(finished.stdout, "");
}

/// A stand with an owner of images.
pub struct World {
    pub stand: Stand,
    pub user: UserId,
}

impl World {
    pub async fn new() -> Self {
        let stand = stand().await;
        let user = stand.add_user(Role::User, UserStatus::Active).await.unwrap();
        Self { stand, user }
    }

    /// A pending image of this age, with the columns that `set` gives it.
    pub async fn image(&self, age_seconds: u32, set: &str) -> ImageId {
        let id = ImageId::from(Uuid::now_v7());
        let insert = format!(
            "INSERT INTO image (id, path, format, user_id, created_at)
             VALUES ('{id}', 'user-profile', 'image/png', '{}', now() - {age_seconds} * interval '1 s')",
            self.user
        );
        self.stand.sql(&insert).await.unwrap();
        if !set.is_empty() {
            self.stand.sql(&format!("UPDATE image SET {set} WHERE id = '{id}'")).await.unwrap();
        }
        id
    }

    /// Pending images with these ids.
    pub async fn add_images(&self, ids: &[ImageId]) {
        let rows: Vec<String> =
            ids.iter().map(|id| format!("('{id}', 'user-profile', 'image/png', '{}')", self.user)).collect();
        let insert = format!("INSERT INTO image (id, path, format, user_id) VALUES {}", rows.join(", "));
        self.stand.sql(&insert).await.unwrap();
    }

    /// A key in the trail, whose last write ended this many seconds ago.
    pub async fn attempt(&self, image: ImageId, seconds_ago: i32) -> String {
        let (attempt, key) = media(image);
        let insert = format!(
            "INSERT INTO image_attempt (id, image_id, key, until)
             VALUES ('{attempt}', '{image}', '{key}', now() - {seconds_ago} * interval '1 s')"
        );
        self.stand.sql(&insert).await.unwrap();
        key
    }

    /// Five bytes under this key.
    pub async fn put(&self, key: &str) {
        self.stand.storage.put(key, "image/png", Bytes::from_static(b"bytes")).await.unwrap();
    }

    /// All keys in the bucket.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys = self.stand.storage.list("").await.unwrap();
        keys.sort();
        keys
    }

    /// Sets the database's clock three hours ahead, for sessions that begin later.
    pub async fn three_hours_later(&self) {
        let ahead = "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
                 AS 'SELECT pg_catalog.clock_timestamp() + interval ''3 h''';
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$";
        self.stand.sql(ahead).await.unwrap();
    }

    /// An image that is linked as a profile image, with these further columns.
    pub async fn linked(&self, key: &str, more: &str) -> ImageId {
        let image = self.image(1_000_000, "").await;
        let set =
            format!("{}, byte_size = 5, linked_at = now() - interval '60 d', incoming_due_at = NULL", verified(key));
        self.stand.sql(&format!("UPDATE image SET {set} WHERE id = '{image}'")).await.unwrap();
        if !more.is_empty() {
            self.stand.sql(&format!("UPDATE image SET {more} WHERE id = '{image}'")).await.unwrap();
        }
        let link = format!(
            "UPDATE user_profile_image SET deleted_at = now() WHERE deleted_at IS NULL;
             INSERT INTO user_profile_image (user_id, image_id) VALUES ('{}', '{image}')",
            self.user
        );
        self.stand.sql(&link).await.unwrap();
        image
    }

    /// Which of these still have a row.
    pub async fn kept(&self, images: &[ImageId]) -> Vec<ImageId> {
        let rows = self.stand.sql("SELECT id FROM image").await.unwrap();
        let rows: Vec<ImageId> = rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
        images.iter().copied().filter(|image| rows.contains(image)).collect()
    }
}

/// A new attempt, and the media key that it writes.
pub fn media(image: ImageId) -> (AttemptId, String) {
    let attempt = AttemptId::from(Uuid::now_v7());
    (attempt, media_key(image, attempt))
}

/// The columns of an image whose verified bytes are under this key.
pub fn verified(key: &str) -> String {
    format!("media_key = '{key}', media_byte_size = 5, width = 1, height = 1")
}

//! A database for one test, with the rows that most tests need.

use std::time::Duration;

use upload_domain::{
    AttemptId, CompetitionId, Dimensions, ImageFormat, ImageId, ImagePath, PostId, Role, UserId, UserStatus, media_key,
};
use upload_persistence::{
    Database, DatabaseSettings, PooledConnection, Verified,
    competitions::{self, NewCompetition},
    image_attempts::{self, FinishedUpload},
    images::{self, Image, NewImage, UploadAttempt},
    quotas::Quota,
};
use upload_sandbox::{Sandbox, Stand};
use uuid::Uuid;

/// How long a link may hold an image here.
pub const LEASE: Duration = Duration::from_secs(45);
/// The age up to which an image may be linked here.
pub const CUTOFF: Duration = Duration::from_secs(3510);
/// The age from which an image is swept here.
pub const PENDING_TTL: Duration = Duration::from_secs(3600);
/// How long after a link forms may write here.
pub const FORM_LIFE: Duration = Duration::from_secs(540);
/// The pixels of every image here.
pub const DIMENSIONS: Dimensions = Dimensions { width: 640, height: 480 };

/// A stand with a user.
pub struct World {
    pub stand: Stand,
    pub user: UserId,
}

/// An image that an attempt holds, its bytes under a media key.
pub struct Held {
    pub image: ImageId,
    pub user: UserId,
    pub attempt: AttemptId,
    pub media_key: String,
}

impl Held {
    /// The values that a link of it commits.
    pub fn verified(&self) -> Verified<'_> {
        Verified {
            image: self.image,
            user: self.user,
            attempt: self.attempt,
            media_key: &self.media_key,
            media_version: None,
            byte_size: 1234,
            dimensions: DIMENSIONS,
        }
    }
}

impl World {
    pub async fn new() -> Self {
        let stand = Sandbox::shared().await.stand().await;
        let user = stand.add_user(Role::User, UserStatus::Active).await.unwrap();
        Self { stand, user }
    }

    pub async fn connection(&self) -> PooledConnection {
        self.stand.database.connection().await.unwrap()
    }

    /// A pool of its own on the same database, made with other settings.
    pub fn database(&self, change: impl FnOnce(&mut DatabaseSettings)) -> Database {
        let mut settings = self.stand.database_settings.clone();
        change(&mut settings);
        Database::new(&settings, self.stand.runtime().clone()).unwrap()
    }

    pub async fn add_user(&self, role: Role) -> UserId {
        self.stand.add_user(role, UserStatus::Active).await.unwrap()
    }

    /// Changes or breaks rows by SQL.
    pub async fn sql(&self, sql: &str) {
        self.stand.sql(sql).await.unwrap();
    }

    /// One value, as text.
    pub async fn value(&self, sql: &str) -> Option<String> {
        let rows = self.stand.sql(sql).await.unwrap();
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}");
        rows[0][0].clone()
    }

    /// Sets the age of an image.
    pub async fn age(&self, image: ImageId, seconds: u32) {
        self.sql(&format!("UPDATE image SET created_at = now() - {seconds} * interval '1 s' WHERE id = '{image}'"))
            .await;
    }

    /// Makes the attempt on an image expire.
    pub async fn run_out(&self, image: ImageId) {
        self.sql(&format!("UPDATE image SET attempt_until = now() - interval '1 s' WHERE id = '{image}'")).await;
    }

    /// The media keys of the trail.
    pub async fn trail(&self) -> Vec<String> {
        let rows = self.stand.sql("SELECT key FROM image_attempt ORDER BY until").await.unwrap();
        rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
    }

    pub async fn deactivate(&self, user: UserId) {
        self.sql(&format!("UPDATE \"user\" SET status = 'INACTIVE' WHERE id = '{user}'")).await;
    }

    pub async fn pending(&self, user: UserId, path: ImagePath) -> ImageId {
        let mut connection = self.connection().await;
        images::insert_pending(&mut connection, &new_image(user, path), &Quota::UNLIMITED)
            .await
            .unwrap()
            .expect("the user may create it")
            .id
    }

    pub async fn claim(&self, image: ImageId, user: UserId) -> Option<Image> {
        let mut connection = self.connection().await;
        image_attempts::claim_link(&mut connection, image, user, new_attempt(), LEASE, CUTOFF).await.unwrap()
    }

    pub async fn held(&self, user: UserId, path: ImagePath) -> Held {
        let image = self.pending(user, path).await;
        let attempt = self.claim(image, user).await.expect("it is free").attempt.unwrap();
        Held { image, user, attempt, media_key: media_key(image, attempt) }
    }

    /// A competition that this user hosts.
    pub async fn competition(&self, host: UserId) -> CompetitionId {
        let id = CompetitionId::from(Uuid::now_v7());
        let new = NewCompetition { id, title: "World Championship", host_user_id: host };
        let mut connection = self.connection().await;
        competitions::insert(&mut connection, &new).await.unwrap().expect("the host may create it").id
    }
}

pub fn new_attempt() -> AttemptId {
    AttemptId::from(Uuid::now_v7())
}

pub fn new_post() -> PostId {
    PostId::from(Uuid::now_v7())
}

pub fn new_image(user: UserId, path: ImagePath) -> NewImage {
    NewImage {
        id: ImageId::from(Uuid::now_v7()),
        user_id: user,
        path,
        format: ImageFormat::Jpeg,
        byte_size: None,
        checksum_sha256: None,
        upload: None,
    }
}

/// The same, with an upload that begins at once.
pub fn new_upload(user: UserId, path: ImagePath) -> NewImage {
    let upload = UploadAttempt { attempt: new_attempt(), lasts: Duration::from_secs(180) };
    NewImage { upload: Some(upload), ..new_image(user, path) }
}

pub fn finished(id: ImageId, attempt: AttemptId, media_key: &str) -> FinishedUpload<'_> {
    FinishedUpload { id, attempt, media_key, byte_size: 1234, dimensions: DIMENSIONS }
}

pub fn migrations_in_the_folder() -> usize {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations")).unwrap();
    folder.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
}

//! A stand with the link protocol, and images in every state.

use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use upload_domain::{ImageFormat, ImageId, ImageLimits, ImagePath, Role, Timing, UserId, UserStatus, incoming_key};
use upload_link::{Background, Event, Links};
use upload_persistence::{
    Database, DatabaseSettings,
    images::{self, NewImage},
};
use upload_sandbox::{
    Sandbox, Stand,
    relay::{Mode, Relay},
    samples,
};
use upload_storage::Storage;
use uuid::Uuid;

/// The protocol with a database and a bucket of its own, and a user.
pub struct World {
    pub stand: Stand,
    pub links: Links,
    pub user: UserId,
    events: Arc<Mutex<Vec<Event>>>,
}

impl World {
    pub async fn new() -> Self {
        let stand = Sandbox::shared().await.stand().await;
        let user = stand.add_user(Role::User, UserStatus::Active).await.unwrap();
        let (database, storage) = (stand.database.clone(), stand.storage.clone());
        Self::with(stand, user, database, storage)
    }

    /// The database's answers to messages that contain `word` are lost.
    pub async fn losing_answers_of_the_database(word: &'static str) -> (Self, Relay) {
        let Self { stand, user, .. } = Self::new().await;
        let (url, relay) = Relay::before(&stand.database_url).await.unwrap();
        relay.set(Mode::BreakAnswersTo(word));
        let database = Database::new(&DatabaseSettings::for_url(url), Handle::current()).unwrap();
        let storage = stand.storage.clone();
        (Self::with(stand, user, database, storage), relay)
    }

    /// The store's answers to requests that contain `word` are lost.
    pub async fn losing_answers_of_the_store(word: &'static str) -> (Self, Relay) {
        let Self { stand, user, .. } = Self::new().await;
        let mut settings = stand.storage_settings.clone();
        let (url, relay) = Relay::before(settings.endpoint.as_str()).await.unwrap();
        relay.set(Mode::BreakAnswersTo(word));
        settings.endpoint = url.parse().unwrap();
        let storage = Storage::new(&settings).await.unwrap();
        let database = stand.database.clone();
        (Self::with(stand, user, database, storage), relay)
    }

    fn with(stand: Stand, user: UserId, database: Database, storage: Storage) -> Self {
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let heard = Arc::clone(&events);
        let observer = move |event| heard.lock().unwrap().push(event);
        let background = Background::new(Handle::current());
        let (limits, timing) = (ImageLimits::default(), Timing::default());
        let links = Links::new(database, storage, limits, timing, background, 4, observer);
        Self { stand, links, user, events }
    }

    /// What the protocol has reported so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// An image without an upload.
    pub async fn pending(&self, path: ImagePath) -> ImageId {
        let id = Uuid::now_v7().into();
        let format = ImageFormat::Jpeg;
        let new =
            NewImage { id, user_id: self.user, path, format, byte_size: None, checksum_sha256: None, upload: None };
        let mut connection = self.stand.database.connection().await.unwrap();
        images::insert_pending(&mut connection, &new).await.unwrap().unwrap();
        id
    }

    /// An image whose good file is under its incoming key.
    pub async fn uploaded(&self, path: ImagePath) -> ImageId {
        let id = self.pending(path).await;
        self.upload(id, samples::of_format(ImageFormat::Jpeg, 1)).await;
        id
    }

    pub async fn upload(&self, id: ImageId, file: Vec<u8>) {
        self.stand.storage.put(&incoming_key(id), "image/jpeg", file.into()).await.unwrap();
    }

    /// `held`, `linked`, `refused` or `pending`, and the media key.
    pub async fn row(&self, id: ImageId) -> (String, Option<String>) {
        let sql = format!(
            "SELECT CASE WHEN attempt IS NOT NULL AND linked_at IS NULL THEN 'held' WHEN linked_at IS NOT NULL THEN 'linked'
                 WHEN refused_code IS NOT NULL THEN 'refused' ELSE 'pending' END, media_key
             FROM image WHERE id = '{id}'"
        );
        let rows = self.stand.sql(&sql).await.unwrap();
        (rows[0][0].clone().unwrap(), rows[0][1].clone())
    }

    /// The keys in the bucket, after the protocol's background work has ended.
    pub async fn objects(&self) -> Vec<String> {
        assert!(self.links.background.drain(std::time::Duration::from_secs(60)).await);
        let mut keys = Vec::new();
        for prefix in ["incoming/", "media/"] {
            keys.extend(self.stand.storage.list(prefix).await.unwrap());
        }
        keys
    }
}

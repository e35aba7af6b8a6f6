//! A stand with the link protocol, and images in every state.

use std::sync::{Arc, Mutex};

use tokio::{runtime::Handle, task::JoinHandle};
use upload_domain::{
    CompetitionId, ImageFormat, ImageId, ImageLimits, ImagePath, Role, Sha256Checksum, Timing, UserId, UserStatus,
    incoming_key, media_key,
};
use upload_link::{Background, Event, LinkError, Linked, Links, PostError, PostText, Target};
use upload_persistence::{
    Database, DatabaseSettings,
    competitions::{self, NewCompetition},
    images::{self, Image, NewImage},
    posts::Post,
    quotas::Quota,
};
use upload_sandbox::{
    Sandbox, Stand,
    relay::{Mode, Relay},
    samples,
};
use upload_storage::{Pin, Storage, StorageSettings};
use uuid::Uuid;

/// The protocol with a database and a bucket of its own, and a user, who may host competitions.
pub struct World {
    pub stand: Stand,
    pub links: Links,
    pub user: UserId,
    events: Arc<Mutex<Vec<Event>>>,
}

impl World {
    pub async fn new() -> Self {
        let stand = Sandbox::shared().await.stand().await;
        let user = stand.add_user(Role::Host, UserStatus::Active).await.unwrap();
        let (database, storage) = (stand.database.clone(), stand.storage.clone());
        Self::with(stand, user, database, storage)
    }

    /// The bucket keeps versions, and links pin them.
    pub async fn by_version() -> Self {
        Self::new().await.pinning_by_version().await
    }

    /// From now on the bucket keeps versions, and links pin them.
    pub async fn pinning_by_version(mut self) -> Self {
        self.stand.enable_versioning().await.unwrap();
        let settings = StorageSettings { pin: Pin::Version, ..self.stand.storage_settings.clone() };
        self.links.storage = Storage::new(&settings).await.unwrap();
        self
    }

    /// The way to the database leads through a relay; the stand's own does not.
    pub async fn behind_the_database(mode: Mode) -> (Self, Relay) {
        let Self { stand, user, .. } = Self::new().await;
        let (url, relay) = Relay::before(&stand.database_url).await.unwrap();
        relay.set(mode);
        let database = Database::new(&DatabaseSettings::for_url(url), Handle::current()).unwrap();
        let storage = stand.storage.clone();
        (Self::with(stand, user, database, storage), relay)
    }

    /// The way to the store leads through a relay; the stand's own does not.
    pub async fn behind_the_store(mode: Mode) -> (Self, Relay) {
        let Self { stand, user, .. } = Self::new().await;
        let mut settings = stand.storage_settings.clone();
        let (url, relay) = Relay::before(settings.endpoint.as_str()).await.unwrap();
        relay.set(mode);
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

    /// The protocol without a relay: another server.
    pub fn direct(&self) -> Links {
        let mut links = self.links.clone();
        links.database = self.stand.database.clone();
        links.storage = self.stand.storage.clone();
        links
    }

    /// Begins a link, which a relay will hold up.
    pub fn begin<T: Target>(&self, image: ImageId, to: T) -> JoinHandle<Result<Linked<T::Attachment>, LinkError>> {
        let (links, user) = (self.links.clone(), self.user);
        tokio::spawn(async move { links.link(user, image, to).await })
    }

    /// Begins a post, which a relay will hold up.
    pub fn begin_post(&self, text: PostText, images: &[ImageId]) -> JoinHandle<Result<(Post, Vec<Image>), PostError>> {
        let (links, user, images) = (self.links.clone(), self.user, images.to_vec());
        tokio::spawn(async move { links.create_post(user, text, images).await })
    }

    /// What the protocol has reported so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub async fn competition(&self) -> CompetitionId {
        let id = Uuid::now_v7().into();
        let new = NewCompetition { id, title: "World Championship", host_user_id: self.user };
        let mut connection = self.stand.database.connection().await.unwrap();
        competitions::insert(&mut connection, &new).await.unwrap().unwrap().id
    }

    /// An image without an upload.
    pub async fn pending(&self, path: ImagePath) -> ImageId {
        self.insert(path, None).await
    }

    /// An image without an upload, whose client has declared this SHA-256.
    pub async fn pending_with_checksum(&self, path: ImagePath, sha256: [u8; 32]) -> ImageId {
        self.insert(path, Some(sha256.into())).await
    }

    async fn insert(&self, path: ImagePath, checksum_sha256: Option<Sha256Checksum>) -> ImageId {
        let id = Uuid::now_v7().into();
        let format = ImageFormat::Jpeg;
        let new = NewImage { id, user_id: self.user, path, format, byte_size: None, checksum_sha256, upload: None };
        let mut connection = self.stand.database.connection().await.unwrap();
        images::insert_pending(&mut connection, &new, &Quota::UNLIMITED).await.unwrap().unwrap();
        id
    }

    /// An image as V1 leaves it: verified bytes under a media key, and nothing under the incoming key.
    pub async fn stored(&self, path: ImagePath) -> (ImageId, String) {
        let id = self.pending(path).await;
        let key = media_key(id, Uuid::new_v4().into());
        let file = samples::of_format(ImageFormat::Jpeg, 1);
        let sql = format!(
            "UPDATE image SET media_key = '{key}', media_byte_size = {}, width = 8, height = 8 WHERE id = '{id}'",
            file.len()
        );
        self.stand.storage.put(&key, "image/jpeg", file.into()).await.unwrap();
        self.stand.sql(&sql).await.unwrap();
        (id, key)
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

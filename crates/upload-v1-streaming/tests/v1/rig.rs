//! One V1 on a stand, with relays where a test wants them.

use std::time::Duration;

use upload_domain::{ImageFormat, ImagePath, Role};
use upload_sandbox::{
    Person, Sandbox, Stand,
    client::{Answer, Client},
    process::{Program, Server},
    raw::{RawForm, RawRequest},
    relay::Relay,
    samples::jpeg_of_exactly,
};

pub const BINARY: &str = env!("CARGO_BIN_EXE_upload-v1-streaming");
pub const STREAM: &str = "/user/images/upload";
/// The length of a file of which a test sends only a part at first.
pub const FILE_BYTES: usize = 2_000_000;

/// The defaults of the settings with these names.
pub const UPLOADS_ACTIVE: u64 = 32;
pub const UPLOADS_PER_USER: usize = 64;

/// For an embedded store that shares two cores with many tests. Another test checks how long it may be silent.
pub const PATIENT: (&str, &str) = ("STORAGE_STALL_SECONDS", "120");
/// Nobody is sent away as too slow while a test holds clients back.
pub const UNHURRIED: (&str, &str) = ("CLIENT_RATE_WINDOW_SECONDS", "600");

/// A server, its stand, and one of its users.
pub struct Rig {
    pub server: Server,
    pub stand: Stand,
    pub person: Person,
    pub store: Relay,
    pub database: Relay,
}

impl Rig {
    /// A server with these settings, which reaches the store and the database through relays.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Self::on(Sandbox::shared().await.stand().await, settings).await
    }

    /// The same on a stand that a test has prepared.
    pub async fn on(stand: Stand, settings: &[(&str, &str)]) -> Self {
        let environment = stand.environment();
        let (store_url, store) = Relay::before(&environment["S3_ENDPOINT"]).await.unwrap();
        let (database_url, database) = Relay::before(&environment["DATABASE_URL"]).await.unwrap();
        let program = Program::new(BINARY, &stand).env("S3_ENDPOINT", store_url).env("DATABASE_URL", database_url);
        let program = settings.iter().fold(program, |program, (name, value)| program.env(*name, *value));
        let server = program.serve().await.unwrap();
        let person = stand.add_person(Role::User).await.unwrap();
        Self { server, stand, person, store, database }
    }

    /// Another server on the stand, which uses no relay, and the person's client for it.
    pub async fn another(&self) -> (Server, Client) {
        let server = Program::new(BINARY, &self.stand).serve().await.unwrap();
        let client = self.client().at(&server.url);
        (server, client)
    }

    pub fn client(&self) -> Client {
        Client::new(&self.server.url, &self.person.token).unwrap()
    }

    /// Creates an image to upload with a ticket.
    pub async fn create(&self) -> Answer {
        let created = self.client().create_image(ImagePath::UserProfile, ImageFormat::Jpeg).await.unwrap();
        created.expect_status(201).unwrap()
    }

    /// All keys of the bucket.
    pub async fn keys(&self) -> Vec<String> {
        self.stand.storage.list("").await.unwrap()
    }

    /// The only object's bytes.
    pub async fn only_object(&self) -> Vec<u8> {
        let keys = self.keys().await;
        assert_eq!(keys.len(), 1, "{keys:?}");
        self.stand.storage.read(&keys[0]).await.unwrap().unwrap().to_vec()
    }

    /// The count of uploads with this `way`.
    pub async fn uploads(&self, way: &str) -> u64 {
        self.metric(&format!("uploads_total{{way=\"{way}\"}}")).await
    }

    /// A number of `/metrics`; 0 if it is not there.
    pub async fn metric(&self, name: &str) -> u64 {
        metric(&self.client(), name).await
    }

    /// Asserts that the bucket is empty, and that no row has an object or is held by an attempt.
    pub async fn assert_nothing_stored(&self) {
        assert_eq!(self.keys().await, Vec::<String>::new());
        let held = "image WHERE media_key IS NOT NULL OR attempt_until > now() OR linked_at IS NOT NULL";
        assert_eq!(self.stand.count(held).await.unwrap(), 0);
    }
}

/// An upload of which the store has a part, and the client keeps back the rest.
pub struct Half {
    pub upload: RawRequest,
    rest: Vec<u8>,
    pub image_id: String,
}

impl Half {
    pub async fn sent(rig: &Rig) -> Self {
        let created = rig.create().await;
        let file = jpeg_of_exactly(FILE_BYTES, 1);
        let mut upload = RawForm::of_ticket(created.form())
            .unwrap()
            .begin(&rig.server.url, &RawForm::target(created.form()).unwrap(), "", file.len())
            .await
            .unwrap();
        let (first, rest) = file.split_at(FILE_BYTES / 2);
        upload.send(first).await;
        rig.store.requested(300_000).await;
        Self { upload, rest: rest.to_vec(), image_id: created.image_id().to_owned() }
    }

    pub async fn finish(mut self) -> (Answer, String) {
        self.upload.send(&self.rest).await;
        (self.upload.finish().await.unwrap(), self.image_id)
    }
}

/// A number of a server's `/metrics`; 0 if it is not there.
pub async fn metric(client: &Client, name: &str) -> u64 {
    let metrics = client.get("/metrics").await.unwrap();
    let text = std::str::from_utf8(&metrics.body).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Repeats the check until it is true. Each check is a new request.
pub async fn until(mut found: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(Duration::from_secs(60), async { while !found().await {} });
    looked.await.expect("what the test waits for does not come");
}

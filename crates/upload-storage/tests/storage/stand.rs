//! One bucket for one test, with the three keys of its store. There is no database here, so this is not the sandbox's own stand.

use std::thread;

use secrecy::SecretString;
use tokio::sync::OnceCell;
use upload_sandbox::{
    not_tested::{MINIO, not_tested},
    s3::{EmbeddedS3, Key, REGION, S3Connection, grant},
};
use upload_storage::{
    Addressing, ChecksumMode, KeyCheck, Pin, Signer, SignerSettings, Storage, StorageSettings, bucket,
};
use uuid::Uuid;

/// A bucket for one test. Dropping it removes the bucket.
pub struct Stand {
    pub storage: Storage,
    /// With the key that may create buckets, which no server has.
    pub admin: Storage,
    pub signer: Signer,
    pub settings: StorageSettings,
    pub admin_settings: StorageSettings,
    pub signer_settings: SignerSettings,
    pub signer_key: Key,
    pub reader_key: Key,
    pub server_key: Key,
}

static EMBEDDED: OnceCell<EmbeddedS3> = OnceCell::const_new();

/// The store that all tests of this process share.
pub async fn connection() -> S3Connection {
    if let Some(connection) = S3Connection::from_environment().unwrap() {
        return connection;
    }
    let embedded = EMBEDDED.get_or_init(async || EmbeddedS3::start().await.unwrap()).await;
    embedded.connection().clone()
}

/// A key with the rights of the policy. `None`, with a message on stderr, if the store has no STS.
pub async fn further_key(policy: &str) -> Option<Key> {
    let connection = connection().await;
    match EMBEDDED.get() {
        Some(embedded) => Some(embedded.add_key(policy).unwrap()),
        None => {
            let key = crate::sts::assume_role(&connection, policy).await;
            if key.is_none() {
                not_tested(MINIO, "the store of S3_ENDPOINT makes no keys (AssumeRole), as a MinIO does").unwrap();
            }
            key
        }
    }
}

pub async fn stand() -> Stand {
    stand_with(|_settings| {}).await
}

pub async fn stand_with(change: impl FnOnce(&mut StorageSettings)) -> Stand {
    let stand = stand_without_bucket(change).await;
    bucket::create(&stand.admin).await.unwrap();
    grant(&stand.settings.bucket).await.unwrap();
    stand
}

pub async fn stand_without_bucket(change: impl FnOnce(&mut StorageSettings)) -> Stand {
    let S3Connection { endpoint, keys, admin } = connection().await;
    let secret = |key: &Key| SecretString::from(key.secret.clone());
    let token = |key: &Key| key.session_token.clone().map(SecretString::from);
    let mut settings = StorageSettings {
        endpoint: endpoint.parse().unwrap(),
        public_endpoint: None,
        region: REGION.to_owned(),
        bucket: format!("storage-test-{}", Uuid::new_v4()),
        addressing: Addressing::Path,
        checksums: ChecksumMode::WhenRequired,
        access_key_id: Some(keys.server.id.clone()),
        secret_access_key: Some(secret(&keys.server)),
        session_token: token(&keys.server),
        profile: None,
        reader_access_key_id: Some(keys.reader.id.clone()),
        reader_secret_access_key: Some(secret(&keys.reader)),
        reader_session_token: token(&keys.reader),
        reader_profile: None,
        allow_one_key: false,
        pin: Pin::Copy,
        key_check: KeyCheck::Enforce,
        media_public_base_url: None,
    };
    change(&mut settings);
    let signer = SignerSettings {
        access_key_id: Some(keys.signer.id.clone()),
        secret_access_key: Some(secret(&keys.signer)),
        session_token: token(&keys.signer),
        profile: None,
    };
    let admin_settings = StorageSettings {
        access_key_id: Some(admin.id.clone()),
        secret_access_key: Some(secret(&admin)),
        session_token: token(&admin),
        ..settings.clone()
    };
    settings.check().unwrap();
    let storage = Storage::new(&settings).await.unwrap();
    Stand {
        signer: Signer::new(&settings, &signer).await.unwrap(),
        storage,
        admin: Storage::new(&admin_settings).await.unwrap(),
        settings,
        admin_settings,
        signer_settings: signer,
        signer_key: keys.signer,
        reader_key: keys.reader,
        server_key: keys.server,
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // Use another client on another runtime, because the test's runtime may be about to end.
        let settings = self.admin_settings.clone();
        let removal = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { bucket::empty_and_remove(&Storage::new(&settings).await.unwrap()).await })
        });
        match removal.join() {
            Ok(Ok(())) => {}
            outcome if thread::panicking() => eprintln!("the bucket is left behind: {outcome:?}"),
            outcome => panic!("the bucket is left behind: {outcome:?}"),
        }
    }
}

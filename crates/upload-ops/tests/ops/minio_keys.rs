//! Runs the real `compose/minio/set-up`. It needs a MinIO and its root key (`scripts/minio` gives both), and its client `mc`, on PATH or
//! where `go install` puts it. Without them, the test says so and tests nothing; if `SANDBOX_MINIO` is `required`, it fails.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use secrecy::SecretString;
use tokio::process::Command;
use upload_sandbox::{
    Sandbox,
    not_tested::{MINIO, not_tested},
    process::Finished,
    s3::{Key, S3Connection},
};
use upload_storage::{Pin, Signer, SignerSettings, Storage, StorageSettings, bucket, pin, rights};
use uuid::Uuid;

use crate::world::{ops, stand};

const ROLES: [&str; 4] = ["server", "signer", "reader", "operator"];

/// A MinIO, as its administrator sees it.
struct Minio {
    mc: PathBuf,
    endpoint: String,
    root: Key,
    bucket: String,
    folder: tempfile::TempDir,
}

impl Minio {
    /// The MinIO, or `None` with a message on stderr.
    async fn find() -> Option<Self> {
        Self::look().await.map_err(|missing| not_tested(MINIO, missing).unwrap()).ok()
    }

    async fn look() -> Result<Self, &'static str> {
        let S3Connection { endpoint, admin: root, .. } = Sandbox::shared().await.store().clone();
        let health = format!("{}/minio/health/live", endpoint.trim_end_matches('/'));
        if !reqwest::get(health).await.is_ok_and(|answer| answer.status().is_success()) {
            return Err("the store is no MinIO; scripts/minio starts one");
        }
        if root.session_token.is_some() {
            return Err("S3_ADMIN_ACCESS_KEY_ID is a key of STS, which may not administer");
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let installed = env::home_dir().map(|home| home.join("go/bin"));
        for mc in env::split_paths(&path).chain(installed).map(|folder| folder.join("mc")) {
            // Midnight Commander has the same name.
            let version = Command::new(&mc).arg("--version").output().await;
            if version.is_ok_and(|version| String::from_utf8_lossy(&version.stdout).contains("MinIO")) {
                let bucket = format!("upload-sandbox-{}", Uuid::new_v4());
                return Ok(Self { mc, endpoint, root, bucket, folder: tempfile::tempdir().unwrap() });
            }
        }
        Err("MinIO's client `mc` is not installed; `go install github.com/minio/mc@latest` does it")
    }

    fn credentials_file(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    /// Runs the script with all variables that it needs, except `without`.
    async fn set_up(&self, without: &str) -> Finished {
        let folders = self.mc.parent().into_iter().map(Path::to_owned);
        let path = env::join_paths(folders.chain(["/usr/bin".into(), "/bin".into()])).unwrap();
        let mut script = Command::new("/bin/sh");
        script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../compose/minio/set-up")).env_clear().env("PATH", path);
        script.env("MINIO_ENDPOINT", &self.endpoint).env("S3_BUCKET", &self.bucket);
        script.env("MINIO_ROOT_USER", &self.root.id).env("MINIO_ROOT_PASSWORD", &self.root.secret);
        script.env("CREDENTIALS_FILE", self.credentials_file()).env_remove(without);
        let output = script.output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The keys of the file, by profile.
    fn keys(&self) -> BTreeMap<String, Key> {
        let text = fs::read_to_string(self.credentials_file()).unwrap();
        let profiles = text.split('[').skip(1).map(|profile| {
            let (name, rest) = profile.split_once("]\n").unwrap();
            let value = |setting: &str| {
                rest.lines().find_map(|line| line.strip_prefix(setting)?.strip_prefix(" = ")).unwrap().to_owned()
            };
            let key =
                Key { id: value("aws_access_key_id"), secret: value("aws_secret_access_key"), session_token: None };
            (name.to_owned(), key)
        });
        profiles.collect()
    }

    /// Runs MinIO's client with the root key. `store` is the MinIO.
    async fn administer(&self, arguments: &[&str]) -> Output {
        let host = self.endpoint.trim_start_matches("http://").trim_end_matches('/');
        let store = format!("http://{}:{}@{host}", self.root.id, self.root.secret);
        let mut mc = Command::new(&self.mc);
        mc.env("MC_CONFIG_DIR", self.folder.path()).env("MC_HOST_store", &store);
        mc.args(arguments).output().await.unwrap()
    }

    /// Removes what the script has created, because the MinIO may be used for other tests, too.
    async fn forget(&self, ids: impl Iterator<Item = String>) {
        for id in ids {
            self.administer(&["admin", "user", "remove", "store", &id]).await;
        }
        for role in ROLES {
            self.administer(&["admin", "policy", "remove", "store", &format!("{}-{role}", self.bucket)]).await;
        }
    }
}

#[tokio::test]
async fn the_set_up_of_a_minio_makes_keys_that_may_do_what_they_must_and_no_more() {
    let Some(minio) = Minio::find().await else { return };
    let stand = stand().await;
    let first = minio.set_up("").await;
    assert_eq!(first.code, Some(0), "{first:?}");
    let keys = minio.keys();
    assert_eq!(keys.keys().map(String::as_str).collect::<Vec<_>>(), ["operator", "reader", "server", "signer"]);
    let mode = fs::metadata(minio.credentials_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for key in keys.values() {
        assert!(!first.stdout.contains(&key.secret) && !first.stderr.contains(&key.secret), "{first:?}");
    }

    // Only the operator's key can create the bucket.
    let make_bucket = |profile: &str| {
        let file = minio.credentials_file().to_str().unwrap().to_owned();
        let program = ["S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_SESSION_TOKEN"]
            .into_iter()
            .fold(ops(&stand, "bucket"), |program, name| program.without(name));
        program.env("S3_BUCKET", &minio.bucket).env("AWS_SHARED_CREDENTIALS_FILE", file).env("S3_PROFILE", profile)
    };
    for profile in ["server", "signer", "reader"] {
        assert_ne!(make_bucket(profile).run().await.unwrap().code, Some(0), "{profile}");
    }
    let made = make_bucket("operator").run().await.unwrap();
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.stdout.contains("created") && made.stdout.contains("incoming/ now expires"), "{made:?}");

    let settings = |server: &Key, reader: &Key| StorageSettings {
        bucket: minio.bucket.clone(),
        access_key_id: Some(server.id.clone()),
        secret_access_key: Some(SecretString::from(server.secret.clone())),
        session_token: None,
        reader_access_key_id: Some(reader.id.clone()),
        reader_secret_access_key: Some(SecretString::from(reader.secret.clone())),
        reader_session_token: None,
        ..stand.storage_settings.clone()
    };
    let check = async |keys: &BTreeMap<String, Key>, pin: Pin| {
        let settings = StorageSettings { pin, ..settings(&keys["server"], &keys["reader"]) };
        let storage = Storage::new(&settings).await.unwrap();
        let signer = SignerSettings {
            access_key_id: Some(keys["signer"].id.clone()),
            secret_access_key: Some(SecretString::from(keys["signer"].secret.clone())),
            session_token: None,
            profile: None,
        };
        let signer = Signer::new(&settings, &signer).await.unwrap();
        rights::check(&storage, Some(&signer)).await.map_err(|error| error.to_string())?;
        pin::check(&storage, Some(&signer)).await.map_err(|error| error.to_string())
    };
    assert_eq!(check(&keys, Pin::Copy).await, Ok(()));

    // A second run changes nothing. A run that finds a profile missing creates that one.
    let again = minio.set_up("").await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(minio.keys(), keys);
    let text = fs::read_to_string(minio.credentials_file()).unwrap();
    fs::write(minio.credentials_file(), text.split("[reader]").next().unwrap()).unwrap();
    let mended = minio.set_up("").await;
    assert_eq!(mended.code, Some(0), "{mended:?}");
    let new_keys = minio.keys();
    assert_eq!((&new_keys["server"], &new_keys["signer"]), (&keys["server"], &keys["signer"]));
    assert_ne!(new_keys["reader"], keys["reader"]);
    assert_eq!(check(&new_keys, Pin::Copy).await, Ok(()));

    // A bucket with versions gets the rights for them, whatever S3_PIN is now.
    let enabled = make_bucket("operator").arg("--versioning").run().await.unwrap();
    assert!(enabled.stdout.contains("versioning: now enabled"), "{enabled:?}");
    let refused = check(&new_keys, Pin::Version).await.unwrap_err();
    assert!(refused.contains("lacks the right to get the bucket's versioning"), "{refused}");
    let widened = minio.set_up("").await;
    assert_eq!((widened.code, minio.keys()), (Some(0), new_keys.clone()), "{widened:?}");
    for pin in [Pin::Version, Pin::Copy] {
        assert_eq!(check(&new_keys, pin).await, Ok(()), "{pin:?}");
    }

    // A rule that only MinIO has.
    let place = format!("store/{}", minio.bucket);
    let all_versions = ["--expire-days", "1", "--expire-all-object-versions"];
    let added = minio.administer(&[&["ilm", "rule", "add", &place], &all_versions[..]].concat()).await;
    assert!(added.status.success(), "{added:?}");
    let refused = check(&new_keys, Pin::Version).await.unwrap_err();
    assert!(refused.starts_with("S3_PIN: the lifecycle rule "), "{refused}");

    let admin = settings(&minio.root, &keys["reader"]);
    bucket::empty_and_remove(&Storage::new(&admin).await.unwrap()).await.unwrap();
    minio.forget(keys.into_values().chain(new_keys.into_values()).map(|key| key.id)).await;
}

#[tokio::test]
async fn the_set_up_of_a_minio_names_the_variable_that_is_missing() {
    let Some(minio) = Minio::find().await else { return };
    for name in ["MINIO_ENDPOINT", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "S3_BUCKET", "CREDENTIALS_FILE"] {
        let finished = minio.set_up(name).await;
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert_eq!(finished.stderr, format!("set-up: {name} must be set\n"));
    }
}

//! Versions: reading one, deleting all but one, and the start-up check of `S3_PIN=version`. On a store without versions these tests test
//! nothing.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use secrecy::SecretString;
use upload_sandbox::{
    not_tested::{MINIO, not_tested},
    relay::{Mode, Relay},
    s3::{READER_POLICY, S3Connection, SERVER_POLICY},
};
use upload_storage::{
    Pin, Signer, SignerSettings, Storage, StorageError, StorageSettings,
    bucket::{self, Outcome, Versioning},
    pin, rights,
};

use crate::{
    liar::{Lie, before},
    stand::{Stand, further_key, stand_with},
};

const KEY: &str = "incoming/1";

/// A stand whose bucket has versions, with `S3_PIN=version`; `None`, with a message, if the store has no versions.
async fn versioned() -> Option<Stand> {
    let stand = stand_with(|settings| settings.pin = Pin::Version).await;
    match bucket::enable_versioning(&stand.admin).await.unwrap() {
        Outcome::Done => Some(stand),
        _ => {
            not_tested(MINIO, "the store of S3_ENDPOINT has no versions").unwrap();
            None
        }
    }
}

async fn put(storage: &Storage, bytes: &'static str) -> String {
    storage.put(KEY, "image/png", Bytes::from_static(bytes.as_bytes())).await.unwrap();
    storage.read_head(KEY, None, 100).await.unwrap().unwrap().version.unwrap()
}

async fn get(url: &str) -> (u16, String) {
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn refused(settings: &StorageSettings, signer: Option<&Signer>) -> String {
    let storage = Storage::new(settings).await.unwrap();
    pin::check(&storage, signer).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_version_is_read_whatever_is_written_or_deleted_after_it() {
    let Some(stand) = versioned().await else { return };
    let first = put(&stand.storage, "first").await;
    let second = put(&stand.storage, "second").await;
    assert_ne!(first, second);
    // A DELETE without a version hides the object behind a marker.
    Storage::new(&StorageSettings { pin: Pin::Copy, ..stand.settings.clone() })
        .await
        .unwrap()
        .delete(KEY)
        .await
        .unwrap();
    assert_eq!(stand.storage.read_head(KEY, None, 100).await.unwrap(), None);
    for (version, bytes) in [(&first, "first"), (&second, "second")] {
        let head = stand.storage.read_head(KEY, Some(version), 100).await.unwrap().unwrap();
        assert_eq!((head.bytes, head.version.as_ref()), (Bytes::from_static(bytes.as_bytes()), Some(version)));
        stand.storage.sha256(KEY, Some(version), &head.etag).await.unwrap();
        let read = stand.storage.read_url(KEY, Some(version), Duration::from_secs(60)).await.unwrap();
        let answer = reqwest::get(&read.url).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-disposition"]),
            (200, &"inline".parse().unwrap())
        );
        assert!(answer.headers()["cache-control"].to_str().unwrap().contains("immutable"));
        assert_eq!(answer.text().await.unwrap(), bytes);
        // The signature is for this version alone.
        let other = if *version == first { &second } else { &first };
        assert_eq!(get(&read.url.replace(version.as_str(), other)).await.0, 403);
    }
    let newest = stand.storage.read_url(KEY, None, Duration::from_secs(60)).await.unwrap();
    assert_eq!(get(&newest.url).await.0, 403, "the reader's key may not read without a version");

    stand.storage.delete(KEY).await.unwrap();
    assert_eq!(stand.storage.list_versions("").await.unwrap(), []);
}

#[tokio::test]
async fn whatever_the_setting_is_now_all_but_the_pinned_version_goes() {
    let Some(stand) = versioned().await else { return };
    // Another key has this one as its prefix.
    stand.storage.put("incoming/12", "image/png", "other".into()).await.unwrap();
    for pin in [Pin::Version, Pin::Copy] {
        let storage = Storage::new(&StorageSettings { pin, ..stand.settings.clone() }).await.unwrap();
        put(&stand.storage, "before").await;
        let pinned = put(&stand.storage, "pinned").await;
        put(&stand.storage, "after").await;
        let plain = Storage::new(&StorageSettings { pin: Pin::Copy, ..stand.settings.clone() }).await.unwrap();
        plain.delete(KEY).await.unwrap();

        let left = storage.empty(&[KEY.to_owned()], &BTreeMap::from([(KEY.to_owned(), pinned.clone())])).await.unwrap();
        assert_eq!(left, Vec::<String>::new());
        let mut versions = stand.storage.list_versions("").await.unwrap();
        versions.retain(|(key, _version)| key == KEY);
        assert_eq!(versions, [(KEY.to_owned(), pinned)]);
        assert_eq!(stand.storage.read(KEY).await.unwrap(), Some("pinned".into()));
        assert_eq!(storage.empty(&[KEY.to_owned()], &BTreeMap::new()).await.unwrap(), Vec::<String>::new());
        assert_eq!(stand.storage.list("").await.unwrap(), ["incoming/12"]);
    }
}

/// The version may have been restored under another id.
#[tokio::test]
async fn without_the_pinned_version_the_others_stay() {
    let Some(stand) = versioned().await else { return };
    let other = put(&stand.storage, "the last one").await;
    stand.storage.put("incoming/2", "image/png", "unpinned".into()).await.unwrap();
    let keys = [KEY.to_owned(), "incoming/2".to_owned(), "incoming/3".to_owned()];
    let gone = "5f0b6f52-2f2c-4b43-9a64-2d2b2c3c2b52".to_owned();
    let pinned = BTreeMap::from([(KEY.to_owned(), gone.clone()), ("incoming/3".to_owned(), gone)]);
    assert_eq!(stand.storage.empty(&keys, &pinned).await.unwrap(), [KEY]);
    assert_eq!(stand.storage.list_versions("").await.unwrap(), [(KEY.to_owned(), other)]);
}

#[tokio::test]
async fn more_versions_than_one_page_are_all_removed() {
    let Some(stand) = versioned().await else { return };
    let writes = (0..1100).map(|_| stand.storage.put(KEY, "image/png", "x".into()));
    stream::iter(writes).buffer_unordered(16).try_collect::<()>().await.unwrap();
    assert_eq!(stand.storage.list_versions("").await.unwrap().len(), 1100);
    stand.storage.delete(KEY).await.unwrap();
    assert_eq!(stand.storage.list_versions("").await.unwrap(), []);
}

#[tokio::test]
async fn a_bucket_that_keeps_versions_passes_and_nothing_is_left() {
    let Some(stand) = versioned().await else { return };
    assert_eq!(rights::check(&stand.storage, Some(&stand.signer)).await, Ok(()));
    assert_eq!(pin::check(&stand.storage, Some(&stand.signer)).await, Ok(()));
    // V1 has no signer, and public images need no reader.
    let public = StorageSettings {
        reader_access_key_id: None,
        reader_secret_access_key: None,
        reader_session_token: None,
        media_public_base_url: Some("https://media.example".parse().unwrap()),
        ..stand.settings.clone()
    };
    let public = Storage::new(&public).await.unwrap();
    assert_eq!(pin::check(&public, None).await, Ok(()));
    let read = public.read_url(KEY, Some("a/b"), Duration::from_secs(60)).await.unwrap();
    assert_eq!(read.url, "https://media.example/incoming/1?versionId=a%2Fb");
    assert_eq!(stand.admin.list_versions("").await.unwrap(), []);
}

#[tokio::test]
async fn a_bucket_without_versioning_is_refused() {
    let Some(stand) = versioned().await else { return };
    bucket::suspend_versioning(&stand.admin).await.unwrap();
    assert_eq!(bucket::versioning(&stand.storage).await.unwrap(), Versioning::Suspended);
    let sentence = refused(&stand.settings, Some(&stand.signer)).await;
    assert_eq!(
        sentence,
        format!(
            "S3_PIN: the bucket `{}` has its versioning suspended; run `upload-ops bucket --versioning`, or set S3_PIN=copy",
            stand.settings.bucket
        )
    );
    let never = stand_with(|settings| settings.pin = Pin::Version).await;
    let sentence = refused(&never.settings, Some(&never.signer)).await;
    assert!(sentence.contains("has no versioning; run `upload-ops bucket --versioning`"), "{sentence}");
    let copies = Storage::new(&StorageSettings { pin: Pin::Copy, ..never.settings.clone() }).await.unwrap();
    assert_eq!(pin::check(&copies, Some(&never.signer)).await, Ok(()));
}

/// The store keeps the versions of earlier links, whatever `S3_PIN` is now.
#[tokio::test]
async fn what_is_pinned_already_is_checked_without_a_probe() {
    let Some(stand) = versioned().await else { return };
    let version = put(&stand.storage, "pinned").await;
    put(&stand.storage, "replayed").await;
    let copies = Storage::new(&StorageSettings { pin: Pin::Copy, ..stand.settings.clone() }).await.unwrap();
    assert_eq!(pin::check_pinned(&copies, KEY, &version).await, Ok(()));
    assert_eq!(stand.admin.list_versions("").await.unwrap().len(), 2);

    if let Some(reader) = further_key(&READER_POLICY.replace("${S3_BUCKET}", &stand.settings.bucket)).await {
        let settings = StorageSettings {
            pin: Pin::Copy,
            reader_access_key_id: Some(reader.id),
            reader_secret_access_key: Some(SecretString::from(reader.secret)),
            reader_session_token: reader.session_token.map(SecretString::from),
            ..stand.settings.clone()
        };
        let narrow = Storage::new(&settings).await.unwrap();
        let sentence = pin::check_pinned(&narrow, KEY, &version).await.unwrap_err().to_string();
        assert!(sentence.contains("the reader's key lacks the right to get versions of incoming/*; use"), "{sentence}");
    }

    let rule = crate::lifecycle::expire_old_versions(&stand.admin_settings, "").await;
    let sentence = pin::check_pinned(&copies, KEY, &version).await.unwrap_err().to_string();
    assert!(sentence.starts_with(&format!("S3_PIN: the lifecycle rule `{rule}` of the bucket")), "{sentence}");
    assert!(sentence.ends_with("remove the rule or give it another prefix"), "{sentence}");
    crate::lifecycle::expire_old_versions(&stand.admin_settings, "media/").await;
    assert_eq!(pin::check_pinned(&copies, KEY, &version).await, Ok(()));

    // A lost image is one lost image.
    stand.storage.delete(KEY).await.unwrap();
    assert_eq!(pin::check_pinned(&copies, KEY, &version).await, Ok(()));
}

#[tokio::test]
async fn what_a_stopped_probe_left_goes_when_its_time_is_over() {
    let Some(stand) = versioned().await else { return };
    stand.storage.put(KEY, "image/png", "an upload".into()).await.unwrap();
    let (endpoint, relay) = Relay::before(stand.settings.endpoint.as_str()).await.unwrap();
    let settings = StorageSettings { endpoint: endpoint.parse().unwrap(), ..stand.settings.clone() };
    let storage = Storage::new(&settings).await.unwrap();
    relay.set(Mode::HoldRequestsWith("?delete"));
    tokio::select! {
        checked = pin::check(&storage, None) => panic!("{checked:?}"),
        () = relay.holds(1) => {}
    }
    let left = stand.storage.list_versions("").await.unwrap();
    assert_eq!(left.len(), 3, "{left:?}");
    // A probe may still run there.
    assert_eq!(pin::check(&stand.storage, None).await, Ok(()));
    assert_eq!(stand.storage.list_versions("").await.unwrap(), left);
    pin::remove_left_over(&stand.storage, Utc::now() + TimeDelta::hours(1)).await.unwrap();
    assert_eq!(stand.storage.list("").await.unwrap(), [KEY]);
    assert_eq!(stand.storage.list_versions("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_rule_that_removes_old_versions_of_uploads_is_refused() {
    let Some(stand) = versioned().await else { return };
    for (prefix, is_refused) in
        [("", true), ("inc", true), ("incoming/", true), ("incoming/1", true), ("media/", false)]
    {
        let rule = crate::lifecycle::expire_old_versions(&stand.admin_settings, prefix).await;
        let checked = pin::check(&stand.storage, Some(&stand.signer)).await;
        assert_eq!(checked.is_err(), is_refused, "{prefix}: {checked:?}");
        if let Err(error) = checked {
            let sentence = error.to_string();
            assert!(sentence.starts_with(&format!("S3_PIN: the lifecycle rule `{rule}` of the bucket")), "{sentence}");
            assert!(sentence.ends_with("remove the rule or give it another prefix, or set S3_PIN=copy"), "{sentence}");
        }
    }
    // The rule of a bucket without versions goes when versioning is enabled.
    assert_eq!(bucket::set_lifecycle(&stand.admin).await.unwrap(), Outcome::Done);
    assert_eq!(bucket::remove_lifecycle(&stand.admin).await.unwrap(), Outcome::Done);
    assert_eq!(bucket::remove_lifecycle(&stand.admin).await.unwrap(), Outcome::AlreadyThere);
}

#[tokio::test]
async fn a_key_that_may_not_do_it_by_version_is_refused_by_name() {
    let Some(stand) = versioned().await else { return };
    let mine = |policy: &str| policy.replace("${S3_BUCKET}", &stand.settings.bucket);
    let Some(reader) = further_key(&mine(READER_POLICY)).await else { return };
    let settings = StorageSettings {
        reader_access_key_id: Some(reader.id),
        reader_secret_access_key: Some(SecretString::from(reader.secret)),
        reader_session_token: reader.session_token.map(SecretString::from),
        ..stand.settings.clone()
    };
    let sentence = refused(&settings, None).await;
    assert!(
        sentence.starts_with(
            "S3_READER_ACCESS_KEY_ID: the reader's key lacks the right to get versions of incoming/*; use"
        ),
        "{sentence}"
    );

    let Some(server) = further_key(&mine(SERVER_POLICY)).await else { return };
    let settings = StorageSettings {
        access_key_id: Some(server.id),
        secret_access_key: Some(SecretString::from(server.secret)),
        session_token: server.session_token.map(SecretString::from),
        ..stand.settings.clone()
    };
    let sentence = refused(&settings, None).await;
    assert!(
        sentence.starts_with("S3_ACCESS_KEY_ID: the server's key lacks the right to get the bucket's ver"),
        "{sentence}"
    );
    assert_eq!(stand.admin.list_versions("").await.unwrap(), []);
}

/// MinIO lets a form name the version to write, if the signer's policy does not refuse that.
#[tokio::test]
async fn a_signer_that_may_change_a_version_is_refused() {
    let Some(stand) = versioned().await else { return };
    let bare = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Action": ["s3:PutObject"],
        "Resource": [format!("arn:aws:s3:::{}/incoming/*", stand.settings.bucket)],
    }] });
    let Some(key) = further_key(&bare.to_string()).await else { return };
    let settings = SignerSettings {
        access_key_id: Some(key.id),
        secret_access_key: Some(SecretString::from(key.secret)),
        session_token: key.session_token.map(SecretString::from),
        profile: None,
    };
    let signer = Signer::new(&stand.settings, &settings).await.unwrap();
    let checked = pin::check(&stand.storage, Some(&signer)).await;
    if S3Connection::from_environment().unwrap().is_none() {
        return assert_eq!(checked, Ok(()), "the store in memory ignores the version");
    }
    let sentence = checked.unwrap_err().to_string();
    let expected = "S3_SIGNER_ACCESS_KEY_ID: with `versionId` in its URL, a form of the signer's key changes a version";
    assert!(sentence.starts_with(expected), "{sentence}");
    assert_eq!(stand.admin.list_versions("").await.unwrap(), []);
}

#[tokio::test]
async fn a_store_that_only_says_that_it_keeps_versions_is_refused() {
    for (lie, method) in [(Lie::KeepsNone, "PUT"), (Lie::KeepsNoneOfForms, "POST")] {
        let Some(stand) = versioned().await else { return };
        let settings = StorageSettings { endpoint: before(&stand, lie).await, ..stand.settings.clone() };
        let sentence = refused(&settings, Some(&stand.signer)).await;
        let expected =
            format!("S3_PIN: the store does not keep the versions of what it gets by {method}; set S3_PIN=copy");
        assert_eq!(sentence, expected);
    }
}

/// The answer to a form with `versionId` in its URL.
#[tokio::test]
async fn a_store_must_refuse_a_form_that_names_a_version_and_not_just_fail() {
    for (status, code, is_refused) in [
        (403, "AccessDenied", false),
        (400, "InvalidArgument", false),
        (400, "MalformedPOSTRequest", true),
        (409, "OperationAborted", true),
    ] {
        let Some(stand) = versioned().await else { return };
        let settings =
            StorageSettings { endpoint: before(&stand, Lie::Fails(status, code)).await, ..stand.settings.clone() };
        let storage = Storage::new(&settings).await.unwrap();
        let checked = pin::check(&storage, Some(&stand.signer)).await;
        assert_eq!(checked.is_err(), is_refused, "{status} {code}: {checked:?}");
        if let Err(error) = checked {
            let sentence = error.to_string();
            assert!(sentence.contains("may change a version that is already there"), "{sentence}");
            assert!(sentence.contains(code), "{sentence}");
        }
    }
}

#[tokio::test]
async fn a_list_of_versions_that_never_ends_is_an_error() {
    let Some(stand) = versioned().await else { return };
    let settings = StorageSettings { endpoint: before(&stand, Lie::ListsForEver).await, ..stand.settings.clone() };
    let storage = Storage::new(&settings).await.unwrap();
    let error = storage.list_versions(KEY).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
}

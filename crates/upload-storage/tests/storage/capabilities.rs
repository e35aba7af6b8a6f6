//! What `upload-ops doctor` asks a store: a store that does everything, and stores that do not.

use futures::FutureExt as _;
use upload_sandbox::{
    not_tested::{MINIO, not_tested},
    s3::S3Connection,
};
use upload_storage::{
    Pin, SignerSettings, Storage, StorageSettings, UploadMethod,
    bucket::{self, Outcome},
    capabilities::{Examination, PostForms, PutForms, Shown},
};

use crate::{
    liar::{Lie, before},
    stand::{Stand, further_key, stand},
};

const ORIGIN: &str = "https://app.example";

async fn examination(stand: &Stand, settings: &StorageSettings) -> Examination {
    let storage = Storage::new(settings).await.unwrap();
    Examination::new(&storage, settings, &stand.signer_settings).await.unwrap()
}

async fn at(stand: &Stand, lie: Lie) -> Examination {
    let settings = StorageSettings { endpoint: before(stand, lie).await, ..stand.settings.clone() };
    examination(stand, &settings).await
}

fn no(shown: &Shown, said: &str) {
    assert!(matches!(shown, Shown::No(words) if words.contains(said)), "{said}: {shown:?}");
}

#[tokio::test]
async fn a_store_that_does_everything_shows_it_and_keeps_nothing() {
    let stand = stand().await;
    let asked = examination(&stand, &stand.settings).await;
    let yes = || Shown::Yes;
    let post = PostForms {
        accepted: yes(),
        size: yes(),
        content_type: yes(),
        key: yes(),
        media: yes(),
        expiry: yes(),
        checksum: yes(),
    };
    assert_eq!(asked.post_forms().await, Some(post));
    let forged = asked.forged().await;
    assert!(forged.are_refused() && forged.unsigned_body == Some(yes()), "{forged:?}");
    let put = PutForms { accepted: yes(), size: yes(), content_type: yes(), expiry: yes() };
    assert_eq!(asked.put_forms().await, Some(put));
    assert_eq!(asked.if_none_match().await, yes());
    assert_eq!(asked.copy_if_match().await, yes());
    assert_eq!(asked.public_read().await, yes());
    for method in [UploadMethod::Post, UploadMethod::Put] {
        assert_eq!(asked.public_upload(method).await, Some(yes()), "{method:?}");
    }
    assert!(!stand.admin.list("incoming/").await.unwrap().is_empty());
    asked.clean_up().await.unwrap();
    assert_eq!(stand.admin.list("").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn in_a_bucket_with_versions_no_version_is_left() {
    let stand = stand().await;
    let asked = examination(&stand, &stand.settings).await;
    let (by_put, by_form) = asked.versions(&stand.settings).await.unwrap();
    no(&by_put, "has no versioning");
    no(&by_form.unwrap(), "has no versioning");
    if bucket::enable_versioning(&stand.admin).await.unwrap() != Outcome::Done {
        return not_tested(MINIO, "the store of S3_ENDPOINT has no versions").unwrap();
    }
    assert_eq!(asked.versions(&stand.settings).await.unwrap(), (Shown::Yes, Some(Shown::Yes)));
    assert!(asked.has_versioning().await.unwrap());
    asked.post_forms().await;
    asked.if_none_match().await;
    assert!(asked.keeps_old_versions().await.is_yes());
    no(&asked.expires_incoming().await, "no rule");
    asked.clean_up().await.unwrap();
    assert_eq!(stand.admin.list_versions("").await.unwrap(), []);

    for (lie, put, form) in [(Lie::KeepsNone, false, false), (Lie::KeepsNoneOfForms, true, false)] {
        let settings = StorageSettings { endpoint: before(&stand, lie).await, ..stand.settings.clone() };
        let liar = examination(&stand, &settings).await;
        let (by_put, by_form) = liar.versions(&settings).await.unwrap();
        assert_eq!((by_put.is_yes(), by_form.unwrap().is_yes()), (put, form), "{lie:?}");
    }
    crate::lifecycle::expire_old_versions(&stand.admin_settings, "incoming/").await;
    no(&asked.keeps_old_versions().await, "removes old versions");
}

#[tokio::test]
async fn without_a_signer_no_form_is_sent() {
    let stand = stand().await;
    let none = SignerSettings { access_key_id: None, secret_access_key: None, session_token: None, profile: None };
    let asked = Examination::new(&stand.storage, &stand.settings, &none).await.unwrap();
    assert_eq!((asked.post_forms().await, asked.put_forms().await), (None, None));
    assert_eq!(asked.public_upload(UploadMethod::Post).await, None);
    assert_eq!(asked.cors(UploadMethod::Post, ORIGIN).await, None);
    assert_eq!(asked.cors_foreign(UploadMethod::Post).await, None);
    assert!(asked.public_read().await.is_yes());
    let forged = asked.forged().await;
    assert!(forged.are_refused(), "{forged:?}");
    assert_eq!((forged.post_form, forged.put_form, forged.unsigned_body), (None, None, None));
    asked.clean_up().await.unwrap();
    assert_eq!(stand.admin.list("").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_store_without_post_forms_says_so_and_takes_puts() {
    let stand = stand().await;
    let asked = at(&stand, Lie::TakesNoForms).await;
    let post = asked.post_forms().await.unwrap();
    no(&post.accepted, "501 NotImplemented, and does not have the file");
    assert!(matches!(post.key, Shown::Unknown(_)), "{post:?}");
    let put = asked.put_forms().await.unwrap();
    assert!(put.accepted.is_yes() && put.size.is_yes(), "{put:?}");
    no(&asked.public_upload(UploadMethod::Post).await.unwrap(), "501");
    assert!(asked.public_upload(UploadMethod::Put).await.unwrap().is_yes());
    asked.clean_up().await.unwrap();
    assert_eq!(stand.admin.list("").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_store_that_obeys_everybody_is_found_out() {
    let stand = stand().await;
    let asked = at(&stand, Lie::ObeysEverybody).await;
    let post = asked.post_forms().await.unwrap();
    assert!(post.accepted.is_yes(), "{post:?}");
    let put = asked.put_forms().await.unwrap();
    assert!(put.accepted.is_yes(), "{put:?}");
    let forms = [&post.size, &post.content_type, &post.key, &post.media, &post.expiry, &post.checksum];
    for shown in forms.into_iter().chain([&put.size, &put.content_type, &put.expiry]) {
        no(shown, "has stored the file");
    }
    let forged = asked.forged().await;
    no(&forged.read, "anyone can read incoming/");
    no(&forged.list, "anyone can list");
    no(&forged.write, "has stored the file");
    for shown in [forged.post_form, forged.put_form, forged.unsigned_body] {
        no(&shown.unwrap(), "has stored the file");
    }
    no(&asked.if_none_match().await, "overwrites");
    no(&asked.copy_if_match().await, "whose ETag is another one");
    asked.clean_up().await.unwrap();
    assert_eq!(stand.admin.list("").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_public_address_that_leads_elsewhere_is_found_out() {
    let (stand, other) = (stand().await, stand().await);
    // Nothing listens there.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = StorageSettings {
        public_endpoint: Some(format!("http://{nowhere}").parse().unwrap()),
        pin: Pin::Copy,
        ..stand.settings.clone()
    };
    let asked = examination(&stand, &settings).await;
    no(&asked.public_read().await, "cannot be reached");
    assert!(asked.post_forms().await.unwrap().accepted.is_yes(), "the store itself is reached at its own address");
    no(&asked.public_upload(UploadMethod::Post).await.unwrap(), "");
    asked.clean_up().await.unwrap();

    // A form for one bucket that arrives in another one.
    let elsewhere = StorageSettings { bucket: other.settings.bucket.clone(), ..stand.settings.clone() };
    let storage = Storage::new(&elsewhere).await.unwrap();
    let asked = Examination::new(&storage, &stand.settings, &stand.signer_settings).now_or_never().unwrap().unwrap();
    no(&asked.public_upload(UploadMethod::Post).await.unwrap(), "stores its file somewhere else");
}

#[tokio::test]
async fn a_page_needs_its_origin_its_method_and_the_etag() {
    let stand = stand().await;
    let asked = examination(&stand, &stand.settings).await;
    // MinIO has no CORS for a bucket. It lets in every origin.
    let has_rules = bucket::set_cors(&stand.admin, &[ORIGIN.to_owned()]).await.unwrap() == Outcome::Done;
    for method in [UploadMethod::Post, UploadMethod::Put] {
        assert_eq!(asked.cors(method, ORIGIN).await, Some(Shown::Yes), "{method:?}");
        if has_rules {
            no(&asked.cors(method, "https://other.example").await.unwrap(), "without this origin");
            assert_eq!(asked.cors_foreign(method).await, Some(Shown::Yes), "{method:?}");
        }
    }
    bucket::set_cors(&stand.admin, &["*".to_owned()]).await.unwrap();
    no(&asked.cors_foreign(UploadMethod::Post).await.unwrap(), "every origin");
    asked.clean_up().await.unwrap();
}

/// A page that may not send these headers sends no file, whatever else it may.
#[tokio::test]
async fn a_page_needs_the_headers_of_a_file() {
    let stand = stand().await;
    let asked = at(&stand, Lie::AllowsOnlyHeader("content-type")).await;
    bucket::set_cors(&stand.admin, &[ORIGIN.to_owned()]).await.unwrap();
    no(&asked.cors(UploadMethod::Put, ORIGIN).await.unwrap(), "does not allow the header x-amz-checksum-sha256");
    asked.clean_up().await.unwrap();
}

/// A DELETE without a version only hides what is there.
#[tokio::test]
async fn versions_that_the_servers_key_may_not_list_are_not_taken_for_removed() {
    if S3Connection::from_environment().unwrap().is_some() {
        return; // On a MinIO, a key that may list also lists versions.
    }
    let stand = stand().await;
    if bucket::enable_versioning(&stand.admin).await.unwrap() != Outcome::Done {
        return not_tested(MINIO, "the store of S3_ENDPOINT has no versions").unwrap();
    }
    let bucket = &stand.settings.bucket;
    let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [format!("arn:aws:s3:::{bucket}")] },
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            "Resource": [format!("arn:aws:s3:::{bucket}/incoming/*"), format!("arn:aws:s3:::{bucket}/media/*")],
        },
    ]});
    let Some(key) = further_key(&policy.to_string()).await else { return };
    let settings = StorageSettings {
        access_key_id: Some(key.id),
        secret_access_key: Some(key.secret.into()),
        session_token: key.session_token.map(Into::into),
        ..stand.settings.clone()
    };
    let asked = examination(&stand, &settings).await;
    assert!(asked.public_read().await.is_yes());
    asked.clean_up().await.unwrap_err();
    assert_ne!(stand.admin.list_versions("").await.unwrap(), []);
}

//! The errors of a server at start-up for keys with too few or too many rights, as a table. Each case creates its own key, so these
//! tests need a store that can create keys: the embedded one, or a MinIO.

use secrecy::SecretString;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use upload_sandbox::s3::{Key, S3Connection};
use upload_storage::{
    KeyCheck, Pin, Signer, SignerSettings, Storage, StorageSettings, bucket,
    rights::{self, RightsError},
};

use crate::stand::{Stand, further_key, stand, stand_with, stand_without_bucket};

/// The key that a case tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    Signer,
    Reader,
}
use Role::{Reader, Server, Signer as SignerRole};

/// Actions without their `s3:`, each with a path in the bucket. An empty path is the bucket itself.
type Rights = &'static [(&'static str, &'static str)];

const LIST: (&str, &str) = ("ListBucket", "");
const GET_INCOMING: (&str, &str) = ("GetObject", "/incoming/*");
const PUT_INCOMING: (&str, &str) = ("PutObject", "/incoming/*");
const DELETE_INCOMING: (&str, &str) = ("DeleteObject", "/incoming/*");
const GET_MEDIA: (&str, &str) = ("GetObject", "/media/*");
const PUT_MEDIA: (&str, &str) = ("PutObject", "/media/*");
const DELETE_MEDIA: (&str, &str) = ("DeleteObject", "/media/*");

/// The key, its rights, and the errors about it. A correct key has no errors.
const CASES: &[(Role, Rights, &[&str])] = &[
    // The server's key.
    (Server, &[LIST, GET_INCOMING, PUT_INCOMING, DELETE_INCOMING, GET_MEDIA, PUT_MEDIA, DELETE_MEDIA], &[]),
    (Server, &[LIST, GET_INCOMING, DELETE_INCOMING, GET_MEDIA, PUT_MEDIA, DELETE_MEDIA], &[]),
    (
        Server,
        &[GET_INCOMING, DELETE_INCOMING, GET_MEDIA, PUT_MEDIA, DELETE_MEDIA],
        &["S3_ACCESS_KEY_ID: the server's key lacks the right to list the bucket"],
    ),
    (Server, &[LIST, DELETE_INCOMING, GET_MEDIA, PUT_MEDIA, DELETE_MEDIA], &["lacks the right to get incoming/*;"]),
    (Server, &[LIST, GET_INCOMING, GET_MEDIA, PUT_MEDIA, DELETE_MEDIA], &["lacks the right to delete incoming/*;"]),
    (Server, &[LIST, GET_INCOMING, DELETE_INCOMING, PUT_MEDIA, DELETE_MEDIA], &["lacks the right to get media/*;"]),
    (Server, &[LIST, GET_INCOMING, DELETE_INCOMING, GET_MEDIA, DELETE_MEDIA], &["lacks the right to put media/*;"]),
    (Server, &[LIST, GET_INCOMING, DELETE_INCOMING, GET_MEDIA, PUT_MEDIA], &["lacks the right to delete media/*;"]),
    (
        Server,
        &[LIST, GET_INCOMING],
        &["S3_ACCESS_KEY_ID: the server's key lacks the right to put media/*, delete incoming/* and delete media/*;"],
    ),
    (
        Server,
        &[("*", ""), ("*", "/*")],
        &[
            "S3_ACCESS_KEY_ID: the server's key has the right to put outside of incoming/* and media/*, which it must not have; ",
        ],
    ),
    (
        Server,
        &[("*Object", "/*")],
        &[
            "lacks the right to list the bucket, and has the right to put outside of incoming/* and media/*, which it must not have;",
        ],
    ),
    // The signer's key.
    (SignerRole, &[PUT_INCOMING], &[]),
    (
        SignerRole,
        &[("GetObject", "/elsewhere/*")],
        &["S3_SIGNER_ACCESS_KEY_ID: the signer's key lacks the right to put incoming/*;"],
    ),
    (
        SignerRole,
        &[("PutObject", "/*")],
        &[
            "S3_SIGNER_ACCESS_KEY_ID: the signer's key has the right to put media/* and put outside of incoming/*, which it must not have;",
        ],
    ),
    (SignerRole, &[PUT_INCOMING, PUT_MEDIA], &["has the right to put media/*, which it must not have;"]),
    (SignerRole, &[PUT_INCOMING, GET_INCOMING], &["has the right to get incoming/*, which it must not have;"]),
    (SignerRole, &[PUT_INCOMING, GET_MEDIA], &["has the right to get media/*, which it must not have;"]),
    (SignerRole, &[PUT_INCOMING, LIST], &["has the right to list the bucket, which it must not have;"]),
    (SignerRole, &[PUT_INCOMING, DELETE_INCOMING], &["has the right to delete incoming/*, which it must not have;"]),
    (SignerRole, &[PUT_INCOMING, DELETE_MEDIA], &["has the right to delete media/*, which it must not have;"]),
    (
        SignerRole,
        &[PUT_MEDIA],
        &["lacks the right to put incoming/*, and has the right to put media/*, which it must not have;"],
    ),
    // The reader's key.
    (Reader, &[GET_MEDIA], &[]),
    (
        Reader,
        &[("GetObject", "/elsewhere/*")],
        &["S3_READER_ACCESS_KEY_ID: the reader's key lacks the right to get media/*;"],
    ),
    (
        Reader,
        &[("GetObject", "/*")],
        &["S3_READER_ACCESS_KEY_ID: the reader's key has the right to get incoming/*, which it must not have;"],
    ),
    (Reader, &[GET_MEDIA, LIST], &["has the right to list the bucket, which it must not have;"]),
    (Reader, &[LIST], &["has the right to list the bucket, which it must not have;"]),
    (Reader, &[GET_MEDIA, PUT_MEDIA], &["has the right to put media/*, which it must not have;"]),
    (Reader, &[GET_MEDIA, PUT_INCOMING], &["has the right to put incoming/*, which it must not have;"]),
    (
        Reader,
        &[GET_MEDIA, ("PutObject", "/elsewhere*"), ("PutObject", "/r*")],
        &["has the right to put outside of incoming/* and media/*"],
    ),
    (Reader, &[GET_MEDIA, DELETE_INCOMING], &["has the right to delete incoming/*, which it must not have;"]),
    (Reader, &[GET_MEDIA, DELETE_MEDIA], &["has the right to delete media/*, which it must not have;"]),
];

/// With `S3_PIN=version`, on a store that asks for the actions of versions as AWS does. (MinIO lets a key list and delete versions that may
/// list and delete objects.)
const VERSION_CASES: &[(Role, Rights, &[&str])] = &[
    (
        Server,
        &[
            LIST,
            ("ListBucketVersions", ""),
            GET_INCOMING,
            ("DeleteObjectVersion", "/incoming/*"),
            GET_MEDIA,
            PUT_MEDIA,
            ("DeleteObjectVersion", "/media/*"),
        ],
        &[],
    ),
    (
        Server,
        &[LIST, GET_INCOMING, DELETE_INCOMING, GET_MEDIA, PUT_MEDIA, DELETE_MEDIA],
        &[
            "S3_ACCESS_KEY_ID: the server's key lacks the right to list the versions in the bucket, delete versions of incoming/* and delete \
           versions of media/*;",
        ],
    ),
    (
        SignerRole,
        &[PUT_INCOMING, ("DeleteObjectVersion", "/incoming/*")],
        &["the signer's key has the right to delete versions of incoming/*, which it must not have;"],
    ),
    (Reader, &[GET_MEDIA, ("GetObjectVersion", "/incoming/*")], &[]),
    (
        Reader,
        &[GET_MEDIA, ("DeleteObjectVersion", "/media/*")],
        &["the reader's key has the right to delete versions of media/*, which it must not have;"],
    ),
];

fn policy(bucket: &str, rights: Rights) -> String {
    let statements: Vec<_> = rights
        .iter()
        .map(|(action, place)| {
            let resource = format!("arn:aws:s3:::{bucket}{place}");
            serde_json::json!({ "Effect": "Allow", "Action": [format!("s3:{action}")], "Resource": [resource] })
        })
        .collect();
    serde_json::json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

/// A stand's settings, to be changed before they are checked.
struct Start {
    storage: StorageSettings,
    signer: SignerSettings,
}

impl Start {
    fn new(stand: &Stand) -> Self {
        let mut start = Self { storage: stand.settings.clone(), signer: stand.signer_settings.clone() };
        start.storage.allow_one_key = false;
        start
    }

    fn set(&mut self, role: Role, key: &Key) {
        let (id, secret) = (Some(key.id.clone()), Some(SecretString::from(key.secret.clone())));
        let token = key.session_token.clone().map(SecretString::from);
        let Self { storage, signer } = self;
        match role {
            Server => (storage.access_key_id, storage.secret_access_key, storage.session_token) = (id, secret, token),
            SignerRole => (signer.access_key_id, signer.secret_access_key, signer.session_token) = (id, secret, token),
            Reader => {
                (storage.reader_access_key_id, storage.reader_secret_access_key) = (id, secret);
                storage.reader_session_token = token;
            }
        }
    }

    async fn check(&self) -> Result<(), RightsError> {
        let storage = Storage::new(&self.storage).await.unwrap();
        let signer = Signer::new(&self.storage, &self.signer).await.unwrap();
        rights::check(&storage, Some(&signer)).await
    }
}

#[tokio::test]
async fn the_keys_of_the_policies_pass_and_nothing_is_changed() {
    let stand = stand().await;
    if Start::new(&stand).check().await.is_err()
        && further_key(&policy(&stand.settings.bucket, &[LIST])).await.is_none()
    {
        return; // This store cannot limit a key to a prefix.
    }
    for keys in [vec![], vec!["incoming/1".to_owned(), "media/1/2".to_owned()]] {
        for key in &keys {
            stand.storage.put(key, "image/png", "x".into()).await.unwrap();
        }
        assert_eq!(Start::new(&stand).check().await, Ok(()));
        // V1 has no signer, and public images need no reader.
        let mut start = Start::new(&stand);
        start.storage.reader_access_key_id = None;
        start.storage.reader_secret_access_key = None;
        start.storage.reader_session_token = None;
        start.storage.media_public_base_url = Some("https://media.example".parse().unwrap());
        assert_eq!(rights::check(&Storage::new(&start.storage).await.unwrap(), None).await, Ok(()));
        let mut left = stand.admin.list("").await.unwrap();
        left.sort();
        assert_eq!(left, keys);
    }
}

#[tokio::test]
async fn a_key_that_may_too_little_or_too_much_is_refused_by_name() {
    let stand = stand().await;
    let mut wrong = Vec::new();
    for with_image in [false, true] {
        if with_image {
            stand.storage.put("media/1/2", "image/png", "x".into()).await.unwrap();
        }
        // The check of the reader depends on whether there is an image.
        for (role, rights, said) in CASES.iter().filter(|(role, ..)| !with_image || *role == Reader) {
            let Some(key) = further_key(&policy(&stand.settings.bucket, rights)).await else { return };
            let mut start = Start::new(&stand);
            start.set(*role, &key);
            wrong.extend(fault(&start.check().await, (role, rights, said)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(stand.admin.list("").await.unwrap(), ["media/1/2"]);
}

#[tokio::test]
async fn with_versions_a_key_that_may_too_little_or_too_much_is_refused_by_name() {
    let stand = stand_with(|settings| settings.pin = Pin::Version).await;
    if S3Connection::from_environment().unwrap().is_some() {
        return; // A MinIO has other actions.
    }
    let mut wrong = Vec::new();
    for (role, rights, said) in VERSION_CASES {
        let key = further_key(&policy(&stand.settings.bucket, rights)).await.unwrap();
        let mut start = Start::new(&stand);
        start.set(*role, &key);
        wrong.extend(fault(&start.check().await, (role, rights, said)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with the result of a check, if anything is.
fn fault(checked: &Result<(), RightsError>, (role, rights, said): (&Role, &Rights, &&[&str])) -> Option<String> {
    let is_as_said = match checked {
        Ok(()) => said.is_empty(),
        Err(error) => !said.is_empty() && said.iter().all(|said| error.to_string().contains(said)),
    };
    (!is_as_said).then(|| format!("{role:?} {rights:?}: {checked:?}"))
}

#[tokio::test]
async fn the_sentence_says_what_to_do_and_names_every_key_that_is_wrong() {
    let stand = stand().await;
    let Some(key) = further_key(&policy(&stand.settings.bucket, &[PUT_INCOMING, LIST])).await else { return };
    let Some(wide) = further_key(&policy(&stand.settings.bucket, &[("*", ""), ("*", "/*")])).await else { return };
    let mut start = Start::new(&stand);
    start.set(SignerRole, &key);
    start.set(Server, &wide);
    let expected = "S3_ACCESS_KEY_ID: the server's key has the right to put outside of incoming/* and media/*, which it must not have; \
                    S3_SIGNER_ACCESS_KEY_ID: the signer's key has the right to list the bucket, which it must not have; use the policies in \
                    docs/OPERATIONS.md, or set S3_KEY_CHECK=warn if the store has no rights for prefixes, such as Garage";
    let refused = start.check().await.unwrap_err().to_string();
    assert_eq!(refused, expected);

    start.storage.key_check = KeyCheck::Warn;
    assert_eq!(start.check().await, Ok(()));
    start.storage.key_check = KeyCheck::Off;
    assert_eq!(start.check().await, Ok(()));
    start.storage.key_check = KeyCheck::Enforce;
    // For a trial: too many rights are only logged.
    start.storage.allow_one_key = true;
    assert_eq!(start.check().await, Ok(()));
    start.set(SignerRole, &wide);
    start.set(Reader, &wide);
    assert_eq!(start.check().await, Ok(()));
    start.set(Server, &key);
    assert!(start.check().await.unwrap_err().to_string().contains("server's key lacks the right"));
}

#[tokio::test]
async fn an_unknown_key_and_a_wrong_secret_are_told_apart_whatever_the_check_is_set_to() {
    let stand = stand().await;
    if further_key(&policy(&stand.settings.bucket, &[LIST])).await.is_none() {
        return;
    }
    let keys = [
        (Server, &stand.server_key, "S3_ACCESS_KEY_ID: ", "server's"),
        (SignerRole, &stand.signer_key, "S3_SIGNER_ACCESS_KEY_ID: ", "signer's"),
        (Reader, &stand.reader_key, "S3_READER_ACCESS_KEY_ID: ", "reader's"),
    ];
    for mode in [KeyCheck::Enforce, KeyCheck::Warn] {
        for (role, key, variable, name) in keys {
            let wrong_secret = Key { secret: "not-the-secret-of-this-key".to_owned(), ..key.clone() };
            let unknown = Key { id: "NOBODYSKEY".to_owned(), session_token: None, ..key.clone() };
            for (key, said) in [
                (
                    wrong_secret,
                    format!("the store knows the {name} key, but its secret is wrong; correct the secret of that key"),
                ),
                (unknown, format!("the store does not know the {name} key; correct its id")),
            ] {
                let mut start = Start::new(&stand);
                start.storage.key_check = mode;
                start.set(role, &key);
                let refused = start.check().await.unwrap_err().to_string();
                assert!(refused.starts_with(variable) && refused.contains(&said), "{mode:?} {role:?}: {refused}");
                assert!(!refused.contains("not-the-secret-of-this-key"), "{refused}");
            }
            let mut start = Start::new(&stand);
            start.storage.key_check = mode;
            start.set(role, &Key { session_token: Some("wrong".to_owned()), ..key.clone() });
            let refused = start.check().await.unwrap_err().to_string();
            let said = format!("the store does not accept the session token of the {name} key");
            assert!(refused.starts_with(variable) && refused.contains(&said), "{mode:?} {role:?}: {refused}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_none_to_the_question_is_told_as_it_is() {
    let stand = stand().await;
    for (status, code, message, said) in [
        (
            "400 Bad Request",
            "ExpiredToken",
            "It is as it is.",
            "S3_ACCESS_KEY_ID: the session token of the server's key has expired; ",
        ),
        (
            "400 Bad Request",
            "InvalidToken",
            "It is as it is.",
            "S3_ACCESS_KEY_ID: the store does not accept the session token of the server's key; ",
        ),
        (
            "400 Bad Request",
            "AuthorizationHeaderMalformed",
            "It is as it is.",
            "S3_REGION: the store is in another region; ",
        ),
        (
            "301 Moved Permanently",
            "PermanentRedirect",
            "It is as it is.",
            "S3_REGION: the store is in another region; ",
        ),
        (
            "405 Method Not Allowed",
            "MethodNotAllowed",
            "It is as it is.",
            "S3_ENDPOINT: the store refused a request that checks the server's key (405 MethodNotAllowed: It is as it is.); ",
        ),
        (
            "403 Forbidden",
            "AccessDenied",
            "It is as it is.",
            "S3_ACCESS_KEY_ID: the server's key lacks the right to list the bucket",
        ),
        ("503 Service Unavailable", "SlowDown", "It is as it is.", "S3_ENDPOINT: the store cannot be reached"),
        (
            "403 Forbidden",
            "AccessDenied",
            "Forbidden: No such key: a",
            "S3_ACCESS_KEY_ID: the store does not know the server's key; ",
        ),
        (
            "403 Forbidden",
            "AccessDenied",
            "Forbidden: Invalid signature",
            "S3_ACCESS_KEY_ID: the store knows the server's key, but ",
        ),
    ] {
        let mut start = Start::new(&stand);
        start.storage.endpoint = always_answers(status, code, message).await;
        let refused = start.check().await.unwrap_err().to_string();
        assert!(refused.starts_with(said), "{status} {code}: {refused}");
        // Without a check of the keys, HeadBucket is refused, and its answer has no error code.
        let storage = Storage::new(&start.storage).await.unwrap();
        let error = bucket::look(&storage).await.unwrap_err();
        let refused = rights::refusal(&storage, &error).await.to_string();
        assert!(refused.starts_with(said), "{status} {code}: {refused}");
    }
}

/// A store that gives this answer to every request, as long as the test's runtime lives.
async fn always_answers(status: &'static str, code: &'static str, message: &'static str) -> url::Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _peer)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    assert_ne!(client.read_buf(&mut head).await.unwrap(), 0);
                }
                let body = match head.starts_with(b"HEAD") {
                    true => String::new(),
                    false => format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"),
                };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                client.write_all(answer.as_bytes()).await.unwrap();
                client.shutdown().await.unwrap();
                // Read what the client still sends, so that a reset does not overtake the answer.
                let _gone = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
            });
        }
    });
    endpoint
}

#[tokio::test]
async fn a_missing_bucket_and_a_store_that_is_away_are_told_apart() {
    let stand = stand_without_bucket(|_settings| {}).await;
    let refused = Start::new(&stand).check().await.unwrap_err().to_string();
    assert!(refused.starts_with("S3_BUCKET: ") && refused.contains(&stand.settings.bucket), "{refused}");

    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut start = Start::new(&stand);
    start.storage.endpoint = format!("http://{}", socket.local_addr().unwrap()).parse().unwrap();
    let refused = start.check().await.unwrap_err().to_string();
    assert!(refused.starts_with("S3_ENDPOINT: "), "{refused}");
}

//! What a presigned PUT lets a client do: exactly the type, the length and, where declared, the content that were signed.

use bytes::Bytes;
use chrono::TimeDelta;
use reqwest::{Client, Method};
use sha2::{Digest, Sha256};
use upload_domain::incoming_key;
use upload_storage::FormRequest;

use crate::{forms::request, stand::stand};

const FILE: &[u8] = b"8 bytes!";

/// A request about to be sent.
struct Put {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Put {
    fn set(&mut self, header: &str, value: &str) {
        self.headers.iter_mut().find(|(name, _value)| name == header).unwrap().1 = value.to_owned();
    }

    fn remove(&mut self, header: &str) {
        self.headers.retain(|(name, _value)| name != header);
    }

    fn replace_in_url(&mut self, from: &str, to: &str) {
        let new = self.url.replace(from, to);
        assert_ne!(new, self.url);
        self.url = new;
    }

    async fn send(&self, client: &Client) -> u16 {
        let mut request = client.request(self.method.clone(), &self.url).body(self.body.clone());
        for (name, value) in &self.headers {
            // Like a browser: Content-Length is the length of the body.
            if name != "content-length" {
                request = request.header(name, value);
            }
        }
        request.send().await.unwrap().status().as_u16()
    }
}

/// A name, the change before signing, and the change to the signed request.
type Case = (&'static str, fn(&mut FormRequest), fn(&mut Put));

const REFUSED: &[Case] = &[
    ("one byte too many", |_| {}, |put| put.body.push(b'x')),
    ("one byte too few", |_| {}, |put| put.body.truncate(7)),
    ("nothing", |_| {}, |put| put.body.clear()),
    ("another type", |_| {}, |put| put.set("content-type", "text/html")),
    ("the type in capitals", |_| {}, |put| put.set("content-type", "IMAGE/PNG")),
    ("no type", |_| {}, |put| put.remove("content-type")),
    ("another key", |_| {}, |put| put.replace_in_url("incoming/0", "incoming/x")),
    ("a media key", |_| {}, |put| put.replace_in_url("incoming/", "media/")),
    ("a longer life", |_| {}, |put| put.replace_in_url("X-Amz-Expires=300", "X-Amz-Expires=3000")),
    ("another region", |_| {}, |put| put.replace_in_url("us-east-1", "eu-west-1")),
    ("no signature", |_| {}, |put| put.url = put.url.split('?').next().unwrap().to_owned()),
    (
        "a signature in capitals",
        |_| {},
        |put| {
            let (rest, signature) = put.url.split_once("X-Amz-Signature=").unwrap();
            put.url = format!("{rest}X-Amz-Signature={}", signature.to_ascii_uppercase().replace('0', "1"));
        },
    ),
    ("a POST", |_| {}, |put| put.method = Method::POST),
    ("a DELETE", |_| {}, |put| put.method = Method::DELETE),
    (
        "an expired form",
        |request| {
            request.now -= TimeDelta::minutes(10);
            request.expires_at -= TimeDelta::minutes(10);
        },
        |_| {},
    ),
    (
        "other content than was declared",
        |request| request.checksum_sha256 = Some(<[u8; 32]>::from(Sha256::digest(FILE)).into()),
        |put| put.body = b"8 others".to_vec(),
    ),
    (
        "another checksum than was declared",
        |request| request.checksum_sha256 = Some([7; 32].into()),
        |put| put.set("x-amz-checksum-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ),
    (
        "no checksum though one was declared",
        |request| request.checksum_sha256 = Some(<[u8; 32]>::from(Sha256::digest(FILE)).into()),
        |put| put.remove("x-amz-checksum-sha256"),
    ),
];

const STORED: &[Case] = &[
    ("the form as signed", |_| {}, |_| {}),
    (
        "the declared content",
        |request| request.checksum_sha256 = Some(<[u8; 32]>::from(Sha256::digest(FILE)).into()),
        |_| {},
    ),
];

#[tokio::test]
async fn a_put_form_stores_what_was_signed_and_nothing_else() {
    let stand = stand().await;
    let client = Client::new();
    let mut wrong = Vec::new();
    let mut expected_keys = Vec::new();
    for old in [None, Some(Bytes::from_static(b"old"))] {
        for (cases, stores) in [(REFUSED, false), (STORED, true)] {
            for (name, change, spoil) in cases {
                let mut request = FormRequest { min_bytes: 8, max_bytes: 8, ..request() };
                change(&mut request);
                let key = incoming_key(request.image);
                if let Some(old) = &old {
                    stand.storage.put(&key, "image/png", old.clone()).await.unwrap();
                }
                let form = stand.signer.put_form(&request).await.unwrap();
                let mut put = Put { method: Method::PUT, url: form.url, headers: form.headers, body: FILE.to_vec() };
                spoil(&mut put);
                let status = put.send(&client).await;
                let found = stand.storage.read(&key).await.unwrap();
                if stores {
                    expected_keys.push(key);
                    if status != 200 || found.as_deref() != Some(FILE) {
                        wrong.push(format!("{name}: {status}, {found:?}"));
                    }
                } else {
                    expected_keys.extend(old.is_some().then_some(key));
                    if !matches!(status, 400..500) || found != old {
                        wrong.push(format!("{name}: {status}, {found:?}, before {old:?}"));
                    }
                }
            }
        }
    }
    let mut keys = stand.storage.list("").await.unwrap();
    keys.sort();
    expected_keys.sort();
    assert!(wrong.is_empty() && keys == expected_keys, "{wrong:#?}\n{keys:#?}\nexpected {expected_keys:#?}");
}

//! Attacks by someone who has seen forms and URLs. The attacker knows the ids of the signer's and the reader's key, and their session
//! tokens if there are any, but no secret. After each attack, linked images have the same bytes as before, no bytes have been
//! disclosed, and nothing has been stored outside of `incoming/`.
//!
//! There are three keys, and conditions in the signer's policy, because of known holes in MinIO. Without the conditions:
//! - Anyone who knows a key's id can write everything that the key may write (GHSA-hv4r-mvr4-25vw). It takes a PUT with any signature
//!   in its query and `x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER`. MinIO knows no `s3:authType` for such a request, so the
//!   condition on it refuses them all.
//! - A header that no signature covers makes a PUT unpack an archive below a prefix, again everywhere the key may write. It works with
//!   any signature, also in the headers, and with the same `x-amz-content-sha256`. The same condition refuses it.
//! - A form or an archive can name the version to write, also one that is there. The condition on `s3:versionid` refuses the form.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::Utc;
use reqwest::{Client, Method, RequestBuilder};
use upload_domain::incoming_key;
use upload_sandbox::s3::{Key, REGION};
use upload_storage::{
    FormRequest,
    bucket::{self, Outcome as BucketOutcome},
};

use crate::{
    forms::request,
    stand::{Stand, stand},
    upload::Upload,
};

const LINKED: &[u8] = b"the bytes of a linked image";
const VICTIMS: &[u8] = b"the upload of somebody else";
const EVIL: &[u8] = b"the attacker's bytes";
const NO_SIGNATURE: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// With this value, MinIO does not check a signature in the query.
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const PAYLOADS: [&str; 4] = [
    "UNSIGNED-PAYLOAD",
    UNSIGNED_TRAILER,
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
];
const LINKED_KEY: &str = "media/1/1";
const VICTIMS_KEY: &str = "incoming/1";

/// The expected outcome of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A 4xx or 501, and nothing has changed.
    Refused,
    /// 200, because the form was signed for this.
    AsSigned,
}

struct Attack {
    name: String,
    request: RequestBuilder,
    outcome: Outcome,
}

/// Two buckets with objects in each, and a client for the attacker.
struct Ground {
    stand: Stand,
    other: Stand,
    client: Client,
}

impl Ground {
    async fn new() -> Self {
        let ground = Self { stand: stand().await, other: stand().await, client: Client::new() };
        ground.lay_out().await;
        ground
    }

    /// Both buckets as they were before any attack.
    async fn lay_out(&self) {
        for stand in [&self.stand, &self.other] {
            let keys = stand.admin.list("").await.unwrap();
            stand.admin.delete_many(&keys).await.unwrap();
            stand.storage.put(LINKED_KEY, "image/png", Bytes::from_static(LINKED)).await.unwrap();
            stand.storage.put(VICTIMS_KEY, "image/png", Bytes::from_static(VICTIMS)).await.unwrap();
        }
    }

    /// Every object of both buckets.
    async fn objects(&self) -> BTreeMap<String, Bytes> {
        let mut objects = BTreeMap::new();
        for (name, stand) in [("", &self.stand), ("other bucket: ", &self.other)] {
            for key in stand.admin.list("").await.unwrap() {
                objects.insert(format!("{name}{key}"), stand.admin.read(&key).await.unwrap().unwrap());
            }
        }
        objects
    }

    fn url(&self, place: &str) -> String {
        let Stand { settings, .. } = &self.stand;
        format!("{}/{}{place}", settings.endpoint.as_str().trim_end_matches('/'), settings.bucket)
    }

    /// A request with a key's id and an invented signature, in its headers or its query.
    fn forged(&self, method: Method, place: &str, key: &Key, where_to: SignedIn, payload: &str) -> RequestBuilder {
        let now = Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
        let credential = format!("{}/{}/{REGION}/s3/aws4_request", key.id, &now[..8]);
        let request = match where_to {
            SignedIn::Headers => {
                let token = if key.session_token.is_some() { ";x-amz-security-token" } else { "" };
                let authorization = format!(
                    "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-content-sha256;x-amz-date{token}, \
                     Signature={NO_SIGNATURE}"
                );
                let request = self.client.request(method, self.url(place)).header("x-amz-date", now);
                let request = request.header("authorization", authorization);
                match &key.session_token {
                    Some(token) => request.header("x-amz-security-token", token),
                    None => request,
                }
            }
            SignedIn::Query => {
                let mut query = vec![
                    ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                    ("X-Amz-Credential", &credential),
                    ("X-Amz-Date", &now),
                    ("X-Amz-Expires", "300"),
                    ("X-Amz-SignedHeaders", "host"),
                    ("X-Amz-Signature", NO_SIGNATURE),
                ];
                if let Some(token) = &key.session_token {
                    query.push(("X-Amz-Security-Token", token));
                }
                self.client.request(method, self.url(place)).query(&query)
            }
        };
        request.header("x-amz-content-sha256", payload)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignedIn {
    Headers,
    Query,
}

/// Gives a request its body, in the encoding that the payload's name announces.
fn with_body(request: RequestBuilder, payload: &str, content: &[u8]) -> RequestBuilder {
    if payload == "UNSIGNED-PAYLOAD" {
        return request.body(content.to_vec());
    }
    let signature =
        if payload == UNSIGNED_TRAILER { String::new() } else { format!(";chunk-signature={NO_SIGNATURE}") };
    let mut body = format!("{:x}{signature}\r\n", content.len()).into_bytes();
    body.extend(content);
    body.extend(format!("\r\n0{signature}\r\n").bytes());
    let mut request =
        request.header("x-amz-decoded-content-length", content.len()).header("content-encoding", "aws-chunked");
    if payload.ends_with("TRAILER") {
        request = request.header("x-amz-trailer", "x-amz-checksum-crc32");
        body.extend(format!("x-amz-checksum-crc32:{}\r\n", crc32(content)).bytes());
    }
    body.extend(b"\r\n");
    request.body(body)
}

/// In base64, as S3 writes it (RFC 1952, section 8).
fn crc32(bytes: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _bit| (sum >> 1) ^ (0xEDB8_8320 * (sum & 1)))
    });
    BASE64_STANDARD.encode((!sum).to_be_bytes())
}

/// An archive of files with the attacker's bytes (POSIX.1, `pax`, "ustar Interchange Format").
fn archive(names: &[&str]) -> Vec<u8> {
    let mut archive = Vec::new();
    for name in names {
        let mut head = [0_u8; 512];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[100..108].copy_from_slice(b"0000644\0");
        head[108..124].copy_from_slice(b"0000000\x000000000\0");
        head[124..136].copy_from_slice(format!("{:011o}\0", EVIL.len()).as_bytes());
        head[136..148].copy_from_slice(b"00000000000\0");
        head[148..156].fill(b' ');
        head[156] = b'0';
        head[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(head);
        let mut block = [0_u8; 512];
        block[..EVIL.len()].copy_from_slice(EVIL);
        archive.extend(block);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// All attacks with invented signatures.
fn forged_attacks(ground: &Ground) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let Stand { signer_key, reader_key, settings, .. } = &ground.stand;
    for (who, key) in [("signer", signer_key), ("reader", reader_key)] {
        for signed_in in [SignedIn::Headers, SignedIn::Query] {
            for payload in PAYLOADS {
                let forged = |method, place: &str| ground.forged(method, place, key, signed_in, payload);
                let mut add = |what: &str, request, outcome| {
                    attacks.push(Attack {
                        name: format!("{what} ({who}'s id, {signed_in:?}, {payload})"),
                        request,
                        outcome,
                    });
                };
                for (place, outcome) in [
                    ("/incoming/new", Outcome::Refused),
                    ("/incoming/1", Outcome::Refused),
                    ("/media/1/1", Outcome::Refused),
                    ("/media/1/2", Outcome::Refused),
                    ("/elsewhere", Outcome::Refused),
                ] {
                    add(&format!("PUT {place}"), with_body(forged(Method::PUT, place), payload, EVIL), outcome);
                }
                for (prefix, names, outcome) in [
                    ("incoming", &["new", "1"][..], Outcome::Refused),
                    ("incoming", &["../media/1/1", "../../media/1/2"], Outcome::Refused),
                    ("media/1", &["1", "2"], Outcome::Refused),
                    ("", &["media/1/1"], Outcome::Refused),
                ] {
                    // MinIO takes such a body unchanged, including the chunk framing.
                    let request =
                        forged(Method::PUT, "/incoming/new").header("x-amz-meta-snowball-auto-extract", "true");
                    let request = request.header("x-amz-meta-minio-snowball-prefix", prefix).body(archive(names));
                    add(&format!("an archive with {names:?} below {prefix}"), request, outcome);
                }
                for source in ["media/1/1", "incoming/1"] {
                    let request = forged(Method::PUT, "/incoming/new");
                    let request = request.header("x-amz-copy-source", format!("{}/{source}", settings.bucket));
                    add(&format!("a copy of {source}"), request, Outcome::Refused);
                }
                for (method, place) in [
                    (Method::GET, "/media/1/1"),
                    (Method::GET, "/incoming/1"),
                    (Method::HEAD, "/media/1/1"),
                    (Method::DELETE, "/media/1/1"),
                    (Method::DELETE, "/incoming/1"),
                    (Method::GET, "?list-type=2"),
                    (Method::GET, ""),
                    (Method::POST, "/incoming/new?uploads"),
                    (Method::PUT, "?cors"),
                    (Method::DELETE, ""),
                ] {
                    add(&format!("{method} {place}"), forged(method, place), Outcome::Refused);
                }
                let many =
                    "<Delete><Object><Key>media/1/1</Key></Object><Object><Key>incoming/1</Key></Object></Delete>";
                let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
                add("PUT ?tagging", forged(Method::PUT, "/media/1/1?tagging").body(tags), Outcome::Refused);
                add("DeleteObjects", forged(Method::POST, "?delete").body(many), Outcome::Refused);
            }
        }
    }
    attacks
}

/// All attacks with real forms and URLs that are changed or extended.
async fn twisted_attacks(ground: &Ground) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let mut add = |name: String, request, outcome| attacks.push(Attack { name, request, outcome });
    let Ground { stand, other, client } = ground;
    let Stand { settings, signer, .. } = stand;
    let length = EVIL.len() as u64;
    let put = async |length: u64| {
        let request = FormRequest { min_bytes: length, max_bytes: length, ..request() };
        let form = signer.put_form(&request).await.unwrap();
        (form.url, incoming_key(request.image))
    };
    let send = |method: Method, url: &str| client.request(method, url).header("content-type", "image/png");

    let (url, own) = put(length).await;
    add("the PUT as signed".to_owned(), send(Method::PUT, &url).body(EVIL), Outcome::AsSigned);
    for target in [VICTIMS_KEY, LINKED_KEY, "incoming/new", "media/1/2"] {
        add(
            format!("the PUT with the key {target}"),
            send(Method::PUT, &url.replace(&own, target)).body(EVIL),
            Outcome::Refused,
        );
    }
    let elsewhere = url.replace(&settings.bucket, &other.settings.bucket);
    add("the PUT to another bucket".to_owned(), send(Method::PUT, &elsewhere).body(EVIL), Outcome::Refused);
    for method in [Method::GET, Method::HEAD, Method::DELETE, Method::POST] {
        add(format!("the PUT as a {method}"), send(method, &url), Outcome::Refused);
    }
    // An unsigned copy source would turn the PUT into a copy (CVE-2026-97731).
    for (bucket, source) in
        [(&settings.bucket, LINKED_KEY), (&settings.bucket, VICTIMS_KEY), (&other.settings.bucket, LINKED_KEY)]
    {
        for body in [&b""[..], EVIL] {
            let request = send(Method::PUT, &url).header("x-amz-copy-source", format!("{bucket}/{source}")).body(body);
            add(format!("the PUT as a copy of {bucket}/{source}, {} bytes", body.len()), request, Outcome::Refused);
        }
    }
    for (prefix, names) in [
        ("incoming", &["new", "1"][..]),
        ("incoming", &["../media/1/1", "../../media/1/2"]),
        ("media/1", &["1", "2"]),
        ("", &["media/1/1"]),
    ] {
        let archive = archive(names);
        let (url, _own) = put(archive.len() as u64).await;
        let request = send(Method::PUT, &url).header("x-amz-meta-snowball-auto-extract", "true").body(archive);
        let request = request.header("x-amz-meta-minio-snowball-prefix", prefix);
        add(format!("the PUT as an archive with {names:?} below {prefix}"), request, Outcome::Refused);
    }

    let url = stand.storage.read_url(LINKED_KEY, None, std::time::Duration::from_secs(300)).await.unwrap().url;
    for target in [VICTIMS_KEY, "media/1/2", ""] {
        add(format!("the URL with the key {target:?}"), client.get(url.replace(LINKED_KEY, target)), Outcome::Refused);
    }
    let elsewhere = url.replace(&settings.bucket, &other.settings.bucket);
    add("the URL to another bucket".to_owned(), client.get(elsewhere), Outcome::Refused);
    for method in [Method::PUT, Method::DELETE, Method::POST] {
        add(format!("the URL as a {method}"), send(method, &url).body(EVIL), Outcome::Refused);
    }
    let trailer = client.put(&url).header("x-amz-content-sha256", UNSIGNED_TRAILER);
    add(
        "the URL as a PUT without a look at the signature".to_owned(),
        with_body(trailer, UNSIGNED_TRAILER, EVIL),
        Outcome::Refused,
    );
    let copy = client.put(&url).header("x-amz-copy-source", format!("{}/{VICTIMS_KEY}", settings.bucket));
    add("the URL as a copy".to_owned(), copy, Outcome::Refused);

    let form = signer.post_form(&FormRequest { max_bytes: 100, ..request() }).await.unwrap();
    let honest = Upload::new(&form.url, &form.fields, EVIL);
    let mut post = |name: &str, change: &dyn Fn(&mut Upload)| {
        let mut upload = honest.clone();
        change(&mut upload);
        let request = client.post(&upload.url).header("content-type", &upload.content_type).body(upload.body());
        add(format!("the form {name}"), request, Outcome::Refused);
    };
    for target in [VICTIMS_KEY, LINKED_KEY, "incoming/new", "media/1/2", "incoming/../media/1/1"] {
        post(&format!("with the key {target}"), &|upload| upload.set("key", target));
        post(&format!("with the key {target}, and in its policy"), &|upload| {
            use base64::{Engine, prelude::BASE64_STANDARD};
            let own = upload.value("key");
            upload.edit("policy", |policy| {
                let text = String::from_utf8(BASE64_STANDARD.decode(policy).unwrap()).unwrap();
                BASE64_STANDARD.encode(text.replace(&own, target))
            });
            upload.set("key", target);
        });
    }
    post("to another bucket", &|upload| upload.url = upload.url.replace(&settings.bucket, &other.settings.bucket));
    post("with a forged signature", &|upload| upload.set("x-amz-signature", NO_SIGNATURE));
    post("with the reader's id", &|upload| {
        upload.edit("x-amz-credential", |text| text.replace(&stand.signer_key.id, &stand.reader_key.id));
        if let Some(token) = &stand.reader_key.session_token {
            upload.set("x-amz-security-token", token);
        }
    });
    post("with the server's id", &|upload| {
        upload.edit("x-amz-credential", |text| text.replace(&stand.signer_key.id, &stand.server_key.id));
    });
    post("as an archive", &|upload| {
        upload.add("x-amz-meta-snowball-auto-extract", "true");
        upload.set("file", archive(&["media/1/1"]));
    });
    attacks
}

/// Sends the attack. Returns a description if the answer is not the expected one.
async fn carry_out(ground: &Ground, attack: Attack, before: &BTreeMap<String, Bytes>) -> Option<String> {
    let Attack { name, request, outcome } = attack;
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let said = answer.bytes().await.unwrap();
    let after = ground.objects().await;
    let changed: Vec<&String> =
        before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key)).collect();

    let is_refused = status.is_client_error() || status.as_u16() == 501;
    let is_in_incoming = changed.iter().all(|key| key.starts_with("incoming/"));
    let has_leaked = [LINKED, VICTIMS].iter().any(|secret| said.windows(secret.len()).any(|part| part == *secret));
    let is_as_expected = match outcome {
        Outcome::Refused => is_refused && changed.is_empty(),
        Outcome::AsSigned => status.is_success() && changed.len() == 1 && is_in_incoming,
    };
    let text = String::from_utf8_lossy(&said[..said.len().min(300)]).into_owned();
    let wrong = (!is_as_expected || has_leaked).then(|| format!("{name}: {status}, changed {changed:?}\n    {text}"));
    if !changed.is_empty() {
        ground.lay_out().await;
    }
    wrong
}

#[tokio::test]
async fn the_ids_of_signer_and_reader_alone_let_nobody_change_or_read_more() {
    let ground = Ground::new().await;
    let before = ground.objects().await;
    let mut wrong = Vec::new();
    for attack in forged_attacks(&ground).into_iter().chain(twisted_attacks(&ground).await) {
        wrong.extend(carry_out(&ground, attack, &before).await);
    }
    assert!(wrong.is_empty(), "{} attacks:\n{}", wrong.len(), wrong.join("\n"));
}

/// MinIO takes `versionId` in the query of a write, for its replication. A link pins a version, so no client may write one that is there.
#[tokio::test]
async fn nobody_changes_a_version_that_is_there() {
    let ground = Ground::new().await;
    let Ground { stand, client, .. } = &ground;
    if !matches!(bucket::enable_versioning(&stand.admin).await.unwrap(), BucketOutcome::Done) {
        return;
    }
    let original = Bytes::from_static(b"verified");
    let length = EVIL.len() as u64;
    let request = FormRequest { min_bytes: length, max_bytes: length, ..request() };
    let key = incoming_key(request.image);
    stand.storage.put(&key, "image/png", original.clone()).await.unwrap();
    let version = stand.storage.read_head(&key, None, 100).await.unwrap().unwrap().version.unwrap();

    let mut attacks: Vec<(String, RequestBuilder)> = Vec::new();
    let form = stand.signer.post_form(&request).await.unwrap();
    let mut upload = Upload::new(&form.url, &form.fields, EVIL);
    let post =
        |upload: &Upload| client.post(&upload.url).header("content-type", &upload.content_type).body(upload.body());
    upload.add("versionId", &version);
    attacks.push(("the form with another field".to_owned(), post(&upload)));
    upload.remove("versionId");
    upload.url = format!("{}?versionId={version}", form.url);
    attacks.push(("the form with a query".to_owned(), post(&upload)));
    upload.url = format!("{}/?versionId={version}", form.url);
    attacks.push(("the form with a query behind a slash".to_owned(), post(&upload)));
    let put = stand.signer.put_form(&request).await.unwrap();
    for query in [format!("&versionId={version}"), format!("&versionId={version}&x=1")] {
        let request = client.put(format!("{}{query}", put.url)).header("content-type", "image/png");
        attacks.push((format!("the PUT with {query}"), request.body(EVIL)));
    }
    for signed_in in [SignedIn::Headers, SignedIn::Query] {
        for payload in PAYLOADS {
            let place = format!("/{key}?versionId={version}");
            let forged = ground.forged(Method::PUT, &place, &stand.signer_key, signed_in, payload);
            attacks.push((format!("a forged PUT, {signed_in:?}, {payload}"), with_body(forged, payload, EVIL)));
        }
    }
    for names in [&[key.as_str()][..]] {
        for (signed_in, payload) in [(SignedIn::Headers, UNSIGNED_TRAILER), (SignedIn::Query, UNSIGNED_TRAILER)] {
            let request = ground.forged(Method::PUT, "/incoming/new", &stand.signer_key, signed_in, payload);
            let request = request.header("x-amz-meta-snowball-auto-extract", "true");
            attacks.push((format!("an archive, {signed_in:?}"), request.body(archive_with_version(names, &version))));
        }
    }
    let mut changed = Vec::new();
    for (name, request) in attacks {
        let answer = request.send().await.unwrap();
        let (status, said) = (answer.status(), answer.text().await.unwrap());
        let now = stand.storage.read_head(&key, Some(&version), 100).await.unwrap().map(|head| head.bytes);
        if now.as_ref() != Some(&original) {
            changed.push(format!("{name}: {status} {said}: {now:?}"));
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

/// An archive whose files name the version to write, as MinIO's own client writes them (`minio.versionId` in the extended header).
fn archive_with_version(names: &[&str], version: &str) -> Vec<u8> {
    let record = format!("minio.versionId={version}\n");
    let length = (record.len() + 3).to_string();
    let record = format!("{length} {record}");
    let mut head = archive(&["PaxHeader"]);
    head.truncate(512);
    head[124..136].copy_from_slice(format!("{:011o}\0", record.len()).as_bytes());
    head[156] = b'x';
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head.extend(record.as_bytes());
    head.resize(1024, 0);
    [head, archive(names)].concat()
}

//! What a POST form lets a client do, as a table of good and bad forms.
//!
//! Each form is sent twice: to a key without an object, and to a key with one. Stores differ in their status codes. So a refusal is any
//! 4xx (or 501, the answer of `s3s` to an unknown algorithm) without a change in either of two buckets.
//!
//! Stores may also differ in what they tolerate. For a doubled field, `s3s` takes the last value; MinIO and AWS refuse. MinIO fills in a
//! missing `bucket`. If it has no region configured, it takes signatures of any region. S3 ignores fields after the file; other stores
//! refuse them. In these cases the table accepts a refusal, or the object exactly as it was signed.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::TimeDelta;
use futures::FutureExt;
use reqwest::{Client, Method};
use s3_presigned_post::{Addressing, Bucket, Checksum, PostPolicy};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use upload_domain::incoming_key;
use upload_sandbox::s3::{Key, REGION};
use upload_storage::FormRequest;

use crate::{
    forms::request,
    stand::{Stand, stand},
    upload::Upload,
};

const FILE: &[u8] = b"8 bytes!";
const OLD: &[u8] = b"what was there before";

/// The input of a case: the form for one key, and everything that is needed to sign other forms.
struct Ground<'a> {
    stand: &'a Stand,
    other: &'a Stand,
    request: FormRequest,
    key: String,
}

impl Ground<'_> {
    /// The signer's form, changed.
    fn form(&self, change: impl FnOnce(&mut FormRequest)) -> Upload {
        let mut request = self.request.clone();
        change(&mut request);
        // Keys from the settings are available at once.
        let form = self.stand.signer.post_form(&request).now_or_never().unwrap().unwrap();
        Upload::new(&form.url, &form.fields, FILE)
    }

    fn bucket(&self) -> Bucket {
        let StandAddress { endpoint, bucket } = self.address();
        Bucket::new(endpoint, Addressing::Path, REGION, bucket).unwrap()
    }

    fn address(&self) -> StandAddress<'_> {
        StandAddress { endpoint: self.stand.settings.endpoint.as_str(), bucket: &self.stand.settings.bucket }
    }

    /// The signer's conditions, without the one for the key.
    fn policy(&self) -> PostPolicy {
        PostPolicy::new(SystemTime::now() + Duration::from_secs(300))
            .exact("Content-Type", "image/png")
            .exact("success_action_status", "201")
            .content_length_range(5, 10)
    }

    fn sign_with(&self, policy: &PostPolicy, key: &Key) -> Upload {
        let form = policy.sign(&self.bucket(), &credentials(key), SystemTime::now()).unwrap();
        Upload::new(&form.url, &form.fields, FILE)
    }

    fn sign(&self, policy: &PostPolicy) -> Upload {
        self.sign_with(policy, &self.stand.signer_key)
    }

    /// The signer's form with its policy rewritten and signed again, in the scope's region and service.
    fn sign_text(&self, region: &str, service: &str, rewrite: impl FnOnce(&str) -> String) -> Upload {
        let mut upload = self.form(|_request| {});
        let scope = |text: &str| text.replace(&format!("{REGION}/s3/"), &format!("{region}/{service}/"));
        let text = String::from_utf8(BASE64_STANDARD.decode(upload.value("policy")).unwrap()).unwrap();
        let policy = BASE64_STANDARD.encode(rewrite(&scope(&text)));
        let credential = scope(&upload.value("x-amz-credential"));
        let key = generate_signing_key(&self.stand.signer_key.secret, self.request.now.into(), region, service);
        upload.set("x-amz-signature", calculate_signature(key, policy.as_bytes()));
        upload.set("x-amz-credential", credential);
        upload.set("policy", policy);
        upload
    }
}

struct StandAddress<'a> {
    endpoint: &'a str,
    bucket: &'a str,
}

fn credentials(key: &Key) -> Credentials {
    Credentials::new(&key.id, &key.secret, key.session_token.clone(), None, "test")
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The signer's own form, changed after it was signed.
fn spoilt(ground: &Ground<'_>, spoil: impl FnOnce(&mut Upload)) -> Upload {
    let mut upload = ground.form(|_request| {});
    spoil(&mut upload);
    upload
}

/// Rewrites the policy but keeps its signature.
fn tampered(ground: &Ground<'_>, from: &str, to: &str) -> Upload {
    spoilt(ground, |upload| {
        upload.edit("policy", |policy| {
            let text = String::from_utf8(BASE64_STANDARD.decode(policy).unwrap()).unwrap();
            assert!(text.contains(from), "{text}");
            BASE64_STANDARD.encode(text.replace(from, to))
        });
    })
}

type Case = (&'static str, fn(&Ground<'_>) -> Upload);

const STORED: &[Case] = &[
    ("the form as signed", |ground| spoilt(ground, |_upload| {})),
    ("the smallest size", |ground| spoilt(ground, |upload| upload.set("file", b"5 byt"))),
    ("the largest size", |ground| spoilt(ground, |upload| upload.set("file", b"10 bytes!!"))),
    ("the one exact size", |ground| ground.form(|request| (request.min_bytes, request.max_bytes) = (8, 8))),
    ("the declared content", |ground| ground.form(|request| request.checksum_sha256 = Some(digest(FILE).into()))),
    ("another type on the part, which does not count", |ground| {
        spoilt(ground, |upload| upload.part("file").content_type = Some("text/html".to_owned()))
    }),
    ("no type on the part", |ground| spoilt(ground, |upload| upload.part("file").content_type = None)),
    ("a file name that climbs", |ground| {
        spoilt(ground, |upload| upload.part("file").file_name = Some("../../media/x".to_owned()))
    }),
    ("a field to ignore", |ground| spoilt(ground, |upload| upload.add("x-ignore-me", "anything"))),
    ("the fields in another order", |ground| {
        spoilt(ground, |upload| {
            let file = upload.remove("file");
            upload.parts.reverse();
            upload.parts.push(file);
        })
    }),
    ("a key below a signed prefix", |ground| {
        let key = ground.key.as_str();
        ground.sign(&ground.policy().starts_with("key", &key[..key.len() - 4]).field("key", key))
    }),
    ("a policy with no range", |ground| {
        let until = SystemTime::now() + Duration::from_secs(300);
        let policy = PostPolicy::new(until).exact("Content-Type", "image/png").exact("success_action_status", "201");
        ground.sign(&policy.exact("key", &ground.key))
    }),
];

const REFUSED: &[Case] = &[
    // The key.
    ("another key", |ground| spoilt(ground, |upload| upload.edit("key", |key| format!("{}x", &key[..key.len() - 1])))),
    ("a longer key", |ground| spoilt(ground, |upload| upload.edit("key", |key| format!("{key}/x")))),
    ("a media key", |ground| spoilt(ground, |upload| upload.edit("key", |key| key.replace("incoming/", "media/")))),
    ("a key in capitals", |ground| spoilt(ground, |upload| upload.edit("key", str::to_ascii_uppercase))),
    ("a key that climbs", |ground| spoilt(ground, |upload| upload.edit("key", |key| format!("incoming/../{key}")))),
    ("a key from the file's name", |ground| spoilt(ground, |upload| upload.set("key", "incoming/${filename}"))),
    ("an empty key", |ground| spoilt(ground, |upload| upload.set("key", ""))),
    ("no key", |ground| spoilt(ground, |upload| drop(upload.remove("key")))),
    ("a key outside of a signed prefix", |ground| {
        let mut upload = ground.sign(&ground.policy().starts_with("key", "incoming/").field("key", &ground.key));
        upload.edit("key", |key| key.replace("incoming/", "elsewhere/"));
        upload
    }),
    // The type and the other fields.
    ("another type", |ground| spoilt(ground, |upload| upload.set("Content-Type", "text/html"))),
    ("the type in capitals", |ground| spoilt(ground, |upload| upload.set("Content-Type", "IMAGE/PNG"))),
    ("a type with a parameter", |ground| spoilt(ground, |upload| upload.set("Content-Type", "image/png; x=y"))),
    ("no type", |ground| spoilt(ground, |upload| drop(upload.remove("Content-Type")))),
    ("another status", |ground| spoilt(ground, |upload| upload.set("success_action_status", "200"))),
    ("no status", |ground| spoilt(ground, |upload| drop(upload.remove("success_action_status")))),
    ("a redirect", |ground| {
        spoilt(ground, |upload| upload.add("success_action_redirect", "https://elsewhere.example/"))
    }),
    ("an ACL", |ground| spoilt(ground, |upload| upload.add("acl", "public-read"))),
    ("a tag", |ground| spoilt(ground, |upload| upload.add("tagging", "<Tagging/>"))),
    ("metadata", |ground| spoilt(ground, |upload| upload.add("x-amz-meta-note", "x"))),
    ("a header of the object", |ground| {
        spoilt(ground, |upload| upload.add("Content-Disposition", "attachment; filename=x.html"))
    }),
    ("a redirect of the object", |ground| {
        spoilt(ground, |upload| upload.add("x-amz-website-redirect-location", "https://elsewhere.example/"))
    }),
    // The size.
    ("one byte too small", |ground| spoilt(ground, |upload| upload.set("file", b"4 by"))),
    ("one byte too big", |ground| spoilt(ground, |upload| upload.set("file", b"11 bytes!!!"))),
    ("a megabyte", |ground| spoilt(ground, |upload| upload.set("file", vec![b'x'; 1 << 20]))),
    ("an empty file", |ground| spoilt(ground, |upload| upload.set("file", b""))),
    ("one byte less than the exact size", |ground| {
        ground.form(|request| (request.min_bytes, request.max_bytes) = (9, 9))
    }),
    ("one byte more than the exact size", |ground| {
        ground.form(|request| (request.min_bytes, request.max_bytes) = (7, 7))
    }),
    // The end of the form's life.
    ("an hour late", |ground| {
        ground.form(|request| {
            request.now -= TimeDelta::minutes(65);
            request.expires_at -= TimeDelta::minutes(65);
        })
    }),
    ("a few seconds late", |ground| {
        ground.form(|request| {
            request.now -= TimeDelta::seconds(60);
            request.expires_at = request.now + TimeDelta::seconds(55);
        })
    }),
    ("a policy without an end", |ground| {
        ground.sign_text(REGION, "s3", |text| text.replace("\"expiration\"", "\"expires\""))
    }),
    ("a policy with an end that is no time", |ground| {
        ground.sign_text(REGION, "s3", |text| text.replace("\"expiration\":\"2", "\"expiration\":\"never 2"))
    }),
    // The policy.
    ("a range made wider", |ground| {
        let mut upload = tampered(ground, "[\"content-length-range\",5,10]", "[\"content-length-range\",0,99]");
        upload.set("file", b"11 bytes!!!");
        upload
    }),
    ("another key written into the policy", |ground| {
        let mut upload = tampered(ground, &ground.key, "incoming/elsewhere");
        upload.set("key", "incoming/elsewhere");
        upload
    }),
    ("a longer life written into the policy", |ground| tampered(ground, "\"expiration\":\"2", "\"expiration\":\"3")),
    ("a space in the policy", |ground| tampered(ground, "\"conditions\":", "\"conditions\": ")),
    ("the policy of another image", |ground| {
        let other = ground.form(|request| request.image = crate::forms::request().image);
        spoilt(ground, |upload| {
            upload.set("policy", other.value("policy"));
            upload.set("x-amz-signature", other.value("x-amz-signature"));
        })
    }),
    ("a policy in capitals", |ground| spoilt(ground, |upload| upload.edit("policy", str::to_ascii_uppercase))),
    ("an empty policy", |ground| spoilt(ground, |upload| upload.set("policy", ""))),
    ("no policy", |ground| spoilt(ground, |upload| drop(upload.remove("policy")))),
    ("a policy that is not base64", |ground| spoilt(ground, |upload| upload.set("policy", "{\"not\": \"base64\"}"))),
    ("a signed policy that is not JSON", |ground| ground.sign_text(REGION, "s3", |text| text.replace('{', "("))),
    ("a signed policy that covers no field", |ground| {
        ground.sign_text(REGION, "s3", |text| {
            let (start, _conditions) = text.split_once("\"conditions\":").unwrap();
            let start = start.trim_start_matches('{');
            format!("{{\"conditions\":[],{}}}", start.trim_end_matches(','))
        })
    }),
    ("a signed policy with a condition that does not exist", |ground| {
        ground.sign_text(REGION, "s3", |text| text.replace("[\"eq\",\"$key\"", "[\"ends-with\",\"$key\""))
    }),
    // The signature.
    ("one digit of the signature changed", |ground| {
        spoilt(ground, |upload| {
            upload.edit("x-amz-signature", |text| {
                let digit = if text.starts_with('0') { '1' } else { '0' };
                format!("{digit}{}", &text[1..])
            });
        })
    }),
    ("half a signature", |ground| {
        spoilt(ground, |upload| upload.edit("x-amz-signature", |text| text[..text.len() / 2].to_owned()))
    }),
    ("a signature in capitals", |ground| {
        spoilt(ground, |upload| upload.edit("x-amz-signature", str::to_ascii_uppercase))
    }),
    ("an empty signature", |ground| spoilt(ground, |upload| upload.set("x-amz-signature", ""))),
    ("no signature", |ground| spoilt(ground, |upload| drop(upload.remove("x-amz-signature")))),
    ("the signature of another policy", |ground| {
        let other = ground.form(|request| request.max_bytes = 11);
        spoilt(ground, |upload| upload.set("x-amz-signature", other.value("x-amz-signature")))
    }),
    ("no signature of any kind", |ground| {
        spoilt(ground, |upload| {
            upload.parts.retain(|part| ["bucket", "key", "Content-Type", "file"].contains(&part.name.as_str()));
        })
    }),
    ("a signature of the second version", |ground| {
        spoilt(ground, |upload| {
            upload.parts.retain(|part| !part.name.starts_with("x-amz-"));
            upload.add("AWSAccessKeyId", &ground.stand.signer_key.id);
            upload.add("signature", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        })
    }),
    ("another algorithm", |ground| spoilt(ground, |upload| upload.set("x-amz-algorithm", "AWS4-HMAC-SHA1"))),
    ("no algorithm", |ground| spoilt(ground, |upload| drop(upload.remove("x-amz-algorithm")))),
    // The signer.
    ("a wrong secret", |ground| {
        let key = Key { secret: "wrong".to_owned(), ..ground.stand.signer_key.clone() };
        ground.sign_with(&ground.policy().exact("key", &ground.key), &key)
    }),
    ("an unknown key", |ground| {
        let key = Key { id: "NOBODY".to_owned(), session_token: None, ..ground.stand.signer_key.clone() };
        ground.sign_with(&ground.policy().exact("key", &ground.key), &key)
    }),
    ("the server's key id with the signer's secret", |ground| {
        let key = Key { id: ground.stand.server_key.id.clone(), ..ground.stand.signer_key.clone() };
        ground.sign_with(&ground.policy().exact("key", &ground.key), &key)
    }),
    ("the reader's key, which may not write", |ground| {
        ground.sign_with(&ground.policy().exact("key", &ground.key), &ground.stand.reader_key)
    }),
    ("a media key signed by the signer, which may not write there", |ground| {
        ground.sign(&ground.policy().exact("key", ground.key.replace("incoming/", "media/")))
    }),
    ("a session token that is not the key's", |ground| {
        spoilt(ground, |upload| match &ground.stand.signer_key.session_token {
            Some(_token) => upload.set("x-amz-security-token", "wrong"),
            None => upload.add("x-amz-security-token", "wrong"),
        })
    }),
    ("a scope without its key", |ground| {
        spoilt(ground, |upload| upload.edit("x-amz-credential", |text| text.split_once('/').unwrap().1.to_owned()))
    }),
    ("a scope of another day", |ground| {
        spoilt(ground, |upload| upload.edit("x-amz-credential", |text| text.replace("/20", "/19")))
    }),
    ("a scope of another region", |ground| {
        spoilt(ground, |upload| upload.edit("x-amz-credential", |text| text.replace(REGION, "eu-west-1")))
    }),
    ("a form signed for another service", |ground| ground.sign_text(REGION, "sqs", str::to_owned)),
    ("a garbled scope", |ground| spoilt(ground, |upload| upload.set("x-amz-credential", "////"))),
    ("no scope", |ground| spoilt(ground, |upload| drop(upload.remove("x-amz-credential")))),
    ("another date", |ground| {
        spoilt(ground, |upload| upload.edit("x-amz-date", |text| text.replace('Z', "").replace("20", "19") + "Z"))
    }),
    ("a garbled date", |ground| spoilt(ground, |upload| upload.set("x-amz-date", "yesterday"))),
    ("no date", |ground| spoilt(ground, |upload| drop(upload.remove("x-amz-date")))),
    // The content.
    ("other content than was declared", |ground| {
        ground.form(|request| request.checksum_sha256 = Some(digest(b"8 others").into()))
    }),
    ("the checksum changed to fit other content", |ground| {
        let mut upload = ground.form(|request| request.checksum_sha256 = Some(digest(b"8 others").into()));
        upload.set("x-amz-checksum-sha256", BASE64_STANDARD.encode(digest(FILE)));
        upload
    }),
    ("no checksum though one was declared", |ground| {
        let mut upload = ground.form(|request| request.checksum_sha256 = Some(digest(FILE).into()));
        drop(upload.remove("x-amz-checksum-sha256"));
        upload
    }),
    ("a checksum that is not valid", |ground| {
        let mut upload = ground.form(|request| request.checksum_sha256 = Some(digest(FILE).into()));
        upload.set("x-amz-checksum-sha256", "none");
        upload
    }),
    ("other content than a CRC that was declared", |ground| {
        ground.sign(&ground.policy().exact("key", &ground.key).checksum(Checksum::Crc32([1, 2, 3, 4])))
    }),
    // Where the form is sent, and how.
    ("to another bucket", |ground| {
        spoilt(ground, |upload| {
            let (own, other) = (&ground.stand.settings.bucket, &ground.other.settings.bucket);
            upload.url = upload.url.replace(own.as_str(), other);
        })
    }),
    ("to another bucket, named in the form too", |ground| {
        spoilt(ground, |upload| {
            let (own, other) = (&ground.stand.settings.bucket, &ground.other.settings.bucket);
            upload.url = upload.url.replace(own.as_str(), other);
            upload.set("bucket", other);
        })
    }),
    ("to no bucket", |ground| spoilt(ground, |upload| upload.url = ground.stand.settings.endpoint.as_str().to_owned())),
    ("to a bucket that does not exist", |ground| spoilt(ground, |upload| upload.url.push_str("-not"))),
    ("by PUT", |ground| {
        spoilt(ground, |upload| {
            upload.method = Method::PUT;
            upload.url = format!("{}/{}", upload.url, ground.key);
        })
    }),
    ("by DELETE", |ground| {
        spoilt(ground, |upload| {
            upload.method = Method::DELETE;
            upload.url = format!("{}/{}", upload.url, ground.key);
        })
    }),
    ("the file first of all", |ground| {
        spoilt(ground, |upload| {
            let file = upload.remove("file");
            upload.parts.insert(0, file);
        })
    }),
    ("the policy after the file", |ground| spoilt(ground, |upload| upload.move_to_end("policy"))),
    ("the signature after the file", |ground| spoilt(ground, |upload| upload.move_to_end("x-amz-signature"))),
    ("the key after the file", |ground| spoilt(ground, |upload| upload.move_to_end("key"))),
    ("no file", |ground| spoilt(ground, |upload| drop(upload.remove("file")))),
    ("no parts at all", |ground| spoilt(ground, |upload| upload.parts.clear())),
    ("an empty body", |ground| spoilt(ground, |upload| upload.raw_body = Some(Vec::new()))),
    ("a form that ends in its file", |ground| spoilt(ground, |upload| upload.cut_off_bytes = 40)),
    ("another boundary than the header's", |ground| {
        spoilt(ground, |upload| upload.content_type = "multipart/form-data; boundary=other".to_owned())
    }),
    ("a header with no boundary", |ground| {
        spoilt(ground, |upload| upload.content_type = "multipart/form-data".to_owned())
    }),
    ("a form that is urlencoded", |ground| {
        spoilt(ground, |upload| {
            upload.content_type = "application/x-www-form-urlencoded".to_owned();
            upload.raw_body = Some(format!("key={}&file=8+bytes!", ground.key).into_bytes());
        })
    }),
];

const REFUSED_OR_AS_SIGNED: &[Case] = &[
    ("a second key", |ground| spoilt(ground, |upload| upload.add("key", "incoming/second"))),
    ("a second key before the first", |ground| spoilt(ground, |upload| upload.add_first("key", "incoming/second"))),
    ("a second type before the first", |ground| spoilt(ground, |upload| upload.add_first("Content-Type", "text/html"))),
    ("a second signature before the first", |ground| {
        spoilt(ground, |upload| upload.add_first("x-amz-signature", &"0".repeat(64)))
    }),
    ("a form signed for another region", |ground| ground.sign_text("eu-west-1", "s3", str::to_owned)),
    ("a second bucket before the first", |ground| {
        spoilt(ground, |upload| upload.add_first("bucket", &ground.other.settings.bucket))
    }),
    ("a second policy before the first", |ground| spoilt(ground, |upload| upload.add_first("policy", "e30="))),
    ("a second file", |ground| {
        spoilt(ground, |upload| {
            let mut second = upload.part("file").clone();
            second.body = b"2nd file".to_vec();
            upload.parts.push(second);
        })
    }),
    ("a field after the file", |ground| {
        spoilt(ground, |upload| {
            upload.add("acl", "public-read");
            upload.move_to_end("acl");
        })
    }),
    ("another bucket's name in the form", |ground| {
        spoilt(ground, |upload| upload.set("bucket", &ground.other.settings.bucket))
    }),
    ("no bucket in the form", |ground| spoilt(ground, |upload| drop(upload.remove("bucket")))),
    ("names of fields in small letters", |ground| {
        spoilt(ground, |upload| upload.parts.iter_mut().for_each(|part| part.name.make_ascii_lowercase()))
    }),
    ("names of fields in capitals", |ground| {
        spoilt(ground, |upload| {
            let fields = upload.parts.iter_mut().filter(|part| part.name != "file");
            fields.for_each(|part| part.name.make_ascii_uppercase());
        })
    }),
];

/// What a store may do with a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Stored,
    Refused,
    Either,
}

#[tokio::test]
async fn every_good_form_is_stored_and_every_bad_one_changes_nothing() {
    const { assert!(STORED.len() + REFUSED.len() >= 40) };
    let (stand, other) = (stand().await, stand().await);
    let client = Client::new();
    let mut wrong = Vec::new();
    let mut expected_keys = Vec::new();
    let cases = [(STORED, Expected::Stored), (REFUSED, Expected::Refused), (REFUSED_OR_AS_SIGNED, Expected::Either)];
    let cases = cases.iter().flat_map(|(cases, expected)| cases.iter().map(|case| (case, *expected)));
    for ((name, make), expected) in cases {
        for old in [None, Some(Bytes::from_static(OLD))] {
            let request = request();
            let ground = Ground { stand: &stand, other: &other, key: incoming_key(request.image), request };
            if let Some(old) = &old {
                stand.storage.put(&ground.key, "image/gif", old.clone()).await.unwrap();
            }
            let mut upload = make(&ground);
            let answer = upload.send(&client).await;
            let status = answer.status().as_u16();
            let head = stand.storage.read_head(&ground.key, None, 100).await.unwrap();
            let (found, found_type) = head.map(|head| (head.bytes, head.content_type)).unzip();
            let found_type = found_type.flatten();
            let refused = (matches!(status, 400..500) || status == 501) && found == old;
            let stored = status == 201
                && found.as_deref() == Some(upload.part("file").body.as_slice())
                && found_type.as_deref() == Some("image/png");
            let as_expected = match expected {
                Expected::Stored => stored,
                Expected::Refused => refused,
                Expected::Either => stored || refused,
            };
            if !as_expected {
                let said = answer.text().await.unwrap_or_default();
                wrong.push(format!(
                    "{name}: expected {expected:?}, got {status}, {found_type:?} {found:?}, before {old:?}: {said}"
                ));
            }
            expected_keys.extend((stored || old.is_some()).then_some(ground.key));
        }
    }
    // No bad form may have stored an object under another key.
    let mut keys = stand.storage.list("").await.unwrap();
    keys.sort();
    expected_keys.sort();
    keys.retain(|key| expected_keys.binary_search(key).is_err());
    assert!(wrong.is_empty() && keys.is_empty(), "{wrong:#?}\nin the bucket: {keys:#?}");
    assert_eq!(other.storage.list("").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_form_can_be_sent_again_until_it_ends() {
    // No condition of a policy can forbid this. That is why link copies to another key.
    let stand = stand().await;
    let request = request();
    let form = stand.signer.post_form(&request).await.unwrap();
    let client = Client::new();
    for file in [b"first!!", b"second!"] {
        let answer = Upload::new(&form.url, &form.fields, file).send(&client).await;
        assert_eq!(answer.status().as_u16(), 201);
        let found = stand.storage.read(&incoming_key(request.image)).await.unwrap();
        assert_eq!(found.as_deref(), Some(file.as_slice()));
    }
}

#[tokio::test]
async fn a_form_whose_connection_ends_in_the_file_stores_nothing() {
    let stand = stand().await;
    let request = request();
    let form = stand.signer.post_form(&request).await.unwrap();
    let upload = Upload::new(&form.url, &form.fields, FILE);
    let url = reqwest::Url::parse(&form.url).unwrap();
    let address = (url.host_str().unwrap(), url.port().unwrap());
    let body = upload.body();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        url.path(),
        address.0,
        address.1,
        upload.content_type,
        body.len(),
    );
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&body[..body.len() - 45]).await.unwrap();
    connection.shutdown().await.unwrap();
    // The store has given up when it closes the connection, with or without an answer.
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(stand.storage.list("").await.unwrap(), Vec::<String>::new());
}

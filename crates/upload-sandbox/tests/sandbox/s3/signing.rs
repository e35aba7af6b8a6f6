//! SigV4 by hand, for requests that no proper client would send: headers that differ from the signed ones, bodies with a wrong length or
//! checksum, altered forms.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use sha2::{Digest as _, Sha256};
use upload_sandbox::s3::{EmbeddedS3, Key};
use url::form_urlencoded::byte_serialize;

pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// One client for all tests, since making one reads the machine's certificates. It keeps no connection: each would belong to the
/// runtime of the test that opened it.
pub fn client() -> &'static reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> =
        LazyLock::new(|| reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().unwrap());
    &CLIENT
}

/// One request, which a key signs in its headers or query.
pub struct Request<'a> {
    pub method: Method,
    pub path: String,
    pub query: &'a str,
    pub headers: Vec<(&'a str, String)>,
    pub body: Vec<u8>,
}

impl<'a> Request<'a> {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: "", headers: Vec::new(), body: Vec::new() }
    }

    pub fn query(self, query: &'a str) -> Self {
        Self { query, ..self }
    }

    pub fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Signs all headers for `us-east-1` and sends.
    pub async fn send(self, s3: &EmbeddedS3, key: &Key) -> Response {
        self.send_for(s3, key, "us-east-1").await
    }

    pub async fn send_for(self, s3: &EmbeddedS3, key: &Key, region: &str) -> Response {
        let url =
            format!("{}{}{}{}", s3.endpoint(), self.path, if self.query.is_empty() { "" } else { "?" }, self.query);
        let headers = self.signed_headers(s3, key, region);
        client().request(self.method, url).headers(headers).body(self.body).send().await.unwrap()
    }

    pub fn signed_headers(&self, s3: &EmbeddedS3, key: &Key, region: &str) -> HeaderMap {
        let now = timestamp(Utc::now());
        let mut signed: BTreeMap<String, String> =
            self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        signed.insert("host".into(), host(s3));
        signed.insert("x-amz-date".into(), now.clone());
        let payload = signed.entry("x-amz-content-sha256".into()).or_insert_with(|| UNSIGNED.into()).clone();
        let query = canonical_query(self.query);
        let signature = sign(key, region, &now, &canonical(&self.method, &self.path, &query, &signed, &payload));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}/{region}/s3/aws4_request, SignedHeaders={}, Signature={signature}",
            key.id,
            &now[..8],
            names(&signed)
        );
        signed.insert("authorization".into(), authorization);
        signed
            .into_iter()
            .map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap()))
            .collect()
    }

    /// The URL with which anyone can send this request, with these headers, for a limited time.
    pub fn presigned_url(&self, s3: &EmbeddedS3, key: &Key, signed_at: DateTime<Utc>, seconds: u32) -> String {
        let now = timestamp(signed_at);
        let mut signed: BTreeMap<String, String> =
            self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        signed.insert("host".into(), host(s3));
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={now}&X-Amz-Expires={seconds}&X-Amz-SignedHeaders={}",
            encoded(&format!("{}/{}/us-east-1/s3/aws4_request", key.id, &now[..8])),
            encoded(&names(&signed)),
        );
        let signature = sign(key, "us-east-1", &now, &canonical(&self.method, &self.path, &query, &signed, UNSIGNED));
        format!("{}{}?{query}&X-Amz-Signature={signature}", s3.endpoint(), self.path)
    }
}

/// A POST form: fields in order, and the conditions of its policy.
pub struct Form {
    pub bucket: String,
    pub fields: Vec<(String, String)>,
    pub conditions: Vec<serde_json::Value>,
    pub expires_at: DateTime<Utc>,
    pub region: &'static str,
    pub file: Vec<u8>,
}

impl Form {
    /// A form that allows exactly one key, type and status, and a file of 1 to 100 bytes.
    pub fn new(bucket: &str, key: &str) -> Self {
        let fields: Vec<(String, String)> =
            [("bucket", bucket), ("key", key), ("Content-Type", "image/png"), ("success_action_status", "201")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec();
        let mut conditions: Vec<_> =
            fields.iter().map(|(name, value)| serde_json::json!(["eq", format!("${name}"), value])).collect();
        conditions.push(serde_json::json!(["content-length-range", 1, 100]));
        let expires_at = Utc::now() + TimeDelta::minutes(5);
        Self { bucket: bucket.into(), fields, conditions, expires_at, region: "us-east-1", file: b"a picture".to_vec() }
    }

    pub fn file(self, file: impl Into<Vec<u8>>) -> Self {
        Self { file: file.into(), ..self }
    }

    /// Adds a field that the policy covers.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.conditions.push(serde_json::json!({ name: value }));
        self.fields.push((name.into(), value.into()));
        self
    }

    /// The complete form, signed. If a test changes a field after this, the signature does not cover the change.
    pub fn sign(mut self, key: &Key) -> Self {
        let now = timestamp(Utc::now());
        for (name, value) in [
            ("x-amz-algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("x-amz-credential", format!("{}/{}/{}/s3/aws4_request", key.id, &now[..8], self.region)),
            ("x-amz-date", now.clone()),
        ] {
            self = self.field(name, &value);
        }
        let expiration = self.expires_at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let policy = serde_json::json!({ "expiration": expiration, "conditions": self.conditions });
        let policy = BASE64_STANDARD.encode(policy.to_string());
        let signature = sign_text(key, self.region, &now, &policy);
        self.fields.push(("policy".into(), policy));
        self.fields.push(("x-amz-signature".into(), signature));
        self
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(present, _)| present != name);
        self.fields.push((name.into(), value.into()));
        self
    }

    pub async fn send(self, s3: &EmbeddedS3) -> Response {
        let boundary = "a-boundary";
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            let part = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        let file = "Content-Disposition: form-data; name=\"file\"; filename=\"x\"\r\nContent-Type: text/html\r\n\r\n";
        body.extend_from_slice(format!("--{boundary}\r\n{file}").as_bytes());
        body.extend_from_slice(&self.file);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        client()
            .post(format!("{}/{}", s3.endpoint(), self.bucket))
            .header("content-type", format!("multipart/form-data; boundary={boundary}"))
            .body(body)
            .send()
            .await
            .unwrap()
    }
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn canonical(method: &Method, path: &str, query: &str, headers: &BTreeMap<String, String>, payload: &str) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    format!("{method}\n{path}\n{query}\n{lines}\n{}\n{payload}", names(headers))
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.into() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    pairs.join("&")
}

fn names(headers: &BTreeMap<String, String>) -> String {
    headers.keys().map(String::as_str).collect::<Vec<_>>().join(";")
}

fn sign(key: &Key, region: &str, now: &str, canonical: &str) -> String {
    let hash = sha256_hex(canonical.as_bytes());
    sign_text(key, region, now, &format!("AWS4-HMAC-SHA256\n{now}\n{}/{region}/s3/aws4_request\n{hash}", &now[..8]))
}

fn sign_text(key: &Key, region: &str, now: &str, text: &str) -> String {
    let mut signing = hmac(format!("AWS4{}", key.secret).as_bytes(), &now[..8]);
    for part in [region, "s3", "aws4_request"] {
        signing = hmac(&signing, part);
    }
    hex(&hmac(&signing, text))
}

/// RFC 2104 with SHA-256, for keys of any length.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let key = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    let pad = |with: u8| (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect::<Vec<u8>>();
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn host(s3: &EmbeddedS3) -> String {
    s3.endpoint().trim_start_matches("http://").to_owned()
}

fn timestamp(time: DateTime<Utc>) -> String {
    time.format("%Y%m%dT%H%M%SZ").to_string()
}

//! AWS Signature Version 4 on the store's side: headers, presigned URLs and POST policies
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html>).
//!
//! The sink trusts the hash of the payload that the request states; the signature covers it.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::{
    header::{AUTHORIZATION, HeaderMap},
    http::request::Parts,
};
use sha2::{Digest as _, Sha256};
use upload_sandbox::s3::{Key, ThreeKeys};

use super::traffic::Role;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SIGNATURE_PARAMETER: &str = "X-Amz-Signature=";

/// Secrets and roles by key id.
#[derive(Debug)]
pub(super) struct Keys(BTreeMap<String, (Role, Key)>);

/// Why a request is refused, in S3's words.
pub(super) type Refusal = &'static str;

impl Keys {
    /// If one key has several roles, it counts as the server's.
    pub(super) fn of(keys: &ThreeKeys) -> Self {
        let keys = [(Role::Reader, &keys.reader), (Role::Signer, &keys.signer), (Role::Server, &keys.server)];
        Self(keys.into_iter().map(|(role, key)| (key.id.clone(), (role, key.clone()))).collect())
    }

    /// Who signed a request, in its headers or its query.
    ///
    /// # Errors
    /// Without a signature, or if it is wrong.
    pub(super) fn who_signed(&self, head: &Parts) -> Result<Role, Refusal> {
        let query = head.uri.query().unwrap_or_default();
        if let Some(authorization) = head.headers.get(AUTHORIZATION) {
            let authorization = authorization.to_str().map_err(|_error| "AuthorizationHeaderMalformed")?;
            let fields = authorization.strip_prefix(ALGORITHM).ok_or("AuthorizationHeaderMalformed")?;
            let field = |name: &str| {
                fields
                    .split(',')
                    .find_map(|field| field.trim().strip_prefix(name))
                    .ok_or("AuthorizationHeaderMalformed")
            };
            let time = header(&head.headers, "x-amz-date").ok_or("AccessDenied")?;
            let payload = header(&head.headers, "x-amz-content-sha256").ok_or("AccessDenied")?;
            let request = canonical_request(head, query, field("SignedHeaders=")?, payload);
            return self.check(field("Credential=")?, time, &request, field("Signature=")?);
        }
        let parameters: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
        let parameter = |name: &str| parameters.get(name).map(AsRef::as_ref).ok_or("AccessDenied");
        let signed_headers = parameter("X-Amz-SignedHeaders")?;
        let request = canonical_request(head, query, signed_headers, "UNSIGNED-PAYLOAD");
        self.check(parameter("X-Amz-Credential")?, parameter("X-Amz-Date")?, &request, parameter("X-Amz-Signature")?)
    }

    /// Who signed a form. The signature is of its policy.
    ///
    /// # Errors
    /// Without a signature, or if it is wrong.
    pub(super) fn who_signed_form(&self, fields: &BTreeMap<String, String>) -> Result<Role, Refusal> {
        let field = |name: &str| fields.get(name).map(String::as_str).ok_or("AccessDenied");
        let (role, signing_key) = self.signing_key(field("x-amz-credential")?)?;
        verify(&signing_key, field("policy")?, field("x-amz-signature")?)?;
        Ok(role)
    }

    fn check(&self, credential: &str, time: &str, request: &str, signature: &str) -> Result<Role, Refusal> {
        let (role, signing_key) = self.signing_key(credential)?;
        let scope = credential.split_once('/').map_or("", |(_id, scope)| scope);
        let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hex(&Sha256::digest(request)));
        verify(&signing_key, &text, signature)?;
        Ok(role)
    }

    /// From `id/date/region/s3/aws4_request`.
    fn signing_key(&self, credential: &str) -> Result<(Role, [u8; 32]), Refusal> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [id, date, region, "s3", "aws4_request"] = parts[..] else { return Err("AuthorizationHeaderMalformed") };
        let (role, key) = self.0.get(id).ok_or("InvalidAccessKeyId")?;
        let first = format!("AWS4{}", key.secret).into_bytes();
        let mut signing_key = authenticate(&first, date);
        for text in [region, "s3", "aws4_request"] {
            signing_key = authenticate(&signing_key, text);
        }
        Ok((*role, signing_key))
    }
}

/// Takes paths and queries as they were sent: clients encode them before they sign.
fn canonical_request(head: &Parts, query: &str, signed_headers: &str, payload: &str) -> String {
    let mut parameters: Vec<String> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty() && !parameter.starts_with(SIGNATURE_PARAMETER))
        .map(|parameter| if parameter.contains('=') { parameter.to_owned() } else { format!("{parameter}=") })
        .collect();
    parameters.sort_unstable();
    let headers: String =
        signed_headers.split(';').map(|name| format!("{name}:{}\n", canonical(&head.headers, name))).collect();
    let (method, path, query) = (&head.method, head.uri.path(), parameters.join("&"));
    format!("{method}\n{path}\n{query}\n{headers}\n{signed_headers}\n{payload}")
}

fn canonical(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.map(|value| value.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(",")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn authenticate(key: &[u8], text: &str) -> [u8; 32] {
    mac(key, text).finalize().into_bytes().into()
}

fn verify(key: &[u8], text: &str, signature: &str) -> Result<(), Refusal> {
    let signature = from_hex(signature).ok_or("SignatureDoesNotMatch")?;
    mac(key, text).verify_slice(&signature).map_err(|_different| "SignatureDoesNotMatch")
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(text.as_bytes());
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

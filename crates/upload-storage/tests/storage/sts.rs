//! Temporary keys of a MinIO. They have the rights that both the admin's key and a policy allow.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use upload_sandbox::s3::{Key, REGION, S3Connection};

/// A key for an hour. `None` if the store does not support the request.
pub async fn assume_role(connection: &S3Connection, policy: &str) -> Option<Key> {
    let S3Connection { endpoint, admin, .. } = connection;
    let parameters =
        [("Action", "AssumeRole"), ("Version", "2011-06-15"), ("DurationSeconds", "3600"), ("Policy", policy)];
    let url = url::Url::parse_with_params(endpoint, parameters).unwrap();
    let body = url.query().unwrap().to_owned();
    let address = format!("{}/", endpoint.trim_end_matches('/'));
    let identity = Credentials::new(&admin.id, &admin.secret, admin.session_token.clone(), None, "test").into();
    let signing = SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name("sts")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .unwrap();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let signable =
        SignableRequest::new("POST", &address, headers.into_iter(), SignableBody::Bytes(body.as_bytes())).unwrap();
    let (instructions, _signature) = sign(signable, &signing.into()).unwrap().into_parts();
    let mut request = reqwest::Client::new().post(&address).header(headers[0].0, headers[0].1);
    for (name, value) in instructions.headers() {
        request = request.header(name, value);
    }
    let answer = request.body(body).send().await.unwrap().text().await.unwrap();
    let value = |name: &str| {
        let (_before, rest) = answer.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_owned())
    };
    Some(Key { id: value("AccessKeyId")?, secret: value("SecretAccessKey")?, session_token: value("SessionToken") })
}

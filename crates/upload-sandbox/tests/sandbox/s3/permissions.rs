//! The three keys and their rights, signatures, and CORS.

use chrono::{TimeDelta, Utc};
use reqwest::{Method, StatusCode};

use upload_sandbox::s3::Key;

use super::signing::{Form, Request, client};
use super::{get, put, refusal, send, store_with_bucket};

const OPERATIONS: [(&str, &str); 18] = [
    ("PUT", "/bucket/incoming/x"),
    ("PUT", "/bucket/media/x"),
    ("PUT", "/bucket/incoming"),
    ("PUT", "/bucket/x/incoming/x"),
    ("GET", "/bucket/incoming/a"),
    ("GET", "/bucket/media/a"),
    ("HEAD", "/bucket/incoming/a"),
    ("HEAD", "/bucket/media/a"),
    ("DELETE", "/bucket/incoming/a"),
    ("DELETE", "/bucket/media/a"),
    ("GET", "/bucket?list-type=2"),
    ("GET", "/bucket?cors"),
    ("PUT", "/bucket?cors"),
    ("PUT", "/bucket?lifecycle"),
    ("PUT", "/bucket/incoming/x?acl"),
    ("POST", "/bucket/incoming/x?uploads"),
    ("HEAD", "/bucket"),
    ("PUT", "/another-bucket"),
];

#[tokio::test]
async fn signer_and_reader_may_do_one_thing_each_and_nobody_may_do_anything_unsigned() {
    let (s3, _) = store_with_bucket().await;
    put(&s3, "incoming/a", "a").await;
    put(&s3, "media/a", "a").await;
    for (method, path) in OPERATIONS {
        let signer = send(&s3, &s3.keys().signer, method, path).await.status();
        let reader = send(&s3, &s3.keys().reader, method, path).await.status();
        let url = format!("{}{path}", s3.endpoint());
        let nobody = client().request(method.parse().unwrap(), url).send().await.unwrap().status();
        assert_eq!(nobody, StatusCode::FORBIDDEN, "unsigned {method} {path}");
        match (method, path) {
            ("PUT", "/bucket/incoming/x") => assert_eq!(signer, StatusCode::OK),
            _ => assert_eq!(signer, StatusCode::FORBIDDEN, "signer {method} {path}"),
        }
        match (method, path) {
            ("GET" | "HEAD", "/bucket/media/a") => assert_eq!(reader, StatusCode::OK),
            _ => assert_eq!(reader, StatusCode::FORBIDDEN, "reader {method} {path}"),
        }
    }
    assert_eq!(get(&s3, "media/x").await, None);
    assert_eq!(get(&s3, "incoming/a").await.unwrap(), b"a");
}

#[tokio::test]
async fn many_objects_are_deleted_only_where_all_of_them_may_be() {
    let (s3, _) = store_with_bucket().await;
    let delete = async |key: &Key, name: &str| {
        let many = format!("<Delete><Object><Key>incoming/a</Key></Object><Object><Key>{name}</Key></Object></Delete>");
        Request::new(Method::POST, "/bucket").query("delete").body(many).send(&s3, key).await.status()
    };
    put(&s3, "incoming/a", "a").await;
    for (key, name) in [(&s3.keys().signer, "incoming/b"), (&s3.keys().reader, "media/b"), (&s3.keys().server, "b")] {
        assert_eq!(delete(key, name).await, StatusCode::FORBIDDEN, "{name}");
    }
    assert_eq!(get(&s3, "incoming/a").await.unwrap(), b"a");
    assert_eq!(delete(&s3.keys().server, "media/b").await, StatusCode::OK);
    assert_eq!(get(&s3, "incoming/a").await, None);
}

#[tokio::test]
async fn the_server_stays_in_its_prefixes_and_leaves_the_bucket_alone() {
    let (s3, _) = store_with_bucket().await;
    put(&s3, "a", "a").await;
    let server = &s3.keys().server;
    for (method, path) in [
        ("PUT", "/bucket/x"),
        ("GET", "/bucket/a"),
        ("DELETE", "/bucket/a"),
        ("PUT", "/another-bucket"),
        ("DELETE", "/bucket"),
        ("GET", "/bucket?cors"),
        ("PUT", "/bucket?cors"),
        ("PUT", "/bucket?lifecycle"),
        ("PUT", "/bucket?versioning"),
    ] {
        assert_eq!(
            refusal(send(&s3, server, method, path).await).await,
            (403, "AccessDenied".into()),
            "{method} {path}"
        );
    }
    for (method, path, status) in [
        ("PUT", "/bucket/incoming/x", 200),
        ("GET", "/bucket/media/none", 404),
        ("DELETE", "/bucket/media/none", 204),
        ("HEAD", "/bucket", 200),
        ("GET", "/bucket?list-type=2", 200),
        ("GET", "/bucket?versions", 200),
        ("GET", "/bucket?versioning", 200),
        ("GET", "/bucket?lifecycle", 404),
    ] {
        assert_eq!(send(&s3, server, method, path).await.status(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn a_key_that_may_not_list_is_not_told_what_is_missing() {
    let (s3, _) = store_with_bucket().await;
    let response = send(&s3, &s3.keys().reader, "GET", "/bucket/media/none").await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let text = response.text().await.unwrap();
    assert!(text.contains("is not authorized to perform: s3:ListBucket"), "{text}");
}

#[tokio::test]
async fn a_further_key_may_do_what_its_policy_says() {
    let (s3, _) = store_with_bucket().await;
    let policy =
        r#"{"Statement": [{"Effect": "Allow", "Action": ["s3:Get*"], "Resource": ["arn:aws:s3:::bucket/a/*.png"]}]}"#;
    let key = s3.add_key(policy).unwrap();
    put(&s3, "a/b/c.png", "a").await;
    put(&s3, "a/b/c.jpg", "a").await;
    assert_eq!(send(&s3, &key, "GET", "/bucket/a/b/c.png").await.status(), StatusCode::OK);
    assert_eq!(send(&s3, &key, "GET", "/bucket/a/b/c.jpg").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(send(&s3, &key, "DELETE", "/bucket/a/b/c.png").await.status(), StatusCode::FORBIDDEN);
    assert!(s3.add_key(&policy.replace("Allow", "Deny")).is_err());
}

#[tokio::test]
async fn the_signer_may_not_copy() {
    let (s3, _) = store_with_bucket().await;
    put(&s3, "media/a", "a").await;
    put(&s3, "incoming/a", "a").await;
    for source in ["bucket/media/a", "bucket/incoming/a"] {
        let copy = Request::new(Method::PUT, "/bucket/incoming/b").header("x-amz-copy-source", source);
        assert_eq!(copy.send(&s3, &s3.keys().signer).await.status(), StatusCode::FORBIDDEN, "{source}");
    }
    assert_eq!(get(&s3, "incoming/b").await, None);
}

#[tokio::test]
async fn a_form_may_write_what_its_key_may() {
    let (s3, bucket) = store_with_bucket().await;
    let keys = s3.keys();
    let cases = [
        (&keys.signer, "incoming/a", 201),
        (&keys.server, "media/a", 201),
        (&keys.signer, "media/b", 403),
        (&keys.signer, "b", 403),
        (&keys.reader, "incoming/b", 403),
        (&keys.reader, "media/b", 403),
    ];
    for (key, name, expected) in cases {
        let response = Form::new(bucket, name).sign(key).send(&s3).await;
        assert_eq!(response.status(), expected, "{} posts {name}", key.id);
        assert_eq!(get(&s3, name).await.is_some(), expected == 201);
    }
}

#[tokio::test]
async fn a_signature_is_for_this_key_region_and_time() {
    let (s3, _) = store_with_bucket().await;
    put(&s3, "media/a", "a").await;
    let reader = &s3.keys().reader;
    let read = || Request::new(Method::GET, "/bucket/media/a");
    assert_eq!(refusal(read().send_for(&s3, reader, "eu-west-1").await).await.1, "AuthorizationHeaderMalformed");
    let mut forged = reader.clone();
    forged.secret.push('0');
    assert_eq!(refusal(read().send(&s3, &forged).await).await, (403, "SignatureDoesNotMatch".into()));
    forged.id.push('0');
    assert_eq!(refusal(read().send(&s3, &forged).await).await, (403, "InvalidAccessKeyId".into()));

    let now = Utc::now();
    let url = read().presigned_url(&s3, reader, now - TimeDelta::seconds(50), 60);
    assert_eq!(client().get(url).send().await.unwrap().status(), StatusCode::OK);
    let url = read().presigned_url(&s3, reader, now - TimeDelta::seconds(70), 60);
    assert_eq!(refusal(client().get(url).send().await.unwrap()).await, (403, "AccessDenied".into()));

    let old = format!("{}/bucket/media/a?AWSAccessKeyId={}&Expires=4000000000&Signature=x", s3.endpoint(), reader.id);
    assert_eq!(refusal(client().get(old).send().await.unwrap()).await, (400, "InvalidRequest".into()));
}

#[tokio::test]
async fn a_presigned_put_is_for_its_length_and_type_and_takes_no_further_amz_header() {
    let (s3, _) = store_with_bucket().await;
    put(&s3, "media/secret", "secret").await;
    let key = &s3.keys().signer;
    let request = Request::new(Method::PUT, "/bucket/incoming/a")
        .header("content-length", "3")
        .header("content-type", "image/png");
    let url = request.presigned_url(&s3, key, Utc::now(), 60);
    let send = async |kind: &'static str, body: &'static str, copy: Option<&'static str>| {
        let mut request = client().put(&url).header("content-type", kind).body(body);
        if let Some(source) = copy {
            request = request.header("x-amz-copy-source", source);
        }
        request.send().await.unwrap().status()
    };
    assert_eq!(send("image/png", "abcd", None).await, StatusCode::FORBIDDEN);
    assert_eq!(send("text/html", "abc", None).await, StatusCode::FORBIDDEN);
    assert_eq!(send("image/png", "abc", Some("bucket/media/secret")).await, StatusCode::FORBIDDEN);
    assert_eq!(get(&s3, "incoming/a").await, None);
    assert_eq!(send("image/png", "abc", None).await, StatusCode::OK);
    assert_eq!(get(&s3, "incoming/a").await.unwrap(), b"abc");

    // The server's key may copy, so here only the header's missing signature prevents it.
    let url = Request::new(Method::PUT, "/bucket/incoming/b").presigned_url(&s3, &s3.keys().server, Utc::now(), 60);
    let copied = client().put(url).header("x-amz-copy-source", "bucket/media/secret").send().await;
    assert_eq!(copied.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(get(&s3, "incoming/b").await, None);
}

#[tokio::test]
async fn an_answer_arrives_although_the_client_is_still_sending() {
    let (s3, _) = store_with_bucket().await;
    let request = Request::new(Method::PUT, "/bucket/media/a").body(vec![0; 24 * 1024 * 1024]);
    assert_eq!(refusal(request.send(&s3, &s3.keys().signer).await).await, (403, "AccessDenied".into()));
}

#[tokio::test]
async fn cors_is_as_the_bucket_says() {
    let (s3, bucket) = store_with_bucket().await;
    let preflight = async |origin: &str, method: &str, headers: &str| {
        client()
            .request(Method::OPTIONS, format!("{}/{bucket}", s3.endpoint()))
            .header("origin", origin)
            .header("access-control-request-method", method)
            .header("access-control-request-headers", headers)
            .send()
            .await
            .unwrap()
    };
    let (app, other) = ("https://app.example", "https://app.example.evil");
    assert_eq!(preflight(app, "POST", "").await.status(), StatusCode::FORBIDDEN);

    let rules = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
        <AllowedMethod>POST</AllowedMethod><AllowedMethod>GET</AllowedMethod><AllowedHeader>content-*</AllowedHeader>\
        <ExposeHeader>ETag</ExposeHeader><ExposeHeader>Location</ExposeHeader><MaxAgeSeconds>600</MaxAgeSeconds>\
        </CORSRule></CORSConfiguration>";
    let set = Request::new(Method::PUT, "/bucket").query("cors").body(rules).send(&s3, &s3.connection().admin).await;
    assert_eq!(set.status(), StatusCode::OK);

    let allowed = preflight(app, "POST", "Content-Type").await;
    assert_eq!(allowed.status(), StatusCode::OK);
    for (name, value) in [
        ("access-control-allow-origin", app),
        ("access-control-allow-methods", "POST, GET"),
        ("access-control-allow-headers", "Content-Type"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(allowed.headers()[name], value);
    }
    assert!(!allowed.headers().contains_key("access-control-allow-credentials"));
    for (origin, method, headers) in [(other, "POST", ""), (app, "DELETE", ""), (app, "POST", "authorization")] {
        let refused = preflight(origin, method, headers).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{origin} {method} {headers}");
        assert!(!refused.headers().contains_key("access-control-allow-origin"));
    }

    put(&s3, "media/a", "a").await;
    let read = async |origin: &str| {
        let url = Request::new(Method::GET, "/bucket/media/a").presigned_url(&s3, &s3.keys().reader, Utc::now(), 60);
        client().get(url).header("origin", origin).send().await.unwrap()
    };
    let response = read(app).await;
    assert_eq!(response.headers()["access-control-allow-origin"], app);
    assert_eq!(response.headers()["access-control-expose-headers"], "ETag, Location");
    assert!(!read(other).await.headers().contains_key("access-control-allow-origin"));
}

//! What applies to every request: its id, its size, its encoding, CORS, and one format for errors.

use reqwest::Method;
use serde_json::json;
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::{
    raw::{self, Then},
    samples,
};

use crate::Setup;

#[tokio::test]
async fn every_error_is_a_problem_document_with_the_id_of_its_request() {
    let setup = Setup::start(&[]).await;
    let big = json!({ "imageEntityId": "x".repeat(70 * 1024) });
    let id = "018f4f3e-7a50-7000-8000-000000000001";
    let path = "/user/users/profile-image";
    let encoded_twice = setup.client.request(Method::POST, path);
    let encoded_twice = encoded_twice.header("content-encoding", "identity").header("content-encoding", "gzip");
    let answers = [
        (setup.client.get("/nowhere").await, (404, "not_found")),
        (setup.client.get("/user/images").await, (405, "method_not_allowed")),
        (setup.client.delete("/limits").await, (405, "method_not_allowed")),
        (setup.client.get("/images/not-an-id").await, (404, "not_found")),
        (setup.client.get(&format!("/images/{id}")).await, (404, "image_not_found")),
        (setup.client.get(&format!("/competitions/{id}")).await, (404, "competition_not_found")),
        (setup.client.get(&format!("/posts/{id}")).await, (404, "post_not_found")),
        (setup.client.delete_post(id).await, (404, "post_not_found")),
        (setup.client.with_token("x").me().await, (401, "invalid_token")),
        (setup.client.post(path, &big).await, (413, "payload_too_large")),
        (setup.client.post(path, &json!({ "imageEntityId": id, "more": 1 })).await, (400, "invalid_request")),
        (setup.client.post(path, &json!({ "imageEntityId": 1 })).await, (400, "invalid_request")),
        (setup.client.post(path, &json!([])).await, (400, "invalid_request")),
        (setup.client.link_profile(id).await, (404, "image_not_found")),
        (setup.client.send(setup.client.request(Method::POST, path).body("{}")).await, (415, "unsupported_media_type")),
        (
            setup
                .client
                .send(setup.client.request(Method::POST, path).header("content-encoding", "gzip").body("{}"))
                .await,
            (415, "unsupported_encoding"),
        ),
        (setup.client.send(encoded_twice.body("{}")).await, (415, "unsupported_encoding")),
    ];
    for (answer, expected) in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.refusal(), expected, "{}", answer.json);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{expected:?}");
        assert_eq!(answer.json["status"], expected.0, "{expected:?}");
        assert_eq!(answer.json["requestId"], answer.header("x-request-id"), "{expected:?}");
        assert_eq!(answer.json["retryable"], false, "{expected:?}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{expected:?}");
        assert_eq!(answer.header("www-authenticate").is_empty(), expected.0 != 401, "{expected:?}");
        assert_eq!(answer.header("allow").is_empty(), expected.0 != 405, "{expected:?}");
        // The same id finds the one line in the log.
        let id = answer.header("x-request-id");
        setup.server.wait_for_log(|line| line.contains(id) && line.contains(expected.1)).await.unwrap();
        assert_eq!(setup.server.log().iter().filter(|line| line.contains(id)).count(), 1, "{expected:?}");
    }
}

#[tokio::test]
async fn only_a_trusted_proxy_may_choose_a_requests_id() {
    let setup = Setup::start(&[("TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let (_untrusting, client) = setup.another(&[]).await;
    for (client, kept) in [(&setup.client, true), (&client, false)] {
        let request = client.request(Method::GET, "/limits").header("x-request-id", "proxy-7");
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.header("x-request-id") == "proxy-7", kept);
        assert!(!answer.header("x-request-id").is_empty());
    }
}

#[tokio::test]
async fn pages_of_the_allowed_origins_alone_may_call_and_read() {
    let setup = Setup::start(&[("CORS_ORIGINS", "https://app.example.org")]).await;
    for (origin, allowed) in [("https://app.example.org", true), ("https://evil.example.org", false)] {
        let preflight = setup
            .client
            .request(Method::OPTIONS, "/user/images")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type");
        let answer = setup.client.send(preflight).await.unwrap();
        assert_eq!(answer.header("access-control-allow-origin") == origin, allowed, "{origin}");
        assert_eq!(answer.header("access-control-allow-credentials"), "");

        let refused = setup.client.with_token("x").request(Method::GET, "/user/users/me").header("origin", origin);
        let answer = setup.client.send(refused).await.unwrap();
        assert_eq!(answer.refusal(), (401, "invalid_token"), "errors can be read, too");
        assert_eq!(answer.header("access-control-allow-origin") == origin, allowed, "{origin}");
        if allowed {
            let exposed = answer.header("access-control-expose-headers").to_lowercase();
            for header in ["etag", "location", "retry-after", "x-request-id"] {
                assert!(exposed.contains(header), "{header} is not in {exposed}");
            }
        }
    }
}

#[tokio::test]
async fn a_caller_without_a_token_is_refused_before_the_body_is_read() {
    let setup = Setup::start(&[]).await;
    // The server would wait for a body of this length.
    let headers = [("Content-Type", "application/json"), ("Content-Length", "1000")];
    let request = raw::request("POST", &format!("{}/user/images", setup.server.url), &headers, b"").unwrap();
    let answer = raw::exchange(&setup.server.url, &request, Then::Wait).await.unwrap().unwrap();
    assert_eq!(answer.refusal(), (401, "invalid_token"));
}

#[tokio::test]
async fn what_the_server_does_is_counted() {
    let setup = Setup::start(&[]).await;
    setup.client.get("/nowhere/1").await.unwrap();
    setup.client.limits().await.unwrap().expect_status(200).unwrap();
    let created = setup.client.create_image(ImagePath::UserProfile, ImageFormat::Png).await.unwrap();
    setup.client.upload(created.form(), samples::HTML).await.unwrap().expect_status(201).unwrap();
    for _again in 0..2 {
        let refused = setup.client.link_profile(created.image_id()).await.unwrap();
        assert_eq!(refused.refusal(), (422, "content_mismatch"));
    }
    let metrics = setup.client.get("/metrics").await.unwrap().expect_status(200).unwrap();
    let text = String::from_utf8_lossy(&metrics.body);
    for line in [
        "http_requests_total{method=\"GET\",route=\"/limits\",status=\"200\"} 1",
        "http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"} 1",
        "uploads_active 0",
        "image_refusals_total{code=\"content_mismatch\"} 1",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

//! Both servers behind a real nginx with compose's own configuration: what it must pass on, and what it must stop.
//! Without an nginx on the machine each of these tests says that it has tested nothing.

use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::{
    Sandbox,
    client::Answer,
    nginx::{self, Active, Installed, Routes},
    raw::{RawForm, RawRequest},
    samples::jpeg_of_exactly,
};
use uuid::Uuid;

use crate::proxied::{Proxied, metric, routes, until};

const FILE_BYTES: usize = 5_000_000;
const BOTH: [Active; 2] = [Active::V1, Active::V2];

/// Begins an upload by V1's stream route: sends everything before the file's first byte.
async fn begin_stream(url: &str, token: &str, file_bytes: usize) -> RawRequest {
    RawForm::of_profile_image().begin(url, "/user/images/upload", token, file_bytes).await.unwrap()
}

/// Begins the upload of a form that V1 gave out.
async fn begin_ticket(url: &str, form: &Value, file_bytes: usize) -> RawRequest {
    RawForm::of_ticket(form).unwrap().begin(url, &RawForm::target(form).unwrap(), "", file_bytes).await.unwrap()
}

/// A GET of a path that a client library would change.
async fn get(url: &str, path: &str) -> Answer {
    let head = format!("GET {path} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n");
    RawRequest::begin(url, head.as_bytes()).await.unwrap().answer().await.unwrap()
}

fn assert_is_a_problem(answer: &Answer) {
    assert!(answer.header("content-type").starts_with("application/problem+json"), "{answer:?}");
    assert_eq!(answer.json["requestId"].as_str().unwrap(), answer.header("x-request-id"), "{answer:?}");
}

#[tokio::test]
async fn a_clients_whole_way_leads_through_nginx_and_every_url_is_a_public_one() {
    let Some(proxied) = Proxied::start(Active::V1, &[]).await else { return };
    let (public_api, public_store) = (proxied.nginx.url(), &proxied.public_store);
    let bucket = proxied.stand.bucket();
    for (seed, active) in BOTH.into_iter().enumerate() {
        proxied.switch(active).await;
        let form_url = match active {
            Active::V1 => format!("{public_api}/uploads"),
            _ => format!("{public_store}/{bucket}"),
        };
        let caller = proxied.caller().await;
        // The client may claim any host.
        let create = caller
            .request(Method::POST, "/user/images")
            .header(header::HOST, "evil.example")
            .header("x-forwarded-host", "evil.example")
            .json(&json!({ "path": "user-profile", "format": "image/jpeg" }));
        let created = caller.send(create).await.unwrap().expect_status(201).unwrap();
        let image = created.image_id();
        // V1 adds a ticket.
        let place = |answer: &Answer| {
            let url = answer.form()["url"].as_str().unwrap();
            url.split('?').next().unwrap().trim_end_matches('/').to_owned()
        };
        assert_eq!(place(&created), form_url, "{active:?}");
        let renewed = caller.renew_form(image).await.unwrap().expect_status(201).unwrap();
        assert_eq!(place(&renewed), form_url);

        let file = jpeg_of_exactly(FILE_BYTES, seed as u64);
        let uploaded = caller.upload(created.form(), file.clone()).await.unwrap().expect_status(201).unwrap();
        let location = uploaded.header("location");
        assert!(location.starts_with(&form_url), "{active:?}: {location}");
        assert!(!uploaded.header("etag").is_empty());
        caller.link_profile(image).await.unwrap().expect_status(201).unwrap();

        let read = caller.request(Method::GET, &format!("/images/{image}")).header(header::HOST, "evil.example");
        let redirect = caller.send(read).await.unwrap().expect_status(302).unwrap();
        let location = redirect.header("location");
        assert!(location.starts_with(&format!("{public_store}/{bucket}/media/{image}/")), "{location}");
        assert!(caller.download(image).await.unwrap().body == file, "{active:?}: other bytes came back");
        let links = metric(proxied.server(active), "image_links_total").await;
        assert_eq!(links, 1, "{active:?} has not linked the image");
    }

    // A PUT, which only V2 gives out.
    let caller = proxied.caller().await;
    let wish = json!({ "path": "user-profile", "format": "image/jpeg", "byteSize": FILE_BYTES, "method": "PUT" });
    let created = caller.post("/user/images", &wish).await.unwrap().expect_status(201).unwrap();
    assert_eq!(created.form()["method"], "PUT");
    let (url, image) = (created.form()["url"].as_str().unwrap(), created.image_id());
    assert!(url.starts_with(&format!("{public_store}/{bucket}/incoming/{image}?")), "{url}");
    let file = jpeg_of_exactly(FILE_BYTES, 3);
    caller.upload(created.form(), file.clone()).await.unwrap().expect_status(200).unwrap();
    caller.link_profile(image).await.unwrap().expect_status(201).unwrap();
    assert!(caller.download(image).await.unwrap().body == file);
}

#[tokio::test]
async fn v1_passes_a_body_on_while_its_client_still_sends() {
    let Some(proxied) = Proxied::start(Active::V1, &[]).await else { return };
    // Only the embedded store reports how much of a body has arrived. For a real one, V1's own tests show the same with a relay.
    let Some(mut traffic) = proxied.stand.traffic() else { return };
    let caller = proxied.caller().await;
    let file = jpeg_of_exactly(FILE_BYTES, 1);
    let created = caller.create_image(ImagePath::UserProfile, ImageFormat::Jpeg).await.unwrap();
    let mut upload = begin_ticket(proxied.nginx.url(), created.form(), file.len()).await;
    let (first, second) = file.split_at(FILE_BYTES / 2);
    upload.send(first).await;
    traffic.wait_for(|traffic| traffic.received_bytes >= 1 << 20).await.unwrap();
    assert_eq!(proxied.nginx.bodies_on_disk().unwrap(), 0);
    upload.send(second).await;
    let answer = upload.finish().await.unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    caller.link_profile(created.image_id()).await.unwrap().expect_status(201).unwrap();
    assert!(caller.download(created.image_id()).await.unwrap().body == file);
}

#[tokio::test]
async fn nginx_names_a_request_and_no_client_does() {
    let Some(proxied) = Proxied::start(Active::V1, &[]).await else { return };
    let caller = proxied.caller().await;
    for active in BOTH {
        proxied.switch(active).await;
        let server = proxied.server(active);
        let spoofed = format!("spoofed-{}", Uuid::new_v4());
        let missing = format!("/images/{}", Uuid::now_v7());
        // The server must believe none of this client's headers, not even that it speaks for the proxy.
        let ask = |url: &str| {
            let caller = caller.at(url);
            let request = caller.request(Method::GET, &missing);
            let request = request.header("x-request-id", &spoofed).header("x-forwarded-for", nginx::ADDRESS);
            async move { caller.send(request).await.unwrap() }
        };
        let through_nginx = ask(proxied.nginx.url()).await;
        let id = through_nginx.header("x-request-id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id} is not nginx's");
        let past_nginx = ask(&server.url).await;
        let own_id = past_nginx.header("x-request-id");
        assert!(Uuid::parse_str(own_id).is_ok() && own_id.len() == 36, "{own_id} is not the server's");
        for (answer, id) in [(&through_nginx, id), (&past_nginx, own_id)] {
            assert_eq!(answer.refusal(), (404, "image_not_found"));
            assert_eq!(answer.json["requestId"], id);
            server.wait_for_log(|line| line.contains(id) && line.contains("image_not_found")).await.unwrap();
        }
        assert!(!server.log().iter().any(|line| line.contains(&spoofed)));

        let proxy =
            reqwest::Client::builder().no_proxy().local_address(nginx::ADDRESS.parse::<std::net::IpAddr>().unwrap());
        let request =
            proxy.build().unwrap().get(format!("{}{missing}", server.url)).header("x-request-id", "from-nginx-1");
        let answer = caller.send(request).await.unwrap();
        assert_eq!(answer.header("x-request-id"), "from-nginx-1", "the proxy's address is trusted");
        assert_eq!(answer.json["requestId"], "from-nginx-1");
    }
}

#[tokio::test]
async fn what_a_client_says_of_itself_is_not_passed_on() {
    let Some(installed) = Installed::find().unwrap() else { return };
    let stand = Sandbox::shared().await.stand().await;
    // Takes the servers' place, to see what nginx sends.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let routes = Routes { v1: server.clone(), v2: server, active: Active::V2 };
    let nginx = installed.start(&stand, &routes).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/limits", "/uploads"] {
        let request = client
            .get(format!("{}{path}", nginx.url()))
            .header("x-forwarded-for", "203.0.113.7")
            .header("x-forwarded-proto", "gopher")
            .header("x-request-id", "mine");
        let answered = tokio::spawn(request.send());
        let (mut stream, peer) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await.unwrap();
        assert_eq!(answered.await.unwrap().unwrap().status(), 204);
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let values = |name: &str| -> Vec<String> {
            let prefix = format!("{name}: ");
            head.lines().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect()
        };
        assert_eq!(peer.ip().to_string(), nginx::ADDRESS);
        assert_eq!(values("x-forwarded-for"), ["127.0.0.1"], "{head}");
        assert_eq!(values("x-forwarded-proto"), ["http"], "{head}");
        assert!(matches!(values("x-request-id").as_slice(), [id] if id != "mine"), "{head}");
    }
}

#[tokio::test]
async fn a_pages_preflight_reaches_the_server() {
    let Some(proxied) = Proxied::start(Active::V1, &[("CORS_ORIGINS", "https://app.example")]).await else { return };
    let caller = proxied.caller().await;
    for active in BOTH {
        proxied.switch(active).await;
        for path in ["/user/images", "/uploads"] {
            for (origin, allowed) in [("https://app.example", "https://app.example"), ("https://evil.example", "")] {
                let request = caller.request(Method::OPTIONS, path).header("origin", origin);
                let request = request.header("access-control-request-method", "POST");
                let request = request.header("access-control-request-headers", "authorization,content-type");
                let answer = caller.send(request).await.unwrap();
                assert_eq!(
                    answer.header("access-control-allow-origin"),
                    allowed,
                    "{active:?} {path} {origin}: {answer:?}"
                );
            }
        }
        let request = caller.request(Method::GET, "/limits").header("origin", "https://app.example");
        let answer = caller.send(request).await.unwrap().expect_status(200).unwrap();
        assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
        assert!(answer.header("access-control-expose-headers").to_lowercase().contains("x-request-id"));
    }
}

#[tokio::test]
async fn a_client_that_still_sends_hears_that_it_is_refused() {
    let settings = [("UPLOADS_OPEN", "1"), ("UPLOADS_WAITING", "0"), ("SHUTDOWN_TIMEOUT", "1")];
    let Some(mut proxied) = Proxied::start(Active::V1, &settings).await else { return };
    let url = proxied.nginx.url().to_owned();
    let token = proxied.stand.add_person(upload_domain::Role::User).await.unwrap().token;
    let file = jpeg_of_exactly(FILE_BYTES, 1);
    // Each once with a client that waits for the answer before it sends more, and once with one that keeps sending.
    let mut held = begin_stream(&url, &token, FILE_BYTES).await;
    held.send(&file[..FILE_BYTES / 2]).await;
    until(async || metric(&proxied.v1, "uploads_active").await == 1).await;
    let cases = [
        ("no-token", FILE_BYTES, (401, "invalid_token")),
        (token.as_str(), 10 * FILE_BYTES, (413, "payload_too_large")),
        (token.as_str(), FILE_BYTES, (503, "overloaded")),
    ];
    for (token, file_bytes, refusal) in cases {
        for sent_meanwhile in [0, file_bytes] {
            let upload = begin_stream(&url, token, file_bytes).await;
            let answer = upload.answer_while_sending(sent_meanwhile).await.unwrap();
            assert_eq!(answer.refusal(), refusal, "{answer:?}");
            assert_is_a_problem(&answer);
            assert_eq!(!answer.header("retry-after").is_empty(), answer.status == 503, "{answer:?}");
        }
    }
    held.send(&file[FILE_BYTES / 2..]).await;
    assert_eq!(held.finish().await.unwrap().status, 201, "the one that had its turn was not disturbed");

    let mut late = begin_stream(&url, &token, FILE_BYTES).await;
    late.send(&file[..FILE_BYTES / 2]).await;
    until(async || metric(&proxied.v1, "uploads_active").await == 1).await;
    proxied.v1.ask_to_stop();
    let answer = late.answer_while_sending(FILE_BYTES / 2).await.unwrap();
    assert_eq!(answer.refusal(), (503, "shutting_down"));
    assert_is_a_problem(&answer);
    assert_eq!(proxied.v1.wait().await.unwrap().code(), Some(3));
    // Without a server, nginx itself answers.
    let answer = begin_stream(&url, &token, FILE_BYTES).await.answer_while_sending(FILE_BYTES).await.unwrap();
    assert_eq!(answer.refusal(), (503, "unreachable"));
    assert_is_a_problem(&answer);
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
}

#[tokio::test]
async fn a_tickets_url_is_in_no_log_of_nginx() {
    let Some(mut proxied) = Proxied::start(Active::V1, &[]).await else { return };
    let caller = proxied.caller().await;
    let created = caller.create_image(ImagePath::UserProfile, ImageFormat::Jpeg).await.unwrap();
    let upload = async || caller.upload(created.form(), jpeg_of_exactly(FILE_BYTES, 1)).await.unwrap();
    assert_eq!(upload().await.status, 201);
    // What nginx logs of a failure of its own has the request's line as well.
    assert_eq!(proxied.v1.terminate().await.unwrap(), Some(0));
    assert_eq!(upload().await.refusal(), (503, "unreachable"));
    let nginx = &proxied.nginx;
    let requests = nginx.access_log_until(|line| line.contains("\"POST /uploads\" 503")).await.unwrap();
    let logs = [requests, nginx.log()].concat().join("\n");
    assert!(!logs.contains("ticket"), "{logs}");
}

#[tokio::test]
async fn an_upload_that_its_client_gives_up_ends_and_leaves_nothing() {
    let Some(proxied) = Proxied::start(Active::V1, &[]).await else { return };
    let caller = proxied.caller().await;
    let created = caller.create_image(ImagePath::UserProfile, ImageFormat::Jpeg).await.unwrap();
    let file = jpeg_of_exactly(FILE_BYTES, 1);
    let mut upload = begin_ticket(proxied.nginx.url(), created.form(), file.len()).await;
    upload.send(&file[..FILE_BYTES / 2]).await;
    until(async || proxied.stand.count("image WHERE attempt IS NOT NULL").await.unwrap() == 1).await;
    drop(upload);
    until(async || proxied.stand.count("image WHERE attempt IS NOT NULL").await.unwrap() == 0).await;
    until(async || metric(&proxied.v1, "uploads_active").await == 0).await;
    assert_eq!(proxied.keys().await, Vec::<String>::new());
    // The form still works.
    caller.upload(created.form(), file.clone()).await.unwrap().expect_status(201).unwrap();
    caller.link_profile(created.image_id()).await.unwrap().expect_status(201).unwrap();
    assert!(caller.download(created.image_id()).await.unwrap().body == file);
}

#[tokio::test]
async fn a_slow_client_is_cut_off_by_the_server_and_told_so() {
    let Some(proxied) = Proxied::start(Active::V1, &[("CLIENT_RATE_WINDOW_SECONDS", "1")]).await else { return };
    let token = proxied.stand.add_person(upload_domain::Role::User).await.unwrap().token;
    let file = jpeg_of_exactly(FILE_BYTES, 1);
    let mut upload = begin_stream(proxied.nginx.url(), &token, file.len()).await;
    upload.send(&file[..FILE_BYTES / 2]).await;
    let answer = upload.answer().await.unwrap();
    assert_eq!(answer.refusal(), (408, "upload_timeout"));
    assert_is_a_problem(&answer);
    until(async || proxied.stand.count("image WHERE attempt IS NOT NULL").await.unwrap() == 0).await;
    assert_eq!(proxied.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn metrics_and_health_are_for_those_inside() {
    let Some(proxied) = Proxied::start(Active::V2, &[]).await else { return };
    let paths = [
        "/metrics",
        "/metrics?all",
        "//metrics",
        "/limits/../metrics",
        "/%6detrics",
        "/health/live",
        "/health/ready",
        "/health%2fready",
        "/./health//live",
    ];
    for path in paths {
        let answer = get(proxied.nginx.url(), path).await;
        assert_eq!(answer.refusal(), (404, "not_found"), "{path}");
        assert_is_a_problem(&answer);
    }
    assert_eq!(get(proxied.nginx.url(), "/limits").await.status, 200);
    assert_eq!(get(&proxied.v2.url, "/health/ready").await.status, 200);
}

#[tokio::test]
async fn a_body_that_nginx_does_not_take_is_refused_as_the_servers_do() {
    let Some(proxied) = Proxied::start(Active::V2, &[]).await else { return };
    let caller = proxied.caller().await;
    let of_bytes = |bytes| json!({ "path": "user-profile", "format": "x".repeat(bytes) });
    let by_server = caller.post("/user/images", &of_bytes(100_000)).await.unwrap();
    let by_nginx = caller.post("/user/images", &of_bytes(2_000_000)).await.unwrap();
    assert_eq!(by_server.refusal(), (413, "payload_too_large"), "{by_server:?}");
    assert_eq!(by_nginx.refusal(), by_server.refusal());
    for answer in [by_server, by_nginx] {
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json["requestId"], answer.header("x-request-id"));
    }
}

#[tokio::test]
async fn a_configuration_that_nginx_refuses_changes_nothing() {
    let Some(proxied) = Proxied::start(Active::V1, &[]).await else { return };
    let refused = proxied.nginx.switch(&routes(&proxied.v1, &proxied.v2, Active::Split(0))).await.unwrap_err();
    assert!(refused.to_string().contains("invalid percent value \"0%\""), "{refused}");
    let limits = proxied.caller().await.limits().await.unwrap().expect_status(200).unwrap();
    assert_eq!(limits.json["strategy"], "streaming");
}

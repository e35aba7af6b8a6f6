//! The parts that browsers and proxies see: CORS, request ids, and the one shape of every refusal.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use reqwest::Method;
use upload_domain::{ImageFormat, ImagePath, Role};
use upload_sandbox::client::{Answer, Client};
use upload_storage::bucket;
use uuid::Uuid;

use super::{
    routes::{document, operations},
    subject::{ORIGIN, Strategy, Subject, assert_refused, picture, text},
    uploads,
};

async fn preflight(client: &Client, url: &str, origin: &str, method: &str) -> Result<Answer> {
    // A form's URL is absolute, and may lead to another server.
    let request = client.at("").request(Method::OPTIONS, url);
    let request = request.header("Origin", origin).header("Access-Control-Request-Method", method);
    client.send(request.header("Access-Control-Request-Headers", "authorization,content-type")).await
}

pub(super) async fn pages_of_the_set_origins_may_call_and_others_may_not(subject: &mut Subject) -> Result<()> {
    let anybody = subject.anybody()?;
    for (path, method) in [
        ("/user/images", "POST"),
        ("/user/users/profile-image", "DELETE"),
        ("/user/users/me", "GET"),
        ("/user/posts", "POST"),
        ("/limits", "GET"),
    ] {
        let url = format!("{}{path}", subject.url());
        let allowed = preflight(&anybody, &url, ORIGIN, method).await?;
        assert!(matches!(allowed.status, 200 | 204), "{path}: {}", allowed.status);
        assert_eq!(allowed.header("access-control-allow-origin"), ORIGIN, "{path}");
        assert!(allowed.header("access-control-allow-methods").contains(method), "{path}");
        let headers = allowed.header("access-control-allow-headers").to_ascii_lowercase();
        assert!(headers.contains("authorization") && headers.contains("content-type"), "{path}: {headers}");
        assert_eq!(allowed.header("access-control-allow-credentials"), "", "{path}");
        for origin in ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"] {
            let refused = preflight(&anybody, &url, origin, method).await?;
            assert_eq!(refused.header("access-control-allow-origin"), "", "{path} from {origin}");
            assert_eq!(refused.header("access-control-allow-credentials"), "", "{path} from {origin}");
        }
    }
    // The answers themselves have the headers, too, also refusals, so that a page can read the reason.
    for path in ["/limits", "/user/users/me", "/nothing"] {
        let answer = anybody.send(anybody.request(Method::GET, path).header("Origin", ORIGIN)).await?;
        assert_eq!(answer.header("access-control-allow-origin"), ORIGIN, "{path}");
        let exposed = answer.header("access-control-expose-headers").to_ascii_lowercase();
        assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"), "{path}: {exposed}");
        let evil = anybody.send(anybody.request(Method::GET, path).header("Origin", "https://evil.example")).await?;
        assert_eq!(evil.header("access-control-allow-origin"), "", "{path}");
        assert!(answer.header("vary").to_ascii_lowercase().contains("origin"), "{path}");
    }
    Ok(())
}

/// The page posts its form to the URL in the form.
pub(super) async fn the_forms_host_takes_uploads_from_pages(subject: &mut Subject) -> Result<()> {
    // As `upload-ops bucket` does. A store with CORS for the whole server only reports that, and has its rules already.
    bucket::set_cors(&subject.stand.admin, &[ORIGIN.to_owned()]).await?;
    let user = subject.user().await?;
    let (id, form) = uploads::new_form(&user.client).await?;
    let url = text(&form["url"]);
    let allowed = preflight(&user.client, url, ORIGIN, "POST").await?;
    assert!(matches!(allowed.status, 200 | 204), "{}", allowed.status);
    let origin = allowed.header("access-control-allow-origin");
    assert!(origin == ORIGIN || origin == "*", "{origin}");

    let body = uploads::good_form(&form)?.end();
    let answer = super::wire::post_form(url, &body, &[("Origin", ORIGIN)]).await?;
    let answer = anyhow::Context::context(answer, "an answer")?.expect_status(201)?;
    let origin = answer.header("access-control-allow-origin");
    assert!(origin == ORIGIN || origin == "*", "{origin}");
    let exposed = answer.header("access-control-expose-headers").to_ascii_lowercase();
    let every = exposed.split(',').any(|name| name.trim() == "*");
    assert!(every || (exposed.contains("etag") && exposed.contains("location")), "{exposed}");
    user.link_profile(&id).await?.expect_status(201)?;
    Ok(())
}

pub(super) async fn every_answer_has_an_id_of_its_own(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let anybody = subject.anybody()?;
    let mut seen = HashSet::new();
    for _again in 0..3 {
        for answer in [
            user.me().await?,
            user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?,
            user.delete_profile().await?,
            anybody.limits().await?,
            anybody.me().await?,
            anybody.get("/nothing").await?,
            anybody.get("/health/live").await?,
            anybody.get("/metrics").await?,
        ] {
            let id = answer.header("x-request-id");
            assert!(!id.is_empty() && seen.insert(id.to_owned()), "{id}");
        }
    }
    // No client may choose its request id, least of all to write into the log with it.
    for chosen in ["chosen", "{\"level\":\"ERROR\"}", &"x".repeat(500)] {
        let answer = anybody.send(anybody.request(Method::GET, "/nothing").header("x-request-id", chosen)).await?;
        assert_ne!(answer.header("x-request-id"), chosen);
        assert_refused("unknown", &answer, (404, "not_found"));
    }
    assert!(subject.server()?.log().iter().all(|line| !line.contains("chosen")));
    Ok(())
}

pub(super) async fn a_trusted_proxys_id_is_kept(subject: &mut Subject) -> Result<()> {
    subject.add_server(&[("TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.0/8")]).await?;
    let anybody = subject.anybody()?;
    let get = async |id: &str| anybody.send(anybody.request(Method::GET, "/nothing").header("x-request-id", id)).await;
    let answer = get("edge-7/0123.4").await?;
    assert_eq!(answer.header("x-request-id"), "edge-7/0123.4");
    assert_refused("unknown", &answer, (404, "not_found"));
    subject.server()?.wait_for_log(|line| line.contains("edge-7/0123.4")).await?;
    for odd in ["a b", "a\"b", "{}", &"x".repeat(129)] {
        assert_ne!(get(odd).await?.header("x-request-id"), odd);
    }
    Ok(())
}

/// Routes that do not exist, and methods that a route does not take. Every other case checks the other refusals in passing.
pub(super) async fn every_refusal_is_a_problem_document(subject: &mut Subject) -> Result<()> {
    let admin = subject.member(Role::Admin).await?;
    let id = Uuid::now_v7();
    for path in
        ["/", "/nothing", "/user", "/user/images/", "/images", "/images/a/b", "//limits", "/Limits", "/docs/../x"]
    {
        assert_refused(path, &admin.get(path).await?, (404, "not_found"));
        assert_refused(path, &admin.delete(path).await?, (404, "not_found"));
    }
    if subject.strategy == Strategy::Presigned {
        // V1's own routes do not exist there.
        assert_refused("V1's", &admin.post("/uploads", &serde_json::json!({})).await?, (404, "not_found"));
    }
    let mut routes = BTreeMap::<String, Vec<String>>::new();
    let document = document(subject.strategy);
    for route in operations(&document) {
        routes.entry(route.path.replace("{id}", &id.to_string())).or_default().push(route.method);
    }
    for (path, taken) in routes {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "CHOSEN"] {
            if taken.iter().any(|taken| taken == method) {
                continue;
            }
            let answer = admin.send(admin.request(Method::from_bytes(method.as_bytes())?, &path)).await?;
            assert_refused(&format!("{method} {path}"), &answer, (405, "method_not_allowed"));
            for method in &taken {
                assert!(answer.header("allow").contains(method.as_str()), "{path}: {}", answer.header("allow"));
            }
        }
    }
    assert_refused("no id", &admin.delete_post("x").await?, (404, "not_found"));
    assert_refused("no id", &admin.link_poster("x", &id.to_string()).await?, (404, "not_found"));
    let (image, form) = uploads::new_form(&admin.client).await?;
    admin.upload(&form, picture(1)).await?.expect_status(201)?;
    admin.link_profile(&image).await?.expect_status(201)?;
    Ok(())
}

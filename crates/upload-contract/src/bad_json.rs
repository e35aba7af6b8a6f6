//! JSON that does not fit: unknown fields, wrong types, wrong lengths, or not JSON at all.

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use upload_domain::{ImagePath, Role};
use uuid::Uuid;

use super::subject::{Member, NOTHING, Subject, assert_refused};

const INVALID: (u16, &str) = (400, "invalid_request");

/// A body that each route accepts, with the refusal that follows: what it names does not exist.
fn good_bodies(competition: &str) -> Vec<(String, Value, (u16, &'static str))> {
    let link = json!({ "imageEntityId": Uuid::now_v7() });
    vec![
        ("/user/images".to_owned(), json!({ "path": "post", "format": "image/gif" }), (415, "unsupported_media_type")),
        ("/user/users/profile-image".to_owned(), link.clone(), (404, "image_not_found")),
        (format!("/admin/competitions/{competition}/poster-image"), link, (404, "image_not_found")),
        (
            "/user/posts".to_owned(),
            json!({ "title": "Title", "content": "", "imageEntityIds": [Uuid::now_v7()] }),
            (404, "image_not_found"),
        ),
        ("/admin/competitions".to_owned(), json!({ "title": "" }), INVALID),
    ]
}

async fn unchanged(subject: &Subject) -> Result<()> {
    assert_eq!(subject.kept().await?, NOTHING);
    assert_eq!(subject.stand.count("post").await?, 0);
    assert_eq!(subject.stand.count("competition").await?, 1);
    Ok(())
}

async fn admin_with_competition(subject: &Subject) -> Result<(Member, String)> {
    let admin = subject.member(Role::Admin).await?;
    let competition = admin.competition_of_ones_own().await?;
    Ok((admin, competition))
}

pub(super) async fn every_body_that_does_not_fit_is_refused(subject: &mut Subject) -> Result<()> {
    let (admin, competition) = admin_with_competition(subject).await?;
    let wrong = [
        Value::Null,
        json!(true),
        json!(1),
        json!(-1.5),
        json!("text"),
        json!(""),
        json!("\u{0}"),
        json!("00000000-0000-0000-0000-00000000000g"),
        json!("../../etc/passwd"),
        json!([]),
        json!([1]),
        json!([[]]),
        json!({}),
        json!({ "$ne": null }),
    ];
    for (path, good, refusal) in good_bodies(&competition) {
        assert_refused(&path, &admin.post(&path, &good).await?, refusal);
        for (name, right) in good.as_object().into_iter().flatten() {
            let mut without = good.clone();
            without.as_object_mut().map(|body| body.remove(name));
            assert_refused(&format!("{path} without {name}"), &admin.post(&path, &without).await?, INVALID);
            for wrong in &wrong {
                // Here the type is right: a text for a text, or a list for a list.
                let fits = (name == "title" || name == "content" || name == "format") && wrong.is_string()
                    || right.is_array() && *wrong == json!([]);
                if !fits {
                    let mut body = good.clone();
                    body[name] = wrong.clone();
                    assert_refused(&format!("{path}: {name} is {wrong}"), &admin.post(&path, &body).await?, INVALID);
                }
            }
        }
        for unknown in ["extra", "role", "userId", "linkedAt", "ID", "__proto__", ""] {
            let mut body = good.clone();
            body[unknown] = json!("x");
            assert_refused(&format!("{path} with {unknown}"), &admin.post(&path, &body).await?, INVALID);
        }
    }
    for (name, wrong) in [
        ("path", json!("profile")),
        ("path", json!("USER-PROFILE")),
        ("path", json!("../post")),
        ("checksumSha256", json!("")),
        ("checksumSha256", json!("AAAA")),
        ("checksumSha256", json!("not base64!!")),
        ("checksumSha256", json!("A".repeat(44))),
        ("method", json!("post")),
        ("method", json!("GET")),
        ("method", json!(1)),
    ] {
        let mut body = json!({ "path": "post", "format": "image/png" });
        body[name] = wrong;
        assert_refused(&body.to_string(), &admin.post("/user/images", &body).await?, INVALID);
    }
    for format in
        ["image/gif", "image/svg+xml", "text/html", "IMAGE/PNG", "image/png ", "image/*", "", "image/png\u{0}"]
    {
        let body = json!({ "path": "post", "format": format });
        assert_refused(format, &admin.post("/user/images", &body).await?, (415, "unsupported_media_type"));
    }
    unchanged(subject).await?;
    subject.assert_goes_on().await
}

pub(super) async fn a_text_of_the_wrong_length_is_refused(subject: &mut Subject) -> Result<()> {
    let (admin, _competition) = admin_with_competition(subject).await?;
    // Postgres stores no U+0000 in a text.
    for title in ["", &"x".repeat(201), &"가".repeat(201), "before\u{0}after", "\u{0}"] {
        assert_refused(title, &admin.create_competition(title).await?, INVALID);
        assert_refused(title, &admin.create_post(title, "", &[""; 0]).await?, INVALID);
    }
    for content in ["before\u{0}after", &"x".repeat(10_001), &"가".repeat(10_001)] {
        assert_refused("content", &admin.create_post("Title", content, &[""; 0]).await?, INVALID);
    }
    unchanged(subject).await?;
    // All other characters are text, and come back unchanged.
    let kept =
        ["x".repeat(200), "가".repeat(200), "'; DROP TABLE image; --".into(), "\u{202e}gnp.exe\r\n\u{1b}[31m".into()];
    for title in kept {
        let post = admin.create_post(&title, &title, &[""; 0]).await?.expect_status(201)?;
        assert_eq!((&post.json["post"]["title"], &post.json["post"]["content"]), (&json!(title), &json!(title)));
        admin.create_competition(&title).await?.expect_status(201)?;
    }
    admin.create_post("Title", &"가".repeat(10_000), &[""; 0]).await?.expect_status(201)?;
    let image = admin.upload_for(ImagePath::Post).await?;
    admin.create_post("Title", "", &[image]).await?.expect_status(201)?;
    Ok(())
}

pub(super) async fn a_body_that_is_no_json_is_refused(subject: &mut Subject) -> Result<()> {
    let (admin, competition) = admin_with_competition(subject).await?;
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let twice = r#"{"title":"a","title":"b"}"#;
    let broken: [&[u8]; 12] = [
        b"",
        b" ",
        b"{",
        b"{\"title\":",
        b"title=a",
        b"null",
        b"[]",
        b"{'title':'a'}",
        b"{\"title\":\"a\"} {\"title\":\"b\"}",
        b"{\"title\":\"\xff\xfe\"}",
        twice.as_bytes(),
        deep.as_bytes(),
    ];
    let large = format!("{{\"title\":\"{}\"}}", "x".repeat(64 * 1024));
    for (path, good, _refusal) in good_bodies(&competition) {
        let send = async |content_type: Option<&'static str>, body: Vec<u8>| {
            let request = admin.request(Method::POST, &path).body(body);
            let request =
                content_type.into_iter().fold(request, |request, value| request.header("Content-Type", value));
            admin.send(request).await
        };
        for body in broken {
            let what = format!("{path}: {}", String::from_utf8_lossy(&body[..body.len().min(40)]));
            assert_refused(&what, &send(Some("application/json"), body.to_vec()).await?, INVALID);
        }
        let answer = send(Some("application/json"), large.clone().into_bytes()).await?;
        assert_refused(&path, &answer, (413, "payload_too_large"));
        for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("nonsense")] {
            let answer = send(content_type, good.to_string().into_bytes()).await?;
            assert_refused(&format!("{path}: {content_type:?}"), &answer, (415, "unsupported_media_type"));
        }
    }
    unchanged(subject).await?;
    subject.assert_goes_on().await
}

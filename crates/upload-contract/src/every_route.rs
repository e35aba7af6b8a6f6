//! Rules that are the same on every route: which ones want a token, which bodies are unreadable, and how they report an image's state.

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::Value;
use upload_domain::{ImageFormat, ImagePath, Refusal};
use upload_sandbox::client::Answer;
use uuid::Uuid;

use super::{
    answers,
    routes::Household,
    subject::{Kept, NOTHING, Strategy, Subject, assert_refused, picture},
};

/// Longer than the limit for JSON bodies.
const TOO_LONG: usize = 64 * 1024 + 1;

pub(super) async fn a_token_is_asked_for_wherever_there_is_a_caller(subject: &mut Subject) -> Result<()> {
    let household = Household::new(subject).await?;
    let before = subject.kept().await?;
    let anybody = subject.anybody()?;
    for call in household.calls() {
        let answer = call.send(&anybody).await?;
        if call.caller {
            assert_refused(&call.path, &answer, (401, "invalid_token"));
        } else {
            assert_ne!(answer.status, 401, "{}", call.path);
        }
    }
    if subject.strategy == Strategy::Streaming {
        let streamed = anybody.stream(ImagePath::UserProfile, ImageFormat::Png, picture(1)).await?;
        assert_refused("the stream route", &streamed, (401, "invalid_token"));
    }
    assert_eq!(subject.kept().await?, before);
    Ok(())
}

pub(super) async fn what_cannot_be_read_is_refused_everywhere(subject: &mut Subject) -> Result<()> {
    let household = Household::new(subject).await?;
    let admin = &household.admin;
    for call in household.calls() {
        let encoded = admin.send(call.bare(admin).header("Content-Encoding", "gzip")).await?;
        assert_refused(&call.path, &encoded, (415, "unsupported_encoding"));
        for id in [&household.competition, &household.image, &household.post] {
            if call.path.contains(id.as_str()) {
                let mut unknown = call.clone();
                unknown.path = call.path.replace(id.as_str(), "not-an-id");
                assert_refused(&unknown.path, &unknown.send(admin).await?, (404, "not_found"));
            }
        }
        if call.body.is_none() {
            continue;
        }
        let json = call.bare(admin).header("Content-Type", "application/json");
        assert_refused(&call.path, &admin.send(json.body("{")).await?, (400, "invalid_request"));
        let json = call.bare(admin).header("Content-Type", "application/json");
        assert_refused(&call.path, &admin.send(json.body(" ".repeat(TOO_LONG))).await?, (413, "payload_too_large"));
        let text = call.bare(admin).header("Content-Type", "text/plain");
        assert_refused(&call.path, &admin.send(text.body("{}")).await?, (415, "unsupported_media_type"));
    }
    let others = ["/docs", "/health/live", "/health/ready", "/limits", "/metrics", "/openapi.json"];
    let mut others = others.map(|path| (Method::GET, path)).to_vec();
    if subject.strategy == Strategy::Streaming {
        others.extend(answers::V1S_OWN.map(|path| (Method::POST, path)));
    }
    for (method, path) in others {
        let encoded = admin.send(admin.request(method, path).header("Content-Encoding", "gzip")).await?;
        assert_refused(path, &encoded, (415, "unsupported_encoding"));
    }
    assert_eq!(subject.kept().await?, Kept { rows: 1, ..NOTHING });
    subject.assert_goes_on().await
}

pub(super) async fn what_is_not_there_is_missing_everywhere(subject: &mut Subject) -> Result<()> {
    let household = Household::new(subject).await?;
    let admin = &household.admin;
    let (competition, post, form) = (&household.competition, &household.post, &household.form);
    let missing = Uuid::now_v7().to_string();
    let no_image = (404, "image_not_found");
    assert_refused("competition", &admin.competition(&missing).await?, (404, "competition_not_found"));
    let poster = admin.link_poster(&missing, &household.image).await?;
    assert_refused("competition", &poster, (404, "competition_not_found"));
    assert_refused("poster", &admin.link_poster(competition, &missing).await?, no_image);
    assert_refused("profile", &admin.link_profile(&missing).await?, no_image);
    assert_refused("in a post", &admin.create_post("Title", "", &[&missing]).await?, no_image);
    assert_refused("form", &admin.renew_form(&missing).await?, no_image);
    assert_refused("read", &admin.read(&missing).await?, no_image);
    for id in [&missing, post] {
        if id == post {
            admin.delete_post(id).await?.expect_status(204)?;
        }
        assert_refused("post", &admin.read_post(id).await?, (404, "post_not_found"));
        assert_refused("post", &admin.delete_post(id).await?, (404, "post_not_found"));
    }
    if subject.strategy == Strategy::Streaming {
        // As after the sweep.
        subject.stand.sql(&format!("DELETE FROM image WHERE id = '{}'", household.image)).await?;
        assert_refused("upload", &admin.upload(form, picture(1)).await?, no_image);
    }
    assert_eq!(subject.objects().await?, [""; 0]);
    Ok(())
}

/// An image of every path, each with the requests that use it, and V1's own form.
pub(super) async fn how_an_image_stands_is_told_wherever_it_is_used(subject: &mut Subject) -> Result<()> {
    let household = Household::new(subject).await?;
    let attempt = |kind: &str| {
        let until = "attempt_until = now() + interval '1 minute'";
        format!("attempt = gen_random_uuid(), attempt_kind = '{kind}', {until}")
    };
    let old = "created_at = now() - interval '59 minutes'";
    let mut standings: Vec<(String, (u16, &str))> = vec![
        (attempt("link"), (409, "link_in_progress")),
        (attempt("upload"), (409, "upload_in_progress")),
        (format!("{}, {old}", attempt("link")), (409, "link_in_progress")),
        (format!("{}, {old}", attempt("upload")), (409, "upload_in_progress")),
        (old.to_owned(), (410, "image_expired")),
    ];
    for refusal in Refusal::ALL {
        standings.push((format!("refused_code = '{refusal}'"), (422, refusal.as_str())));
    }
    for (change, refusal) in &standings {
        let images = Images::new(&household).await?;
        subject.stand.sql(&format!("UPDATE image SET {change}")).await?;
        for (what, answer) in images.used(&household).await? {
            // An image that an attempt holds can still have a new form, while there is time for one.
            let free = what == "form" && refusal.0 == 409 && !change.contains(old);
            if free {
                assert_eq!(answer.status, 201, "{change}: {what}: {}", answer.json);
            } else {
                assert_refused(&format!("{change}: {what}"), &answer, *refusal);
            }
        }
        if subject.strategy == Strategy::Streaming {
            assert_refused(change, &household.admin.upload(&images.form, picture(1)).await?, *refusal);
        }
        subject.stand.sql("DELETE FROM image").await?;
    }
    assert_eq!(subject.objects().await?, [""; 0]);

    // Images that are linked, and images that were made for another use.
    let admin = &household.admin;
    let images = Images::new(&household).await?;
    let other = admin.competition_of_ones_own().await?;
    for (what, answer) in [
        ("a poster", admin.link_profile(&images.poster).await?),
        ("a post's", admin.link_poster(&other, &images.in_post).await?),
        ("a profile's", admin.create_post("Title", "", &[&images.profile]).await?),
    ] {
        assert_refused(what, &answer, (422, "wrong_path"));
    }
    for (what, answer) in images.used(&household).await? {
        if what != "form" {
            assert_refused(what, &answer, (409, "not_uploaded"));
        }
    }
    Ok(())
}

/// Three pending images, one for each use.
struct Images {
    profile: String,
    poster: String,
    in_post: String,
    /// The form of the first image.
    form: Value,
}

impl Images {
    async fn new(household: &Household) -> Result<Self> {
        let create = async |path| {
            let created = household.admin.create_image(path, ImageFormat::Png).await?;
            created.expect_status(201).context("an image")
        };
        let profile = create(ImagePath::UserProfile).await?;
        Ok(Self {
            poster: create(ImagePath::Competition).await?.image_id().to_owned(),
            in_post: create(ImagePath::Post).await?.image_id().to_owned(),
            form: profile.form().clone(),
            profile: profile.image_id().to_owned(),
        })
    }

    async fn used(&self, household: &Household) -> Result<Vec<(&'static str, Answer)>> {
        let Household { admin, competition, .. } = household;
        Ok(vec![
            ("profile", admin.link_profile(&self.profile).await?),
            ("poster", admin.link_poster(competition, &self.poster).await?),
            ("in a post", admin.create_post("Title", "", &[&self.in_post]).await?),
            ("form", admin.renew_form(&self.profile).await?),
        ])
    }
}

//! Only the owner may use an image, and the server reads no body for a caller without a valid token.

use anyhow::{Context as _, Result};
use serde_json::Value;
use upload_domain::{ImagePath, Role};
use upload_sandbox::client::Answer;
use uuid::Uuid;

use super::{
    routes::{document, operations},
    subject::{Strategy, Subject, assert_refused},
    wire::{self, Then},
};

/// A refusal without the parts that may differ: the request's id and the image's id.
fn comparable(answer: &Answer, id: &str) -> (u16, Value) {
    let mut json = answer.json.clone();
    json["requestId"] = Value::Null;
    (answer.status, serde_json::from_str(&json.to_string().replace(id, "<id>")).unwrap_or_default())
}

/// Every route that takes an image answers the same for another user's image as for an image that does not exist.
pub(super) async fn another_users_image_is_as_if_missing(subject: &mut Subject) -> Result<()> {
    let (owner, other) = (subject.member(Role::Admin).await?, subject.member(Role::Admin).await?);
    let competition = other.competition_of_ones_own().await?;
    let pending = owner.upload_for(ImagePath::UserProfile).await?;
    let linked = owner.upload_for(ImagePath::UserProfile).await?;
    owner.link_profile(&linked).await?.expect_status(201)?;
    let refused = owner.upload_for(ImagePath::UserProfile).await?;
    let refuse = format!("UPDATE image SET refused_code = 'content_mismatch' WHERE id = '{refused}'");
    subject.stand.sql(&refuse).await?;
    let expired = owner.upload_for(ImagePath::UserProfile).await?;
    subject.stand.sql(&format!("UPDATE image SET created_at = now() - interval '1 d' WHERE id = '{expired}'")).await?;
    let poster = owner.upload_for(ImagePath::Competition).await?;
    let post = owner.upload_for(ImagePath::Post).await?;
    let missing = Uuid::now_v7().to_string();

    let before = subject.kept().await?;
    for id in [&pending, &linked, &refused, &expired, &poster, &post] {
        let form = (other.renew_form(id).await?, other.renew_form(&missing).await?);
        let profile = (other.link_profile(id).await?, other.link_profile(&missing).await?);
        let in_poster = (other.link_poster(&competition, id).await?, other.link_poster(&competition, &missing).await?);
        let in_post =
            (other.create_post("Title", "", &[id]).await?, other.create_post("Title", "", &[&missing]).await?);
        for (what, (foreign, absent)) in
            [("form", form), ("profile", profile), ("poster", in_poster), ("post", in_post)]
        {
            assert_refused(what, &foreign, (404, "image_not_found"));
            assert_eq!(comparable(&foreign, id), comparable(&absent, &missing), "{what}");
        }
    }
    assert_eq!(subject.kept().await?, before);
    owner.link_profile(&pending).await?.expect_status(201).context("it is still its owner's")?;
    Ok(())
}

/// The request announces a gigabyte and sends none of it. The answer comes all the same.
pub(super) async fn the_token_is_judged_before_the_body(subject: &mut Subject) -> Result<()> {
    let mut routes = 0;
    let document = document(subject.strategy);
    for route in operations(&document) {
        let content = route.operation["requestBody"]["content"].as_object();
        let Some(media_type) = content.and_then(|content| content.keys().next()) else { continue };
        if route.operation["security"].as_array().is_none_or(Vec::is_empty) {
            continue;
        }
        routes += 1;
        let media_type = media_type.replace("form-data", "form-data; boundary=x");
        let (method, path) = (route.method.as_str(), route.path.replace("{id}", &Uuid::nil().to_string()));
        let url = format!("{}{path}", subject.url());
        for token in [None, Some("Bearer nonsense")] {
            let mut headers = vec![("Content-Type", media_type.as_str()), ("Content-Length", "1000000000")];
            headers.extend(token.map(|token| ("Authorization", token)));
            let request = wire::request(method, &url, &headers, b"")?;
            let answer = wire::exchange(&url, request, Then::Wait).await?.context("an answer")?;
            assert_refused(&path, &answer, (401, "invalid_token"));
        }
    }
    let least = if subject.strategy == Strategy::Streaming { 6 } else { 5 };
    assert!(routes >= least, "only {routes} routes need a token and have a body");
    Ok(())
}

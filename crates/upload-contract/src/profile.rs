//! Profile images: link, show, replace, delete.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use upload_domain::{ImageFormat, ImagePath, Role};

use super::subject::{Kept, NOTHING, Subject, assert_refused, names, picture, text};

pub(super) async fn the_first_link_is_created_and_the_second_is_the_same(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let id = user.upload_for(ImagePath::UserProfile).await?;
    let first = user.link_profile(&id).await?.expect_status(201)?;
    assert_eq!(names(&first.json), ["userProfileImage"]);
    let link = &first.json["userProfileImage"];
    assert_eq!(names(link), ["createdAt", "id", "imageId", "userId"]);
    assert_eq!((text(&link["imageId"]), text(&link["userId"])), (id.as_str(), user.id.to_string().as_str()));
    for _again in 0..3 {
        let second = user.link_profile(&id).await?.expect_status(200)?;
        assert_eq!(second.json, first.json);
    }
    let live = format!("user_profile_image WHERE image_id = '{id}' AND deleted_at IS NULL");
    assert_eq!(subject.stand.count(&live).await?, 1);
    let media_key = subject.column(&id, "media_key").await?;
    let shown = subject.value(&format!("SELECT profile_image_url_key FROM \"user\" WHERE id = '{}'", user.id)).await?;
    assert!(media_key.is_some() && shown == media_key, "{shown:?} {media_key:?}");
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    Ok(())
}

pub(super) async fn me_shows_the_live_profile_image(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let before = user.me().await?.expect_status(200)?;
    let me = &before.json["user"];
    assert_eq!((text(&me["id"]), text(&me["role"])), (user.id.to_string().as_str(), "USER"));
    assert_eq!((&me["status"], &me["profileImages"]), (&json!("ACTIVE"), &json!([])));
    assert!(!names(me).contains(&"profileImageUrlKey") && !names(me).contains(&"snsId"), "{me}");

    let id = user.with_profile_image(picture(5)).await?;
    let after = user.me().await?.expect_status(200)?;
    let images = &after.json["user"]["profileImages"];
    assert_eq!(images.as_array().map(Vec::len), Some(1));
    assert_eq!(names(&images[0]), ["imageEntity", "url"]);
    let entity = &images[0]["imageEntity"];
    assert_eq!((text(&entity["id"]), text(&entity["path"])), (id.as_str(), "user-profile"));
    assert!(text(&entity["linkedAt"]) >= text(&entity["createdAt"]), "{entity}");
    assert_eq!(text(&images[0]["url"]), format!("{}/images/{id}", subject.url()));
    assert!(!after.json.to_string().contains("media/"), "no key of an object is shown: {}", after.json);
    Ok(())
}

pub(super) async fn a_new_profile_image_takes_the_place_of_the_old(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let old = user.with_profile_image(picture(1)).await?;
    let new = user.with_profile_image(picture(2)).await?;
    assert_eq!(user.me().await?.json["user"]["profileImages"][0]["imageEntity"]["id"], new.as_str());
    assert_refused("the old one", &user.read(&old).await?, (404, "image_not_found"));
    assert_eq!(user.download(&new).await?.body, picture(2));
    assert_refused("the old one", &user.link_profile(&old).await?, (409, "already_linked"));
    user.link_profile(&new).await?.expect_status(200).context("the new one is still linked")?;
    let live = format!("user_profile_image WHERE user_id = '{}' AND deleted_at IS NULL", user.id);
    assert_eq!(subject.stand.count(&live).await?, 1);
    assert_eq!(subject.stand.count("user_profile_image").await?, 2);
    Ok(())
}

pub(super) async fn deleting_is_answered_the_same_without_one(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let empty = user.delete_profile().await?.expect_status(204)?;
    assert!(empty.body.is_empty());
    let id = user.with_profile_image(picture(1)).await?;
    user.delete_profile().await?.expect_status(204)?;
    user.delete_profile().await?.expect_status(204)?;
    assert_refused("deleted", &user.read(&id).await?, (404, "image_not_found"));
    assert_eq!(user.me().await?.json["user"]["profileImages"], json!([]));
    assert_refused("deleted", &user.link_profile(&id).await?, (409, "already_linked"));
    assert_refused("deleted", &user.renew_form(&id).await?, (409, "already_linked"));
    let key = subject.value(&format!("SELECT profile_image_url_key FROM \"user\" WHERE id = '{}'", user.id)).await?;
    assert_eq!(key, None);
    // The object stays with its row: only links are soft-deleted.
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    let next = user.with_profile_image(picture(2)).await?;
    assert_eq!(user.download(&next).await?.body, picture(2));
    Ok(())
}

pub(super) async fn an_image_of_another_path_is_refused_and_stays_linkable(subject: &mut Subject) -> Result<()> {
    let admin = subject.member(Role::Admin).await?;
    let competition = admin.competition_of_ones_own().await?;
    let wrong = (422, "wrong_path");
    let profile = admin.upload_for(ImagePath::UserProfile).await?;
    let poster = admin.upload_for(ImagePath::Competition).await?;
    let post = admin.upload_for(ImagePath::Post).await?;
    for id in [&poster, &post] {
        assert_refused("to the profile", &admin.link_profile(id).await?, wrong);
    }
    for id in [&profile, &post] {
        assert_refused("to a competition", &admin.link_poster(&competition, id).await?, wrong);
    }
    for id in [&profile, &poster] {
        let answer = admin.create_post("Title", "", &[id]).await?;
        assert_refused("to a post", &answer, wrong);
        assert_eq!(&answer.json["imageEntityId"], id);
    }
    assert_eq!(subject.kept().await?.linked, 0);
    assert_eq!(subject.stand.count("post").await?, 0);
    admin.link_profile(&profile).await?.expect_status(201)?;
    admin.link_poster(&competition, &poster).await?.expect_status(201)?;
    admin.create_post("Title", "", &[&post]).await?.expect_status(201)?;
    assert_eq!(subject.kept().await?, Kept { rows: 3, linked: 3, media: 3 });
    Ok(())
}

pub(super) async fn an_image_that_was_not_uploaded_can_be_linked_later(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    let id = created.image_id();
    for _again in 0..2 {
        let early = user.link_profile(id).await?;
        assert_refused("early", &early, (409, "not_uploaded"));
        assert_eq!(early.json["retryable"], true);
    }
    assert_eq!(subject.kept().await?, Kept { rows: 1, ..NOTHING });
    assert_eq!(subject.column(id, "attempt_until").await?, None, "the image was released");
    user.upload(created.form(), picture(1)).await?.expect_status(201)?;
    user.link_profile(id).await?.expect_status(201)?;
    let missing = user.link_profile(&uuid::Uuid::now_v7().to_string()).await?;
    assert_refused("missing", &missing, (404, "image_not_found"));
    Ok(())
}

/// The row says that another attempt holds the image. The image is free again when that attempt's time is over.
pub(super) async fn an_image_in_other_hands_is_answered_with_a_conflict(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let id = user.upload_for(ImagePath::UserProfile).await?;
    for (kind, code) in [("link", "link_in_progress"), ("upload", "upload_in_progress")] {
        let hold =
            format!("attempt = gen_random_uuid(), attempt_kind = '{kind}', attempt_until = now() + interval '1 h'");
        subject.stand.sql(&format!("UPDATE image SET {hold} WHERE id = '{id}'")).await?;
        let answer = user.link_profile(&id).await?;
        assert_refused(kind, &answer, (409, code));
        assert_eq!((answer.header("retry-after"), &answer.json["retryable"]), ("1", &Value::Bool(true)));
    }
    subject.stand.sql(&format!("UPDATE image SET attempt_until = now() - interval '1 s' WHERE id = '{id}'")).await?;
    user.link_profile(&id).await?.expect_status(201)?;
    assert_eq!(user.download(&id).await?.body, picture(1));
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    Ok(())
}

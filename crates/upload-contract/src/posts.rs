//! Posts and their images: a post gets all of its images, or is not created.

use anyhow::Result;
use serde_json::Value;
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::samples;
use uuid::Uuid;

use super::subject::{Kept, Member, Subject, assert_refused, names, picture, text};

/// Uploads this many images, each with different bytes.
async fn uploaded(member: &Member, count: u64) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for seed in 0..count {
        ids.push(member.create_and_upload(ImagePath::Post, ImageFormat::Png, picture(seed)).await?);
    }
    Ok(ids)
}

fn image_ids(post: &Value) -> Vec<&str> {
    post["postImages"].as_array().into_iter().flatten().map(|image| text(&image["imageEntity"]["id"])).collect()
}

pub(super) async fn a_post_has_none_to_ten_images_in_order(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let mut linked = 0;
    for count in [0, 1, 3, 10] {
        let mut ids = uploaded(&user, count).await?;
        // Not in the order of their ids, in which the server claims them.
        ids.reverse();
        if count > 2 {
            ids.swap(0, 1);
        }
        let created = user.create_post("Title", "Content", &ids).await?.expect_status(201)?;
        let post = &created.json["post"];
        assert_eq!(names(post), ["content", "createdAt", "id", "postImages", "title", "userId"]);
        assert_eq!((text(&post["title"]), text(&post["content"])), ("Title", "Content"));
        assert_eq!(post["userId"], user.id.to_string());
        assert_eq!(image_ids(post), ids);
        let read = subject.anybody()?.read_post(text(&post["id"])).await?.expect_status(200)?;
        assert_eq!(&read.json["post"], post);
        for (seed, id) in ids.iter().enumerate().take(1) {
            assert_eq!(text(&post["postImages"][seed]["url"]), format!("{}/images/{id}", subject.url()));
            subject.anybody()?.download(id).await?.expect_status(200)?;
        }
        let sequence = format!(
            "SELECT string_agg(sequence::text, ',' ORDER BY sequence) FROM post_image WHERE post_id = '{}'",
            text(&post["id"])
        );
        let expected: Vec<String> = (0..count).map(|place| place.to_string()).collect();
        assert_eq!(subject.value(&sequence).await?.unwrap_or_default(), expected.join(","));
        linked += count;
    }
    let media = usize::try_from(linked)?;
    assert_eq!(subject.kept().await?, Kept { rows: linked, linked, media });
    assert_eq!(subject.stand.count("post").await?, 4);
    Ok(())
}

pub(super) async fn eleven_images_or_one_twice_are_refused(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let ids = uploaded(&user, 2).await?;
    let eleven: Vec<String> = (0..11).map(|_place| Uuid::now_v7().to_string()).collect();
    assert_refused("eleven", &user.create_post("Title", "", &eleven).await?, (400, "invalid_request"));
    let twice = [&ids[0], &ids[1], &ids[0]];
    assert_refused("one twice", &user.create_post("Title", "", &twice).await?, (400, "invalid_request"));
    let upper = [ids[0].clone(), ids[0].to_uppercase()];
    assert_refused("one in two spellings", &user.create_post("Title", "", &upper).await?, (400, "invalid_request"));
    assert_eq!(subject.stand.count("post").await?, 0);
    assert_eq!(subject.kept().await?.linked, 0);
    user.create_post("Title", "", &ids).await?.expect_status(201)?;
    Ok(())
}

/// One image in the list cannot be used, at any position. The answer names it, there is no post, and the other images are free at once.
pub(super) async fn one_bad_image_and_there_is_no_post(subject: &mut Subject) -> Result<()> {
    let (user, other) = (subject.user().await?, subject.user().await?);
    let pending = user.create_image(ImagePath::Post, ImageFormat::Png).await?.expect_status(201)?.image_id().to_owned();
    let foreign = other.upload_for(ImagePath::Post).await?;
    let profile = user.upload_for(ImagePath::UserProfile).await?;
    let used = uploaded(&user, 1).await?;
    user.create_post("Title", "", &used).await?.expect_status(201)?;
    let not_image = user.create_image(ImagePath::Post, ImageFormat::Png).await?.expect_status(201)?;
    let refused = user.upload(not_image.form(), samples::HTML).await?;
    assert!(matches!(refused.status, 201 | 422));

    let good = uploaded(&user, 3).await?;
    let before = subject.kept().await?;
    let bad = [
        ("missing", Uuid::nil().to_string(), (404, "image_not_found")),
        ("not uploaded", pending, (409, "not_uploaded")),
        ("another's", foreign, (404, "image_not_found")),
        ("of another path", profile, (422, "wrong_path")),
        ("in another post", used[0].clone(), (409, "already_linked")),
        ("no image", not_image.image_id().to_owned(), (422, "content_mismatch")),
    ];
    for (what, id, refusal) in bad {
        for place in 0..=good.len() {
            let mut ids = good.clone();
            ids.insert(place, id.clone());
            let answer = user.create_post("Title", "", &ids).await?;
            assert_refused(what, &answer, refusal);
            assert_eq!(answer.json["imageEntityId"], id.as_str(), "{what}");
            let held = subject.stand.count("image WHERE attempt_until IS NOT NULL").await?;
            assert_eq!((held, subject.stand.count("post").await?), (0, 1), "{what} at {place}");
            assert_eq!(subject.kept().await?, before, "{what} at {place}: nothing was linked, no copy stays");
        }
    }
    user.create_post("Title", "", &good).await?.expect_status(201)?;
    Ok(())
}

pub(super) async fn an_image_belongs_to_one_post(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let ids = uploaded(&user, 2).await?;
    user.create_post("First", "", &ids[..1]).await?.expect_status(201)?;
    let second = user.create_post("Second", "", &ids).await?;
    assert_refused("in the first", &second, (409, "already_linked"));
    assert_eq!(second.json["imageEntityId"], ids[0].as_str());
    assert_refused("a profile", &user.link_profile(&ids[0]).await?, (409, "already_linked"));
    user.create_post("Third", "", &ids[1..]).await?.expect_status(201)?;
    assert_eq!(subject.stand.count("post").await?, 2);
    assert_eq!(subject.kept().await?, Kept { rows: 2, linked: 2, media: 2 });
    Ok(())
}

pub(super) async fn a_deleted_post_is_gone_with_its_images(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let ids = uploaded(&user, 2).await?;
    let created = user.create_post("Title", "", &ids).await?.expect_status(201)?;
    let post = text(&created.json["post"]["id"]);
    user.read(&ids[0]).await?.expect_status(302)?;
    user.delete_post(post).await?.expect_status(204)?;
    assert_refused("deleted", &user.read_post(post).await?, (404, "post_not_found"));
    assert_refused("deleted", &user.delete_post(post).await?, (404, "post_not_found"));
    for id in &ids {
        assert_refused("deleted", &user.read(id).await?, (404, "image_not_found"));
        assert_refused("deleted", &user.create_post("Title", "", &[id]).await?, (409, "already_linked"));
    }
    assert_eq!(subject.stand.count("post WHERE deleted_at IS NOT NULL").await?, 1);
    assert_eq!(subject.kept().await?, Kept { rows: 2, linked: 2, media: 2 });
    Ok(())
}

pub(super) async fn another_member_cannot_delete_a_post(subject: &mut Subject) -> Result<()> {
    let (user, other) = (subject.user().await?, subject.user().await?);
    let created = user.create_post("Title", "", &[""; 0]).await?.expect_status(201)?;
    let post = text(&created.json["post"]["id"]);
    assert_refused("another's", &other.delete_post(post).await?, (404, "post_not_found"));
    let missing = Uuid::now_v7().to_string();
    assert_refused("missing", &other.delete_post(&missing).await?, (404, "post_not_found"));
    assert_refused("missing", &other.read_post(&missing).await?, (404, "post_not_found"));
    assert_refused("no id", &other.read_post("x").await?, (404, "not_found"));
    other.read_post(post).await?.expect_status(200)?;
    Ok(())
}

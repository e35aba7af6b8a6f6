//! What one user may create before they must wait.

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::json;
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::client::Answer;

use super::subject::{Kept, NOTHING, Strategy, Subject, assert_refused, picture};

const EXCEEDED: (u16, &str) = (429, "quota_exceeded");

pub(super) async fn pending_images_are_limited_also_at_once_and_on_two_servers(subject: &mut Subject) -> Result<()> {
    let quota = [("MAX_PENDING_IMAGES", "3")];
    let first = subject.add_server(&quota).await?;
    subject.add_server(&quota).await?;
    let (user, other) = (subject.user().await?, subject.user().await?);
    let clients = [user.client.at(first), user.client.clone()];
    let creates = (0..16).map(|caller| clients[caller % 2].create_image(ImagePath::UserProfile, ImageFormat::Png));
    let answers = try_join_all(creates).await?;
    let (created, refused): (Vec<Answer>, Vec<Answer>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(created.len(), 3);
    for answer in &refused {
        assert_refused("a fourth image", answer, EXCEEDED);
        let seconds: u32 = answer.header("retry-after").parse()?;
        assert!((3500..=3600).contains(&seconds), "the first image expires then: {seconds}");
    }
    assert_eq!(subject.kept().await?, Kept { rows: 3, ..NOTHING });
    if subject.strategy == Strategy::Streaming {
        let streamed = user.stream(ImagePath::Post, ImageFormat::Png, picture(1)).await?;
        assert_refused("the stream route", &streamed, EXCEEDED);
    }
    other.create_image(ImagePath::Post, ImageFormat::Png).await?.expect_status(201)?;

    // A link makes room at once.
    user.upload(created[0].form(), picture(1)).await?;
    user.link_profile(created[0].image_id()).await?.expect_status(201)?;
    user.create_image(ImagePath::Post, ImageFormat::Png).await?.expect_status(201)?;
    let again = user.create_image(ImagePath::Post, ImageFormat::Png).await?;
    assert_refused("a fourth image", &again, EXCEEDED);
    Ok(())
}

pub(super) async fn bytes_a_day_are_limited(subject: &mut Subject) -> Result<()> {
    subject.add_server(&[("MAX_BYTES_PER_DAY", "200000"), ("MAX_IMAGE_BYTES", "120000")]).await?;
    let user = subject.user().await?;
    let create = async |bytes: u64| {
        user.post("/user/images", &json!({ "path": "post", "format": "image/png", "byteSize": bytes })).await
    };
    create(100_000).await?.expect_status(201)?;
    let refused = create(100_001).await?;
    assert_refused("one byte too many", &refused, EXCEEDED);
    let seconds: u32 = refused.header("retry-after").parse()?;
    assert!((86_000..=86_400).contains(&seconds), "{seconds}");
    let unknown = user.create_image(ImagePath::Post, ImageFormat::Png).await?;
    assert_refused("without a length, the longest counts", &unknown, EXCEEDED);
    create(100_000).await?.expect_status(201)?;
    if subject.strategy == Strategy::Streaming {
        let streamed = user.stream(ImagePath::Post, ImageFormat::Png, picture(1)).await?;
        assert_refused("the stream route", &streamed, EXCEEDED);
    }
    // What was created a day ago no longer counts, linked or not.
    subject.stand.sql("UPDATE image SET created_at = now() - interval '24 h'").await?;
    create(120_000).await?.expect_status(201)?;
    assert_eq!(subject.kept().await?, Kept { rows: 3, ..NOTHING });
    Ok(())
}

//! Reading an image: a redirect to the store, while a live link exists.

use anyhow::{Context as _, Result};
use upload_domain::{ImageFormat, ImagePath};
use url::Url;
use uuid::Uuid;

use super::subject::{Subject, assert_refused, picture};

const MISSING: (u16, &str) = (404, "image_not_found");

pub(super) async fn an_image_is_read_while_a_live_link_exists(subject: &mut Subject) -> Result<()> {
    let (user, anybody) = (subject.user().await?, subject.anybody()?);
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    let id = created.image_id();
    assert_refused("created", &anybody.read(id).await?, MISSING);
    user.upload(created.form(), picture(1)).await?.expect_status(201)?;
    assert_refused("uploaded", &anybody.read(id).await?, MISSING);
    assert_refused("uploaded, to its owner", &user.read(id).await?, MISSING);
    user.link_profile(id).await?.expect_status(201)?;
    assert_eq!(anybody.download(id).await?.expect_status(200)?.body, picture(1));
    user.delete_profile().await?.expect_status(204)?;
    assert_refused("deleted", &anybody.read(id).await?, MISSING);
    assert_refused("never there", &anybody.read(&Uuid::now_v7().to_string()).await?, MISSING);
    for path in ["x", "1", "..%2fx", "%00", &format!("{id}x")] {
        assert_refused(path, &anybody.read(path).await?, (404, "not_found"));
    }
    Ok(())
}

pub(super) async fn what_is_served_says_what_it_is(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let id = user.with_profile_image(picture(3)).await?;
    let redirect = user.read(&id).await?.expect_status(302)?;
    let location = Url::parse(redirect.header("location"))?;
    let lives =
        location.query_pairs().find(|(name, _)| name == "X-Amz-Expires").context("it ends")?.1.parse::<u64>()?;
    let cache = redirect.header("cache-control");
    let age = cache.strip_prefix("private, max-age=").with_context(|| format!("private and for a time: {cache}"))?;
    assert!(age.parse::<u64>()? < lives, "{cache} is below {lives}");
    assert_eq!(redirect.header("x-content-type-options"), "nosniff");

    let served = user.download(&id).await?.expect_status(200)?;
    assert_eq!(served.header("content-type"), "image/png");
    assert_eq!(served.header("content-disposition"), "inline");
    assert!(served.header("cache-control").contains("immutable"), "{}", served.header("cache-control"));
    assert_eq!(served.body, picture(3));
    Ok(())
}

/// The signature that a client sees allows reads of one object for a limited time, and nothing else.
pub(super) async fn the_reader_key_alone_is_visible(subject: &mut Subject) -> Result<()> {
    let (user, anybody) = (subject.user().await?, subject.anybody()?);
    let (id, other) = (user.with_profile_image(picture(1)).await?, user.upload_for(ImagePath::UserProfile).await?);
    let location = user.read(&id).await?.expect_status(302)?.header("location").to_owned();
    let environment = subject.stand.environment();
    let reader = &environment["S3_READER_ACCESS_KEY_ID"];
    assert!(location.contains(&format!("X-Amz-Credential={reader}")), "{location}");
    for name in ["S3_ACCESS_KEY_ID", "S3_SIGNER_ACCESS_KEY_ID"] {
        assert!(!location.contains(&environment[name]), "{name} in {location}");
    }
    let key = subject.column(&id, "media_key").await?.context("a media key")?;
    assert!(location.contains(&key), "{location}");
    let http = reqwest::Client::builder().no_proxy().build()?;
    let unsigned = location.split('?').next().unwrap_or_default();
    for (what, request) in [
        ("without a signature", http.get(unsigned)),
        ("another object", http.get(location.replace(&key, &format!("incoming/{other}")))),
        ("the whole bucket", http.get(location.replace(&key, ""))),
        ("to write", http.put(&location).body("x")),
        ("to delete", http.delete(&location)),
    ] {
        let status = request.send().await?.status();
        assert!(status.is_client_error(), "{what}: {status}");
    }
    assert_eq!(anybody.download(&id).await?.body, picture(1));
    Ok(())
}

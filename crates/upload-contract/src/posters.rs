//! Competitions and their posters.

use anyhow::Result;
use serde_json::Value;
use upload_domain::{ImagePath, Role};
use uuid::Uuid;

use super::subject::{Kept, NOTHING, Subject, assert_refused, names, picture, text};

pub(super) async fn a_host_gives_their_own_competition_a_poster(subject: &mut Subject) -> Result<()> {
    let host = subject.member(Role::Host).await?;
    let created = host.create_competition("Busan Open").await?.expect_status(201)?;
    let competition = &created.json["competition"];
    assert_eq!(names(competition), ["createdAt", "hostUserId", "id", "posterImage", "title"]);
    assert_eq!((text(&competition["title"]), &competition["posterImage"]), ("Busan Open", &Value::Null));
    assert_eq!(competition["hostUserId"], host.id.to_string());
    let id = text(&competition["id"]);

    let image = host.upload_for(ImagePath::Competition).await?;
    let first = host.link_poster(id, &image).await?.expect_status(201)?;
    let link = &first.json["competitionPosterImage"];
    assert_eq!(names(link), ["competitionId", "createdAt", "id", "imageId"]);
    assert_eq!((text(&link["competitionId"]), text(&link["imageId"])), (id, image.as_str()));
    let second = host.link_poster(id, &image).await?.expect_status(200)?;
    assert_eq!(second.json, first.json);

    let shown = subject.anybody()?.competition(id).await?.expect_status(200)?;
    let poster = &shown.json["competition"]["posterImage"];
    assert_eq!(poster["imageEntity"]["id"], image.as_str());
    assert_eq!(text(&poster["url"]), format!("{}/images/{image}", subject.url()));
    assert_eq!(subject.anybody()?.download(&image).await?.body, picture(1));
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    Ok(())
}

pub(super) async fn an_admin_gives_any_competition_a_poster(subject: &mut Subject) -> Result<()> {
    let (host, admin) = (subject.member(Role::Host).await?, subject.member(Role::Admin).await?);
    let competition = host.competition_of_ones_own().await?;
    let image = admin.upload_for(ImagePath::Competition).await?;
    admin.link_poster(&competition, &image).await?.expect_status(201)?;
    // They may use any competition, but only their own images.
    let hosts = host.upload_for(ImagePath::Competition).await?;
    assert_refused("the host's image", &admin.link_poster(&competition, &hosts).await?, (404, "image_not_found"));
    host.link_poster(&competition, &hosts).await?.expect_status(201)?;
    assert_refused("replaced", &subject.anybody()?.read(&image).await?, (404, "image_not_found"));
    Ok(())
}

pub(super) async fn a_host_may_not_touch_anothers_competition(subject: &mut Subject) -> Result<()> {
    let (owner, other) = (subject.member(Role::Host).await?, subject.member(Role::Host).await?);
    let user = subject.user().await?;
    let competition = owner.competition_of_ones_own().await?;
    let image = other.upload_for(ImagePath::Competition).await?;
    assert_refused("another host", &other.link_poster(&competition, &image).await?, (403, "forbidden"));
    let users = user.upload_for(ImagePath::UserProfile).await?;
    assert_refused("a user", &user.link_poster(&competition, &users).await?, (403, "forbidden"));
    let missing = Uuid::now_v7().to_string();
    for member in [&owner, &other] {
        let answer = member.link_poster(&missing, &image).await?;
        assert_refused("no such competition", &answer, (404, "competition_not_found"));
    }
    let anybody = subject.anybody()?;
    assert_refused("no such competition", &anybody.competition(&missing).await?, (404, "competition_not_found"));
    assert_refused("no id", &anybody.competition("1").await?, (404, "not_found"));
    assert_eq!(subject.kept().await?.linked, 0);
    assert_eq!(subject.stand.count("competition_poster_image").await?, 0);
    // After all that the owner can still use the image.
    let own = other.competition_of_ones_own().await?;
    other.link_poster(&own, &image).await?.expect_status(201)?;
    Ok(())
}

pub(super) async fn a_new_poster_takes_the_place_of_the_old(subject: &mut Subject) -> Result<()> {
    let host = subject.member(Role::Host).await?;
    let competition = host.competition_of_ones_own().await?;
    let (old, new) = (host.upload_for(ImagePath::Competition).await?, host.upload_for(ImagePath::Competition).await?);
    host.link_poster(&competition, &old).await?.expect_status(201)?;
    host.link_poster(&competition, &new).await?.expect_status(201)?;
    let shown = host.competition(&competition).await?;
    assert_eq!(shown.json["competition"]["posterImage"]["imageEntity"]["id"], new.as_str());
    assert_refused("the old one", &host.read(&old).await?, (404, "image_not_found"));
    assert_refused("the old one", &host.link_poster(&competition, &old).await?, (409, "already_linked"));
    assert_eq!(subject.stand.count("competition_poster_image WHERE deleted_at IS NULL").await?, 1);
    assert_eq!(subject.kept().await?, Kept { rows: 2, linked: 2, media: 2 });
    Ok(())
}

pub(super) async fn a_poster_is_linked_to_one_competition(subject: &mut Subject) -> Result<()> {
    let host = subject.member(Role::Host).await?;
    let (one, other) = (host.competition_of_ones_own().await?, host.competition_of_ones_own().await?);
    let image = host.upload_for(ImagePath::Competition).await?;
    host.link_poster(&one, &image).await?.expect_status(201)?;
    assert_refused("another competition", &host.link_poster(&other, &image).await?, (409, "already_linked"));
    assert_refused("a profile", &host.link_profile(&image).await?, (409, "already_linked"));
    assert_refused("a post", &host.create_post("Title", "", &[&image]).await?, (409, "already_linked"));
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, ..Kept { media: 1, ..NOTHING } });
    Ok(())
}

//! Many at once: exactly one wins, and nobody is told anything that is not so.

use anyhow::Result;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use serde_json::Value;
use upload_domain::{ImageFormat, ImagePath, incoming_key};
use upload_sandbox::client::{Answer, Client};

use super::subject::{Kept, Strategy, Subject, assert_refused, picture, text};

/// How many at once.
const MANY: usize = 16;

/// Asserts that one of the links made it and the others were told so, and returns what was made.
fn assert_one_winner(answers: &[Answer]) -> Value {
    let winners: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    let statuses: Vec<_> = answers.iter().map(Answer::refusal).collect();
    assert_eq!(winners.len(), 1, "{statuses:?}");
    for answer in answers {
        match answer.status {
            201 => {}
            200 => assert_eq!(answer.json, winners[0].json),
            _ => assert_refused("a loser", answer, (409, "link_in_progress")),
        }
    }
    winners[0].json.clone()
}

pub(super) async fn sixteen_links_at_once_make_one(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    for round in 1..=5 {
        let id = user.upload_for(ImagePath::UserProfile).await?;
        let answers = try_join_all((0..MANY).map(|_caller| user.link_profile(&id))).await?;
        let made = assert_one_winner(&answers);
        assert_eq!(user.link_profile(&id).await?.expect_status(200)?.json, made);
        assert_eq!(user.download(&id).await?.body, picture(1));
        assert_eq!(subject.stand.count(&format!("user_profile_image WHERE image_id = '{id}'")).await?, 1);
        let media = usize::try_from(round)?;
        assert_eq!(subject.kept().await?, Kept { rows: round, linked: round, media });
    }
    Ok(())
}

pub(super) async fn links_through_two_servers_make_one(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let other = user.client.at(subject.add_server(&[]).await?);
    for round in 1..=5 {
        let id = user.upload_for(ImagePath::UserProfile).await?;
        let servers = [&user.client, &other];
        let links = (0..MANY).map(|caller| servers[caller % 2].link_profile(&id));
        let made = assert_one_winner(&try_join_all(links).await?);
        for server in servers {
            assert_eq!(server.link_profile(&id).await?.expect_status(200)?.json, made);
        }
        let media = usize::try_from(round)?;
        assert_eq!(subject.kept().await?, Kept { rows: round, linked: round, media });
    }
    Ok(())
}

pub(super) async fn a_foreign_link_never_wins(subject: &mut Subject) -> Result<()> {
    let (owner, other) = (subject.user().await?, subject.user().await?);
    let id = owner.upload_for(ImagePath::UserProfile).await?;
    let links = (0..MANY).map(|caller| if caller % 2 == 0 { &other } else { &owner }.link_profile(&id));
    let answers = try_join_all(links).await?;
    let (foreign, own): (Vec<_>, Vec<_>) = answers.into_iter().enumerate().partition(|(caller, _)| caller % 2 == 0);
    for (_caller, answer) in foreign {
        assert_refused("another's", &answer, (404, "image_not_found"));
    }
    assert_one_winner(&own.into_iter().map(|(_caller, answer)| answer).collect::<Vec<_>>());
    assert_eq!(subject.stand.count(&format!("user_profile_image WHERE user_id = '{}'", other.id)).await?, 0);
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    Ok(())
}

pub(super) async fn two_images_at_once_leave_one_live(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    for round in 1..=4 {
        let ids = [user.upload_for(ImagePath::UserProfile).await?, user.upload_for(ImagePath::UserProfile).await?];
        for answer in try_join_all(ids.iter().map(|id| user.link_profile(id))).await? {
            answer.expect_status(201)?;
        }
        assert_eq!(subject.stand.count("user_profile_image WHERE deleted_at IS NULL").await?, 1);
        let shown = user.me().await?.json["user"]["profileImages"][0]["imageEntity"]["id"].clone();
        let (live, replaced) = if shown == ids[0].as_str() { (&ids[0], &ids[1]) } else { (&ids[1], &ids[0]) };
        user.download(live).await?.expect_status(200)?;
        assert_refused("the other", &user.read(replaced).await?, (404, "image_not_found"));
        let key = "SELECT i.media_key = u.profile_image_url_key FROM image i, \"user\" u WHERE i.id =";
        assert_eq!(subject.value(&format!("{key} '{live}'")).await?.as_deref(), Some("t"));
        let rows = 2 * round;
        assert_eq!(subject.kept().await?, Kept { rows, linked: rows, media: usize::try_from(rows)? });
    }
    Ok(())
}

/// Posts that share one image, and list their own around it in different orders.
pub(super) async fn sixteen_posts_share_one_image_with_one(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let shared = user.upload_for(ImagePath::Post).await?;
    let mut lists = Vec::new();
    for place in 0..8 {
        let own = [user.upload_for(ImagePath::Post).await?, user.upload_for(ImagePath::Post).await?];
        let [one, other] = own;
        lists.push(match place % 3 {
            0 => vec![shared.clone(), one, other],
            1 => vec![one, shared.clone(), other],
            _ => vec![other, one, shared.clone()],
        });
    }
    let answers = try_join_all(lists.iter().map(|ids| user.create_post("Title", "", ids))).await?;
    let statuses: Vec<_> = answers.iter().map(Answer::refusal).collect();
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "{statuses:?}");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        let code = answer.code().to_owned();
        assert!(matches!(code.as_str(), "already_linked" | "link_in_progress"), "{code}");
        assert_refused("a loser", answer, (409, &code));
        assert_eq!(text(&answer.json["imageEntityId"]), shared);
    }
    assert_eq!(subject.stand.count("post").await?, 1);
    // V1 has the others' bytes in place already; V2's copies of them were deleted.
    let media = if subject.strategy == Strategy::Streaming { 17 } else { 3 };
    assert_eq!(subject.kept().await?, Kept { rows: 17, linked: 3, media });
    // The losers' own images are free.
    for (ids, _answer) in lists.iter().zip(&answers).filter(|(_ids, answer)| answer.status != 201) {
        let own: Vec<&String> = ids.iter().filter(|id| **id != shared).collect();
        user.create_post("Title", "", &own).await?.expect_status(201)?;
    }
    assert_eq!(subject.kept().await?, Kept { rows: 17, linked: 17, media: 17 });
    Ok(())
}

/// A form works until its time is over; what was linked does not change for that.
pub(super) async fn a_replayed_form_does_not_change_what_is_served(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    let id = created.image_id();
    user.upload(created.form(), picture(1)).await?.expect_status(201)?;
    let linked = user.link_profile(id).await?.expect_status(201)?;
    let key = subject.column(id, "media_key").await?;
    for round in 0..4 {
        let replays = (0..MANY as u64).map(|replay| user.upload(created.form(), picture(100 * round + replay + 2)));
        let (replays, reads) = futures::join!(join_all(replays), join_all((0..4).map(|_reader| user.download(id))));
        for replay in replays {
            let replay = replay?;
            match subject.strategy {
                Strategy::Streaming => assert_refused("replay", &replay, (409, "already_linked")),
                Strategy::Presigned => assert_eq!(replay.status, 201, "to the incoming key, which is never served"),
            }
        }
        for read in reads {
            assert_eq!(read?.body, picture(1));
        }
        assert_eq!(user.link_profile(id).await?.expect_status(200)?.json, linked.json);
    }
    assert_eq!(user.download(id).await?.body, picture(1));
    assert_eq!(subject.column(id, "media_key").await?, key);
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    // What V2's store took since the link is for the sweep.
    subject.stand.storage.delete(&incoming_key(id.parse()?)).await?;
    Ok(())
}

/// Whatever a link verified is what is served: the one file or the other, and the same at every read.
pub(super) async fn uploads_during_the_link_do_not_mix(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let files: [Bytes; 2] = [picture(1).into(), picture(2).into()];
    for _round in 0..6 {
        let created = user.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
        let id = created.image_id();
        user.upload(created.form(), files[0].clone()).await?.expect_status(201)?;
        let uploads = (0..8).map(|upload| user.upload(created.form(), files[upload % 2].clone()));
        let (uploads, link) = futures::join!(join_all(uploads), link(&user.client, id));
        for upload in uploads {
            let upload = upload?;
            let expected: &[&str] = match subject.strategy {
                Strategy::Streaming => &["", "upload_in_progress", "link_in_progress", "already_linked"],
                Strategy::Presigned => &[""],
            };
            assert!(matches!(upload.status, 201 | 409) && expected.contains(&upload.code()), "{:?}", upload.refusal());
        }
        let link = link?;
        let expected = ["", "upload_changed", "upload_in_progress", "link_in_progress"];
        assert!(matches!(link.status, 201 | 409) && expected.contains(&link.code()), "{:?}", link.refusal());
        if link.status == 409 {
            user.link_profile(id).await?.expect_status(201)?;
        }
        let served = user.download(id).await?.body;
        assert!(files.contains(&served), "neither the one nor the other");
        user.upload(created.form(), picture(3)).await?;
        assert_eq!(user.download(id).await?.body, served);
        subject.stand.storage.delete(&incoming_key(id.parse()?)).await?;
    }
    assert_eq!(subject.kept().await?, Kept { rows: 6, linked: 6, media: 6 });
    Ok(())
}

async fn link(client: &Client, id: &str) -> Result<Answer> {
    client.link_profile(id).await
}

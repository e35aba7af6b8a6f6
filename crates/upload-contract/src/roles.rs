//! Who may do what. The user's row decides role and status, never the token.

use anyhow::Result;
use upload_domain::{ImageFormat, ImagePath, Role, UserId};
use upload_sandbox::client::Answer;
use uuid::Uuid;

use super::subject::{Kept, Member, Strategy, Subject, assert_refused, picture, text};

const FORBIDDEN: (u16, &str) = (403, "forbidden");

/// A user who has one of everything.
struct Prepared {
    member: Member,
    competition: String,
    post: String,
    pending: String,
    poster: String,
    in_post: String,
}

impl Prepared {
    async fn new(subject: &Subject, role: Role) -> Result<Self> {
        let member = subject.member(role).await?;
        let competition = member.competition_of_ones_own().await?;
        let created = member.create_post("Title", "", &[""; 0]).await?.expect_status(201)?;
        Ok(Self {
            competition,
            post: text(&created.json["post"]["id"]).to_owned(),
            pending: member.upload_for(ImagePath::UserProfile).await?,
            poster: member.upload_for(ImagePath::Competition).await?,
            in_post: member.upload_for(ImagePath::Post).await?,
            member,
        })
    }

    /// Every route that acts for a caller, used on the caller's own things.
    async fn everything(&self) -> Result<Vec<(&'static str, Answer)>> {
        let Self { member, competition, post, pending, poster, in_post } = self;
        Ok(vec![
            ("create profile image", member.create_image(ImagePath::UserProfile, ImageFormat::Png).await?),
            ("create poster", member.create_image(ImagePath::Competition, ImageFormat::Png).await?),
            ("create post image", member.create_image(ImagePath::Post, ImageFormat::Png).await?),
            ("renew form", member.renew_form(pending).await?),
            ("me", member.me().await?),
            ("link profile", member.link_profile(pending).await?),
            ("delete profile", member.delete_profile().await?),
            ("create competition", member.create_competition("Open").await?),
            ("link poster", member.link_poster(competition, poster).await?),
            ("create post", member.create_post("Title", "", &[in_post]).await?),
            ("create post without images", member.create_post("Title", "", &[""; 0]).await?),
            ("delete post", member.delete_post(post).await?),
        ])
    }
}

async fn set(subject: &Subject, user: UserId, change: &str) -> Result<()> {
    subject.stand.sql(&format!("UPDATE \"user\" SET {change} WHERE id = '{user}'")).await.map(drop)
}

pub(super) async fn role_and_status_are_read_from_the_row(subject: &mut Subject) -> Result<()> {
    for role in [Role::Admin, Role::Host] {
        for change in ["status = 'INACTIVE'", "role = 'TEMPORARY_USER'"] {
            let prepared = Prepared::new(subject, role).await?;
            let created = prepared.member.create_image(ImagePath::UserProfile, ImageFormat::Png).await?;
            let before = subject.kept().await?;
            set(subject, prepared.member.id, change).await?;
            for (what, answer) in prepared.everything().await? {
                assert_refused(&format!("{change}: {what}"), &answer, FORBIDDEN);
            }
            if subject.strategy == Strategy::Streaming {
                let uploaded = prepared.member.upload(created.form(), picture(1)).await?;
                assert_refused(change, &uploaded, FORBIDDEN);
            }
            assert_eq!(subject.kept().await?, before, "{change}");

            set(subject, prepared.member.id, &format!("status = 'ACTIVE', role = '{role}'")).await?;
            for (what, answer) in prepared.everything().await? {
                assert!(matches!(answer.status, 200 | 201 | 204), "{role} again: {what}: {}", answer.json);
            }
        }
    }
    // The token is valid, but no user has this id.
    let nobody = UserId::from(Uuid::now_v7());
    let token = subject.stand.token(nobody, Role::Admin)?;
    let ghost = subject.anybody()?.with_token(token);
    assert_refused("nobody", &ghost.me().await?, FORBIDDEN);
    assert_refused("nobody", &ghost.create_image(ImagePath::Post, ImageFormat::Png).await?, FORBIDDEN);
    assert_refused("nobody", &ghost.create_competition("Open").await?, FORBIDDEN);
    assert_refused("nobody", &ghost.create_post("Title", "", &[""; 0]).await?, FORBIDDEN);
    assert_refused("nobody", &ghost.delete_profile().await?, FORBIDDEN);
    Ok(())
}

pub(super) async fn only_admins_and_hosts_have_competitions(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    // The role in the token does not count, whether it is higher or lower than the row's.
    let boasting = subject.anybody()?.with_token(subject.stand.token(user.id, Role::Admin)?);
    for client in [&user.client, &boasting] {
        assert_refused("a user", &client.create_competition("Open").await?, FORBIDDEN);
        let poster = client.create_image(ImagePath::Competition, ImageFormat::Png).await?;
        assert_refused("a user", &poster, FORBIDDEN);
    }
    let host = subject.member(Role::Host).await?;
    let modest = subject.anybody()?.with_token(subject.stand.token(host.id, Role::TemporaryUser)?);
    modest.create_competition("Open").await?.expect_status(201)?;
    modest.create_image(ImagePath::Competition, ImageFormat::Png).await?.expect_status(201)?;
    assert_eq!(subject.stand.count("competition").await?, 1);
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 0, media: 0 });
    // A user who is no longer a host keeps the competition, but may not do anything with it.
    let competition = host.competition_of_ones_own().await?;
    let poster = host.upload_for(ImagePath::Competition).await?;
    set(subject, host.id, "role = 'USER'").await?;
    assert_refused("no host now", &host.link_poster(&competition, &poster).await?, FORBIDDEN);
    assert_eq!(subject.kept().await?.linked, 0);
    Ok(())
}

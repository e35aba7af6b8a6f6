//! Postgres or the store is away, silent or busy, or the server itself stops. Every affected route tells its clients so, and nothing
//! is lost.

use anyhow::{Context as _, Result};
use upload_domain::{ImageFormat, ImagePath, MEDIA_PREFIX, incoming_key};
use upload_sandbox::{
    client::{Answer, Client},
    issuer::Issuer,
    relay::{Mode, Relay},
};

use super::{
    routes::Household,
    subject::{Kept, Strategy, Subject, assert_refused, picture},
};

/// A header that only requests to copy have.
pub(super) const COPY: &str = "x-amz-copy-source-if-match";

pub(super) async fn without_a_database_clients_are_told_to_come_back(subject: &mut Subject) -> Result<()> {
    subject.errors_expected = true;
    let household = Household::new(subject).await?;
    let (url, database) = Relay::before(&subject.stand.database_url).await?;
    let cut_off = subject.add_server(&[("DATABASE_URL", &url)]).await?;
    database.set(Mode::Down);
    for (what, answer) in household.all_at_once(subject, &cut_off).await? {
        assert_refused(&what, &answer, (503, "database_unavailable"));
    }
    assert_eq!(subject.objects().await?, [""; 0]);
    // This does not disturb a server that has its database, nor this server when its database is back.
    let Household { admin, form, image, .. } = &household;
    admin.upload(form, picture(1)).await?.expect_status(201)?;
    database.set(Mode::Pass);
    admin.at(&cut_off).link_profile(image).await?.expect_status(201)?;
    assert_eq!(subject.kept().await?, Kept { rows: 1, linked: 1, media: 1 });
    Ok(())
}

pub(super) async fn whoever_finds_every_connection_in_use_is_told_to_come_back(subject: &mut Subject) -> Result<()> {
    let household = Household::new(subject).await?;
    let (url, database) = Relay::before(&subject.stand.database_url).await?;
    // A link waits for a quarter of its lease, so the connection must be in use for longer.
    let patient = ("DATABASE_STATEMENT_TIMEOUT_MS", "60000");
    let narrow = [("DATABASE_POOL_SIZE", "1"), ("DATABASE_WAIT_TIMEOUT_MS", "200"), patient];
    let set = [&[("DATABASE_URL", url.as_str())], &narrow[..]].concat();
    let busy = household.admin.at(subject.add_server(&set).await?);
    // For a second the server asks the database nothing by itself.
    subject.anybody()?.get("/health/ready").await?.expect_status(200)?;
    database.set(Mode::HoldRequests);
    let first = busy.me();
    let others = async {
        database.holds(1).await;
        let answers = household.all_at_once(subject, subject.url()).await?;
        database.set(Mode::Pass);
        anyhow::Ok(answers)
    };
    let (first, others) = futures::try_join!(first, others)?;
    assert_eq!(first.status, 200, "it only waited: {}", first.json);
    for (what, answer) in others {
        assert_refused(&what, &answer, (503, "overloaded"));
    }
    assert_eq!(subject.objects().await?, [""; 0]);
    Ok(())
}

pub(super) async fn a_request_that_outlasts_the_stop_is_told_so(subject: &mut Subject) -> Result<()> {
    let household = Household::new(subject).await?;
    let (url, database) = Relay::before(&subject.stand.database_url).await?;
    let patient = ("DATABASE_CONNECT_TIMEOUT_MS", "60000");
    let set = [("DATABASE_URL", url.as_str()), ("DATABASE_POOL_SIZE", "64"), patient, ("SHUTDOWN_TIMEOUT", "1")];
    let stopping = subject.add_server(&set).await?;
    let anybody = subject.anybody()?;
    database.set(Mode::HoldRequests);
    // For a second the server repeats its last result.
    let readiness = async {
        loop {
            let ready = anybody.get("/health/ready").await?;
            if ready.status != 200 {
                return anyhow::Ok(ready);
            }
        }
    };
    let own = if subject.strategy == Strategy::Streaming { 2 } else { 0 };
    let stop = async {
        // Each request has its own connection and waits for it; so does readiness.
        database.holds(household.calls().len() + own + 1).await;
        subject.server()?.ask_to_stop();
        anyhow::Ok(())
    };
    let calls = household.all_at_once(subject, &stopping);
    let (answers, ready, ()) = futures::try_join!(calls, readiness, stop)?;
    for (what, answer) in answers {
        assert_refused(&what, &answer, (503, "shutting_down"));
    }
    assert_refused("readiness", &ready, (503, "shutting_down"));
    // Work that began in the background ends there.
    database.set(Mode::Pass);
    let code = subject.retire_server().await?;
    // The exit code reports the uploads that were cut off.
    let expected = if subject.strategy == Strategy::Streaming { 3 } else { 0 };
    assert_eq!(code, Some(expected));
    assert_eq!(subject.objects().await?, [""; 0]);
    Ok(())
}

pub(super) async fn without_a_store_an_image_stays_linkable(subject: &mut Subject) -> Result<()> {
    subject.errors_expected = true;
    let household = Household::new(subject).await?;
    let linked = household.admin.with_profile_image(picture(9)).await?;
    let (store, cut_off) = without_its_store(subject, &[]).await?;
    let images = Uploaded::new(subject, &household).await?;
    store.set(Mode::Down);
    for (what, answer) in images.link(&household, &cut_off).await? {
        assert_refused(what, &answer, (503, "storage_unavailable"));
    }
    for (what, answer) in household.own_uploads(subject, subject.url(), picture(1)).await? {
        assert_refused(&what, &answer, (503, "storage_unavailable"));
    }
    images.assert_released(subject).await?;
    // For a read the server only signs a URL, and does not ask the store. Only the URL leads to the store.
    let read = cut_off.read(&linked).await?.expect_status(302)?;
    assert!(read.header("location").contains(&linked), "{}", read.header("location"));
    images.assert_linkable(subject, &household).await
}

pub(super) async fn a_store_that_says_nothing_is_not_waited_for(subject: &mut Subject) -> Result<()> {
    subject.errors_expected = true;
    let household = Household::new(subject).await?;
    let set: &[_] = match subject.strategy {
        Strategy::Streaming => &[("STORAGE_STALL_SECONDS", "1")],
        Strategy::Presigned => &[],
    };
    let (store, silent) = without_its_store(subject, set).await?;
    let images = Uploaded::new(subject, &household).await?;
    store.set(Mode::HoldRequests);
    // Long enough to be streamed.
    let file = [picture(1), vec![0; 300_000]].concat();
    let uploads = household.own_uploads(subject, subject.url(), file);
    let (links, uploads) = futures::try_join!(images.link(&household, &silent), uploads)?;
    for (what, answer) in links {
        assert_refused(what, &answer, (503, "storage_timeout"));
    }
    for (what, answer) in uploads {
        assert_refused(&what, &answer, (503, "storage_timeout"));
    }
    images.assert_released(subject).await?;
    // The held requests must never arrive.
    store.set(Mode::Down);
    images.assert_linkable(subject, &household).await
}

/// Temporary credentials expire and are not renewed. The server refuses requests that need their signature, and no others.
pub(super) async fn without_credentials_nothing_is_signed(subject: &mut Subject) -> Result<()> {
    subject.errors_expected = true;
    let household = Household::new(subject).await?;
    let Household { admin, image, .. } = &household;
    let linked = admin.with_profile_image(picture(9)).await?;
    let issuer = Issuer::start(&subject.stand).await?;
    // The servers treat them as expired ten seconds early.
    for role in ["signer", "reader"] {
        issuer.set_end(role, chrono::Utc::now() + chrono::TimeDelta::seconds(20));
    }
    let url = subject.add_program(issuer.program(subject.binary(), &subject.stand)).await?;
    issuer.set_silent(true);
    let server = admin.at(url);
    let read = loop {
        let read = server.read(&linked).await?;
        if read.status != 302 {
            break read;
        }
    };
    assert_refused("read", &read, (503, "storage_unavailable"));
    let form = loop {
        let form = server.renew_form(image).await?;
        if form.status != 201 || subject.strategy == Strategy::Streaming {
            break form;
        }
    };
    let created = server.create_image(ImagePath::Post, ImageFormat::Png).await?;
    match subject.strategy {
        // V1 signs its forms itself.
        Strategy::Streaming => assert_eq!((form.status, created.status), (201, 201)),
        Strategy::Presigned => {
            assert_refused("form", &form, (503, "storage_unavailable"));
            assert_refused("create", &created, (503, "storage_unavailable"));
        }
    }
    server.me().await?.expect_status(200)?;
    Ok(())
}

/// The server copies the bytes that it verified, or nothing.
pub(super) async fn an_upload_that_changes_while_it_is_linked_is_not_linked(subject: &mut Subject) -> Result<()> {
    let household = Household::new(subject).await?;
    let (store, server) = without_its_store(subject, &[]).await?;
    let images = Uploaded::new(subject, &household).await?;
    store.set(Mode::HoldRequestsWith(COPY));
    let change = async {
        store.holds(images.ids().len()).await;
        for (what, answer) in images.link(&household, &server).await? {
            assert_refused(what, &answer, (409, "link_in_progress"));
        }
        for id in images.ids() {
            subject.stand.storage.put(&incoming_key(id.parse()?), "image/png", picture(2).into()).await?;
        }
        store.set(Mode::Pass);
        anyhow::Ok(())
    };
    let (links, ()) = futures::try_join!(images.link(&household, &server), change)?;
    for (what, answer) in links {
        assert_refused(what, &answer, (409, "upload_changed"));
        assert_eq!(answer.json["retryable"], true);
    }
    images.assert_released(subject).await?;
    images.assert_linkable(subject, &household).await
}

/// The store copies other bytes than the ETag names. That can happen: an ETag is an MD5, and two files can have the same.
pub(super) async fn a_copy_that_is_not_what_was_verified_is_not_linked(subject: &mut Subject) -> Result<()> {
    let household = Household::new(subject).await?;
    let (store, server) = without_its_store(subject, &[]).await?;
    let images = Uploaded::new(subject, &household).await?;
    // The server's look at the copy waits until the test has replaced the copy.
    let look = format!("GET /{}/{MEDIA_PREFIX}", subject.stand.bucket()).leak();
    store.set(Mode::HoldRequestsWith(look));
    let change = async {
        store.holds(images.ids().len()).await;
        let copies = subject.stand.storage.list(MEDIA_PREFIX).await?;
        assert_eq!(copies.len(), images.ids().len());
        for key in copies {
            let other = vec![b'<'; picture(1).len()];
            subject.stand.storage.put(&key, "image/png", other.into()).await?;
        }
        store.set(Mode::Pass);
        anyhow::Ok(())
    };
    let (links, ()) = futures::try_join!(images.link(&household, &server), change)?;
    for (what, answer) in links {
        assert_refused(what, &answer, (409, "upload_changed"));
    }
    images.assert_released(subject).await?;
    images.assert_linkable(subject, &household).await
}

/// Adds a server with a relay before its store. Returns the relay, and a client of that server.
pub(super) async fn without_its_store(subject: &mut Subject, set: &[(&str, &str)]) -> Result<(Relay, Client)> {
    let public = subject.stand.environment()["S3_ENDPOINT"].clone();
    let (endpoint, store) = Relay::before(&public).await?;
    let ways = [("S3_ENDPOINT", endpoint.as_str()), ("S3_PUBLIC_ENDPOINT", &public)];
    subject.add_server(&[&ways, set].concat()).await?;
    Ok((store, subject.anybody()?))
}

/// Three images, one for each use. They are uploaded past the server, as V2's are.
pub(super) struct Uploaded {
    profile: String,
    poster: String,
    in_post: String,
}

impl Uploaded {
    pub(super) async fn new(subject: &Subject, household: &Household) -> Result<Self> {
        let upload = async |path| -> Result<String> {
            let created = household.admin.create_image(path, ImageFormat::Png).await?.expect_status(201)?;
            let key = incoming_key(created.image_id().parse()?);
            subject.stand.storage.put(&key, "image/png", picture(1).into()).await?;
            Ok(created.image_id().to_owned())
        };
        let (profile, poster) = (upload(ImagePath::UserProfile).await?, upload(ImagePath::Competition).await?);
        Ok(Self { profile, poster, in_post: upload(ImagePath::Post).await? })
    }

    pub(super) fn ids(&self) -> [&String; 3] {
        [&self.profile, &self.poster, &self.in_post]
    }

    /// Links all three at once, through the server of this client.
    pub(super) async fn link(&self, household: &Household, server: &Client) -> Result<[(&'static str, Answer); 3]> {
        let server = server.with_token(&household.admin.token);
        let in_post = [&self.in_post];
        let (profile, poster, in_post) = futures::try_join!(
            server.link_profile(&self.profile),
            server.link_poster(&household.competition, &self.poster),
            server.create_post("Title", "", &in_post),
        )?;
        Ok([("profile", profile), ("poster", poster), ("in a post", in_post)])
    }

    pub(super) async fn assert_released(&self, subject: &Subject) -> Result<()> {
        for id in self.ids() {
            assert_eq!(subject.column(id, "attempt_until").await?, None, "the image was released");
            assert_eq!(subject.column(id, "refused_code").await?, None);
        }
        Ok(())
    }

    /// With a server that has its store. The attempts whose outcome V1 could not learn no longer count: this ends their time.
    pub(super) async fn assert_linkable(&self, subject: &Subject, household: &Household) -> Result<()> {
        let over = "UPDATE image SET attempt_until = now() - interval '1 s' WHERE attempt IS NOT NULL";
        subject.stand.sql(over).await?;
        for (what, answer) in self.link(household, &household.admin).await? {
            answer.expect_status(201).context(what)?;
        }
        for id in self.ids() {
            let served = household.admin.download(id).await?;
            assert!(served.body == picture(1) || served.body == picture(2), "{id}");
        }
        Ok(())
    }
}

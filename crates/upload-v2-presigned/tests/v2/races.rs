//! What happens to an image between a link's first look at it and its commit.

use futures::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use serde_json::json;
use tokio::task::JoinHandle;
use upload_domain::{ImageFormat, ImagePath, incoming_key};
use upload_sandbox::{
    client::{Answer, Client},
    process::Server,
    relay::{Mode, Relay},
    samples,
};

use crate::{COPY, Setup};

/// A link that is stopped after it has verified the image and before it copies it.
struct Verified {
    setup: Setup,
    id: String,
    form: serde_json::Value,
    relay: Relay,
    link: JoinHandle<Answer>,
    _server: Server,
    client: Client,
}

impl Verified {
    async fn reach() -> Self {
        Self::reach_with(&[]).await
    }

    async fn reach_with(extra_environment: &[(&str, &str)]) -> Self {
        let setup = Setup::start(&[]).await;
        let created = setup.client.create_image(ImagePath::UserProfile, ImageFormat::Jpeg).await.unwrap();
        let (id, form) = (created.image_id().to_owned(), created.form().clone());
        setup.client.upload(&form, samples::jpeg_of_exactly(3_000, 1)).await.unwrap().expect_status(201).unwrap();
        let direct = setup.stand.storage_settings.endpoint.to_string();
        let (relayed, relay) = Relay::before(&direct).await.unwrap();
        relay.set(Mode::HoldRequestsWith(COPY));
        // The check of the keys is off, because the relay would hold its requests, too.
        let through_the_relay =
            [("S3_ENDPOINT", relayed.as_str()), ("S3_PUBLIC_ENDPOINT", &direct), ("S3_KEY_CHECK", "off")];
        let (server, client) = setup.another(&[&through_the_relay, extra_environment].concat()).await;
        let (linking, image) = (client.clone(), id.clone());
        let link = tokio::spawn(async move { linking.link_profile(&image).await.unwrap() });
        relay.holds(1).await;
        Self { setup, id, form, relay, link, _server: server, client }
    }

    /// Lets the link continue. Returns its answer and the stand.
    async fn go_on(self) -> (Setup, String, Answer) {
        self.relay.set(Mode::Pass);
        (self.setup, self.id, self.link.await.unwrap())
    }
}

#[tokio::test]
async fn bytes_that_change_after_they_were_verified_are_not_linked() {
    let verified = Verified::reach().await;
    let replay = samples::jpeg_of_exactly(4_000, 2);
    verified.setup.client.upload(&verified.form, replay.clone()).await.unwrap().expect_status(201).unwrap();
    let (setup, id, answer) = verified.go_on().await;
    assert_eq!(answer.refusal(), (409, "upload_changed"), "{}", answer.json);
    assert_eq!(answer.json["retryable"], true);
    assert_eq!(setup.keys("media/").await, Vec::<String>::new());
    // The last upload wins, and is verified again.
    setup.client.link_profile(&id).await.unwrap().expect_status(201).unwrap();
    assert_eq!(setup.client.download(&id).await.unwrap().body, replay);
}

/// The state after an upload through V1, if a form of this server was used as well. V1's tickets leave no object in `incoming/`.
#[tokio::test]
async fn what_a_form_left_goes_with_a_link_that_copies_nothing() {
    let mut setup = Setup::start(&[]).await;
    let (image, replay) = (samples::jpeg_of_exactly(3_000, 1), samples::jpeg_of_exactly(4_000, 2));
    let id = setup.client.create_and_upload(ImagePath::UserProfile, ImageFormat::Jpeg, replay).await.unwrap();
    let key = format!("media/{id}/{id}");
    setup.stand.storage.put(&key, "image/jpeg", image.clone().into()).await.unwrap();
    let stored = format!("UPDATE image SET media_key = '{key}', media_byte_size = 3000, width = 8, height = 8");
    setup.stand.sql(&stored).await.unwrap();
    setup.client.link_profile(&id).await.unwrap().expect_status(201).unwrap();
    assert_eq!(setup.client.download(&id).await.unwrap().body, image);
    // Stopping waits for the work that continues after the answer.
    assert_eq!(setup.server.terminate().await.unwrap(), Some(0));
    assert_eq!(setup.keys("").await, [key]);
}

#[tokio::test]
async fn a_second_link_is_told_of_the_first() {
    let verified = Verified::reach().await;
    for client in [&verified.client, &verified.setup.client] {
        let refused = client.link_profile(&verified.id).await.unwrap();
        assert_eq!(refused.refusal(), (409, "link_in_progress"), "{}", refused.json);
        assert_eq!((refused.header("retry-after"), &refused.json["retryable"]), ("1", &json!(true)));
        let refused = client.create_post("title", "", &[&verified.id]).await.unwrap();
        assert_eq!(refused.refusal(), (409, "link_in_progress"), "{}", refused.json);
        assert_eq!(refused.json["imageEntityId"], verified.id);
    }
    let (setup, id, answer) = verified.go_on().await;
    assert_eq!(answer.status, 201, "{}", answer.json);
    assert_eq!(setup.client.link_profile(&id).await.unwrap().status, 200);
}

/// A link whose copy is stopped keeps its turn for ten seconds, and then fails. A link waits for a turn for 45 seconds. So of the seven
/// links here, two or three get no turn.
#[tokio::test]
async fn a_link_that_gets_no_turn_is_told_to_come_back() {
    let Verified { setup, id, link, client, relay: _relay, _server, .. } =
        Verified::reach_with(&[("LINKS_ACTIVE", "1")]).await;
    let mut others = Vec::new();
    for seed in 1..=6 {
        let image = samples::of_format(ImageFormat::Png, seed);
        others.push(setup.client.create_and_upload(ImagePath::UserProfile, ImageFormat::Png, image).await.unwrap());
    }
    let answers = join_all(others.iter().map(|other| client.link_profile(other))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).chain([link.await.unwrap()]).collect();
    let (without_turn, failed): (Vec<_>, Vec<_>) =
        answers.iter().map(Answer::refusal).partition(|refusal| *refusal == (503, "overloaded"));
    assert!(!without_turn.is_empty(), "{failed:?}");
    assert!(failed.iter().all(|refusal| *refusal == (503, "storage_timeout")), "{failed:?}");
    // All images were released, so a server with a working store links them at once.
    for image in others.iter().chain([&id]) {
        setup.client.link_profile(image).await.unwrap().expect_status(201).unwrap();
    }
}

#[tokio::test]
async fn a_link_that_lost_the_image_links_nothing_and_leaves_nothing() {
    let changes = [
        ("UPDATE image SET deleting_at = now()", (410, "image_expired")),
        ("UPDATE image SET attempt_until = now() - interval '1 second'", (409, "link_in_progress")),
        ("UPDATE image SET attempt = gen_random_uuid()", (409, "link_in_progress")),
        ("UPDATE \"user\" SET status = 'INACTIVE'", (403, "forbidden")),
    ];
    for (change, expected) in changes {
        let verified = Verified::reach().await;
        verified.setup.stand.sql(change).await.unwrap();
        let (setup, _id, answer) = verified.go_on().await;
        assert_eq!(answer.refusal(), expected, "{change}: {}", answer.json);
        assert_eq!(setup.keys("media/").await, Vec::<String>::new(), "{change}");
        assert_eq!(setup.stand.count("user_profile_image").await.unwrap(), 0, "{change}");
        assert_eq!(setup.stand.count("image WHERE linked_at IS NOT NULL").await.unwrap(), 0, "{change}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_its_link() {
    let verified = Verified::reach().await;
    verified.link.abort();
    let Verified { setup, id, relay, .. } = &verified;
    relay.set(Mode::Pass);
    verified._server.wait_for_log(|line| line.contains("image linked") && line.contains(id.as_str())).await.unwrap();
    assert_eq!(setup.client.link_profile(id).await.unwrap().status, 200);
}

/// More than have a turn at the same time. Each waits until it is done, since the store gets on.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_links_at_once_are_all_made_by_copies() {
    const IMAGES: usize = 1000;
    let setup = Setup::start(&[]).await;
    let png = samples::png(8, 8, 1);
    let insert = format!(
        "INSERT INTO image (id, path, format, user_id)
         SELECT gen_random_uuid(), 'post', 'image/png', '{}' FROM generate_series(1, {IMAGES}) RETURNING id",
        setup.member.id
    );
    let rows = setup.stand.sql(&insert).await.unwrap();
    let ids: Vec<String> = rows.into_iter().map(|row| row[0].clone().unwrap()).collect();
    let uploads = ids.iter().map(|id| {
        let key = incoming_key(id.parse().unwrap());
        let (storage, png) = (setup.stand.storage.clone(), png.clone());
        async move { storage.put(&key, "image/png", png.into()).await }
    });
    stream::iter(uploads).buffer_unordered(32).try_collect::<()>().await.unwrap();
    for answer in join_all(ids.iter().map(|id| setup.client.create_post("Title", "", std::slice::from_ref(id)))).await {
        answer.unwrap().expect_status(201).unwrap();
    }
    assert_eq!(setup.stand.count("image WHERE linked_at IS NOT NULL").await.unwrap(), IMAGES as u64);
}

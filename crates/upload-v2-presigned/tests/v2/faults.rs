//! What clients are told when Postgres or the store fails, and that nothing is lost or left behind.

use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::{
    relay::{Mode, Relay},
    samples,
};

use crate::{COPY, Setup};

async fn uploaded(setup: &Setup) -> String {
    let image = samples::of_format(ImageFormat::Jpeg, 5);
    setup.client.create_and_upload(ImagePath::UserProfile, ImageFormat::Jpeg, image).await.unwrap()
}

/// Settings that lead to the store through a relay. The check of the keys is off, because its requests contain the relay's word, too.
fn through<'a>(relay: &'a str, public: &'a str) -> [(&'static str, &'a str); 3] {
    [("S3_ENDPOINT", relay), ("S3_PUBLIC_ENDPOINT", public), ("S3_KEY_CHECK", "off")]
}

/// A relay in front of a URL, and its own URL. It loses the answers to all requests that contain the word.
async fn losing_answers_to(word: &'static str, url: &str) -> (String, Relay) {
    let (url, relay) = Relay::before(url).await.unwrap();
    relay.set(Mode::BreakAnswersTo(word));
    (url, relay)
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_again() {
    let setup = Setup::start(&[]).await;
    let id = uploaded(&setup).await;
    // Of all statements of a link, only the commit contains the path.
    let (url, relay) = losing_answers_to("user-profile", &setup.stand.database_url).await;
    let (server, client) = setup.another(&[("DATABASE_URL", &url)]).await;
    let linked = client.link_profile(&id).await.unwrap();
    assert_eq!(linked.status, 201, "{}", linked.json);
    assert_eq!(relay.said(), 1);
    server.wait_for_log(|line| line.contains("the answer to a commit was lost")).await.unwrap();
    assert_eq!(setup.client.download(&id).await.unwrap().body, samples::of_format(ImageFormat::Jpeg, 5));

    // The same with a post. Its commit contains its title.
    let image = samples::of_format(ImageFormat::Jpeg, 6);
    let id = setup.client.create_and_upload(ImagePath::Post, ImageFormat::Jpeg, image).await.unwrap();
    let (url, relay) = losing_answers_to("A title", &setup.stand.database_url).await;
    let (_server, client) = setup.another(&[("DATABASE_URL", &url)]).await;
    let created = client.create_post("A title", "content", &[&id]).await.unwrap();
    assert_eq!(created.status, 201, "{}", created.json);
    assert_eq!(relay.said(), 1);
    assert_eq!(setup.stand.count("post").await.unwrap(), 1);
    assert_eq!(setup.keys("media/").await.len(), 2);
    assert_eq!(setup.stand.count("image_attempt").await.unwrap(), 0);
}

#[tokio::test]
async fn a_copy_whose_answer_is_lost_is_found_again() {
    let setup = Setup::start(&[]).await;
    let id = uploaded(&setup).await;
    let endpoint = setup.stand.storage_settings.endpoint.clone();
    let (relayed, relay) = losing_answers_to(COPY, endpoint.as_str()).await;
    let (server, client) = setup.another(&through(&relayed, endpoint.as_str())).await;

    let linked = client.link_profile(&id).await.unwrap();
    assert_eq!(linked.status, 201, "{}", linked.json);
    assert!(relay.said() > 0);
    server.wait_for_log(|line| line.contains("the answer to a copy was lost")).await.unwrap();
    assert_eq!(setup.client.download(&id).await.unwrap().body, samples::of_format(ImageFormat::Jpeg, 5));
    assert_eq!(setup.keys("media/").await.len(), 1);
}

#[tokio::test]
async fn a_copy_that_may_be_left_is_named_until_a_sweep_and_in_nobodys_way() {
    let setup = Setup::start(&[]).await;
    let id = uploaded(&setup).await;
    // The lost answers are those to the copy, to the check whether it exists, and to its deletion.
    let endpoint = setup.stand.storage_settings.endpoint.clone();
    let (relayed, _relay) = losing_answers_to("/media/", endpoint.as_str()).await;
    let (server, client) = setup.another(&through(&relayed, endpoint.as_str())).await;

    let failed = client.link_profile(&id).await.unwrap();
    assert_eq!(failed.status, 503, "{}", failed.json);
    server.wait_for_log(|line| line.contains("a sweep will delete it")).await.unwrap();
    let named = setup.stand.sql("SELECT key FROM image_attempt").await.unwrap();
    // Whether or not the copy was deleted, another link makes its own copy.
    setup.client.link_profile(&id).await.unwrap().expect_status(201).unwrap();
    assert_eq!(setup.stand.sql("SELECT key FROM image_attempt").await.unwrap(), named);
    assert_eq!(named.len(), 1);
    setup.stand.storage.put(named[0][0].as_ref().unwrap(), "image/jpeg", "late".into()).await.unwrap();
    assert_eq!(setup.keys("media/").await.len(), 2);
    assert_eq!(setup.stand.sweep_attempts().await.unwrap(), 1);
    assert_eq!(setup.keys("media/").await.len(), 1);
    assert_eq!(setup.client.download(&id).await.unwrap().body, samples::of_format(ImageFormat::Jpeg, 5));
}

#[tokio::test]
async fn a_commit_that_fails_leaves_no_copy_and_a_linkable_image() {
    let setup = Setup::start(&[]).await;
    let id = uploaded(&setup).await;
    // Postgres itself refuses, as it would on a full disk.
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON user_profile_image FOR EACH ROW EXECUTE FUNCTION refuse()";
    setup.stand.sql(refuse).await.unwrap();
    let failed = setup.client.link_profile(&id).await.unwrap();
    assert_eq!(failed.refusal(), (500, "internal_error"), "{}", failed.json);
    assert!(!failed.json.to_string().contains("no room"), "the log's, not the client's: {}", failed.json);
    setup.server.wait_for_log(|line| line.contains("no room")).await.unwrap();
    assert_eq!(setup.keys("media/").await, Vec::<String>::new());
    assert_eq!(setup.keys("incoming/").await.len(), 1);

    setup.stand.sql("DROP TRIGGER refuse ON user_profile_image").await.unwrap();
    setup.client.link_profile(&id).await.unwrap().expect_status(201).unwrap();
}

#[tokio::test]
async fn a_post_whose_images_are_not_all_there_leaves_the_others_linkable() {
    let setup = Setup::start(&[]).await;
    let mut ids = Vec::new();
    for seed in 0..3 {
        let image = samples::of_format(ImageFormat::Png, seed);
        ids.push(setup.client.create_and_upload(ImagePath::Post, ImageFormat::Png, image).await.unwrap());
    }
    let missing = setup.client.create_image(ImagePath::Post, ImageFormat::Png).await.unwrap().image_id().to_owned();
    let all = [&ids[2], &missing, &ids[0], &ids[1]];
    let refused = setup.client.create_post("title", "", &all).await.unwrap();
    assert_eq!(refused.refusal(), (409, "not_uploaded"), "{}", refused.json);
    assert_eq!(refused.json["imageEntityId"], missing);
    assert_eq!(setup.keys("media/").await, Vec::<String>::new());
    assert_eq!(setup.stand.count("post").await.unwrap(), 0);
    assert_eq!(setup.stand.count("image WHERE attempt_until IS NOT NULL").await.unwrap(), 0);

    let order = [&ids[2], &ids[0], &ids[1]];
    let created = setup.client.create_post("title", "", &order).await.unwrap().expect_status(201).unwrap();
    let shown: Vec<&str> = created.json["post"]["postImages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["imageEntity"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(shown, order);
}

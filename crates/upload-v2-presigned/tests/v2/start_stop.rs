//! Exit codes, and the work that a server finishes before it stops.

use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use upload_domain::{ImageFormat, ImagePath, UserId};
use upload_sandbox::{Stand, client::Answer, samples};

use crate::Setup;

#[tokio::test]
async fn a_server_says_where_it_listens_and_stops_cleanly() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut setup = Setup::start(&[]).await;
        assert_eq!(setup.client.get("/health/live").await.unwrap().status, 200);
        let ready = setup.client.get("/health/ready").await.unwrap();
        assert_eq!(ready.status, 200, "{}", ready.json);
        setup.server.signal(signal);
        assert_eq!(setup.server.wait().await.unwrap().code(), Some(0), "{:?}", setup.server.log());
        assert_eq!(setup.server.stdout(), [format!("listening on {}", setup.server.url)]);
    }
}

#[tokio::test]
async fn a_link_between_copy_and_commit_is_finished_after_sigterm() {
    let mut setup = Setup::start(&[]).await;
    let (link, lock) = link_up_to_the_commit(&setup).await;
    assert_eq!(setup.keys("media/").await.len(), 1, "the copy is made, the commit is not");

    setup.server.ask_to_stop();
    setup.server.wait_for_log(|line| line.contains("SIGTERM")).await.unwrap();
    lock.release().await;

    let answer = link.await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.json);
    assert_eq!(setup.server.wait().await.unwrap().code(), Some(0), "{:?}", setup.server.log());
    assert_eq!(setup.stand.count("image WHERE linked_at IS NOT NULL").await.unwrap(), 1);
    assert_eq!(setup.keys("media/").await.len(), 1);
}

#[tokio::test]
async fn a_link_that_outlasts_the_limit_by_a_little_is_finished_in_the_background() {
    let mut setup = Setup::start(&[("SHUTDOWN_TIMEOUT", "0")]).await;
    let (link, lock) = link_up_to_the_commit(&setup).await;

    setup.server.ask_to_stop();
    let answer = link.await.unwrap();
    assert_eq!(answer.refusal(), (503, "shutting_down"), "{}", answer.json);
    assert_ne!(answer.header("retry-after"), "");
    lock.release().await;

    assert_eq!(setup.server.wait().await.unwrap().code(), Some(0), "{:?}", setup.server.log());
    assert_eq!(setup.stand.count("user_profile_image").await.unwrap(), 1, "the link was not lost");
}

#[tokio::test]
async fn a_link_that_never_ends_is_cut_off_with_code_3() {
    let long = [("SHUTDOWN_TIMEOUT", "0"), ("DATABASE_STATEMENT_TIMEOUT_MS", "60000")];
    let mut setup = Setup::start(&long).await;
    let (link, lock) = link_up_to_the_commit(&setup).await;

    setup.server.ask_to_stop();
    assert_eq!(link.await.unwrap().refusal(), (503, "shutting_down"));
    assert_eq!(setup.server.wait().await.unwrap().code(), Some(3), "{:?}", setup.server.log());
    let log = setup.server.log();
    assert!(
        log.iter()
            .any(|line| line.contains("stopped after SHUTDOWN_TIMEOUT; links or other background work did not finish")),
        "{log:?}"
    );
    lock.release().await;
}

/// Uploads an image and sends its link, which then waits for a lock before its commit.
async fn link_up_to_the_commit(setup: &Setup) -> (JoinHandle<Answer>, UserLock) {
    let image = samples::of_format(ImageFormat::Png, 1);
    let id = setup.client.create_and_upload(ImagePath::UserProfile, ImageFormat::Png, image).await.unwrap();
    let lock = UserLock::take(&setup.stand, setup.member.id).await;
    let client = setup.client.clone();
    let link = tokio::spawn(async move { client.link_profile(&id).await.unwrap() });
    lock.wait_until_someone_waits().await;
    (link, lock)
}

/// A lock on a user's row. A link waits for it after the copy; no earlier step does.
struct UserLock {
    stand_url: String,
    client: tokio_postgres::Client,
    driver: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl UserLock {
    async fn take(stand: &Stand, user: UserId) -> Self {
        let (client, driver) = tokio_postgres::connect(&stand.database_url, tokio_postgres::NoTls).await.unwrap();
        let driver = tokio::spawn(driver);
        client.batch_execute(&format!("BEGIN; SELECT FROM \"user\" WHERE id = '{user}' FOR UPDATE")).await.unwrap();
        Self { stand_url: stand.database_url.clone(), client, driver }
    }

    /// Asks Postgres again and again, because Postgres cannot report a waiter by itself.
    async fn wait_until_someone_waits(&self) {
        let (client, driver) = tokio_postgres::connect(&self.stand_url, tokio_postgres::NoTls).await.unwrap();
        let driver = tokio::spawn(driver);
        let waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while client.query(waiting, &[]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(client);
        driver.await.unwrap().unwrap();
    }

    async fn release(self) {
        drop(self.client);
        self.driver.await.unwrap().unwrap();
    }
}

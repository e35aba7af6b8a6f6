//! V1 and V2 count one user's requests together, in a real Redis.

use reqwest::Method;
use upload_domain::Role;
use upload_sandbox::{
    Sandbox,
    client::{Answer, Client},
    redis::Redis,
    relay::{Mode, Relay},
};

use crate::proxied::{metric, serve, until};

#[tokio::test]
async fn both_servers_share_a_limit_and_lose_it_only_while_redis_is_away() {
    let stand = Sandbox::shared().await.stand().await;
    let Some(mut redis) = Redis::start(&stand).await.unwrap() else { return };
    let settings = [("RATE_LIMIT_PER_USER", "4"), ("REDIS_URL", redis.url.as_str())];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let servers = [serve("v1", &stand, &settings).await, serve("v2", &stand, &settings).await];
    let user = stand.add_person(Role::User).await.unwrap();
    let clients = servers.each_ref().map(|server| Client::new(&server.url, &user.token).unwrap());
    for request in 0..4 {
        clients[request % 2].me().await.unwrap().expect_status(200).unwrap();
    }
    for client in &clients {
        let refused = client.me().await.unwrap();
        assert_eq!(refused.refusal(), (429, "rate_limited"));
        let seconds: u32 = refused.header("retry-after").parse().unwrap();
        assert!((1..=15).contains(&seconds), "one request passes every 15 s: {seconds}");
    }
    let other = stand.add_person(Role::User).await.unwrap();
    Client::new(&servers[0].url, &other.token).unwrap().me().await.unwrap().expect_status(200).unwrap();
    for server in &servers {
        assert_eq!(metric(server, "rate_limit_failures_total").await, 0);
    }

    redis.stop();
    for _request in 0..5 {
        clients[0].me().await.unwrap().expect_status(200).unwrap();
    }
    assert!(metric(&servers[0], "rate_limit_failures_total").await >= 5);

    redis.restart(&stand).await.unwrap();
    // A refusal is not counted, so the four places are taken, and the limit is there again.
    until(async || clients[0].me().await.unwrap().refusal() == (429, "rate_limited")).await;
}

/// The one side of a connection may be gone without the other hearing of it.
#[tokio::test]
async fn a_connection_to_redis_that_goes_silent_is_replaced_and_meanwhile_nobody_waits() {
    let stand = Sandbox::shared().await.stand().await;
    let Some(redis) = Redis::start(&stand).await.unwrap() else { return };
    let (url, relay) = Relay::before(&redis.url).await.unwrap();
    let settings = [("RATE_LIMIT_PER_USER", "4"), ("RATE_LIMIT_PER_ADDRESS", "1000"), ("REDIS_URL", url.as_str())];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let server = serve("v2", &stand, &settings).await;
    let (lost, user) = (stand.add_person(Role::User).await.unwrap(), stand.add_person(Role::User).await.unwrap());
    let [lost_client, client] = [&lost, &user].map(|person| Client::new(&server.url, &person.token).unwrap());
    // The first request connects, and makes the script known.
    client.me().await.unwrap().expect_status(200).unwrap();
    let before = relay.passed();
    client.me().await.unwrap().expect_status(200).unwrap();
    let one = relay.passed().since(before).requested_bytes;

    // From this request on, the connection brings no answer. Another one does.
    relay.set(Mode::HoldAnswersTo(lost.id.to_string().leak()));
    let before = relay.passed();
    for _request in 0..20 {
        lost_client.me().await.unwrap().expect_status(200).unwrap();
    }
    let asked = relay.passed().since(before).requested_bytes;
    assert!(asked < 10 * one, "most of the 20 requests pass without asking Redis: {asked} bytes, and one takes {one}");
    assert!(metric(&server, "rate_limit_failures_total").await >= 20);
    until(async || client.me().await.unwrap().refusal() == (429, "rate_limited")).await;
}

#[tokio::test]
async fn a_caller_is_checked_before_the_body_is_read() {
    let stand = Sandbox::shared().await.stand().await;
    let Some(redis) = Redis::start(&stand).await.unwrap() else { return };
    let settings =
        [("RATE_LIMIT_PER_USER", "1"), ("RATE_LIMIT_PER_ADDRESS", "1000"), ("REDIS_URL", redis.url.as_str())];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for name in ["v1", "v2"] {
        let server = serve(name, &stand, &settings).await;
        let user = stand.add_person(Role::User).await.unwrap();
        let user = Client::new(&server.url, &user.token).unwrap();
        user.me().await.unwrap().expect_status(200).unwrap();
        let stranger = Client::new(&server.url, "no.token.at-all").unwrap();
        for path in ["/user/images", "/user/posts", "/user/users/profile-image", "/admin/competitions"] {
            // Each body is a reason to refuse the request, and it is there before Redis answers.
            let send = async |client: &Client| -> Answer {
                let request = client.request(Method::POST, path).header("content-type", "application/json").body("{");
                client.send(request).await.unwrap()
            };
            assert_eq!(send(&user).await.refusal(), (429, "rate_limited"), "{path}");
            assert_eq!(send(&stranger).await.refusal(), (401, "invalid_token"), "{path}");
        }
    }
}

//! V1 and V2 count one user's requests together, in a real Redis.

use upload_domain::Role;
use upload_sandbox::{Sandbox, client::Client, redis::Redis};

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

//! How many requests one user and one address may make in a minute.

use std::net::TcpListener;

use anyhow::Result;
use reqwest::header::HeaderName;
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::{client::Client, port};

use super::{
    routes::Household,
    subject::{Strategy, Subject, assert_refused, picture},
};

const LIMITED: (u16, &str) = (429, "rate_limited");
/// The address that a proxy says a request comes from.
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

pub(super) async fn a_user_has_a_limit_on_every_route_with_a_caller(subject: &mut Subject) -> Result<()> {
    let household = Household::new(subject).await?;
    let before = subject.kept().await?;
    let other = subject.user().await?;
    let url = subject.add_server(&[("RATE_LIMIT_PER_USER", "2")]).await?;
    let user = household.admin.client.at(&url);
    for _request in 0..2 {
        user.me().await?.expect_status(200)?;
    }
    for call in household.calls() {
        let answer = call.send(&user).await?;
        if call.caller {
            assert_refused(&call.path, &answer, LIMITED);
        } else {
            assert_ne!(answer.status, 429, "{}", call.path);
        }
    }
    if subject.strategy == Strategy::Streaming {
        let streamed = user.stream(ImagePath::UserProfile, ImageFormat::Png, picture(1)).await?;
        assert_refused("the stream route", &streamed, LIMITED);
    }
    assert_eq!(subject.kept().await?, before);
    // Nobody else is affected, nor is the same user on a server without a limit.
    other.client.at(&url).me().await?.expect_status(200)?;
    household.admin.me().await?.expect_status(200)?;
    Ok(())
}

pub(super) async fn an_address_has_a_limit_whatever_its_tokens_are(subject: &mut Subject) -> Result<()> {
    let (user, other) = (subject.user().await?, subject.user().await?);
    let url = subject.add_server(&[("RATE_LIMIT_PER_ADDRESS", "2"), ("TRUSTED_PROXIES", "127.0.0.1")]).await?;
    let from = async |client: &Client, address: &str| {
        let client = client.at(&url);
        let request = client.request(reqwest::Method::GET, "/user/users/me").header(FORWARDED, address);
        client.send(request).await
    };
    let stranger = subject.anybody()?;
    assert_refused("without a token", &from(&stranger, "192.0.2.1").await?, (401, "invalid_token"));
    from(&user, "192.0.2.1").await?.expect_status(200)?;
    assert_refused("a third request", &from(&other, "192.0.2.1").await?, LIMITED);
    assert_refused("without a token", &from(&stranger, "192.0.2.1").await?, LIMITED);
    from(&user, "192.0.2.2").await?.expect_status(200)?;
    // A network of IPv6 is one address.
    from(&user, "2001:db8::1").await?.expect_status(200)?;
    from(&user, "2001:db8::2").await?.expect_status(200)?;
    assert_refused("a third request", &from(&user, "2001:db8::3").await?, LIMITED);
    Ok(())
}

pub(super) async fn without_redis_requests_pass_and_are_counted(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    // Nobody listens at the first one. The second accepts connections, and says nothing.
    let (nobody, silent) = (port::reserve()?, TcpListener::bind(("127.0.0.1", 0))?);
    for port in [nobody, silent.local_addr()?.port()] {
        let redis = format!("redis://:a-password@127.0.0.1:{port}/0");
        let limits = [("RATE_LIMIT_PER_USER", "1"), ("RATE_LIMIT_PER_ADDRESS", "1"), ("REDIS_URL", redis.as_str())];
        let url = subject.add_server(&limits).await?;
        let client = user.client.at(&url);
        for _request in 0..3 {
            client.me().await?.expect_status(200)?;
        }
        let metrics = client.get("/metrics").await?.expect_status(200)?;
        let text = std::str::from_utf8(&metrics.body)?;
        let counted = text.lines().find_map(|line| line.strip_prefix("rate_limit_failures_total "));
        assert_eq!(counted, Some("3"), "{text}");
        subject.server()?.wait_for_log(|line| line.contains("requests pass without rate limits")).await?;
        let log = subject.server()?.log();
        let told = log.iter().filter(|line| line.contains("requests pass without rate limits")).count();
        assert_eq!(told, 1, "once, not for each request");
        assert!(!log.iter().any(|line| line.contains("a-password")), "a password in the log");
    }
    Ok(())
}

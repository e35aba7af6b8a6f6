//! Latencies include every wait. The assertions are lower bounds, which also hold on a busy machine.

use std::time::Duration;

use upload_bench::{
    latency,
    load::{FormMethod, Options, Outcome, Pattern},
    record::Line,
};

use super::{
    burst, form, once, run,
    server::{Server, status, uploaded},
    small,
};

fn latencies_from(outcome: &Outcome, at_least: Duration) -> u64 {
    let latencies = latency::decode(&outcome.load.histogram).unwrap();
    // The histogram keeps three digits.
    latencies.count_between(at_least.as_micros() as u64 * 999 / 1000, u64::MAX)
}

/// No coordinated omission: images do not wait for earlier ones.
#[tokio::test]
async fn at_a_constant_rate_a_delay_of_the_server_is_in_all_latencies() {
    let (images, every) = (40, Duration::from_millis(5));
    let server = Server::start(move |arrived| async move {
        arrived.arrivals(images.into()).await;
        let number = arrived.number;
        arrived.read().await?;
        Ok(uploaded(number))
    })
    .await;
    let options = Options { pattern: Pattern::Open { images, per_second: 1.0 / every.as_secs_f64() }, ..burst(0) };
    let outcome = run(&once(&server.url), &small(), &options).await;
    assert_eq!(outcome.load.successes, 40);
    // The last image is due 195 ms after the first, and no answer comes before: image i waits at least (39 - i) * 5 ms.
    assert!(latencies_from(&outcome, every * 20) >= 20, "{:?}", outcome.load);
    assert!(latencies_from(&outcome, every * 39) >= 1, "{:?}", outcome.load);
    assert!(outcome.load.makespan_ms >= 195.0);
}

#[tokio::test]
async fn the_clients_of_a_paced_run_are_no_faster_than_their_line() {
    let server = Server::of_images(None).await;
    let line = Line { bytes_per_second: Some(100_000), rtt_ms: 0 };
    let outcome = run(&form(&server, FormMethod::Post, true), &small(), &Options { line, ..burst(4) }).await;
    assert_eq!((outcome.load.successes, outcome.load.bytes_to_server), (4, server.bytes_read()));
    // 20,000 bytes. The first tenth of a second's worth may be sent at once.
    assert_eq!(latencies_from(&outcome, Duration::from_millis(100)), 4);
}

#[tokio::test]
async fn a_round_trip_is_added_to_every_connection_and_to_every_request() {
    let store = Server::start(|arrived| async move { arrived.read().await.map(|_| status(200)) }).await;
    let server = Server::of_images(Some(store.url.clone())).await;
    let line = Line { bytes_per_second: None, rtt_ms: 40 };
    let outcome = run(&form(&server, FormMethod::Put, true), &small(), &Options { line, ..burst(3) }).await;
    assert_eq!((outcome.load.successes, outcome.load.bytes_to_store), (3, store.bytes_read()));
    // Two connections and three requests.
    assert_eq!(latencies_from(&outcome, Duration::from_millis(5 * 40)), 3);
}

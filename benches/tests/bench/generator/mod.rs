//! The generator's counts, compared with those of a server of known behaviour.

mod command;
mod rates;
mod server;

use std::{collections::BTreeMap, future::pending, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;
use upload_bench::{
    latency,
    load::{self, Caller, Flow, FormMethod, Options, Outcome, Pattern, PreparedForm, Progress, Role, stalled},
    payload::Payload,
    record::{Line, Step},
};
use upload_sandbox::port;
use url::Url;

use server::{Server, overloaded, status, text, uploaded};

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(120);

fn burst(images: u32) -> Options {
    Options { pattern: Pattern::Burst { images }, line: Line::default(), retry: false, request_timeout: LONG }
}

fn form(server: &Server, method: FormMethod, link: bool) -> Flow {
    Flow::Form { server: server.url.clone(), method, link }
}

fn once(url: &Url) -> Flow {
    let fields = vec![("path".to_owned(), "user-profile".to_owned())];
    Flow::Multipart { url: url.join("/user/images/upload").unwrap(), fields, file_field: "file".to_owned() }
}

fn callers(count: usize) -> Vec<Caller> {
    (0..count).map(|number| Caller { token: format!("token-{number}") }).collect()
}

fn small() -> Payload {
    Payload::jpeg(20_000, 1)
}

async fn run(flow: &Flow, payload: &Payload, options: &Options) -> Outcome {
    load::run(flow, &callers(2), payload, options, &Progress::new(), CancellationToken::new()).await.unwrap()
}

fn failures<const COUNT: usize>(classes: [(&str, u64); COUNT]) -> BTreeMap<String, u64> {
    classes.map(|(class, count)| (class.to_owned(), count)).into()
}

#[tokio::test]
async fn a_linked_image_is_three_requests_on_one_connection_and_every_byte_is_counted() {
    let server = Server::of_images(None).await;
    let payload = small();
    let outcome = run(&form(&server, FormMethod::Post, true), &payload, &burst(8)).await;
    let load = &outcome.load;
    assert_eq!((load.successes, load.requests, load.retries), (8, 24, 0));
    assert_eq!(load.failures, failures([]));
    assert_eq!((server.connections(), server.requests()), (8, 24));
    assert_eq!(load.bytes_to_server, server.bytes_read());
    server.has_written(load.bytes_from_server).await;
    assert_eq!((load.bytes_to_store, load.bytes_from_store), (0, 0));
    assert!(load.makespan_ms > 0.0);
    let latencies = latency::decode(&load.histogram).unwrap();
    assert_eq!(latencies.len(), 8);
    let steps: Vec<_> =
        load.steps.iter().map(|(step, latencies)| (*step, latency::decode(latencies).unwrap())).collect();
    assert_eq!(
        steps.iter().map(|(step, _latencies)| *step).collect::<Vec<_>>(),
        [Step::Create, Step::Upload, Step::Link]
    );
    assert!(steps.iter().all(|(_step, of_step)| of_step.len() == 8 && of_step.max() <= latencies.max()));
    // Together, the steps take as long as the image. Each value is exact to a thousandth.
    let sum: f64 = steps.iter().map(|(_step, latencies)| latencies.mean()).sum();
    assert!((sum / latencies.mean() - 1.0).abs() < 0.01, "{sum} is not {}", latencies.mean());
    assert_eq!(outcome.hung, None);

    let wished: serde_json::Value = serde_json::from_slice(&server.read("/user/images")[0].body).unwrap();
    let expected = serde_json::json!({ "path": "user-profile", "format": "image/jpeg", "byteSize": 20_000 });
    assert_eq!(wished, expected);
    let mut linked: Vec<String> = server.read("/user/users/profile-image").iter().map(|link| link.text()).collect();
    let mut answered: Vec<String> = outcome.images.iter().map(|id| format!(r#"{{"imageEntityId":"{id}"}}"#)).collect();
    linked.sort_unstable();
    answered.sort_unstable();
    assert_eq!(linked, answered);
    for upload in server.read("/bucket") {
        let text = upload.text();
        assert!(text.find("name=\"key\"").unwrap() < text.find("name=\"bucket\"").unwrap());
        assert!(text.find("name=\"bucket\"").unwrap() < text.find("name=\"file\"; filename=\"image.jpg\"").unwrap());
        assert!(upload.body.windows(payload.file.len()).any(|window| window == payload.file));
        assert!(!upload.headers.contains_key("authorization"), "a form needs no token, and a store must not see one");
    }
}

#[tokio::test]
async fn callers_take_turns() {
    let server = Server::of_images(None).await;
    run(&form(&server, FormMethod::Post, true), &small(), &burst(6)).await;
    for path in ["/user/images", "/user/users/profile-image"] {
        for token in ["Bearer token-0", "Bearer token-1"] {
            let shown = server.read(path).iter().filter(|read| read.headers["authorization"] == token).count();
            assert_eq!(shown, 3, "{token} at {path}");
        }
    }
}

#[tokio::test]
async fn a_form_that_leads_to_a_store_is_put_there_on_a_connection_of_its_own() {
    let store = Server::start(|arrived| async move { arrived.read().await.map(|_| status(200)) }).await;
    let server = Server::of_images(Some(store.url.clone())).await;
    let payload = small();
    let outcome = run(&form(&server, FormMethod::Put, true), &payload, &burst(5)).await;
    let load = &outcome.load;
    assert_eq!((load.successes, load.requests), (5, 15));
    assert_eq!((server.connections(), server.requests()), (5, 10));
    assert_eq!((store.connections(), store.requests()), (5, 5));
    assert_eq!((load.bytes_to_server, load.bytes_to_store), (server.bytes_read(), store.bytes_read()));
    server.has_written(load.bytes_from_server).await;
    store.has_written(load.bytes_from_store).await;
    for put in store.read("/object") {
        assert_eq!((put.method.as_str(), &put.body), ("PUT", &payload.file));
        assert_eq!(put.headers["content-type"], "image/jpeg");
    }
}

#[tokio::test]
async fn an_image_that_is_not_linked_is_two_requests() {
    let server = Server::of_images(None).await;
    let outcome = run(&form(&server, FormMethod::Post, false), &small(), &burst(4)).await;
    assert_eq!((outcome.load.successes, outcome.load.requests), (4, 8));
    assert!(server.read("/user/users/profile-image").is_empty());
}

#[tokio::test]
async fn prepared_forms_go_to_the_store_and_their_keys_are_what_succeeded() {
    let store = Server::start(|arrived| async move { arrived.read().await.map(|_| status(204)) }).await;
    let url = store.url.join("/bucket").unwrap();
    let forms = ["a", "b", "c"].map(|key| {
        let fields = vec![("key".to_owned(), key.to_owned()), ("policy".to_owned(), "p".to_owned())];
        PreparedForm { key: key.to_owned(), fields }
    });
    let flow = Flow::Prepared { url, to: Role::Store, forms: forms.into() };
    let mut outcome = run(&flow, &small(), &burst(3)).await;
    outcome.images.sort_unstable();
    assert_eq!(outcome.images, ["a", "b", "c"]);
    assert_eq!((outcome.load.bytes_to_store, outcome.load.bytes_to_server), (store.bytes_read(), 0));

    let run = load::run(&flow, &[], &small(), &burst(4), &Progress::new(), CancellationToken::new()).await;
    assert!(run.is_err_and(|error| error.to_string().contains("3 prepared forms for 4 images")));
}

#[tokio::test]
async fn failures_are_counted_by_class_and_beside_successes() {
    let server = Server::start(|arrived| async move {
        let number = arrived.number;
        arrived.read().await?;
        match number {
            1..=4 => Ok(uploaded(number)),
            5..=7 => Ok(overloaded(Some("5"))),
            8..=9 => Ok(text(403, "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>")),
            10 => Ok(text(502, "<html>Bad Gateway</html>")),
            11 => Ok(text(201, "no JSON")),
            12 => Ok(text(201, "x".repeat(100_000))),
            _ => Err("broken off"),
        }
    })
    .await;
    let outcome = run(&once(&server.url), &small(), &burst(15)).await;
    let expected =
        [("503 overloaded", 3), ("403 AccessDenied", 2), ("502", 1), ("unreadable answer", 2), ("connection", 3)];
    assert_eq!(outcome.load.failures, failures(expected));
    assert_eq!((outcome.load.successes, outcome.load.requests, outcome.load.retries), (4, 15, 0));
    assert_eq!(latency::decode(&outcome.load.histogram).unwrap().len(), 4);
    assert_eq!(outcome.load.bytes_to_server, server.bytes_read());
}

#[tokio::test]
async fn a_step_that_fails_ends_its_image() {
    let server = Server::start(|arrived| async move {
        arrived.read().await?;
        Ok(text(401, r#"{"code":"invalid_token"}"#))
    })
    .await;
    let outcome = run(&form(&server, FormMethod::Post, true), &small(), &burst(3)).await;
    assert_eq!(outcome.load.failures, failures([("401 invalid_token", 3)]));
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_refused_connection_is_a_failure_of_its_class() {
    let url = format!("http://127.0.0.1:{}", port::reserve().unwrap()).parse().unwrap();
    let outcome = run(&once(&url), &small(), &burst(6)).await;
    assert_eq!(outcome.load.failures, failures([("connection", 6)]));
    assert_eq!((outcome.load.requests, outcome.load.bytes_to_server), (0, 0));
}

/// The server closes with most of the file unread, so that the kernel answers the rest of it with a reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_comes_while_the_file_is_still_being_sent_is_the_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let refusing = tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tcp.read_exact(&mut [0; 100]).await.unwrap();
            let body = r#"{"code":"overloaded"}"#;
            let head = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\n\r\n", body.len());
            tcp.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    });
    let images = 40;
    let outcome = run(&once(&url), &Payload::jpeg(5_000_000, 1), &burst(images)).await;
    assert_eq!(outcome.load.failures, failures([("503 overloaded", images.into())]));
    assert!(outcome.load.bytes_to_server < u64::from(images) * 5_000_000);
    refusing.abort();
}

#[tokio::test]
async fn retry_after_is_followed_where_that_is_asked_for_and_counted_apart() {
    let busy_at_first = |arrived: server::Arrived| async move {
        let number = arrived.number;
        arrived.read().await?;
        Ok(if number <= 3 { overloaded(Some("0")) } else { uploaded(number) })
    };
    let server = Server::start(busy_at_first).await;
    let outcome = run(&once(&server.url), &small(), &Options { retry: true, ..burst(4) }).await;
    assert_eq!((outcome.load.successes, outcome.load.requests, outcome.load.retries), (4, 7, 3));
    assert_eq!(server.requests(), 7);

    let server = Server::start(busy_at_first).await;
    let outcome = run(&once(&server.url), &small(), &burst(4)).await;
    assert_eq!((outcome.load.successes, outcome.load.requests, outcome.load.retries), (1, 4, 0));
    assert_eq!(outcome.load.failures, failures([("503 overloaded", 3)]));
}

#[tokio::test]
async fn a_server_that_stays_busy_is_not_asked_for_ever() {
    let server = Server::start(|_| async { Ok(overloaded(Some("0"))) }).await;
    let outcome = run(&once(&server.url), &small(), &Options { retry: true, ..burst(2) }).await;
    assert_eq!(outcome.load.failures, failures([("503 overloaded", 2)]));
    assert_eq!((outcome.load.requests, outcome.load.retries), (42, 40));

    // A client does not wait longer than its request may take.
    let server = Server::start(|_| async { Ok(overloaded(Some("86400"))) }).await;
    let outcome = run(&once(&server.url), &small(), &Options { retry: true, ..burst(2) }).await;
    assert_eq!((outcome.load.requests, outcome.load.retries), (2, 0));
}

#[tokio::test]
async fn a_request_without_an_answer_is_a_timeout() {
    let server = Server::start(|_| pending()).await;
    let options = Options { request_timeout: Duration::from_millis(50), ..burst(3) };
    let outcome = run(&once(&server.url), &small(), &options).await;
    assert_eq!(outcome.load.failures, failures([("timeout", 3)]));
}

#[tokio::test]
async fn a_run_that_is_ended_returns_what_was_measured_and_gives_the_rest_up() {
    let server = Server::start(|arrived| async move {
        let number = arrived.number;
        arrived.arrivals(8).await;
        if number > 3 {
            pending::<()>().await;
        }
        arrived.read().await?;
        Ok(uploaded(number))
    })
    .await;
    let (progress, stop) = (Progress::new(), CancellationToken::new());
    let (flow, payload, options) = (once(&server.url), small(), burst(8));
    let loading = load::run(&flow, &[], &payload, &options, &progress, stop.clone());
    let watching = async {
        while progress.done() < 3 {
            tokio::task::yield_now().await;
        }
        let idle = stalled(std::slice::from_ref(&progress), Duration::from_millis(50)).await;
        stop.cancel();
        idle
    };
    let (outcome, idle) = tokio::join!(loading, watching);
    let outcome = outcome.unwrap();
    assert_eq!((outcome.load.successes, outcome.load.failures), (3, failures([("given up", 5)])));
    assert_eq!(latency::decode(&outcome.load.histogram).unwrap().len(), 3);
    assert!(outcome.hung.is_some_and(|hung| hung >= idle), "{:?}", outcome.hung);
    assert_eq!(progress.done(), 3);
}

#[tokio::test]
async fn a_run_that_is_ended_before_it_begins_sends_nothing() {
    let server = Server::of_images(None).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let flow = once(&server.url);
    let outcome = load::run(&flow, &[], &small(), &burst(3), &Progress::new(), stop).await.unwrap();
    assert_eq!(outcome.load.failures, failures([("given up", 3)]));
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn what_cannot_be_loaded_is_refused_before_anything_is_sent() {
    let url: Url = "https://127.0.0.1:1".parse().unwrap();
    let error = |flow: Flow, options: Options| async move {
        let run = load::run(&flow, &[], &small(), &options, &Progress::new(), CancellationToken::new()).await;
        run.unwrap_err().to_string()
    };
    assert!(error(once(&url), burst(1)).await.contains("only plain http"));
    let http: Url = "http://127.0.0.1:1".parse().unwrap();
    for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let pattern = Pattern::Open { images: 1, per_second };
        assert!(error(once(&http), Options { pattern, ..burst(0) }).await.contains("images a second"));
    }
}

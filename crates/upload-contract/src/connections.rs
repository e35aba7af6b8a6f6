//! Connections on which the client stops sending, at every point where it can. The server ends each after its time, and other clients
//! notice nothing. Only a client whose body the server waits for needs a token.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{future::try_join_all, stream};
use reqwest::{Body, Method};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::{
    client::{Answer, Client},
    process::raise_file_limit,
};
use url::Url;

use super::{
    routes::Household,
    subject::{Member, Strategy, Subject, assert_refused, picture},
    wire::{self, Then},
};

/// How long the test waits for the end of a connection whose time is ten seconds at most. It is long enough for a slow machine. (An
/// idle connection may stay for 75 s, and an unread answer for 30.)
const PATIENCE: Duration = Duration::from_secs(60);
/// More than both kernels' buffers can hold: if a client can send that much, the server reads without end.
const FOR_EVER_BYTES: usize = 64 << 20;
/// How many connections are still at the same time.
const MANY: usize = 2_000;

/// The beginning of a body that is not complete.
const FIRST_CHUNK: &[u8] = b"10\r\n0123456789abcdef\r\n";
const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A connection, as bytes.
struct Raw(TcpStream);

impl Raw {
    async fn connect(url: &str) -> Result<Self> {
        Ok(Self(TcpStream::connect(wire::authority(&Url::parse(url)?)?).await?))
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes).await?)
    }

    async fn answer(&mut self) -> Result<Answer> {
        let answer = timeout(PATIENCE, wire::read_answer(&mut self.0)).await.context("no answer comes")??;
        answer.context("the server closes without an answer")
    }

    /// Waits until the server ends the connection, and returns all bytes that came until then.
    async fn until_closed(mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        // An error is an end, too.
        let ended = timeout(PATIENCE, async { while self.0.read_buf(&mut rest).await.is_ok_and(|bytes| bytes > 0) {} });
        ended.await.context("the connection is still open after a minute")?;
        Ok(rest)
    }
}

pub(super) async fn a_head_that_does_not_end_is_given_up(subject: &mut Subject) -> Result<()> {
    let url = subject.url();
    let live = wire::request("GET", &format!("{url}/health/live"), &[], b"")?;
    let nothing = async {
        let rest = Raw::connect(url).await?.until_closed().await.context("nothing was sent")?;
        ensure!(rest.is_empty(), "nobody asked: {}", String::from_utf8_lossy(&rest));
        anyhow::Ok(())
    };
    // The first request's head, and a head after an answer, for which actix runs no timer.
    let halves = [false, true].map(async |after_an_answer| {
        let mut raw = Raw::connect(url).await?;
        if after_an_answer {
            raw.send(&live).await?;
            raw.answer().await?.expect_status(200)?;
        }
        raw.send(b"G").await?;
        let what = format!("one byte of a head, after an answer: {after_an_answer}");
        let rest = String::from_utf8(raw.until_closed().await.context(what.clone())?)?;
        ensure!(rest.starts_with("HTTP/1.1 408 "), "{what}: {rest:?}");
        ensure!(rest.contains("connection: close\r\n") && rest.ends_with("\r\n\r\n"), "{what}: {rest:?}");
        anyhow::Ok(())
    });
    futures::try_join!(nothing, try_join_all(halves))?;
    subject.assert_goes_on().await
}

pub(super) async fn a_json_body_that_does_not_come_is_given_up(subject: &mut Subject) -> Result<()> {
    let household = Household::new(subject).await?;
    let bearer = format!("Bearer {}", household.admin.token);
    let calls = household.calls().into_iter().filter(|call| call.body.is_some());
    // A Content-Length that is too long, and chunks without an end.
    let calls = calls
        .flat_map(|call| [(call.clone(), ("Content-Length", "100"), b"{".as_slice()), (call, CHUNKED, FIRST_CHUNK)]);
    let calls: Vec<_> = calls.collect();
    ensure!(calls.len() == 10, "{} JSON routes", calls.len() / 2);
    try_join_all(calls.into_iter().map(|(call, length, body)| {
        let (bearer, url) = (&bearer, format!("{}{}", subject.url(), call.path));
        async move {
            let headers = [("Authorization", bearer.as_str()), JSON, length];
            let what = format!("{} {}", call.path, length.0);
            let request = wire::request(call.method.as_str(), &url, &headers, body)?;
            let answer = wire::exchange(&url, request.clone(), Then::Wait).await.context(what.clone())?;
            assert_refused(&what, &answer.context("an answer")?, (408, "body_timeout"));
            let mut raw = Raw::connect(&url).await?;
            raw.send(&request).await?;
            raw.until_closed().await.context(what)
        }
    }))
    .await?;
    subject.assert_goes_on().await
}

/// A client hears every refusal while it still sends. After that the server reads only a little more, and only for a short time.
pub(super) async fn what_follows_a_refusal_is_not_read_for_ever(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let url = subject.url().to_owned();
    let bearer = format!("Bearer {}", user.token);
    let json = [JSON, ("Authorization", bearer.as_str())];
    let too_long = wire::chunked(&vec![b' '; 100_000], 10_000);
    let too_long = &too_long[..too_long.len() - 5];
    let large = ("Content-Length", "1000000000");
    let mut refused: Vec<(&str, u16, Vec<u8>)> = vec![
        ("no token", 401, request(&url, "/user/images", &[JSON, CHUNKED], FIRST_CHUNK)?),
        ("no token, with a length", 401, request(&url, "/user/images", &[JSON, large], b"{")?),
        ("too long", 413, request(&url, "/user/images", &[&json[..], &[CHUNKED]].concat(), too_long)?),
        ("too long, with a length", 413, request(&url, "/user/images", &[&json[..], &[large]].concat(), b"{")?),
        ("no such route", 404, request(&url, "/nothing", &[CHUNKED], FIRST_CHUNK)?),
        ("a body that nobody asked for", 405, request(&url, "/limits", &[CHUNKED], FIRST_CHUNK)?),
    ];
    let mut holder = None;
    if subject.strategy == Strategy::Streaming {
        let url = subject.add_server(&[("UPLOADS_OPEN", "1"), ("UPLOADS_WAITING", "0")]).await?;
        let [content_type, length] = wire::form_headers(1_000_000);
        let form = [(content_type.0, content_type.1.as_str()), json[1], (length.0, length.1.as_str())];
        let upload = request(&url, "/user/images/upload", &form, b"--")?;
        let mut first = Raw::connect(&url).await?;
        first.send(&upload).await?;
        holder = Some(first);
        refused.push(("overloaded, with a length", 503, upload));
        refused.push((
            "overloaded",
            503,
            request(&url, "/user/images/upload", &[form[0], json[1], CHUNKED], FIRST_CHUNK)?,
        ));
    }
    // V1 has one turn, and it is taken. V2 has no turns.
    until_uploads_are_active(subject, usize::from(holder.is_some())).await?;
    try_join_all(refused.iter().map(|(what, status, request)| async move {
        // To the server that the request's Host names.
        let text = String::from_utf8_lossy(request);
        let host = text.lines().find_map(|line| line.strip_prefix("Host: ")).context("a host")?;
        let url = format!("http://{host}");
        let mut still = Raw::connect(&url).await?;
        still.send(request).await?;
        still.answer().await?.expect_status(*status).context(*what)?;
        still.until_closed().await.with_context(|| format!("{what}: it keeps still"))?;

        let insistent = Raw::connect(&url).await?;
        sends_on(insistent, request, *status, FIRST_CHUNK).await.with_context(|| format!("{what}: it sends on"))
    }))
    .await?;
    drop(holder);
    // A proper HTTP client hears the refusal, too, with a length and in chunks.
    let anybody = subject.anybody()?;
    let large = Bytes::from(vec![b' '; 8 << 20]);
    try_join_all((0..10).map(|place| {
        let pieces = stream::iter(
            large.chunks(10_000).map(|piece| Ok::<_, io::Error>(large.slice_ref(piece))).collect::<Vec<_>>(),
        );
        let body = if place % 2 == 0 { Body::from(large.clone()) } else { Body::wrap_stream(pieces) };
        let request = anybody.request(Method::POST, "/user/images").header(JSON.0, JSON.1).body(body);
        async { anybody.send(request).await?.expect_status(401) }
    }))
    .await
    .context("by a client that is made for HTTP")?;
    subject.assert_goes_on().await
}

/// V1's places for uploads. V2 carries no uploads, so it has none.
pub(super) async fn one_user_does_not_take_every_place(subject: &mut Subject) -> Result<()> {
    let is_v1 = subject.strategy == Strategy::Streaming;
    let url = subject.add_server(if is_v1 { &[("UPLOADS_PER_USER", "1")] } else { &[] }).await?;
    let (greedy, other) = (subject.user().await?, subject.user().await?);
    let created = greedy.create_image(ImagePath::UserProfile, ImageFormat::Png).await?.expect_status(201)?;
    until_uploads_are_active(subject, 0).await?;
    if !is_v1 {
        return Ok(());
    }
    let bearer = format!("Bearer {}", greedy.token);
    let [content_type, length] = wire::form_headers(1_000_000);
    let headers = [(content_type.0, content_type.1.as_str()), ("Authorization", &bearer), (length.0, &length.1)];
    let mut holder = Raw::connect(&url).await?;
    holder.send(&request(&url, "/user/images/upload", &headers, b"--")?).await?;
    until_uploads_are_active(subject, 1).await?;

    let stream = async |user: &Member| user.stream(ImagePath::UserProfile, ImageFormat::Png, picture(1)).await;
    for answer in [stream(&greedy).await?, greedy.upload(created.form(), picture(1)).await?] {
        assert_refused("a second one", &answer, (429, "too_many_uploads"));
        ensure!(answer.header("retry-after").parse::<u32>()? > 0);
    }
    stream(&other).await?.expect_status(201)?;
    drop(holder);
    until_uploads_are_active(subject, 0).await?;
    greedy.upload(created.form(), picture(1)).await?.expect_status(201)?;
    Ok(())
}

/// Sends `request`, and then `more` again and again until the server takes no more. The answer must come in the meantime.
async fn sends_on(raw: Raw, request: &[u8], status: u16, more: &[u8]) -> Result<()> {
    let (mut reader, mut writer) = raw.0.into_split();
    let more = more.repeat(1_000);
    let answered = async {
        wire::read_answer(&mut reader).await?.context("the server closes without an answer")?.expect_status(status)
    };
    let sending = async {
        writer.write_all(request).await?;
        let mut sent = 0;
        while sent < FOR_EVER_BYTES && writer.write_all(&more).await.is_ok() {
            sent += more.len();
        }
        ensure!(sent < FOR_EVER_BYTES, "{sent} bytes were taken");
        Ok(())
    };
    timeout(PATIENCE, async { futures::try_join!(answered, sending) }).await.context("it does not end")??;
    Ok(())
}

/// A client that sends requests and never reads; the kernel takes some of the answers.
pub(super) async fn a_client_that_never_reads_is_given_up(subject: &mut Subject) -> Result<()> {
    let url = Url::parse(subject.url())?;
    let address = lookup_host(wire::authority(&url)?).await?.next().context("an address")?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4_096)?;
    let mut raw = Raw(socket.connect(address).await?);
    let large = wire::request("GET", &format!("{url}openapi.json"), &[], b"")?;
    raw.send(&large.repeat(400)).await?;
    let ended = timeout(PATIENCE, raw.0.ready(Interest::ERROR)).await;
    ended.context("the connection is still open after a minute")??;
    subject.assert_goes_on().await
}

/// Idle connections may stay until another client needs their place.
pub(super) async fn idle_connections_make_room(subject: &mut Subject) -> Result<()> {
    const MOST: usize = 8;
    let most = MOST.to_string();
    let url = subject.add_server(&[("MAX_CONNECTIONS", &most), ("HTTP_WORKERS", "2")]).await?;
    let live = wire::request("GET", &format!("{url}/health/live"), &[], b"")?;
    // A client that sends requests ahead is never idle in between: the server sends each answer before it begins the next request.
    let large = wire::request("GET", &format!("{url}/openapi.json"), &[], b"")?;
    let last = wire::request("GET", &format!("{url}/health/live"), &[("Connection", "close")], b"")?;
    try_join_all((0..MOST / 2).map(async |_| {
        let mut ahead = Raw::connect(&url).await?;
        ahead.send(&[large.repeat(100), last.clone()].concat()).await?;
        ahead.until_closed().await
    }))
    .await?;
    let mut idle = Vec::new();
    for _ in 0..2 * MOST {
        let mut raw = Raw::connect(&url).await?;
        raw.send(&live).await?;
        raw.answer().await?.expect_status(200)?;
        idle.push(raw);
    }
    // The newest connections are still open.
    let last = idle.last_mut().context("a connection")?;
    last.send(&live).await?;
    last.answer().await?.expect_status(200)?;
    subject.assert_goes_on().await
}

/// The server has room for these connections and a few more. So if connections of one kind stay, the next kind finds no room.
pub(super) async fn two_thousand_that_keep_still_hurt_nobody(subject: &mut Subject) -> Result<()> {
    let files = raise_file_limit()?;
    ensure!(files > 3 * MANY, "{files} file descriptors are not enough for {MANY} connections: ulimit -Hn");
    let most = (MANY + 200).to_string();
    let url = subject.add_server(&[("MAX_CONNECTIONS", &most), ("HTTP_WORKERS", "2")]).await?;
    let user = subject.user().await?;
    let read = user.with_profile_image(picture(2)).await?;
    let bearer = format!("Bearer {}", user.token);
    let live = wire::request("GET", &format!("{url}/health/live"), &[], b"")?;
    let body = request(&url, "/user/images", &[JSON, ("Authorization", &bearer), ("Content-Length", "100")], b"")?;
    let refused = request(&url, "/user/images", &[JSON, CHUNKED], FIRST_CHUNK)?;
    let nothing: &[u8] = b"";
    // The name, the bytes to send, the answer's status, and the bytes to send after the answer.
    let kinds = [
        ("nothing at all", nothing, None, nothing),
        ("half of a head", b"GET /limits HTTP/1.1\r\n", None, nothing),
        ("half of the next head", &live, Some(200), b"G"),
        ("a body that was refused", &refused, Some(401), nothing),
        ("a body that does not come", &body, None, nothing),
    ];
    for (what, first, status, then) in kinds {
        let still = (0..MANY).map(async |_| {
            let mut raw = Raw::connect(&url).await?;
            raw.send(first).await?;
            if let Some(status) = status {
                raw.answer().await?.expect_status(status)?;
            }
            raw.send(then).await?;
            anyhow::Ok(raw)
        });
        let still = try_join_all(still).await.with_context(|| format!("{what}: there is no room"))?;
        nobody_notices(&user, &read).await.with_context(|| what.to_owned())?;
        try_join_all(still.into_iter().map(Raw::until_closed)).await.with_context(|| what.to_owned())?;
    }
    Ok(())
}

/// `/health/live`, a read and an upload, through a new client.
async fn nobody_notices(user: &Member, read: &str) -> Result<()> {
    let fresh = Client::new(user.server(), &user.token)?;
    let all = async {
        fresh.get("/health/live").await?.expect_status(200)?;
        fresh.read(read).await?.expect_status(302)?;
        fresh.create_and_upload(ImagePath::Post, ImageFormat::Png, picture(3)).await
    };
    timeout(PATIENCE, all).await.context("others are kept waiting")??;
    Ok(())
}

fn request(url: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>> {
    wire::request("POST", &format!("{url}{path}"), headers, body)
}

/// Asks again and again, until this many uploads are active.
async fn until_uploads_are_active(subject: &Subject, wanted: usize) -> Result<()> {
    let anybody = subject.anybody()?;
    let line = format!("uploads_active {wanted}\n");
    let asking = async {
        while !String::from_utf8_lossy(&anybody.get("/metrics").await?.body).contains(&line) {}
        anyhow::Ok(())
    };
    timeout(PATIENCE, asking).await.context("no upload begins")?
}

//! A TCP relay between a program and its database or store: it counts, delays, holds back, cuts and breaks the traffic, and sets a store's
//! clock wrong. A failure here looks like a failure of the network, and the parts behind the relay stay real.
//!
//! It knows only one thing about the traffic: the two sides take turns. (HTTP/1.1 without pipelining or `Expect` does.) A request begins
//! when the program sends after the other side did, or when it sends its first bytes. If a test wants it, the relay keeps the heads of
//! HTTP requests.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use bytes::{Buf as _, Bytes};
use chrono::{NaiveDateTime, TimeDelta};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use url::Url;

use crate::head::{HeadReader, RequestHead};

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 64 * 1024;
/// The most bytes that are on their way in one direction of a delayed connection. It bounds the memory of the relay, and no rate that a
/// client has: with 50 ms each way it is 2.7 Gbit/s.
const MOST_ON_THE_WAY_BYTES: usize = 16 * 1024 * 1024;
/// The only date format that servers send (RFC 9110, section 5.6.7).
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";
const HTTP_DATE_BYTES: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();

/// What the relay does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Holds back everything that the program sends.
    HoldRequests,
    /// Holds back each piece that has this word in it, such as a header that only one kind of request has. It holds the whole piece.
    HoldRequestsWith(&'static str),
    /// Passes on requests with this word, and holds back every answer on that connection: the work is done, and the program does not know.
    HoldAnswersTo(&'static str),
    /// Holds back everything that the other side sends: the work is done, and the program does not know.
    HoldAnswers,
    /// Passes on requests with this word, and breaks the connection when the answer comes: the work is done, and the program does not know.
    BreakAnswersTo(&'static str),
    /// Breaks each connection on which the program sends this word, and passes on nothing of that piece.
    BreakRequestsWith(&'static str),
    /// Breaks the connection on which the next answer comes. From then on it passes everything on.
    BreakNextAnswer,
    /// The same, but the program gets a reset (RST), not an end.
    ResetNextAnswer,
    /// Passes on this many more bytes of what the program sends, on all connections together. Then it breaks the connection on which the
    /// next byte comes. From then on it passes everything on.
    CutRequestsAfter(u64),
    /// The same with what the other side sends.
    CutAnswersAfter(u64),
    /// Breaks every connection. On each new one it answers the HTTP request with 503, and passes on nothing.
    Unavailable,
    /// Breaks every connection, also new ones.
    Down,
}

/// The traffic that a relay has passed on, or the difference of two such readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Requests that have begun.
    pub requests: u64,
    /// Bytes from the program.
    pub requested_bytes: u64,
    /// Bytes to the program.
    pub answered_bytes: u64,
}

/// A port that is bound and leads nowhere yet. A server must know its public port before it has its own port.
#[derive(Debug)]
pub struct Entrance {
    listener: TcpListener,
    address: SocketAddr,
}

/// A relay that ends with this value.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    line: Line,
    accepting: JoinHandle<()>,
}

impl Passed {
    /// Bytes in both directions.
    pub fn bytes(self) -> u64 {
        self.requested_bytes + self.answered_bytes
    }

    /// The traffic since an earlier reading.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        self.with(before, |after, before| after - before)
    }

    /// The sum of both readings.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, |here, there| here + there)
    }

    fn with(self, other: Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            requests: combine(self.requests, other.requests),
            requested_bytes: combine(self.requested_bytes, other.requested_bytes),
            answered_bytes: combine(self.answered_bytes, other.answered_bytes),
        }
    }
}

impl Entrance {
    /// Binds a port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for a relay")?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The HTTP URL of the port.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address of the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes everything on to `host:port` from now on, also connections that wait already. Runs on the runtime of the caller.
    pub fn lead_to(self, target: impl Into<String>) -> Relay {
        let (target, line) = (target.into(), Line::new());
        let shared = line.clone();
        let accepting = tokio::spawn(async move {
            loop {
                match self.listener.accept().await {
                    Ok((client, _)) => {
                        let (line, target) = (shared.clone(), target.clone());
                        tokio::spawn(async move { line.run(client, target).await });
                    }
                    Err(error) => {
                        // Either a connection closed before it was accepted, or there is no file descriptor left.
                        tracing::warn!(%error, "a relay could not accept a connection");
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
        Relay { address: self.address, line, accepting }
    }
}

impl Relay {
    /// A relay in front of the server that a URL names, and the URL that leads through it. Runs on the runtime of the caller.
    ///
    /// # Errors
    /// If the URL names no host, or if there is no free port.
    pub async fn before(url: &str) -> Result<(String, Self)> {
        let mut url = Url::parse(url)?;
        let host = url.host_str().context("a URL to relay to names no host")?;
        let port = url.port_or_known_default().unwrap_or(5432);
        let relay = Entrance::open().await?.lead_to(format!("{host}:{port}"));
        url.set_host(Some("127.0.0.1"))?;
        url.set_port(Some(relay.address.port())).map_err(|()| anyhow!("{url} takes no port"))?;
        Ok((url.to_string(), relay))
    }

    /// Sets the mode from now on.
    pub fn set(&self, mode: Mode) {
        self.line.next.send_replace(None);
        self.line.mode.send_replace(mode);
    }

    /// Passes on this many more bytes of what the program sends, on all connections together. The byte after them is the first that meets
    /// the mode. Another [`Relay::set`] before that forgets it.
    pub fn set_after(&self, bytes: u64, mode: Mode) {
        self.line.next.send_replace(Some((Before::Bytes(bytes), mode)));
    }

    /// Passes on this many more requests that have not begun yet, on all connections together. The first byte of the request after them is
    /// the first that meets the mode. Another [`Relay::set`] before that forgets it.
    pub fn set_after_requests(&self, requests: u64, mode: Mode) {
        self.line.next.send_replace(Some((Before::Requests(requests), mode)));
    }

    /// From now on makes the `Date` of every HTTP answer this many seconds later.
    pub fn shift_dates(&self, seconds: i64) {
        self.line.date_shift.send_replace(TimeDelta::seconds(seconds));
    }

    /// Delays everything on new connections, in each direction. Many bytes can be on their way at once, so a delay limits no rate. There
    /// is no slow start: a real connection needs some round trips more before it is fast.
    ///
    /// The kernel accepts connections at once. So the relay connects to the other side after the delay, and passes on nothing until
    /// twice the delay is over: then a real connection would be there.
    pub fn delay(&self, each_way: Duration) {
        self.line.delay.send_replace(each_way);
    }

    /// The traffic so far. The relay counts bytes before it passes them on, so an answer is counted before the program has it.
    pub fn passed(&self) -> Passed {
        *self.line.passed.borrow()
    }

    /// From now on keeps the head of each HTTP request.
    pub fn keep_heads(&self) {
        self.line.heads.send_replace(Some(Vec::new()));
    }

    /// Takes the heads that were kept since the last call, in the order in which they were complete. Like the bytes, a head is kept before
    /// it is passed on.
    pub fn take_heads(&self) -> Vec<RequestHead> {
        let mut taken = Vec::new();
        self.line.heads.send_modify(|heads| taken = heads.replace(Vec::new()).unwrap_or_default());
        taken
    }

    /// How many pieces contained a mode's word, on all connections.
    pub fn said(&self) -> usize {
        *self.line.said.borrow()
    }

    /// How often a mode has done something to the traffic: refused, ended or cut a connection, or held a piece.
    pub fn bites(&self) -> u64 {
        *self.line.bites.borrow()
    }

    /// Sets a mode, and waits until it holds a piece, or does anything else to the traffic.
    ///
    /// # Panics
    /// If nothing comes that it is for.
    pub async fn hold(&self, mode: Mode) {
        let before = self.bites();
        self.set(mode);
        self.bitten(before).await;
    }

    /// The same from a later byte on, see [`Relay::set_after`].
    ///
    /// # Panics
    /// As [`Relay::hold`].
    pub async fn hold_after(&self, bytes: u64, mode: Mode) {
        let before = self.bites();
        self.set_after(bytes, mode);
        self.bitten(before).await;
    }

    /// The same from a later request on, see [`Relay::set_after_requests`].
    ///
    /// # Panics
    /// As [`Relay::hold`].
    pub async fn hold_after_requests(&self, requests: u64, mode: Mode) {
        let before = self.bites();
        self.set_after_requests(requests, mode);
        self.bitten(before).await;
    }

    /// Waits for a further bite.
    async fn bitten(&self, before: u64) {
        let mut bites = self.line.bites.subscribe();
        let come = timeout(PATIENCE, bites.wait_for(|bites| *bites > before)).await;
        assert!(come.is_ok_and(|come| come.is_ok()), "nothing that the mode is for comes");
    }

    /// Waits until this many requests have begun in all, and returns the traffic at that moment.
    ///
    /// # Panics
    /// If they do not begin.
    pub async fn begun(&self, requests: u64) -> Passed {
        let mut passed = self.line.passed.subscribe();
        let come = timeout(PATIENCE, passed.wait_for(|passed| passed.requests >= requests)).await;
        match come {
            Ok(Ok(passed)) => *passed,
            _ => panic!("{requests} requests do not begin"),
        }
    }

    /// Waits until the program has no connection. Everything that it sent has been passed on then, or never will be.
    ///
    /// # Panics
    /// If it keeps one.
    pub async fn left(&self) {
        let mut open = self.line.open.subscribe();
        let gone = timeout(PATIENCE, open.wait_for(|open| *open == 0)).await;
        assert!(gone.is_ok_and(|gone| gone.is_ok()), "the program keeps its connections");
    }

    /// Waits until this many bytes have come from the program in all.
    ///
    /// # Panics
    /// If they do not come.
    pub async fn requested(&self, bytes: u64) {
        let mut passed = self.line.passed.subscribe();
        let come = timeout(PATIENCE, passed.wait_for(|passed| passed.requested_bytes >= bytes)).await;
        assert!(come.is_ok_and(|come| come.is_ok()), "{bytes} bytes do not come");
    }

    /// Waits until this many connections are held: each has a request, or an answer that has come.
    ///
    /// # Panics
    /// If there are not that many in time.
    pub async fn holds(&self, connections: usize) {
        let mut held = self.line.held.subscribe();
        let come = timeout(PATIENCE, held.wait_for(|held| *held >= connections)).await;
        assert!(come.is_ok_and(|come| come.is_ok()), "nothing to keep back comes on {connections} connections");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.set(Mode::Down);
        self.accepting.abort();
    }
}

#[derive(Debug, Clone)]
struct Line {
    mode: watch::Sender<Mode>,
    /// The mode that begins later.
    next: watch::Sender<Option<(Before, Mode)>>,
    passed: watch::Sender<Passed>,
    said: watch::Sender<usize>,
    /// `None` until a test wants them.
    heads: watch::Sender<Option<Vec<RequestHead>>>,
    /// How many connections are held now.
    held: watch::Sender<usize>,
    /// On how many connections the program may still send.
    open: watch::Sender<usize>,
    bites: watch::Sender<u64>,
    date_shift: watch::Sender<TimeDelta>,
    delay: watch::Sender<Duration>,
}

/// What is passed on before a mode begins.
#[derive(Debug, Clone, Copy)]
enum Before {
    Bytes(u64),
    Requests(u64),
}

/// The way to one side of a connection.
struct Way {
    to: OwnedWriteHalf,
    delay: Duration,
    /// The pieces that are on their way, and when each of them arrives.
    pieces: VecDeque<(Instant, Bytes)>,
    /// The sum of the pieces.
    bytes: usize,
}

/// The state that the two directions of a connection share.
struct Turns {
    /// Whether the program's next bytes are a new request.
    answered: AtomicBool,
    /// Whether the program gets no more answers.
    unanswered: AtomicBool,
}

/// One that is counted, until this is dropped.
struct Counted<'a>(&'a watch::Sender<usize>);

impl<'a> Counted<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Way {
    fn new(to: OwnedWriteHalf, delay: Duration) -> Self {
        Self { to, delay, pieces: VecDeque::new(), bytes: 0 }
    }

    /// Delivers what is due until `next` is done. If too many bytes are on their way, `next` waits, as a sender does.
    async fn deliver_until<T>(&mut self, next: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut next = pin!(next);
        loop {
            let has_room = self.bytes < MOST_ON_THE_WAY_BYTES;
            tokio::select! {
                next = &mut next, if has_room => return next,
                delivered = self.deliver(), if self.bytes > 0 => delivered?,
            }
        }
    }

    /// Delivers at least a part of the first piece. It may be dropped at any time.
    async fn deliver(&mut self) -> io::Result<()> {
        let Some((due, piece)) = self.pieces.front_mut() else { return Ok(()) };
        sleep_until(*due).await;
        let written = self.to.write(piece).await?;
        piece.advance(written);
        self.bytes -= written;
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.delay.is_zero() {
            return self.to.write_all(bytes).await;
        }
        self.pieces.push_back((Instant::now() + self.delay, Bytes::copy_from_slice(bytes)));
        self.bytes += bytes.len();
        Ok(())
    }

    /// Passes on the end, behind everything that is on its way.
    async fn end(mut self) -> io::Result<()> {
        let due = Instant::now() + self.delay;
        while self.bytes > 0 {
            self.deliver().await?;
        }
        sleep_until(due).await;
        self.to.shutdown().await
    }
}

impl Mode {
    /// The word for which the relay looks.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::HoldRequestsWith(word)
            | Self::HoldAnswersTo(word)
            | Self::BreakAnswersTo(word)
            | Self::BreakRequestsWith(word) => Some(word),
            Self::Pass
            | Self::HoldRequests
            | Self::HoldAnswers
            | Self::BreakNextAnswer
            | Self::ResetNextAnswer
            | Self::CutRequestsAfter(_)
            | Self::CutAnswersAfter(_)
            | Self::Unavailable
            | Self::Down => None,
        }
    }

    /// Whether no connection lives in this mode.
    fn ends_connections(self) -> bool {
        matches!(self, Self::Down | Self::Unavailable)
    }

    fn hears(self, bytes: &[u8]) -> bool {
        self.word().is_some_and(|word| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
    }

    fn holds(self, bytes: &[u8]) -> bool {
        self == Self::HoldRequests || matches!(self, Self::HoldRequestsWith(_)) && self.hears(bytes)
    }

    /// How many bytes of a piece are searched again with the next piece, to find a word on their border.
    fn border_bytes(self) -> usize {
        self.word().map_or(0, |word| word.len() - 1)
    }
}

impl Line {
    fn new() -> Self {
        Self {
            mode: watch::Sender::new(Mode::Pass),
            next: watch::Sender::new(None),
            passed: watch::Sender::new(Passed::default()),
            said: watch::Sender::new(0),
            heads: watch::Sender::new(None),
            held: watch::Sender::new(0),
            open: watch::Sender::new(0),
            bites: watch::Sender::new(0),
            date_shift: watch::Sender::new(TimeDelta::zero()),
            delay: watch::Sender::new(Duration::ZERO),
        }
    }

    async fn run(self, client: TcpStream, target: String) {
        let mut mode = self.mode.subscribe();
        let now = *mode.borrow();
        match now {
            Mode::Down => return self.bite(),
            Mode::Unavailable => {
                self.bite();
                tokio::select! {
                    refused = refuse(client) => if let Err(error) = refused {
                        tracing::debug!(%error, "a refused connection broke");
                    },
                    _ = mode.wait_for(|mode| *mode != Mode::Unavailable) => {}
                }
                return;
            }
            _ => {}
        }
        let passed = async {
            let delay = *self.delay.borrow();
            sleep(delay).await;
            let server = TcpStream::connect(&target).await?;
            sleep(delay).await;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let turns = Turns { answered: AtomicBool::new(true), unanswered: AtomicBool::new(false) };
            // If one direction breaks, both end: dropping the halves closes the connections.
            tokio::try_join!(
                self.requests(from_client, Way::new(to_server, delay), &turns),
                self.answers(from_server, Way::new(to_client, delay), &turns),
            )
        };
        let passed = tokio::select! {
            passed = passed => passed,
            _ = mode.wait_for(|mode| mode.ends_connections()) => return self.bite(),
        };
        if let Err(error) = passed {
            tracing::debug!(%error, target, "a relayed connection broke");
        }
    }

    /// Holds a piece until another mode releases it.
    async fn hold(&self, mode: &mut watch::Receiver<Mode>, released: impl Fn(Mode) -> bool) -> io::Result<()> {
        let _held = Counted::new(&self.held);
        self.bite();
        match mode.wait_for(|mode| released(*mode)).await {
            Ok(mode) if !mode.ends_connections() => Ok(()),
            _ => Err(broken()),
        }
    }

    fn bite(&self) {
        self.bites.send_modify(|bites| *bites += 1);
    }

    /// Counts bytes from the program, and passes them on.
    async fn pass_request(&self, bytes: &[u8], way: &mut Way, turns: &Turns, head: &mut HeadReader) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let is_new = turns.answered.swap(false, Ordering::SeqCst);
        self.passed.send_modify(|passed| {
            passed.requests += u64::from(is_new);
            passed.requested_bytes += bytes.len() as u64;
        });
        self.keep_head(head, bytes, is_new);
        way.send(bytes).await
    }

    /// How much of a piece is passed on before the next mode begins, which begins now; `None` if this piece does not reach it. The piece
    /// `is_new` if a request begins with it.
    fn begins_within(&self, piece_bytes: usize, is_new: bool) -> Option<usize> {
        let mut begins = None;
        self.next.send_if_modified(|next| {
            let Some((before, mode)) = next else { return false };
            match before {
                Before::Bytes(bytes) => match bytes.checked_sub(piece_bytes as u64) {
                    Some(rest) => *bytes = rest,
                    None => begins = usize::try_from(*bytes).ok().zip(Some(*mode)),
                },
                Before::Requests(_) if !is_new => {}
                Before::Requests(0) => begins = Some((0, *mode)),
                Before::Requests(requests) => *requests -= 1,
            }
            if begins.is_some() {
                *next = None;
            }
            begins.is_some()
        });
        let (before, mode) = begins?;
        self.mode.send_replace(mode);
        Some(before)
    }

    /// How much of a piece is passed on before its connection is cut; `None` if this piece does not reach the cut. `left` reads the count
    /// of the mode that cuts this direction.
    fn before_the_cut(&self, piece_bytes: usize, left: fn(&mut Mode) -> Option<&mut u64>) -> Option<usize> {
        let mut before = None;
        self.mode.send_if_modified(|mode| {
            let Some(bytes) = left(mode) else { return false };
            match bytes.checked_sub(piece_bytes as u64) {
                Some(rest) => *bytes = rest,
                None => {
                    before = usize::try_from(*bytes).ok();
                    *mode = Mode::Pass;
                }
            }
            before.is_some()
        });
        before
    }

    fn keep_head(&self, reader: &mut HeadReader, bytes: &[u8], is_new: bool) {
        self.heads.send_if_modified(|heads| {
            let Some(heads) = heads else { return false };
            heads.extend(reader.read(bytes, is_new));
            true
        });
    }

    /// Passes on all bytes that the program sends, and its end.
    async fn requests(&self, mut from: OwnedReadHalf, mut way: Way, turns: &Turns) -> io::Result<()> {
        let _open = Counted::new(&self.open);
        let mut mode = self.mode.subscribe();
        let mut buffer = vec![0; 2 * BUFFER_BYTES];
        // The end of the piece before, at the buffer's start.
        let mut border = 0;
        let mut was_held = false;
        let mut head = HeadReader::default();
        loop {
            let length = way.deliver_until(from.read(&mut buffer[border..border + BUFFER_BYTES])).await?;
            if length == 0 {
                // The program has given up.
                if turns.unanswered.load(Ordering::SeqCst) {
                    return Err(broken());
                }
                if was_held {
                    // The other side must still do the work that was passed on late, so it does not hear of the end.
                    way.to.forget();
                    return Ok(());
                }
                return way.end().await;
            }
            let (mut heard, mut bytes) = (&buffer[..border + length], &buffer[border..border + length]);
            if let Some(before) = self.begins_within(length, turns.answered.load(Ordering::SeqCst)) {
                let (first, rest) = bytes.split_at(before);
                self.pass_request(first, &mut way, turns, &mut head).await?;
                (heard, bytes) = (rest, rest);
            }
            let now = *mode.borrow_and_update();
            if now.ends_connections() {
                self.bite();
                return Err(broken());
            }
            if now.hears(heard) {
                self.said.send_modify(|said| *said += 1);
                match now {
                    Mode::BreakRequestsWith(_) => {
                        self.bite();
                        return Err(broken());
                    }
                    Mode::HoldAnswersTo(_) | Mode::BreakAnswersTo(_) => turns.unanswered.store(true, Ordering::SeqCst),
                    _ => {}
                }
            }
            if now.holds(heard) {
                was_held = true;
                way.deliver_until(self.hold(&mut mode, |mode| !mode.holds(heard))).await?;
            }
            let whole = self.before_the_cut(bytes.len(), |mode| match mode {
                Mode::CutRequestsAfter(left) => Some(left),
                _ => None,
            });
            self.pass_request(&bytes[..whole.unwrap_or(bytes.len())], &mut way, turns, &mut head).await?;
            if whole.is_some() {
                self.bite();
                return Err(broken());
            }
            let end = border + length;
            border = mode.borrow().border_bytes().min(end);
            buffer.copy_within(end - border..end, 0);
        }
    }

    /// Passes on all bytes that the other side sends, and its end.
    async fn answers(&self, mut from: OwnedReadHalf, mut way: Way, turns: &Turns) -> io::Result<()> {
        let mut mode = self.mode.subscribe();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = way.deliver_until(from.read(&mut buffer)).await?;
            if length == 0 {
                return way.end().await;
            }
            let mut resets = false;
            let broke = self.mode.send_if_modified(|mode| {
                let breaks = matches!(mode, Mode::BreakNextAnswer | Mode::ResetNextAnswer);
                if breaks {
                    resets = *mode == Mode::ResetNextAnswer;
                    *mode = Mode::Pass;
                }
                breaks
            });
            if resets {
                self.bite();
                way.to.as_ref().set_zero_linger()?;
                // Its drop would send an end before the reset.
                way.to.forget();
                return Err(broken());
            }
            let unanswered = turns.unanswered.load(Ordering::SeqCst);
            if broke || unanswered && matches!(*mode.borrow_and_update(), Mode::BreakAnswersTo(_)) {
                self.bite();
                return Err(broken());
            }
            if unanswered {
                way.deliver_until(self.hold(&mut mode, |mode| !matches!(mode, Mode::HoldAnswersTo(_)))).await?;
            }
            if *mode.borrow_and_update() == Mode::HoldAnswers {
                way.deliver_until(self.hold(&mut mode, |mode| mode != Mode::HoldAnswers)).await?;
            }
            let shift = *self.date_shift.borrow();
            if !shift.is_zero() {
                shift_date(&mut buffer[..length], shift);
            }
            turns.answered.store(true, Ordering::SeqCst);
            let whole = self.before_the_cut(length, |mode| match mode {
                Mode::CutAnswersAfter(left) => Some(left),
                _ => None,
            });
            let bytes = &buffer[..whole.unwrap_or(length)];
            self.passed.send_modify(|passed| passed.answered_bytes += bytes.len() as u64);
            way.send(bytes).await?;
            if whole.is_some() {
                self.bite();
                return Err(broken());
            }
        }
    }
}

/// Answers as a store that is too busy, and reads on until the program has read that and closes.
async fn refuse(mut client: TcpStream) -> io::Result<()> {
    const BODY: &str = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    let mut head = HeadReader::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut is_new = true;
    loop {
        let length = client.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        if head.read(&buffer[..length], is_new).is_some() {
            break;
        }
        is_new = false;
    }
    let length = BODY.len();
    let answer = format!(
        "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{BODY}"
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await?;
    while client.read(&mut buffer).await? > 0 {}
    Ok(())
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "as a test wants it")
}

/// Changes the `Date` in an answer's head, which a server sends in one piece. All dates have the same length.
fn shift_date(head: &mut [u8], by: TimeDelta) {
    const NAME: &[u8] = b"\r\ndate: ";
    let Some(at) = head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME)) else { return };
    let Some(date) = head.get_mut(at + NAME.len()..at + NAME.len() + HTTP_DATE_BYTES) else { return };
    let said = std::str::from_utf8(date).ok().and_then(|said| NaiveDateTime::parse_from_str(said, HTTP_DATE).ok());
    if let Some(said) = said {
        date.copy_from_slice((said + by).format(HTTP_DATE).to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    /// A server that answers every eight bytes to one client, and a relay before it.
    async fn relay() -> (TcpStream, Relay) {
        delayed_relay(Duration::ZERO).await
    }

    async fn delayed_relay(each_way: Duration) -> (TcpStream, Relay) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = server.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut question = [0; 8];
            while stream.read_exact(&mut question).await.is_ok() {
                stream.write_all(b"answer").await.unwrap();
            }
        });
        let relay = Entrance::open().await.unwrap().lead_to(target);
        relay.delay(each_way);
        (TcpStream::connect(relay.address).await.unwrap(), relay)
    }

    #[tokio::test]
    async fn turns_are_requests_and_every_byte_is_counted() {
        let (mut client, relay) = relay().await;
        let mut answer = [0; 6];
        for questions in 1..=3 {
            let before = relay.passed();
            // In two pieces, which are one request.
            client.write_all(b"ques").await.unwrap();
            client.write_all(b"tion").await.unwrap();
            client.read_exact(&mut answer).await.unwrap();
            let passed = relay.passed().since(before);
            assert_eq!((passed, passed.bytes()), (Passed { requests: 1, requested_bytes: 8, answered_bytes: 6 }, 14));
            assert_eq!(relay.passed().requests, questions);
        }
    }

    #[tokio::test]
    async fn a_word_is_heard_on_the_border_of_two_pieces() {
        let (mut client, relay) = relay().await;
        relay.set(Mode::HoldRequestsWith("estio"));
        client.write_all(b"ques").await.unwrap();
        relay.requested(4).await;
        client.write_all(b"tion").await.unwrap();
        relay.holds(1).await;
        assert_eq!((relay.said(), relay.passed().requested_bytes), (1, 4));
        relay.set(Mode::Pass);
        client.read_exact(&mut [0; 6]).await.unwrap();
    }

    #[tokio::test]
    async fn an_end_is_passed_on_and_what_comes_back_still_arrives() {
        let (mut client, _relay) = relay().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    }

    #[tokio::test]
    async fn a_request_is_cut_at_the_byte_and_the_next_connection_is_not() {
        let (mut client, relay) = relay().await;
        let mut answer = [0; 6];
        relay.set(Mode::CutRequestsAfter(11));
        client.write_all(b"question").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        client.write_all(b"question").await.unwrap();
        assert_eq!(client.read(&mut answer).await.unwrap_or(0), 0);
        assert_eq!((relay.passed().requested_bytes, *relay.line.mode.borrow()), (11, Mode::Pass));
    }

    #[tokio::test]
    async fn a_mode_begins_at_the_byte() {
        let (mut client, relay) = relay().await;
        relay.set_after(11, Mode::HoldRequests);
        client.write_all(b"question").await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
        client.write_all(b"question").await.unwrap();
        relay.holds(1).await;
        assert_eq!(relay.passed().requested_bytes, 11);
        relay.set(Mode::HoldAnswers);
        relay.requested(16).await;
        relay.holds(1).await;
        assert_eq!(relay.passed().answered_bytes, 6);
        relay.set(Mode::Pass);
        client.read_exact(&mut [0; 6]).await.unwrap();
    }

    #[tokio::test]
    async fn a_mode_begins_with_a_request_and_its_bites_are_counted() {
        let (mut client, relay) = relay().await;
        relay.set_after_requests(2, Mode::Down);
        for _ in 0..2 {
            client.write_all(b"ques").await.unwrap();
            client.write_all(b"tion").await.unwrap();
            client.read_exact(&mut [0; 6]).await.unwrap();
        }
        assert_eq!((relay.begun(2).await.requests, relay.bites()), (2, 0));
        client.write_all(b"question").await.unwrap();
        assert_eq!(client.read(&mut [0; 6]).await.unwrap_or(0), 0);
        relay.left().await;
        assert!(relay.bites() > 0);
        assert_eq!(relay.passed(), Passed { requests: 2, requested_bytes: 16, answered_bytes: 12 });
    }

    #[tokio::test]
    async fn an_answer_is_cut_at_the_byte() {
        for whole in 0..6 {
            let (mut client, relay) = relay().await;
            relay.set(Mode::CutAnswersAfter(whole));
            client.write_all(b"question").await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"answer"[..whole as usize]);
            assert_eq!(relay.passed().answered_bytes, whole);
        }
    }

    #[tokio::test]
    async fn a_reset_is_no_end() {
        let (mut client, relay) = relay().await;
        relay.set(Mode::ResetNextAnswer);
        client.write_all(b"question").await.unwrap();
        let error = client.read(&mut [0; 6]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_busy_store_answers_each_request_and_gets_none() {
        let (mut open, relay) = relay().await;
        open.write_all(b"question").await.unwrap();
        open.read_exact(&mut [0; 6]).await.unwrap();
        relay.set(Mode::Unavailable);
        assert_eq!(open.read(&mut [0; 6]).await.unwrap_or(0), 0, "an open connection ends");
        let mut client = TcpStream::connect(relay.address).await.unwrap();
        client.write_all(b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("SlowDown"), "{answer}");
        assert_eq!(relay.passed().requested_bytes, 8);
    }

    #[tokio::test]
    async fn a_delay_is_added_to_connecting_and_to_each_turn_and_to_the_end() {
        const EACH_WAY: Duration = Duration::from_millis(30);
        let started = Instant::now();
        let (mut client, _relay) = delayed_relay(EACH_WAY).await;
        for round_trips in 2..=3 {
            client.write_all(b"question").await.unwrap();
            client.read_exact(&mut [0; 6]).await.unwrap();
            assert!(started.elapsed() >= EACH_WAY * 2 * round_trips, "{:?}", started.elapsed());
        }
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 6]).await.unwrap(), 0);
        assert!(started.elapsed() >= EACH_WAY * 2 * 4);
    }

    #[tokio::test]
    async fn many_bytes_are_on_their_way_at_once_and_arrive_in_order() {
        const EACH_WAY: Duration = Duration::from_millis(50);
        let bytes: Vec<u8> = (0..3 * MOST_ON_THE_WAY_BYTES).map(|index| (index / 7) as u8).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let relay = Entrance::open().await.unwrap().lead_to(listener.local_addr().unwrap().to_string());
        relay.delay(EACH_WAY);
        let started = Instant::now();
        let mut client = TcpStream::connect(relay.address).await.unwrap();
        let (sent, arrived) = tokio::join!(
            async {
                client.write_all(&bytes).await.unwrap();
                client.shutdown().await
            },
            async {
                let mut arrived = Vec::new();
                listener.accept().await.unwrap().0.read_to_end(&mut arrived).await.unwrap();
                arrived
            },
        );
        sent.unwrap();
        assert!(arrived == bytes);
        // One piece at a time would need 50 ms for each 64 KiB.
        let pieces = u32::try_from(bytes.len() / BUFFER_BYTES).unwrap();
        assert!(started.elapsed() < EACH_WAY * pieces / 2, "{:?}", started.elapsed());
    }

    #[test]
    fn a_date_is_shifted_in_place() {
        let mut head = *b"HTTP/1.1 200 OK\r\nDate: Sat, 31 Dec 2022 23:59:50 GMT\r\n\r\n";
        shift_date(&mut head, TimeDelta::seconds(40));
        assert_eq!(&head, b"HTTP/1.1 200 OK\r\nDate: Sun, 01 Jan 2023 00:00:30 GMT\r\n\r\n");
    }
}

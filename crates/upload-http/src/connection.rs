//! A client's connection, with time limits for a client that makes the server wait.
//!
//! actix-http 3.20 has a timer for the first head of a connection (actix-web#2611), for an idle connection, and for lingering after an
//! early answer to a body with a length (actix-web#3967). It has no timer in three cases: for the head of a later request (`poll_request`
//! in its `h1/dispatcher.rs`: "head timer only applies to first request"), for chunks after an early answer, which it reads until they end
//! (actix-web#3936), and for a client that does not read its answer. Its linger timer can be lost: it counts from a cached time, so on a
//! busy worker it can be over when it is set, and then nothing wakes the connection (`TimerState::init` in `h1/timer.rs`). So this module
//! wraps each connection. The wrapper knows which stage of a request the connection is in, and ends the connection when the stage takes too
//! long.
//!
//! It also reads a body only when its handler asks for more. By itself actix reads ahead, up to 128 KiB into its own buffer and 32 KiB into
//! the payload (`MAX_BUFFER_SIZE` in `h1/dispatcher.rs` and `h1/payload.rs`), so that an upload that waits for its turn would hold 0.3 MB.
//! While nothing is read, nothing tells that the client has gone, so this module looks once a second. For the same reason it keeps back the
//! `100 Continue` that actix writes as soon as it has a head: a client that waits for it sends no body before its turn.
//!
//! So uploads need no listener of their own and no other HTTP server than actix. A thousand of them at once took 353 to 618 MB while actix read
//! ahead, and take 112 to 129 MB now. hyper's server also reads a body only when asked (not measured here). But it would be a second stack for middleware, limits
//! and logs, for memory that is bounded without it.
//!
//! It does not limit the time in which a request is handled: the code that reads a body has its own limit, and the client is not to blame
//! for the server's own work. A connection counts as idle even if an incomplete next request came together with the last one, until more
//! bytes come.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_http::BoxedPayloadStream;
use actix_web::{
    Error, HttpMessage as _, HttpRequest,
    body::MessageBody,
    dev::{Extensions, Payload, ServiceRequest, ServiceResponse},
    error::PayloadError,
    http::header,
    middleware::Next,
    web::Bytes,
};
use futures::{FutureExt as _, Stream};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// How long a request's head may take: from the connection's beginning for the first one, from its first byte for any other.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection lingers after an early answer, so that a client that still sends can read it.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(1);
/// How long an idle connection is kept: longer than nginx keeps its own (60 s), so that the proxy closes first.
const IDLE_TIME: Duration = Duration::from_secs(75);
/// How long a client may take to read an answer when the kernel's buffer is full.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How often to look whether the client has gone, while nothing is read.
const LOOK_TIME: Duration = Duration::from_secs(1);
/// How many bytes of a refused body are read after the answer. It also limits a head, which is shorter, even with the part of the body
/// that actix reads together with it.
const UNASKED_BYTES: usize = 256 * 1024;
/// The kernel's receive buffer of a connection, in bytes; Linux doubles this value (socket(7)). It is set on the accepted socket: a
/// listener's buffer also fixes the window scale in the handshake, and then the window can never grow (tcp(7)). Without a fixed size the
/// buffer grows to megabytes during the first reads, and a thousand such uploads hold more than the kernel gives to TCP in all
/// (`tcp_mem`): it drops packets of every connection, and charges all of it to a cgroup v2.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// The same for an upload that has had its turn. The kernel allows at most `net.core.rmem_max`.
const UPLOAD_RECEIVE_BUFFER_BYTES: usize = 256 * 1024;
/// How many bytes of a body are read at most each time that its handler asks for more. actix's buffer grows to this size by doubling.
const PIECE_BYTES: usize = 64 * 1024;
/// How many idle connections of a worker keep the buffer of an upload. actix gives it back only when the connection ends.
const IDLE_BUFFERS: usize = 500;
/// With less free room than this, actix makes room before it reads again (`LW_BUFFER_SIZE` in `h1/dispatcher.rs`).
const SPARE_BYTES: usize = 1024;
/// With this much in a buffer of that size, actix would make the buffer larger instead of moving its content to the front. So a piece of at
/// least this size ends when no more fits.
const FULL_BYTES: usize = PIECE_BYTES / 2 - SPARE_BYTES;
/// The answer to a client whose head is not complete in time.
const TOO_LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// What actix writes after a head with `Expect: 100-continue` (`send_continue` in its `h1/dispatcher.rs`).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection that ends when its client keeps it waiting.
pub(crate) struct Connection {
    stream: TcpStream,
    progress: Rc<Progress>,
    timer: Pin<Box<Sleep>>,
    /// The deadline for the client to read the rest of its answer.
    read_until: Option<Instant>,
    /// Whether a piece of a head was just read.
    has_read: bool,
    /// When to look next whether the client has gone, if nothing is read.
    look_at: Option<Instant>,
    /// Whether the receive buffer is that of an upload.
    raised: bool,
    /// The size of actix's buffer, in bytes, as far as it is known.
    buffer_bytes: usize,
}

/// The stage of a connection, shared by the code for its bytes and the code for its requests.
pub(crate) struct Progress {
    stage: Cell<Stage>,
    places: Rc<Places>,
    /// The unread rest of the newest request's body. While it is held here, actix closes the connection after the answer and lingers for
    /// a fixed time. If it were dropped, actix would read chunks until they end.
    unread: Cell<Option<Payload>>,
    demand: Cell<Demand>,
    /// The connection's task, while nothing is read.
    reader: Cell<Option<Waker>>,
    /// Whether the receive buffer has to be raised.
    raise: Cell<bool>,
    expectation: Cell<Expectation>,
}

/// Whether the handler wants more of the newest request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// The handler is busy with what it has, waits for something else, or has the whole body.
    Unasked,
    /// The handler waits for more, and so many bytes have come since.
    Asked(usize),
}

/// What the client of the newest request expects before it sends the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    Nothing,
    /// `100 Continue`, which actix is about to write.
    Continue,
    /// `100 Continue`, which the client has not got yet.
    KeptBack,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// A head is arriving; `bytes` counts what has arrived.
    Coming { until: Instant, bytes: usize },
    /// The rest of a refused body is arriving, after the answer; `bytes` counts what has arrived.
    Lingering { until: Instant, bytes: usize },
    /// Between two requests. [`Places`] knows the connection by this number.
    Idle { until: Instant, number: u64 },
    /// The server has a request to answer.
    Serving,
    /// The answer is complete, but not sent yet.
    Answered,
}

/// The places for connections that one worker has.
pub(crate) struct Places {
    most: usize,
    taken: Cell<usize>,
    /// The wakers of idle connections; the one that has been idle longest comes first.
    idle: RefCell<BTreeMap<u64, Waker>>,
    /// Those of them that keep the buffer of an upload.
    with_buffer: RefCell<BTreeSet<u64>>,
    next_number: Cell<u64>,
}

/// A request's body. The part that its reader leaves unread is kept until the next request.
struct Body {
    payload: Payload,
    progress: Rc<Progress>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, places: &Rc<Places>) -> Self {
        places.taken.set(places.taken.get() + 1);
        places.make_room();
        let until = Instant::now() + HEAD_TIME;
        let progress = Rc::new(Progress {
            stage: Cell::new(Stage::Coming { until, bytes: 0 }),
            places: Rc::clone(places),
            unread: Cell::default(),
            demand: Cell::new(Demand::Unasked),
            reader: Cell::default(),
            raise: Cell::default(),
            expectation: Cell::new(Expectation::Nothing),
        });
        let timer = Box::pin(sleep_until(until));
        let connection = Self {
            stream,
            progress,
            timer,
            read_until: None,
            has_read: false,
            look_at: None,
            raised: false,
            buffer_bytes: 0,
        };
        connection.set_receive_buffer(RECEIVE_BUFFER_BYTES);
        connection
    }

    /// For [`watch`].
    pub(crate) fn extend(&self, extensions: &mut Extensions) {
        extensions.insert(Rc::clone(&self.progress));
    }

    fn set_receive_buffer(&self, bytes: usize) {
        // Without it the connection works all the same, with the kernel's own size.
        let _set = SockRef::from(&self.stream).set_recv_buffer_size(bytes);
    }

    /// Whether it is `until`; the task is woken then.
    fn is_over(&mut self, until: Instant, context: &mut Context<'_>) -> bool {
        // An earlier deadline of the timer stays: most requests end long before it, and resetting it for each one would cost time.
        if self.timer.deadline() > until {
            self.timer.as_mut().reset(until);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= until {
                return true;
            }
            self.timer.as_mut().reset(until);
        }
        false
    }

    /// Reads more of the body, if its handler asks for it.
    fn poll_body(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wanted = self.wanted(buffer.remaining());
        if wanted == 0 {
            self.progress.reader.set(Some(context.waker().clone()));
            // A read without bytes is the end.
            return if self.client_has_gone(context) { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        if self.progress.raise.take() {
            self.set_receive_buffer(UPLOAD_RECEIVE_BUFFER_BYTES);
            self.raised = true;
        }
        if self.progress.expectation.get() == Expectation::KeptBack {
            self.progress.expectation.set(Expectation::Nothing);
            // If it does not fit, the client does not read its answers. Most clients send their body soon without it.
            let _told = self.stream.try_write(CONTINUE);
        }
        let before = buffer.filled().len();
        let came = Pin::new(&mut (&mut self.stream).take(wanted as u64)).poll_read(context, buffer);
        if let Demand::Asked(bytes) = self.progress.demand.get() {
            self.progress.demand.set(Demand::Asked(bytes + buffer.filled().len() - before));
        }
        came
    }

    /// How many more bytes of the body to read into this room of actix's buffer. With none, it waits until the handler asks again.
    fn wanted(&mut self, room: usize) -> usize {
        let Demand::Asked(bytes) = self.progress.demand.get() else { return 0 };
        self.buffer_bytes = self.buffer_bytes.max(bytes + room);
        if bytes >= FULL_BYTES && room <= SPARE_BYTES && self.buffer_bytes > PIECE_BYTES / 2 {
            return 0;
        }
        let room = if room > 2 * SPARE_BYTES { room - SPARE_BYTES } else { room };
        room.min(PIECE_BYTES.saturating_sub(bytes))
    }

    /// Whether the client has closed its side, also behind bytes that nobody has read. The task is woken to look again.
    fn client_has_gone(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            let until = *self.look_at.get_or_insert_with(|| Instant::now() + LOOK_TIME);
            if !self.is_over(until, context) {
                return false;
            }
            let ready = self.stream.ready(Interest::READABLE).now_or_never();
            if ready.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed())) {
                return true;
            }
            self.look_at = None;
        }
    }

    /// Updates the stage after a read outside of a request. Returns `true` if the connection must end.
    fn ends(&mut self, came: Poll<usize>, context: &mut Context<'_>) -> bool {
        match (self.progress.stage.get(), came) {
            (Stage::Coming { until, bytes }, Poll::Ready(more)) => {
                self.progress.enter(Stage::Coming { until, bytes: bytes + more });
                false
            }
            (Stage::Coming { until, bytes }, Poll::Pending) => {
                let over = self.is_over(until, context);
                if over && bytes > 0 {
                    // Only if it can be written at once: a client that sends half a head may not read either.
                    let _told = self.stream.try_write(TOO_LATE);
                }
                over
            }
            (Stage::Lingering { until, bytes }, Poll::Ready(more)) => {
                self.progress.enter(Stage::Lingering { until, bytes: bytes + more });
                false
            }
            (Stage::Lingering { until, .. }, Poll::Pending) => self.is_over(until, context),
            (Stage::Idle { .. }, Poll::Ready(bytes)) => {
                self.progress.enter(Stage::Coming { until: Instant::now() + HEAD_TIME, bytes });
                false
            }
            (Stage::Idle { until, number }, Poll::Pending) => {
                !self.progress.places.keep(number, context.waker()) || self.is_over(until, context)
            }
            (Stage::Serving | Stage::Answered, _) => false,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let stage = this.progress.stage.get();
        if matches!(stage, Stage::Serving | Stage::Answered) {
            return this.poll_body(context, buffer);
        }
        // actix reads until there is no more. Stop it after each piece, so that `watch` sees a head before its body is read.
        if std::mem::take(&mut this.has_read) && matches!(stage, Stage::Coming { .. }) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let came = match stage {
            // Closing now would reset the connection, and the client might miss the answer. Not reading makes the client stop.
            Stage::Coming { bytes, .. } | Stage::Lingering { bytes, .. } if bytes >= UNASKED_BYTES => Poll::Pending,
            _ => Pin::new(&mut this.stream).poll_read(context, buffer)?.map(|()| buffer.filled().len() - before),
        };
        this.has_read = came.is_ready();
        // To end the connection, this reports to actix that the client has closed its side.
        if this.ends(came, context) { Poll::Ready(Ok(())) } else { came.map(|_bytes| Ok(())) }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // actix writes `100 Continue` before anything else of this answer. A part of the answer's body may look the same.
        if this.progress.expectation.get() == Expectation::Continue {
            let kept_back = bytes.starts_with(CONTINUE);
            this.progress.expectation.set(if kept_back { Expectation::KeptBack } else { Expectation::Nothing });
            if kept_back {
                return Poll::Ready(Ok(CONTINUE.len()));
            }
        }
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        if written.is_pending() {
            let until = *this.read_until.get_or_insert_with(|| Instant::now() + ANSWER_TIME);
            if this.is_over(until, context) {
                // Otherwise the kernel would keep trying to send its buffer.
                this.stream.set_zero_linger()?;
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client does not read its answer",
                )));
            }
        }
        written
    }

    /// actix flushes when the kernel has taken everything.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.read_until = None;
        if matches!(this.progress.stage.get(), Stage::Answered) {
            let now = Instant::now();
            let next = if this.progress.holds_unread() {
                Stage::Lingering { until: now + LINGER_TIME, bytes: 0 }
            } else {
                let with_buffer = this.buffer_bytes > PIECE_BYTES / 2;
                Stage::Idle { until: now + IDLE_TIME, number: this.progress.places.enter(context.waker(), with_buffer) }
            };
            this.progress.enter(next);
            this.progress.wake_reader();
            this.look_at = None;
            if std::mem::take(&mut this.raised) {
                this.set_receive_buffer(RECEIVE_BUFFER_BYTES);
            }
        }
        if let Stage::Lingering { until, .. } = this.progress.stage.get() {
            // actix reads no more if the client has closed its side. The wake is enough: actix then looks at its own timer again.
            let _over = this.is_over(until, context);
        }
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.progress.leave_idle();
        let taken = &self.progress.places.taken;
        taken.set(taken.get() - 1);
    }
}

impl Progress {
    fn enter(&self, stage: Stage) {
        self.leave_idle();
        self.stage.set(stage);
    }

    /// Lets the connection read more of the body.
    fn ask(&self) {
        self.demand.set(Demand::Asked(0));
        self.wake_reader();
    }

    fn wake_reader(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether the rest of the newest request's body may still come.
    fn holds_unread(&self) -> bool {
        let unread = self.unread.take();
        let holds = unread.is_some();
        self.unread.set(unread);
        holds
    }

    /// A read is not the only end of the idle stage: if two requests arrive together, actix flushes between them and starts the second
    /// without a read.
    fn leave_idle(&self) {
        if let Stage::Idle { number, .. } = self.stage.get() {
            let _waker = self.places.leave(number);
        }
    }
}

impl Places {
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            most,
            taken: Cell::default(),
            idle: RefCell::default(),
            with_buffer: RefCell::default(),
            next_number: Cell::default(),
        })
    }

    fn enter(&self, waker: &Waker, with_buffer: bool) -> u64 {
        let number = self.next_number.replace(self.next_number.get() + 1);
        self.idle.borrow_mut().insert(number, waker.clone());
        if with_buffer {
            self.with_buffer.borrow_mut().insert(number);
        }
        self.make_room();
        number
    }

    /// Returns the waker of a connection that was idle until now.
    fn leave(&self, number: u64) -> Option<Waker> {
        self.with_buffer.borrow_mut().remove(&number);
        self.idle.borrow_mut().remove(&number)
    }

    /// Whether the connection may stay.
    fn keep(&self, number: u64, waker: &Waker) -> bool {
        self.idle.borrow_mut().get_mut(&number).map(|known| known.clone_from(waker)).is_some()
    }

    /// When the last place is taken, actix accepts no more connections. So the connection that has been idle longest is closed, as in
    /// nginx (`ngx_drain_connections`). Too many buffers would take more memory than the settings say: the oldest of those goes, too.
    fn make_room(&self) {
        let longest = self.idle.borrow().keys().next().copied().filter(|_| self.taken.get() >= self.most);
        let buffers = self.with_buffer.borrow();
        let oldest = buffers.first().copied().filter(|_| buffers.len() > IDLE_BUFFERS);
        drop(buffers);
        for waker in [longest, oldest].into_iter().flatten().filter_map(|number| self.leave(number)) {
            waker.wake();
        }
    }
}

/// Gives the request's connection a larger receive buffer. Call it when an upload has its turn: only then is there room for more bytes.
pub fn raise_receive_buffer(request: &HttpRequest) {
    if let Some(progress) = request.conn_data::<Rc<Progress>>() {
        progress.raise.set(true);
    }
}

/// Tells the connection of each request and each answer. The outermost layer.
pub(crate) async fn watch(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let Some(progress) = request.conn_data::<Rc<Progress>>().cloned() else {
        return next.call(request).await;
    };
    progress.enter(Stage::Serving);
    progress.unread.set(None);
    progress.raise.set(false);
    progress.demand.set(Demand::Unasked);
    let expects = request.headers().contains_key(header::EXPECT);
    progress.expectation.set(if expects { Expectation::Continue } else { Expectation::Nothing });
    let payload = match request.take_payload() {
        Payload::None => Payload::None,
        payload => {
            let body: BoxedPayloadStream = Box::pin(Body { payload, progress: Rc::clone(&progress) });
            body.into()
        }
    };
    request.set_payload(payload);
    let outcome = next.call(request).await;
    // Every answer is in memory as a whole, so actix has all of it now.
    progress.enter(Stage::Answered);
    outcome
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.payload).poll_next(context);
        match &next {
            Poll::Pending => self.progress.ask(),
            Poll::Ready(_) => self.progress.demand.set(Demand::Unasked),
        }
        // The bytes are a part of actix's buffer. A copy lets actix use all of it again. Otherwise it would make a new one for each piece,
        // and a store that still holds a few bytes would hold all of the old one.
        next.map(|next| next.map(|next| next.map(|bytes| Bytes::copy_from_slice(&bytes))))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut payload = std::mem::replace(&mut self.payload, Payload::None);
        // Nobody reads the bytes that have already arrived. If the body is complete, nothing is left to linger for.
        let mut context = Context::from_waker(Waker::noop());
        let unfinished = loop {
            match Pin::new(&mut payload).poll_next(&mut context) {
                Poll::Ready(Some(Ok(_bytes))) => {}
                Poll::Ready(Some(Err(_)) | None) => break false,
                Poll::Pending => break true,
            }
        };
        self.progress.demand.set(Demand::Unasked);
        if unfinished {
            self.progress.unread.set(Some(payload));
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;

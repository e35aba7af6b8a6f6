//! A client's connection, and how long the client may keep it waiting.
//!
//! actix-http 3.20 has a timer for a connection's first head (actix-web#2611), for an idle connection, and for lingering after an early
//! answer to a body with a length (actix-web#3967). It has none for the head of a later request (`poll_request` in its `h1/dispatcher.rs`:
//! "head timer only applies to first request"), none for chunks after an early answer, which it reads until they end (actix-web#3936), and
//! none for a client that does not read its answer. So each connection is wrapped here: it knows where in a request it is, and ends when
//! that takes too long.
//!
//! While a request is handled, nothing is timed here: whoever reads a body knows how long it may take, and what the server itself needs
//! is no fault of the client's. What began to come together with the request before, and is not whole, counts as idle until more
//! of it comes.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_http::BoxedPayloadStream;
use actix_web::{
    Error, HttpMessage as _,
    body::MessageBody,
    dev::{Extensions, Payload, ServiceRequest, ServiceResponse},
    error::PayloadError,
    middleware::Next,
    web::Bytes,
};
use futures::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// How long a request's head may take: from the connection's beginning for the first one, from its first byte for any other.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long an idle connection is kept: longer than nginx keeps its own (60 s), so that the proxy is the one to close.
const IDLE_TIME: Duration = Duration::from_secs(75);
/// How long a client may take to read an answer once the kernel holds no more of it.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// After how many bytes nothing more is read between an answer and the next request's handler. A head is shorter, also with what actix
/// reads of its body at once; so they are the rest of a refused body.
const UNASKED_BYTES: usize = 256 * 1024;
/// What a client hears whose head is not whole in time.
const TOO_LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A connection that ends when its client keeps it waiting.
pub(crate) struct Connection {
    stream: TcpStream,
    progress: Rc<Progress>,
    timer: Pin<Box<Sleep>>,
    /// Until when the client must have read what it has not taken.
    read_until: Option<Instant>,
}

/// Where a connection is, as both its bytes and its requests see it.
pub(crate) struct Progress {
    stage: Cell<Stage>,
    places: Rc<Places>,
    /// What is left of the newest request's body. As long as it is held, actix closes the connection after the answer and lingers for a
    /// set time; once dropped, it would read chunks until they end.
    unread: Cell<Option<Payload>>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// A head, or what follows a refusal, is coming; so many bytes have come.
    Coming { until: Instant, bytes: usize },
    /// Between two requests; the number is the one under which [`Places`] know it.
    Idle { until: Instant, number: u64 },
    /// The server has a request to answer.
    Serving,
    /// The answer is made, and not yet out.
    Answered,
}

/// The places for connections that one worker has.
pub(crate) struct Places {
    most: usize,
    taken: Cell<usize>,
    /// Idle connections, those that have been so longest first, each with what wakes it.
    idle: RefCell<BTreeMap<u64, Waker>>,
    next_number: Cell<u64>,
}

/// A request's body. What its reader leaves is kept for as long as the request is the newest.
struct Body {
    payload: Payload,
    progress: Rc<Progress>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, places: &Rc<Places>) -> Self {
        places.taken.set(places.taken.get() + 1);
        places.make_room();
        let until = Instant::now() + HEAD_TIME;
        let stage = Cell::new(Stage::Coming { until, bytes: 0 });
        let progress = Rc::new(Progress { stage, places: Rc::clone(places), unread: Cell::default() });
        Self { stream, progress, timer: Box::pin(sleep_until(until)), read_until: None }
    }

    /// For [`watch`].
    pub(crate) fn extend(&self, extensions: &mut Extensions) {
        extensions.insert(Rc::clone(&self.progress));
    }

    /// Whether it is `until`; the task is woken then.
    fn is_over(&mut self, until: Instant, context: &mut Context<'_>) -> bool {
        // A timer that is due earlier is left alone: most requests are over long before, and each would move it.
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

    /// What the bytes that came, or that did not come, mean where no request is handled. `true` ends the connection.
    fn ends(&mut self, came: Poll<usize>, context: &mut Context<'_>) -> bool {
        match (self.progress.stage.get(), came) {
            (Stage::Coming { until, bytes }, Poll::Ready(more)) => {
                self.progress.enter(Stage::Coming { until, bytes: bytes + more });
                false
            }
            (Stage::Coming { until, bytes }, Poll::Pending) => {
                let over = self.is_over(until, context);
                if over && bytes > 0 {
                    // As far as it can be told at once: whoever sends half of a head may not read either.
                    let _told = self.stream.try_write(TOO_LATE);
                }
                over
            }
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
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let before = buffer.filled().len();
        let came = match stage {
            // To close at once would reset it, and the client might not hear the answer. What is not read stops the client.
            Stage::Coming { bytes, .. } if bytes >= UNASKED_BYTES => Poll::Pending,
            _ => Pin::new(&mut this.stream).poll_read(context, buffer)?.map(|()| buffer.filled().len() - before),
        };
        // For actix, a connection that ends is one whose client has said its last.
        if this.ends(came, context) { Poll::Ready(Ok(())) } else { came.map(|_bytes| Ok(())) }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        if written.is_pending() {
            let until = *this.read_until.get_or_insert_with(|| Instant::now() + ANSWER_TIME);
            if this.is_over(until, context) {
                // Or the kernel would go on to offer what it holds.
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
            let number = this.progress.places.enter(context.waker());
            this.progress.enter(Stage::Idle { until: Instant::now() + IDLE_TIME, number });
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

    /// Not only bytes end it: actix flushes between requests that came in one piece, and begins the next without a read.
    fn leave_idle(&self) {
        if let Stage::Idle { number, .. } = self.stage.get() {
            self.places.leave(number);
        }
    }
}

impl Places {
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self { most, taken: Cell::default(), idle: RefCell::default(), next_number: Cell::default() })
    }

    fn enter(&self, waker: &Waker) -> u64 {
        let number = self.next_number.replace(self.next_number.get() + 1);
        self.idle.borrow_mut().insert(number, waker.clone());
        self.make_room();
        number
    }

    fn leave(&self, number: u64) {
        self.idle.borrow_mut().remove(&number);
    }

    /// Whether the connection may stay.
    fn keep(&self, number: u64, waker: &Waker) -> bool {
        self.idle.borrow_mut().get_mut(&number).map(|known| known.clone_from(waker)).is_some()
    }

    /// With the last place taken, actix accepts nobody: whoever has been idle longest goes, as in nginx
    /// (`ngx_drain_connections`).
    fn make_room(&self) {
        if self.taken.get() >= self.most {
            let longest = self.idle.borrow_mut().pop_first();
            longest.into_iter().for_each(|(_number, waker)| waker.wake());
        }
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
        Pin::new(&mut self.payload).poll_next(context)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut payload = std::mem::replace(&mut self.payload, Payload::None);
        // Nobody reads what has come, and a body that has come as a whole is none that is refused.
        let mut context = Context::from_waker(Waker::noop());
        let unfinished = loop {
            match Pin::new(&mut payload).poll_next(&mut context) {
                Poll::Ready(Some(Ok(_bytes))) => {}
                Poll::Ready(Some(Err(_)) | None) => break false,
                Poll::Pending => break true,
            }
        };
        if unfinished {
            self.progress.unread.set(Some(payload));
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;

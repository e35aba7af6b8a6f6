//! Limits on the client's body: its size, its rate and its time. And its turn, which lapses while the client keeps the server waiting.
//!
//! If a file is streamed, the packets of a slow client are left to gather in the kernel: one read, one turn and one write to the store for
//! some 32 KiB cost less than the same for each packet. A file that is buffered does not have this.
//!
//! The clock of the minimum rate runs only while the server waits for the client, never while the store or the
//! database keeps the client waiting. So it is not part of the stream, which the parser also polls in between, but of
//! each wait for the form.

use std::{
    cell::Cell,
    ops::RangeInclusive,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{error::PayloadError, web};
use bytes::Bytes;
use futures::Stream;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::turns::Turn;

/// The slowest rate at which a client may send, in bytes a second.
const MIN_CLIENT_BYTES_PER_SECOND: u64 = 8 * 1024;

/// How long a client may keep the server waiting for [`FAST_BYTES`] until its turn lapses.
const PATIENCE: Duration = Duration::from_millis(20);
/// How much a client must send in one turn to get all of [`PATIENCE`] again, in bytes: a little less than what a connection reads at once.
/// With it, a client is slow below 25 Mbit/s.
const FAST_BYTES: u64 = 60 * 1024;

/// How long a slow client's packets gather: at least, and at most.
const PAUSES: RangeInclusive<Duration> = Duration::from_millis(25)..=Duration::from_millis(200);
/// How much should have gathered, in bytes. With less the next pause is longer, with more it is shorter. It is less than a socket holds.
const GATHERED_BYTES: RangeInclusive<u64> = 16 * 1024..=56 * 1024;

/// How long a read of what has gathered may take. A window does not end before it.
const READ_TIME: Duration = Duration::from_millis(50);

/// What a client's body may do.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Largest body in bytes, the form's own lines included.
    pub max_bytes: u64,
    /// The time over which the minimum rate is measured.
    pub rate_window: Duration,
    /// The longest that the whole body may take.
    pub max_time: Duration,
}

/// How much of a body has arrived; shared by the stream that counts and the clock that checks the rate.
#[derive(Debug, Default)]
struct Received {
    bytes: Cell<u64>,
    too_large: Cell<bool>,
}

/// A request's payload, with a counter. It fails if it is larger than allowed.
pub struct ClientBody {
    payload: web::Payload,
    max_bytes: u64,
    received: Rc<Received>,
}

/// The clock over a [`ClientBody`].
pub struct Pace {
    limits: BodyLimits,
    turn: Turn,
    /// How long the server has yet to wait for the client before the turn lapses. A turn that comes back has none of it.
    patience: Duration,
    /// How long the client's packets gather.
    pause: Duration,
    /// How many bytes had arrived when the last turn lapsed, or when the client last got its patience again.
    turn_bytes_before: u64,
    received: Rc<Received>,
    deadline: Instant,
    /// How long the server has waited for the client in this window.
    waited: Duration,
    /// How many bytes had arrived when this window began.
    bytes_before: u64,
}

/// Why no more of a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// The client sent too slowly, or for too long.
    #[error("the client sends too slowly")]
    TooSlow,
    /// The body's time ended while it waited for its next turn.
    #[error("the upload's next turn did not come in time")]
    NoTurn,
}

/// Watches `payload` from now on. The upload must have its turn.
pub fn watch(payload: web::Payload, limits: BodyLimits, turn: Turn) -> (ClientBody, Pace) {
    let received = Rc::<Received>::default();
    let body = ClientBody { payload, max_bytes: limits.max_bytes, received: received.clone() };
    (body, Pace::new(received, limits, turn))
}

impl Pace {
    fn new(received: Rc<Received>, limits: BodyLimits, turn: Turn) -> Self {
        let deadline = Instant::now() + limits.max_time;
        Self {
            limits,
            turn,
            patience: PATIENCE,
            pause: *PAUSES.start(),
            turn_bytes_before: 0,
            received,
            deadline,
            waited: Duration::ZERO,
            bytes_before: 0,
        }
    }

    /// Whether the body failed because it is larger than it may be.
    pub fn is_too_large(&self) -> bool {
        self.received.too_large.get()
    }

    /// Waits for the client, at most as long as it may take. After that, the upload has its turn again.
    pub async fn wait<T>(&mut self, reading: impl Future<Output = T>) -> Result<T, NotRead> {
        let mut reading = std::pin::pin!(reading);
        if self.turn_bytes() >= FAST_BYTES {
            self.patience = PATIENCE;
            self.turn_bytes_before = self.received.bytes.get();
        }
        let read = loop {
            let begun = Instant::now();
            let window_ends = begun + self.limits.rate_window.saturating_sub(self.waited).max(READ_TIME);
            let mut until = window_ends.min(self.deadline);
            if self.turn.is_held() {
                until = until.min(begun + self.patience);
            }
            let read = timeout_at(until, &mut reading).await;
            self.waited += begun.elapsed();
            self.patience = self.patience.saturating_sub(begun.elapsed());
            if let Ok(read) = read {
                break read;
            }
            if self.patience.is_zero() {
                self.lapse();
            }
            let now = Instant::now();
            if now >= window_ends || now >= self.deadline {
                self.end_window()?;
            }
        };
        if self.waited >= self.limits.rate_window {
            self.end_window()?;
        }
        self.go_on(read).await
    }

    /// Before a read of a file of which `left` bytes are to come: gives a slow client's turn away, and reads nothing for a while.
    pub async fn let_packets_gather(&mut self, left: u64) {
        if !self.patience.is_zero() {
            return;
        }
        let gathered = self.turn_bytes();
        if gathered < *GATHERED_BYTES.start() {
            self.pause = (2 * self.pause).min(*PAUSES.end());
        } else if gathered > *GATHERED_BYTES.end() {
            self.pause = (self.pause / 2).max(*PAUSES.start());
        }
        if gathered >= FAST_BYTES {
            return;
        }
        self.lapse();
        let begun = Instant::now();
        let until = begun + self.pause.mul_f64((left as f64 / gathered as f64).min(1.0));
        sleep_until(until.min(self.deadline)).await;
        self.waited += begun.elapsed();
    }

    /// Lets another upload move its bytes.
    fn lapse(&mut self) {
        if self.turn.is_held() {
            self.turn.lapse();
            self.turn_bytes_before = self.received.bytes.get();
        }
    }

    /// How many bytes came since the last turn lapsed, or the client got its patience again.
    fn turn_bytes(&self) -> u64 {
        self.received.bytes.get() - self.turn_bytes_before
    }

    /// Gets the turn back, if it has lapsed.
    async fn go_on<T>(&mut self, read: T) -> Result<T, NotRead> {
        // The time that the store needs counts as part of the body's time.
        if Instant::now() >= self.deadline {
            return Err(NotRead::TooSlow);
        }
        if !self.turn.is_held() {
            timeout_at(self.deadline, self.turn.resume()).await.map_err(|_elapsed| NotRead::NoTurn)?;
            self.patience = Duration::ZERO;
        }
        Ok(read)
    }

    /// Begins the next window, unless the client was too slow in this one, or its time is over.
    fn end_window(&mut self) -> Result<(), NotRead> {
        let bytes = self.received.bytes.get() - self.bytes_before;
        let needed = MIN_CLIENT_BYTES_PER_SECOND as f64 * self.limits.rate_window.as_secs_f64();
        if Instant::now() >= self.deadline || (bytes as f64) < needed {
            return Err(NotRead::TooSlow);
        }
        self.waited = Duration::ZERO;
        self.bytes_before = self.received.bytes.get();
        Ok(())
    }
}

impl Stream for ClientBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = std::task::ready!(Pin::new(&mut this.payload).poll_next(context));
        if let Some(Ok(chunk)) = &next {
            let bytes = this.received.bytes.get() + chunk.len() as u64;
            this.received.bytes.set(bytes);
            if bytes > this.max_bytes {
                this.received.too_large.set(true);
                return Poll::Ready(Some(Err(PayloadError::Overflow)));
            }
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{future::pending, sync::Arc};

    use futures::FutureExt as _;
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::turns::Turns;

    fn pace(received: &Rc<Received>, turns: &Arc<Turns>) -> Pace {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let limits = BodyLimits { max_bytes: 1 << 20, rate_window: 10 * second, max_time: 3 * minute };
        Pace::new(received.clone(), limits, turns.arrive().try_recv().unwrap())
    }

    fn wait(milliseconds: u64) -> tokio::time::Sleep {
        sleep(Duration::from_millis(milliseconds))
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_judged_over_waits_alone() {
        let received = Rc::default();
        let mut pace = pace(&received, &Turns::new(1, 1));
        assert_eq!(pace.wait(wait(6000)).await, Ok(()));
        // The store keeps the client waiting; that is not the client's doing.
        advance(Duration::from_secs(60)).await;
        assert_eq!(pace.wait(wait(3000)).await, Ok(()));
        assert_eq!(pace.wait(wait(3000)).await, Err(NotRead::TooSlow), "nothing came in ten seconds of waiting");
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_client_has_until_the_deadline() {
        let received = Rc::<Received>::default();
        let mut pace = pace(&received, &Turns::new(1, 1));
        let begun = Instant::now();
        let dripping = async {
            loop {
                wait(1000).await;
                received.bytes.set(received.bytes.get() + 20_000);
            }
        };
        assert_eq!(pace.wait(dripping).await, Err::<(), _>(NotRead::TooSlow));
        assert_eq!(begun.elapsed(), Duration::from_secs(180));
        assert_eq!(pace.wait(pending()).await, Err::<(), _>(NotRead::TooSlow));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_lapses_while_its_client_keeps_the_server_waiting() {
        let (received, turns) = (Rc::<Received>::default(), Turns::new(1, 2));
        let mut pace = pace(&received, &turns);
        for milliseconds in [9, 9] {
            pace.wait(wait(milliseconds)).await.unwrap();
        }
        assert!(turns.arrive().try_recv().is_err(), "this is no more than a hiccup");

        // A slow line brings packet after packet. Their waits add up.
        let mut other = turns.arrive();
        let other = async {
            let turn = (&mut other).await.unwrap();
            wait(1000).await;
            drop(turn);
        };
        let (slow, ()) = futures::join!(pace.wait(wait(9)), other);
        slow.unwrap();
        assert!(pace.turn.is_held(), "the turn is back, after the other one's");

        let waits = async {
            wait(1).await;
            assert!(turns.arrive().try_recv().is_ok(), "a turn that came back is not spent with waiting");
        };
        pace.wait(waits).await.unwrap();
        received.bytes.set(FAST_BYTES);
        pace.wait(wait(9)).await.unwrap();
        assert!(turns.arrive().try_recv().is_err(), "it is fast again");
    }

    /// Reads for this time from a client that sends a packet each millisecond, and returns how often it read.
    async fn read_steadily(pace: &mut Pace, bytes_per_second: u64, time: Duration) -> Result<u64, NotRead> {
        let (begun, received, mut reads) = (Instant::now(), pace.received.clone(), 0);
        while begun.elapsed() < time {
            let packets = async {
                loop {
                    let sent = bytes_per_second * begun.elapsed().as_millis() as u64 / 1000;
                    if sent > received.bytes.get() {
                        return received.bytes.set(sent);
                    }
                    wait(1).await;
                }
            };
            pace.let_packets_gather(u64::MAX).await;
            pace.wait(packets).await?;
            reads += 1;
        }
        Ok(reads)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_clients_packets_gather_and_a_fast_ones_do_not() {
        for (bytes_per_second, reads_per_second) in
            [(10_000, 2..=10), (250_000, 5..=20), (2_000_000, 20..=80), (10_000_000, 1000..=10_000)]
        {
            let mut pace = pace(&Rc::default(), &Turns::new(1, 1));
            let reads = read_steadily(&mut pace, bytes_per_second, Duration::from_secs(10)).await.unwrap();
            assert!(reads_per_second.contains(&(reads / 10)), "{bytes_per_second} B/s: {reads} reads");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_lowest_rate_is_the_same_for_packets_that_gather() {
        for seconds in [1, 10] {
            for (bytes_per_second, expected) in [(8_700, Ok(())), (8_000, Err(NotRead::TooSlow))] {
                let mut pace = pace(&Rc::default(), &Turns::new(1, 1));
                pace.limits.rate_window = Duration::from_secs(seconds);
                let read = read_steadily(&mut pace, bytes_per_second, Duration::from_secs(60)).await;
                assert_eq!(read.map(|_reads| ()), expected, "{bytes_per_second} B/s in windows of {seconds} s");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_back_in_time_is_not_the_clients_fault() {
        let (received, turns) = (Rc::<Received>::default(), Turns::new(1, 2));
        let mut pace = pace(&received, &turns);
        let mut other = turns.arrive();
        assert_eq!(pace.wait(wait(30)).now_or_never(), None);
        let (slow, _other) = futures::join!(pace.wait(wait(30)), &mut other);
        assert_eq!(slow, Err(NotRead::NoTurn));
    }
}

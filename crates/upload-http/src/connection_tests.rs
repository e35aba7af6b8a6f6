//! The times that a test through HTTP would have to wait for, by a clock that is told.

use std::future::poll_fn;

use futures::FutureExt as _;
use tokio::{
    net::TcpListener,
    time::{advance, timeout},
};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A client and what the server has of it.
async fn pair(places: &Rc<Places>) -> (TcpStream, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no port: {error}"));
    let address = listener.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
    let (client, server) = futures::join!(TcpStream::connect(address), listener.accept());
    let (Ok(client), Ok((server, _address))) = (client, server) else { panic!("no connection") };
    (client, Connection::new(server, places))
}

/// How many bytes come next; none is the end.
async fn next(connection: &mut Connection) -> usize {
    let mut bytes = [0; 16 * 1024];
    let mut buffer = ReadBuf::new(&mut bytes);
    let read = poll_fn(|context| Pin::new(&mut *connection).poll_read(context, &mut buffer)).await;
    read.unwrap_or_else(|error| panic!("it cannot be read: {error}"));
    buffer.filled().len()
}

async fn send(client: &TcpStream, bytes: &[u8]) {
    client.writable().await.unwrap_or_else(|error| panic!("it cannot be written: {error}"));
    assert_eq!(client.try_write(bytes).ok(), Some(bytes.len()));
}

/// What comes at the client next.
async fn hear(client: &TcpStream) -> Vec<u8> {
    client.readable().await.unwrap_or_else(|error| panic!("nothing comes: {error}"));
    let mut bytes = vec![0; 200];
    let count = client.try_read(&mut bytes).unwrap_or_default();
    bytes.truncate(count);
    bytes
}

async fn answered(connection: &mut Connection) {
    connection.progress.enter(Stage::Answered);
    let flushed = poll_fn(|context| Pin::new(&mut *connection).poll_flush(context)).await;
    assert!(flushed.is_ok());
}

/// As `Body` does, if its reader stops before the end.
fn hold_unread(connection: &Connection, refused: bool) {
    connection.progress.unread.set(refused.then_some(Payload::None));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_its_time_after_each_answer() {
    let (_client, mut connection) = pair(&Places::new(10)).await;
    for _ in 0..2 {
        answered(&mut connection).await;
        let begun = Instant::now();
        assert_eq!(next(&mut connection).await, 0);
        assert_eq!(begun.elapsed().as_secs(), IDLE_TIME.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_time_however_often_a_byte_comes() {
    let (client, mut connection) = pair(&Places::new(10)).await;
    answered(&mut connection).await;
    let begun = Instant::now();
    advance(MINUTE).await;
    for _ in 0..5 {
        send(&client, b"G").await;
        assert_eq!(next(&mut connection).await, 1);
        advance(Duration::from_millis(900)).await;
    }
    assert_eq!(next(&mut connection).await, 0);
    assert_eq!(begun.elapsed().as_secs(), (MINUTE + HEAD_TIME).as_secs());
    assert_eq!(hear(&client).await, TOO_LATE);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_timed_while_a_request_is_served() {
    let (client, mut connection) = pair(&Places::new(10)).await;
    send(&client, b"GET").await;
    assert_eq!(next(&mut connection).await, 3);
    connection.progress.enter(Stage::Serving);
    assert!(timeout(60 * MINUTE, next(&mut connection)).await.is_err(), "the server takes as long as it takes");
}

#[tokio::test(start_paused = true)]
async fn what_follows_an_answer_is_read_up_to_its_limit() {
    for (refused, time) in [(false, HEAD_TIME), (true, LINGER_TIME)] {
        let (client, mut connection) = pair(&Places::new(10)).await;
        hold_unread(&connection, refused);
        answered(&mut connection).await;
        let begun = Instant::now();
        for _ in 0..UNASKED_BYTES / 1024 {
            send(&client, &[0; 1024]).await;
            assert_eq!(next(&mut connection).await, 1024);
        }
        send(&client, &[0; 1024]).await;
        assert_eq!(next(&mut connection).await, 0, "more is not read, and it ends");
        assert_eq!(begun.elapsed().as_secs(), time.as_secs(), "refused: {refused}");
    }
}

/// actix's own timer for this can be lost, so it is not relied upon.
#[tokio::test(start_paused = true)]
async fn a_refused_body_that_does_not_come_is_not_waited_for() {
    let (client, mut connection) = pair(&Places::new(10)).await;
    hold_unread(&connection, true);
    answered(&mut connection).await;
    let begun = Instant::now();
    assert_eq!(next(&mut connection).await, 0);
    assert_eq!(begun.elapsed().as_secs(), LINGER_TIME.as_secs());
    assert!(client.try_read(&mut [0; 200]).is_err(), "nothing is said after the answer");
}

/// actix reads no more from a client that has closed its side, and only flushes.
#[tokio::test(start_paused = true)]
async fn a_lingering_connection_is_woken_without_a_read() {
    let (_client, mut connection) = pair(&Places::new(10)).await;
    hold_unread(&connection, true);
    let begun = Instant::now();
    let woken = poll_fn(|context| {
        if begun.elapsed() >= LINGER_TIME {
            return Poll::Ready(());
        }
        if matches!(connection.progress.stage.get(), Stage::Coming { .. }) {
            connection.progress.enter(Stage::Answered);
        }
        assert!(Pin::new(&mut connection).poll_flush(context).is_ready());
        Poll::Pending
    });
    assert!(timeout(MINUTE, woken).await.is_ok(), "nothing wakes it");
    assert_eq!(begun.elapsed().as_secs(), LINGER_TIME.as_secs());
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_is_idle_longest_makes_room() {
    let places = Places::new(3);
    let (_first_client, mut first) = pair(&places).await;
    let (_second_client, mut second) = pair(&places).await;
    answered(&mut first).await;
    answered(&mut second).await;
    assert!(timeout(MINUTE, next(&mut first)).await.is_err(), "there is room");
    let (_third_client, third) = pair(&places).await;
    let begun = Instant::now();
    assert_eq!(next(&mut first).await, 0);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    drop((first, third));
    assert!(timeout(Duration::from_secs(1), next(&mut second)).await.is_err(), "there is room again");
    answered(&mut second).await;
    // A request that came with the one before is begun without a read.
    second.progress.enter(Stage::Serving);
    assert!(places.idle.borrow().is_empty(), "it is not idle");
    drop(second);
    assert_eq!((places.taken.get(), places.idle.borrow().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_idle_connections_keep_the_buffer_of_an_upload() {
    let places = Places::new(10_000);
    let (_client, mut small) = pair(&places).await;
    answered(&mut small).await;
    let mut uploaded = Vec::new();
    for _ in 0..IDLE_BUFFERS {
        let (client, mut connection) = pair(&places).await;
        connection.buffer_bytes = PIECE_BYTES;
        answered(&mut connection).await;
        uploaded.push((client, connection));
    }
    assert!(timeout(Duration::from_secs(1), next(&mut uploaded[0].1)).await.is_err(), "so many may stay");
    let (_last_client, mut last) = pair(&places).await;
    last.buffer_bytes = PIECE_BYTES;
    answered(&mut last).await;
    assert_eq!(next(&mut uploaded[0].1).await, 0);
    for kept in [&mut small, &mut uploaded[1].1, &mut last] {
        assert!(timeout(Duration::from_secs(1), next(kept)).await.is_err(), "it may stay");
    }
    drop((small, uploaded, last));
    assert_eq!((places.idle.borrow().len(), places.with_buffer.borrow().len()), (0, 0));
}

/// As `watch` does with a request that has a body.
fn begin_body(connection: &Connection) {
    connection.progress.enter(Stage::Serving);
    connection.progress.demand.set(Demand::Unasked);
}

#[tokio::test]
async fn a_body_is_read_only_when_its_handler_asks_and_a_piece_at_a_time() {
    let (client, mut connection) = pair(&Places::new(10)).await;
    begin_body(&connection);
    let body = vec![b'x'; 3 * PIECE_BYTES];
    let sending = tokio::spawn(async move {
        let mut client = client;
        tokio::io::AsyncWriteExt::write_all(&mut client, &body).await.map(|()| client)
    });
    for _piece in 0..2 {
        assert!(next(&mut connection).now_or_never().is_none(), "nobody has asked for it");
        connection.progress.ask();
        let mut bytes = 0;
        while bytes < PIECE_BYTES {
            bytes += next(&mut connection).await;
        }
        assert_eq!(bytes, PIECE_BYTES);
        connection.progress.demand.set(Demand::Unasked);
    }
    assert!(sending.await.is_ok_and(|sent| sent.is_ok()));
}

/// This reads as actix does (`read_available` in its `h1/dispatcher.rs`).
#[tokio::test]
async fn the_buffer_that_actix_reads_into_becomes_no_larger_than_a_piece() {
    const BODY_BYTES: usize = 3_000_000;
    let (client, mut connection) = pair(&Places::new(10)).await;
    begin_body(&connection);
    let sending = tokio::spawn(async move {
        let mut client = client;
        tokio::io::AsyncWriteExt::write_all(&mut client, &[b'x'; BODY_BYTES]).await.map(|()| client)
    });
    let mut buffer = actix_web::web::BytesMut::with_capacity(8 * 1024);
    let (mut bytes, mut largest) = (0, 0);
    while bytes < BODY_BYTES {
        connection.progress.ask();
        poll_fn(|context| {
            loop {
                if buffer.capacity() - buffer.len() < SPARE_BYTES {
                    buffer.reserve(8 * 1024 - (buffer.capacity() - buffer.len()));
                }
                let mut room = vec![0; buffer.capacity() - buffer.len()];
                let mut read = ReadBuf::new(&mut room);
                if Pin::new(&mut connection).poll_read(context, &mut read).is_pending() {
                    return if buffer.is_empty() { Poll::Pending } else { Poll::Ready(()) };
                }
                buffer.extend_from_slice(read.filled());
            }
        })
        .await;
        bytes += buffer.len();
        largest = largest.max(buffer.capacity());
        // The handler has copied it.
        drop(buffer.split());
        connection.progress.demand.set(Demand::Unasked);
    }
    assert_eq!(largest, PIECE_BYTES);
    assert!(sending.await.is_ok_and(|sent| sent.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_is_noticed_though_nothing_is_read() {
    let (client, mut connection) = pair(&Places::new(10)).await;
    begin_body(&connection);
    send(&client, b"a part of a body").await;
    assert!(timeout(MINUTE, next(&mut connection)).await.is_err(), "it is there, and waits");
    drop(client);
    let noticed = timeout(2 * LOOK_TIME, next(&mut connection)).await;
    assert_eq!(noticed.ok(), Some(0));
}

#[tokio::test]
async fn a_client_hears_continue_when_its_body_is_asked_for() {
    let (client, mut connection) = pair(&Places::new(10)).await;
    begin_body(&connection);
    connection.progress.expectation.set(Expectation::Continue);
    let mut write = |bytes| {
        let written = poll_fn(|context| Pin::new(&mut connection).poll_write(context, bytes)).now_or_never();
        written.and_then(Result::ok)
    };
    assert_eq!(write(CONTINUE), Some(CONTINUE.len()), "actix need not write it again");
    assert_eq!(write(b"HTTP/1.1 100"), Some(12), "only the first write is looked at");
    assert_eq!(hear(&client).await, b"HTTP/1.1 100");

    connection.progress.ask();
    assert!(next(&mut connection).now_or_never().is_none(), "the body is to come");
    assert_eq!(hear(&client).await, CONTINUE);
}

#[tokio::test]
async fn the_receive_buffer_is_that_of_an_upload_until_its_answer() {
    let (_client, mut connection) = pair(&Places::new(10)).await;
    let bytes = |connection: &Connection| SockRef::from(&connection.stream).recv_buffer_size().unwrap_or_default();
    let before = bytes(&connection);
    begin_body(&connection);
    connection.progress.raise.set(true);
    connection.progress.ask();
    assert!(next(&mut connection).now_or_never().is_none(), "nothing comes");
    assert!(bytes(&connection) > before);
    answered(&mut connection).await;
    assert_eq!(bytes(&connection), before);
}

#[tokio::test]
async fn a_head_is_seen_before_more_is_read() {
    let (client, mut connection) = pair(&Places::new(10)).await;
    send(&client, &[b'x'; 20_000]).await;
    assert_eq!(next(&mut connection).await, 16 * 1024);
    let mut bytes = [0; 1024];
    let mut buffer = ReadBuf::new(&mut bytes);
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut connection).poll_read(&mut context, &mut buffer).is_pending(), "actix looks at the piece");
    assert_eq!(next(&mut connection).await, 20_000 - 16 * 1024);
}

//! Bodies that arrive at the client's pace: the store gets them exactly, or not at all.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc};
use http_body::{Body, Frame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use upload_domain::ImageFormat;
use upload_storage::{ChecksumMode, StorageError};

use crate::{
    objects::pattern,
    stand::{stand, stand_with},
};

type Chunk = Result<Bytes, std::io::Error>;

/// A body that reads its chunks from a channel.
struct ChannelBody(mpsc::UnboundedReceiver<Chunk>);

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_next_unpin(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

fn body(chunks: impl IntoIterator<Item = Chunk>) -> ChannelBody {
    let (sender, receiver) = mpsc::unbounded();
    for chunk in chunks {
        sender.unbounded_send(chunk).unwrap();
    }
    ChannelBody(receiver)
}

fn chunks_of(bytes: &Bytes, size: usize) -> Vec<Chunk> {
    bytes.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect()
}

const KEY: &str = "media/1/1";
const LENGTH: usize = 300_000;

#[tokio::test]
async fn a_stream_of_the_announced_length_is_stored() {
    let stand = stand().await;
    let bytes = pattern(LENGTH);
    let put = stand.storage.put_stream(KEY, ImageFormat::Jpeg, LENGTH as u64, body(chunks_of(&bytes, 7_000)));
    let etag = put.await.unwrap();
    let head = stand.storage.read_head(KEY, None, LENGTH).await.unwrap().unwrap();
    assert_eq!((head.bytes, head.etag, head.content_type.as_deref()), (bytes, etag, Some("image/jpeg")));
}

#[tokio::test]
async fn a_rope_of_chunks_is_stored() {
    let stand = stand().await;
    let bytes = pattern(LENGTH);
    let chunks = bytes.chunks(65_536).map(Bytes::copy_from_slice).collect();
    let etag = stand.storage.put_buffered(KEY, ImageFormat::Png, chunks).await.unwrap();
    let head = stand.storage.read_head(KEY, None, LENGTH).await.unwrap().unwrap();
    assert_eq!((head.bytes, head.etag, head.content_type.as_deref()), (bytes, etag, Some("image/png")));
}

#[tokio::test]
async fn both_ways_also_work_with_the_sdks_own_checksums() {
    let stand = stand_with(|settings| settings.checksums = ChecksumMode::WhenSupported).await;
    let bytes = pattern(LENGTH);
    let put = stand.storage.put_stream(KEY, ImageFormat::Jpeg, LENGTH as u64, body(chunks_of(&bytes, 7_000)));
    put.await.unwrap();
    assert_eq!(stand.storage.read(KEY).await.unwrap(), Some(bytes.clone()));
    stand.storage.put_buffered("media/1/2", ImageFormat::Png, vec![bytes.clone()]).await.unwrap();
    assert_eq!(stand.storage.read("media/1/2").await.unwrap(), Some(bytes));
}

#[tokio::test]
async fn a_stream_that_is_too_short_too_long_or_breaks_off_stores_nothing() {
    let stand = stand().await;
    let bytes = pattern(LENGTH);
    let broken = || Err(std::io::Error::other("the client went away"));
    let mut short = chunks_of(&bytes, 7_000);
    short.pop();
    let mut long = chunks_of(&bytes, 7_000);
    long.push(Ok(Bytes::from_static(b"x")));
    let one_too_long = vec![Ok(pattern(LENGTH + 1))];
    let mut breaks_off = chunks_of(&bytes, 7_000);
    breaks_off.truncate(20);
    breaks_off.push(broken());
    let mut breaks_off_at_the_end = chunks_of(&bytes, 7_000);
    breaks_off_at_the_end.push(broken());
    for (name, chunks) in [
        ("short", short),
        ("long", long),
        ("one too long", one_too_long),
        ("breaks off", breaks_off),
        ("breaks off at the end", breaks_off_at_the_end),
        ("breaks off at once", vec![broken()]),
        ("empty", vec![]),
    ] {
        let put = stand.storage.put_stream(KEY, ImageFormat::Jpeg, LENGTH as u64, body(chunks)).await;
        assert!(matches!(put, Err(StorageError::Unavailable(_) | StorageError::Refused(_))), "{name}: {put:?}");
        assert_eq!(stand.storage.list("").await.unwrap(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn a_put_that_is_given_up_in_the_middle_leaves_the_old_object() {
    let stand = stand().await;
    stand.storage.put(KEY, "image/png", Bytes::from_static(b"old")).await.unwrap();
    let (sender, receiver) = mpsc::unbounded();
    sender.unbounded_send(Ok(pattern(LENGTH - 1))).unwrap();
    let put = stand.storage.put_stream(KEY, ImageFormat::Jpeg, LENGTH as u64, ChannelBody(receiver));
    {
        let mut put = std::pin::pin!(put);
        // The rest of the body never comes, so the read of the object ends first.
        let seen = async { stand.storage.read(KEY).await };
        tokio::select! {
            put = &mut put => panic!("{put:?}"),
            seen = seen => assert_eq!(seen.unwrap(), Some(Bytes::from_static(b"old"))),
        }
    }
    drop(sender);
    assert_eq!(stand.storage.read(KEY).await.unwrap(), Some(Bytes::from_static(b"old")));
}

#[tokio::test]
async fn an_attempt_that_fails_before_the_body_flows_is_tried_again() {
    for first_answer in ["", "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"] {
        let stand = stand().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = stand.settings.clone();
        let store = format!("{}:{}", settings.endpoint.host_str().unwrap(), settings.endpoint.port().unwrap());
        settings.endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let storage = upload_storage::Storage::new(&settings).await.unwrap();

        let (sender, receiver) = mpsc::unbounded();
        let put = storage.put_stream(KEY, ImageFormat::Jpeg, 1000, ChannelBody(receiver));
        let relay = async {
            let (mut first, _address) = listener.accept().await.unwrap();
            first.write_all(first_answer.as_bytes()).await.unwrap();
            first.shutdown().await.unwrap();
            let (mut second, _address) = listener.accept().await.unwrap();
            // Before this, the body had no bytes.
            sender.unbounded_send(Ok(pattern(1000))).unwrap();
            sender.close_channel();
            drop(first);
            let mut server = TcpStream::connect(store).await.unwrap();
            tokio::io::copy_bidirectional(&mut second, &mut server).await.ok();
        };
        let mut relay = std::pin::pin!(relay);
        let stored = tokio::select! {
            stored = put => stored,
            () = &mut relay => panic!("the store hung up"),
        };
        stored.unwrap();
        assert_eq!(stand.storage.read(KEY).await.unwrap(), Some(pattern(1000)));
    }
}

#[tokio::test]
async fn an_attempt_that_fails_after_the_first_byte_is_final() {
    let stand = stand().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = stand.settings.clone();
    settings.endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let storage = upload_storage::Storage::new(&settings).await.unwrap();
    let put = storage.put_stream(KEY, ImageFormat::Jpeg, LENGTH as u64, body(chunks_of(&pattern(LENGTH), 7_000)));
    let store = async {
        loop {
            let (mut connection, _address) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            // Wait for the body's first chunk. A retry has none: its body fails at once.
            while seen.len() < 7_000 && connection.read_buf(&mut seen).await.unwrap_or(0) > 0 {}
            let answer = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            connection.write_all(answer).await.ok();
        }
    };
    let refused = tokio::select! {
        refused = put => refused,
        () = store => unreachable!("it serves for ever"),
    };
    assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_client_may_take_longer_than_any_other_call() {
    let stand = stand().await;
    let (sender, receiver) = mpsc::unbounded();
    let put = stand.storage.put_stream(KEY, ImageFormat::Jpeg, LENGTH as u64, ChannelBody(receiver));
    let mut put = std::pin::pin!(put);
    let bytes = pattern(LENGTH);
    sender.unbounded_send(Ok(bytes.slice(..LENGTH / 2))).unwrap();
    // First let the upload begin. Then the clock jumps by an hour.
    let existing = async { stand.storage.size(KEY).await };
    tokio::select! {
        biased;
        put = &mut put => panic!("{put:?}"),
        size = existing => assert_eq!(size.unwrap(), None),
    }
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(3600)).await;
    tokio::time::resume();
    tokio::select! {
        biased;
        put = &mut put => panic!("{put:?}"),
        () = tokio::task::yield_now() => {}
    }
    sender.unbounded_send(Ok(bytes.slice(LENGTH / 2..))).unwrap();
    drop(sender);
    put.await.unwrap();
    assert_eq!(stand.storage.read(KEY).await.unwrap(), Some(bytes));
}

#[tokio::test]
async fn a_store_that_never_answers_is_a_timeout() {
    let stand = stand().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = stand.settings.clone();
    settings.endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let storage = upload_storage::Storage::new(&settings).await.unwrap();
    let mut silent = Vec::new();
    let call = storage.read_head(KEY, None, 10);
    let mut call = std::pin::pin!(call);
    tokio::select! {
        answer = &mut call => panic!("{answer:?}"),
        connection = listener.accept() => silent.push(connection.unwrap()),
    }
    tokio::time::pause();
    // A call without a limit fails the test, and does not hang it: the paused clock goes to the next timer at once.
    let answer = tokio::time::timeout(std::time::Duration::from_secs(3600), call).await.unwrap();
    assert!(matches!(answer, Err(StorageError::Timeout(_))), "{answer:?}");
}

#[tokio::test]
async fn a_streamed_body_travels_as_it_is() {
    let stand = stand().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = stand.settings.clone();
    settings.endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let storage = upload_storage::Storage::new(&settings).await.unwrap();
    let bytes = pattern(1000);
    let put = storage.put_stream(KEY, ImageFormat::Jpeg, 1000, body([Ok(bytes.clone())]));
    let store = async {
        let (mut connection, _address) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(&bytes) {
            assert_ne!(connection.read_buf(&mut seen).await.unwrap(), 0);
        }
        connection.write_all(b"HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&seen[..seen.len() - bytes.len()]).to_ascii_lowercase()
    };
    let (stored, head) = tokio::join!(put, store);
    assert_eq!(stored.unwrap(), "\"1\"");
    // With `WhenRequired`, the SDK does not frame, hash or sign the body in chunks.
    assert!(head.contains("\r\ncontent-length: 1000\r\n"), "{head}");
    assert!(head.contains("\r\nx-amz-content-sha256: unsigned-payload\r\n"), "{head}");
    assert!(!head.contains("aws-chunked") && !head.contains("checksum"), "{head}");
}

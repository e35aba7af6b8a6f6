//! A TCP relay between the server and a part of its world, which loses answers: a connection on which the client says a
//! given word is closed when the answer to it arrives. What was asked has then been done, and the client cannot know.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinSet,
};

pub struct Relay {
    pub address: SocketAddr,
    /// How many answers were lost.
    pub lost: watch::Receiver<u32>,
    // Ends with its connections when it is dropped.
    _task: JoinSet<()>,
}

impl Relay {
    pub async fn losing_answers_to(word: &'static str, target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, lost) = watch::channel(0);
        let sender = Arc::new(sender);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&target).await.unwrap();
                connections.spawn(relay(client, server, word, Arc::clone(&sender)));
            }
        });
        Self { address, lost, _task: task }
    }
}

async fn relay(client: TcpStream, server: TcpStream, word: &'static str, lost: Arc<watch::Sender<u32>>) {
    let (client_reader, client_writer) = client.into_split();
    let (server_reader, server_writer) = server.into_split();
    let (said, heard) = watch::channel(false);
    tokio::select! {
        () = asks(client_reader, server_writer, word, said) => {}
        () = answers(server_reader, client_writer, heard, lost) => {}
    }
}

async fn asks(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, word: &str, said: watch::Sender<bool>) {
    let mut chunk = vec![0; 64 * 1024];
    // Kept from the chunk before, so that a word on the border is found.
    let mut seen: Vec<u8> = Vec::new();
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        seen.extend_from_slice(&chunk[..length]);
        if seen.windows(word.len()).any(|window| window == word.as_bytes()) {
            said.send_replace(true);
        }
        seen.drain(..seen.len().saturating_sub(word.len()));
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    heard: watch::Receiver<bool>,
    lost: Arc<watch::Sender<u32>>,
) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if *heard.borrow() {
            lost.send_modify(|lost| *lost += 1);
            return;
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

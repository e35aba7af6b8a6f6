//! A TCP relay between the server and a part of its world. It listens for a word that the server says: in one request, at a
//! known point of what it does. Then it either loses the answer (what was asked is done, and the server cannot know), or
//! holds the request back until the test has changed the world.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

pub struct Relay {
    pub address: SocketAddr,
    said: watch::Receiver<u32>,
    released: watch::Sender<bool>,
    // Ends with its connections when it is dropped.
    _task: JoinSet<()>,
}

#[derive(Clone)]
struct Rule {
    word: &'static str,
    loses_answers: bool,
    /// How often the word was said, on any connection.
    said: watch::Sender<u32>,
    released: watch::Receiver<bool>,
}

impl Relay {
    /// Closes a connection in place of answering the word.
    pub async fn losing_answers_to(word: &'static str, target: String) -> Self {
        Self::start(word, target, true).await
    }

    /// Holds what contains the word back until [`Relay::release`].
    pub async fn holding(word: &'static str, target: String) -> Self {
        Self::start(word, target, false).await
    }

    /// How often the word was said.
    pub fn said(&self) -> u32 {
        *self.said.borrow()
    }

    pub async fn wait_for_the_word(&self) {
        self.said.clone().wait_for(|said| *said > 0).await.unwrap();
    }

    pub fn release(&self) {
        self.released.send_replace(true);
    }

    async fn start(word: &'static str, target: String, loses_answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (released, waiting) = watch::channel(loses_answers);
        let (sender, said) = watch::channel(0);
        let rule = Rule { word, loses_answers, said: sender, released: waiting };
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&target).await.unwrap();
                connections.spawn(relay(client, server, rule.clone()));
            }
        });
        Self { address, said, released, _task: task }
    }
}

async fn relay(client: TcpStream, server: TcpStream, rule: Rule) {
    let (client_reader, client_writer) = client.into_split();
    let (server_reader, server_writer) = server.into_split();
    let (lost, losing) = watch::channel(false);
    tokio::select! {
        () = asks(client_reader, server_writer, rule, lost) => {}
        () = answers(server_reader, client_writer, losing) => {}
    }
}

async fn asks(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut rule: Rule, lost: watch::Sender<bool>) {
    let mut chunk = vec![0; 64 * 1024];
    // Kept from the chunk before, so that a word on the border is found.
    let mut seen: Vec<u8> = Vec::new();
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        seen.extend_from_slice(&chunk[..length]);
        if seen.windows(rule.word.len()).any(|window| window == rule.word.as_bytes()) {
            seen.clear();
            lost.send_replace(rule.loses_answers);
            rule.said.send_modify(|said| *said += 1);
            rule.released.wait_for(|released| *released).await.unwrap();
        }
        seen.drain(..seen.len().saturating_sub(rule.word.len()));
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, losing: watch::Receiver<bool>) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if *losing.borrow() || to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

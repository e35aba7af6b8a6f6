//! The connections of the sink: accepted, counted and served.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    net::Ipv4Addr,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::io::{InspectReader, InspectWriter};

use super::{service::Service, signature::Keys, traffic::Connection};

/// Room for a burst of connections.
const BACKLOG: u32 = 4096;

/// Serves until the runtime ends; prints the address as servers do.
pub(super) async fn serve(keys: Keys) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).context("there is no free port")?;
    let listener = socket.listen(BACKLOG)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    accept(listener, Arc::new(Service::new(keys))).await
}

async fn accept(listener: TcpListener, service: Arc<Service>) -> Result<()> {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _address)) => stream,
            Err(error) => {
                // The client has gone, or there is no file descriptor left: the next connection may work.
                eprintln!("the sink cannot accept a connection: {error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        stream.set_nodelay(true)?;
        tokio::spawn(serve_connection(stream, Arc::clone(&service)));
    }
}

/// Serves a connection, whose bytes are counted, headers included.
async fn serve_connection(stream: TcpStream, service: Arc<Service>) {
    let connection = Arc::new(Connection::new(Arc::clone(service.books())));
    let (reads, writes) = (Arc::clone(&connection), Arc::clone(&connection));
    let stream = InspectWriter::new(stream, move |bytes: &[u8]| writes.wrote(bytes.len()));
    let stream = InspectReader::new(stream, move |bytes: &[u8]| reads.read(bytes.len()));
    let answering = service_fn(move |request| {
        let (service, connection) = (Arc::clone(&service), Arc::clone(&connection));
        async move { Ok::<_, Infallible>(service.answer(request, &connection).await) }
    });
    // A client may break off; what it sent is counted.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answering).await;
}

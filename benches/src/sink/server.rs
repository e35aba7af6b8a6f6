//! Connections: accepted, counted, served.

use std::{
    convert::Infallible,
    io::{self, IoSlice, Write as _},
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::{Context as _, Result};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::{service::Service, signature::Keys, traffic::Connection};

/// As many as a burst brings at once.
const BACKLOG: u32 = 4096;

/// Serves until the runtime ends; prints the address as servers do.
pub(super) async fn serve(keys: Keys) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).context("no port can be had")?;
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
                // One connection that went before it was accepted, or no file descriptor left: the next may do better.
                eprintln!("the sink could not accept a connection: {error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        stream.set_nodelay(true)?;
        tokio::spawn(serve_connection(stream, Arc::clone(&service)));
    }
}

async fn serve_connection(stream: TcpStream, service: Arc<Service>) {
    let connection = Arc::new(Connection::new(Arc::clone(service.books())));
    let counted = Counted { stream, connection: Arc::clone(&connection) };
    let answering = service_fn(move |request| {
        let (service, connection) = (Arc::clone(&service), Arc::clone(&connection));
        async move { Ok::<_, Infallible>(service.answer(request, &connection).await) }
    });
    // A client that goes away in the middle is its own concern: what it sent has been counted.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(counted), answering).await;
}

/// A stream whose bytes are counted, heads included.
struct Counted {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Counted {
    fn wrote(&self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        if let Ok(bytes) = written {
            self.connection.wrote(bytes);
        }
        Poll::Ready(written)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.connection.read(buffer.filled().len() - before);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

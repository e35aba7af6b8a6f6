//! The generator's own HTTP/1.1 client, since a measurement decides what a general one decides by itself: when a
//! connection is made and reused, that the file is never copied, and that every byte is counted.
//!
//! It speaks plain HTTP and resolves names once; there are no redirects, no proxies and no compression.
//!
//! On one machine the clients' send buffers come out of the same memory that the kernel gives to TCP as a whole (`tcp_mem`,
//! <https://docs.kernel.org/networking/ip-sysctl.html>) as the servers' receive buffers; once it is used up, whatever arrives is dropped. Clients
//! elsewhere bring kernels of their own, so theirs are bounded here. That alone did not let V1 take a thousand uploads at once: its own
//! receive buffers had to be bounded, too.

mod answer;
mod body;
mod connection;
mod form;
mod stream;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use hyper::{
    Request, Uri,
    header::{HOST, HeaderValue},
};
use tokio::net::TcpSocket;
use url::{Host, Position, Url};

pub(crate) use answer::{Answer, Failure};
pub(crate) use body::{Pieces, multipart, multipart_content_type};
pub(crate) use form::{Created, Form, ImageEntity};

use crate::load::Progress;
use connection::Connection;
use stream::CountedStream;

/// The send buffer of each client's socket, in bytes; Linux doubles what is asked for, to have room for its own (socket(7)).
const SEND_BUFFER_BYTES: u32 = 128 * 1024;

/// Whom a connection leads to, as far as traffic is told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The server that is measured, or the relay.
    Server,
    /// The store, without a server in between.
    Store,
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host and port as the URL has them: a signature may cover this text.
    pub authority: String,
    host: Host,
    port: u16,
    pub role: Role,
}

impl Endpoint {
    /// Where a URL leads.
    pub fn of(url: &Url, role: Role) -> Result<Self> {
        let (Some(host), "http") = (url.host(), url.scheme()) else {
            bail!("{url} cannot be loaded: the generator speaks plain http only.");
        };
        let authority = url[Position::BeforeHost..Position::AfterPort].to_owned();
        Ok(Self { authority, host: host.to_owned(), port: url.port_or_known_default().unwrap_or(80), role })
    }

    /// A request for a URL of this endpoint, without its headers.
    pub fn request(&self, method: hyper::Method, url: &Url, body: Pieces) -> Result<Request<Pieces>> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        let path = &url[Position::BeforePath..Position::AfterQuery];
        *request.uri_mut() = path.parse::<Uri>().with_context(|| format!("{path} is no path"))?;
        let host = HeaderValue::try_from(&self.authority).with_context(|| format!("{url} has no usable host"))?;
        request.headers_mut().insert(HOST, host);
        Ok(request)
    }
}

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct Network {
    progress: Progress,
    /// At most so many bytes are written in a second on each connection; none for no limit.
    bytes_per_second: Option<u64>,
    addresses: Mutex<HashMap<String, SocketAddr>>,
}

impl Network {
    pub fn new(progress: Progress, bytes_per_second: Option<u64>) -> Self {
        Self { progress, bytes_per_second, addresses: Mutex::default() }
    }

    /// Finds an endpoint's address, by the resolver only once.
    pub async fn resolve(&self, endpoint: &Endpoint) -> Result<SocketAddr> {
        let name = match &endpoint.host {
            Host::Ipv4(address) => return Ok((*address, endpoint.port).into()),
            Host::Ipv6(address) => return Ok((*address, endpoint.port).into()),
            // Names below `localhost` are this machine's (RFC 6761, 6.3), which not every resolver knows.
            Host::Domain(name) if name.ends_with(".localhost") => {
                return Ok((Ipv4Addr::LOCALHOST, endpoint.port).into());
            }
            Host::Domain(name) => name,
        };
        let known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint.authority).copied();
        if let Some(address) = known {
            return Ok(address);
        }
        let found: Vec<_> = tokio::net::lookup_host((name.as_str(), endpoint.port))
            .await
            .with_context(|| format!("There is no host called {name}"))?
            .collect();
        // Servers of one machine mostly listen on IPv4 alone, whatever `localhost` resolves to first.
        let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
        let address = *address.with_context(|| format!("{name} has no address"))?;
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.authority.clone(), address);
        Ok(address)
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<CountedStream> {
        let address = self.resolve(endpoint).await?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        let tcp = socket.connect(address).await?;
        tcp.set_nodelay(true)?;
        self.progress.moved();
        Ok(CountedStream::new(tcp, endpoint.role, self.progress.clone(), self.bytes_per_second))
    }
}

/// One client: its connections, at most one to each authority.
#[derive(Debug, Default)]
pub(crate) struct Client {
    open: Vec<Connection>,
}

impl Client {
    /// Sends a request and reads the whole answer. When this is dropped half-way, so is the connection.
    pub async fn exchange(
        &mut self,
        network: &Network,
        endpoint: &Endpoint,
        request: Request<Pieces>,
    ) -> Result<Answer, Failure> {
        let mut connection = match self.reuse(endpoint).await {
            Some(connection) => connection,
            None => {
                let stream = network.connect(endpoint).await.map_err(Failure::connection)?;
                Connection::open(endpoint, stream).await.map_err(Failure::connection)?
            }
        };
        network.progress.sent();
        let answer = connection.exchange(request).await?;
        // A refusal may have come before the file was sent, and then the rest of it stands in the way of the next request.
        if answer.status.is_success() {
            self.open.push(connection);
        }
        Ok(answer)
    }

    /// The connection from before, if the other side has not closed it since.
    async fn reuse(&mut self, endpoint: &Endpoint) -> Option<Connection> {
        let index = self.open.iter().position(|connection| connection.authority == endpoint.authority)?;
        let mut connection = self.open.swap_remove(index);
        connection.is_ready().await.then_some(connection)
    }
}

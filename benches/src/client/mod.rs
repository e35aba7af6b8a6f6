//! The generator's own HTTP/1.1 client. A measurement must control when connections are made and reused, must not copy the file, and
//! must count every byte.
//!
//! It speaks plain HTTP and resolves names once. There are no redirects, proxies or compression.
//!
//! The send buffers of the clients are limited. On one machine they share the kernel's memory for TCP with the receive buffers of the
//! server (`tcp_mem`, <https://docs.kernel.org/networking/ip-sysctl.html>), and the kernel drops packets when it is used up. Real clients
//! have kernels of their own.
//!
//! If the line has a round-trip time, every connection goes through a relay that delays it.

mod answer;
mod body;
mod connection;
mod form;
mod stream;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use hyper::{
    Request, Uri,
    header::{HOST, HeaderValue},
};
use tokio::{net::TcpSocket, time::sleep};
use upload_sandbox::relay::{Entrance, Relay};
use url::{Host, Position, Url};

pub(crate) use answer::{Answer, Failure};
pub(crate) use body::{Pieces, multipart, multipart_content_type};
pub(crate) use form::{Created, Form, ImageEntity};

use crate::{load::Progress, record::Line};
use connection::Connection;
use stream::CountedStream;

/// The send buffer of each client's socket, in bytes. Linux doubles the value for its own bookkeeping (socket(7)).
const SEND_BUFFER_BYTES: u32 = 128 * 1024;

/// Where a connection leads. The two are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The server that is measured, or the relay.
    Server,
    /// The store itself.
    Store,
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host and port as in the URL: a signature may cover this text.
    pub authority: String,
    host: Host,
    port: u16,
    pub role: Role,
}

impl Endpoint {
    /// The endpoint of a URL.
    pub fn of(url: &Url, role: Role) -> Result<Self> {
        let (Some(host), "http") = (url.host(), url.scheme()) else {
            bail!("cannot load {url}: only plain http is supported");
        };
        let authority = url[Position::BeforeHost..Position::AfterPort].to_owned();
        Ok(Self { authority, host: host.to_owned(), port: url.port_or_known_default().unwrap_or(80), role })
    }

    /// A request for a URL of this endpoint, without its headers.
    pub fn request(&self, method: hyper::Method, url: &Url, body: Pieces) -> Result<Request<Pieces>> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        let path = &url[Position::BeforePath..Position::AfterQuery];
        *request.uri_mut() = path.parse::<Uri>().with_context(|| format!("{path} is not a path"))?;
        let host =
            HeaderValue::try_from(&self.authority).with_context(|| format!("{url} does not have a valid host"))?;
        request.headers_mut().insert(HOST, host);
        Ok(request)
    }
}

/// What all clients of a run have in common.
#[derive(Debug)]
pub(crate) struct Network {
    progress: Progress,
    /// The line of each connection.
    line: Line,
    addresses: Mutex<HashMap<String, SocketAddr>>,
    /// The relay in front of each address, if the line has a round-trip time.
    relays: tokio::sync::Mutex<HashMap<SocketAddr, (SocketAddr, Relay)>>,
}

impl Network {
    pub fn new(progress: Progress, line: Line) -> Self {
        Self { progress, line, addresses: Mutex::default(), relays: tokio::sync::Mutex::default() }
    }

    /// The address of an endpoint. Each name is resolved once.
    pub async fn resolve(&self, endpoint: &Endpoint) -> Result<SocketAddr> {
        let name = match &endpoint.host {
            Host::Ipv4(address) => return Ok((*address, endpoint.port).into()),
            Host::Ipv6(address) => return Ok((*address, endpoint.port).into()),
            // Names below `localhost` are this machine (RFC 6761, 6.3), but not every resolver knows that.
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
            .with_context(|| format!("cannot resolve {name}"))?
            .collect();
        // Local servers mostly listen on IPv4 only, even if `localhost` resolves to IPv6 first.
        let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
        let address = *address.with_context(|| format!("{name} has no address"))?;
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.authority.clone(), address);
        Ok(address)
    }

    /// Where to connect to for an address.
    async fn way_to(&self, address: SocketAddr) -> Result<SocketAddr> {
        let rtt = self.rtt();
        if rtt.is_zero() {
            return Ok(address);
        }
        let mut relays = self.relays.lock().await;
        if let Some((entrance, _relay)) = relays.get(&address) {
            return Ok(*entrance);
        }
        let entrance = Entrance::open().await?;
        let at = entrance.address();
        let relay = entrance.lead_to(address.to_string());
        relay.delay(rtt / 2);
        relays.insert(address, (at, relay));
        Ok(at)
    }

    fn rtt(&self) -> Duration {
        Duration::from_millis(self.line.rtt_ms.into())
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<CountedStream> {
        let address = self.way_to(self.resolve(endpoint).await?).await?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        let tcp = socket.connect(address).await?;
        tcp.set_nodelay(true)?;
        // The relay accepts at once. A client must not send before a real connection would be there.
        sleep(self.rtt()).await;
        self.progress.moved();
        Ok(CountedStream::new(tcp, endpoint.role, self.progress.clone(), self.line.bytes_per_second))
    }
}

/// One client, with at most one connection to each authority.
#[derive(Debug, Default)]
pub(crate) struct Client {
    open: Vec<Connection>,
}

impl Client {
    /// Sends a request and reads the whole answer. Dropping this future drops the connection.
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
        // A refusal may come before the whole file was sent; then the connection cannot be used again.
        if answer.status.is_success() {
            self.open.push(connection);
        }
        Ok(answer)
    }

    /// The previous connection, if the other side has not closed it.
    async fn reuse(&mut self, endpoint: &Endpoint) -> Option<Connection> {
        let index = self.open.iter().position(|connection| connection.authority == endpoint.authority)?;
        let mut connection = self.open.swap_remove(index);
        connection.is_ready().await.then_some(connection)
    }
}

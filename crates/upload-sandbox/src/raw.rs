//! HTTP/1.1 as bytes, for requests that no HTTP client would send. Also forms that a test sends piece by piece, so that it decides which
//! bytes a server has seen, and when.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, bail};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use url::{Position, Url};

use crate::client::Answer;

/// How long an answer may take before an exchange fails.
const PATIENCE: Duration = Duration::from_secs(30);
const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What a client does when it has sent everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It waits for the answer.
    Wait,
    /// It says that nothing more will come, and waits for the answer.
    EndOfInput,
}

/// A form's text around its file.
#[derive(Debug, Clone)]
pub struct RawForm {
    /// The boundary between its parts.
    pub boundary: String,
    /// The fields before the file.
    pub fields: Vec<(String, String)>,
    /// The file's type.
    pub content_type: String,
    /// The value of the file part's `Content-Disposition`.
    pub disposition: String,
    /// The length of a meaningless header in each part, in bytes.
    pub padding_bytes: usize,
    /// Whether a line end follows the closing delimiter.
    pub line_end: bool,
}

/// A request that has begun, on a connection of its own.
#[derive(Debug)]
pub struct RawRequest {
    stream: TcpStream,
    tail: Vec<u8>,
}

/// The host and port of a URL.
///
/// # Errors
/// If it has none.
pub fn authority(url: &Url) -> Result<String> {
    let host = url.host_str().context("a URL without a host")?;
    let port = url.port_or_known_default().context("a URL without a port")?;
    Ok(format!("{host}:{port}"))
}

/// A request's bytes: exactly these headers after `Host`, without an added length.
///
/// # Errors
/// If the URL names no server.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>> {
    let url = Url::parse(url)?;
    let mut head = format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\n",
        &url[Position::BeforePath..Position::AfterQuery],
        authority(&url)?
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    Ok([head.as_bytes(), body].concat())
}

/// A body in chunks of at most this many bytes (RFC 9112, section 7.1).
pub fn chunked(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(chunk_bytes) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(LAST_CHUNK);
    bytes
}

/// Writes bytes to the server of a URL and reads the first answer; `None` if the server closes without one.
///
/// # Errors
/// If the server cannot be reached, or if its answer does not come or is malformed.
pub async fn exchange(url: &str, bytes: &[u8], then: Then) -> Result<Option<Answer>> {
    let (mut reader, mut writer) = connect(url).await?.into_split();
    let write = async {
        // A server may answer, and close, before it has everything.
        let mut sent = writer.write_all(bytes).await;
        if then == Then::EndOfInput {
            sent = sent.and(writer.shutdown().await);
        }
        let _ = sent;
        std::future::pending::<()>().await;
    };
    let answered = async {
        tokio::select! {
            answer = read_answer(&mut reader) => answer,
            () = write => bail!("nothing was waited for"),
        }
    };
    timeout(PATIENCE, answered).await.context("no answer within half a minute")?
}

/// Reads to the end of the first answer; `None` if there is none.
///
/// # Errors
/// If the answer is malformed or breaks off.
pub async fn read_answer(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<Answer>> {
    let mut bytes = Vec::new();
    let mut open = true;
    while open {
        // A reset after an answer is one more way to close.
        open = reader.read_buf(&mut bytes).await.is_ok_and(|count| count > 0);
        if let Some(answer) = parse(&bytes, !open)? {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

impl RawForm {
    /// The stream route's form, as Chrome writes it.
    pub fn of_profile_image() -> Self {
        Self {
            boundary: "----WebKitFormBoundaryRv8Zs0kCq1nTtYp3".to_owned(),
            fields: vec![("path".to_owned(), "user-profile".to_owned())],
            content_type: "image/jpeg".to_owned(),
            disposition: "form-data; name=\"file\"; filename=\"a.jpg\"".to_owned(),
            padding_bytes: 0,
            line_end: true,
        }
    }

    /// The form that `POST /user/images` gave out.
    ///
    /// # Errors
    /// If the JSON is not such a form.
    pub fn of_ticket(form: &Value) -> Result<Self> {
        let fields = form["fields"].as_object().with_context(|| format!("a form has fields: {form}"))?.iter();
        let fields = fields.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let fields = fields.collect::<Option<_>>().with_context(|| format!("a form's fields are texts: {form}"))?;
        Ok(Self { fields, ..Self::of_profile_image() })
    }

    /// The path and query of a form's URL: the target of its request.
    ///
    /// # Errors
    /// If the JSON is not a form with a URL.
    pub fn target(form: &Value) -> Result<String> {
        let url = Url::parse(form["url"].as_str().with_context(|| format!("a form has a URL: {form}"))?)?;
        Ok(url[Position::BeforePath..].to_owned())
    }

    /// The same form with another boundary.
    #[must_use]
    pub fn with_boundary(self, boundary: &str) -> Self {
        Self { boundary: boundary.to_owned(), ..self }
    }

    /// The bytes before the file.
    pub fn head(&self) -> Vec<u8> {
        let (boundary, disposition, content_type) = (&self.boundary, &self.disposition, &self.content_type);
        let padding = match self.padding_bytes {
            0 => String::new(),
            bytes => format!("X-Padding: {}\r\n", "x".repeat(bytes)),
        };
        let mut head = String::new();
        for (name, value) in &self.fields {
            head +=
                &format!("--{boundary}\r\n{padding}Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        }
        head += &format!(
            "--{boundary}\r\n{padding}Content-Disposition: {disposition}\r\nContent-Type: {content_type}\r\n\r\n"
        );
        head.into_bytes()
    }

    /// The bytes after the file.
    pub fn tail(&self) -> Vec<u8> {
        format!("\r\n--{}--{}", self.boundary, if self.line_end { "\r\n" } else { "" }).into_bytes()
    }

    /// Sends the request's head and the form's start, with the Content-Length for a file of `file_bytes`.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn begin(&self, url: &str, path: &str, token: &str, file_bytes: usize) -> Result<RawRequest> {
        let (head, tail) = (self.head(), self.tail());
        let length = (head.len() + file_bytes + tail.len()).to_string();
        let mut upload = self.connect(url, path, token, ("Content-Length", &length), tail).await?;
        upload.send(&head).await;
        Ok(upload)
    }

    /// Sends the request's head, as if `body_bytes` followed, and these bytes.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn begin_with(
        &self,
        url: &str,
        path: &str,
        bytes: &[u8],
        tail: Vec<u8>,
        body_bytes: usize,
    ) -> Result<RawRequest> {
        let mut upload = self.connect(url, path, "", ("Content-Length", &body_bytes.to_string()), tail).await?;
        upload.send(bytes).await;
        Ok(upload)
    }

    /// Sends a whole form in chunked transfer coding.
    ///
    /// # Errors
    /// If the server cannot be reached, or its answer is malformed.
    pub async fn send_chunked(&self, url: &str, path: &str, token: &str, file: &[u8]) -> Result<Answer> {
        let body = chunked(&[self.head(), file.to_vec(), self.tail()].concat(), 100_000);
        let mut upload = self.connect(url, path, token, CHUNKED, Vec::new()).await?;
        upload.send(&body).await;
        upload.finish().await
    }

    /// The head of a request with this form. `more` is what says how long the body is, and any other headers.
    ///
    /// # Errors
    /// If the URL names no server.
    pub fn request_head(&self, url: &str, path: &str, token: &str, more: &[(&str, &str)]) -> Result<Vec<u8>> {
        let (bearer, media_type) =
            (format!("Bearer {token}"), format!("multipart/form-data; boundary={}", self.boundary));
        let headers = [("Authorization", bearer.as_str()), ("Connection", "close"), ("Content-Type", &media_type)];
        request("POST", &format!("{url}{path}"), &[&headers, more].concat(), b"")
    }

    /// Sends the request's head and the form's start in chunked transfer coding, without an end.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn begin_chunked(&self, url: &str, path: &str, token: &str) -> Result<RawRequest> {
        let mut upload = self.connect(url, path, token, CHUNKED, Vec::new()).await?;
        let body = chunked(&self.head(), usize::MAX);
        upload.send(&body[..body.len() - LAST_CHUNK.len()]).await;
        Ok(upload)
    }

    async fn connect(
        &self,
        url: &str,
        path: &str,
        token: &str,
        length: (&str, &str),
        tail: Vec<u8>,
    ) -> Result<RawRequest> {
        let head = self.request_head(url, path, token, &[length])?;
        Ok(RawRequest { tail, ..RawRequest::begin(url, &head).await? })
    }
}

impl RawRequest {
    /// A request that begins with these bytes.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn begin(url: &str, bytes: &[u8]) -> Result<Self> {
        let mut stream = connect(url).await?;
        stream.write_all(bytes).await?;
        Ok(Self { stream, tail: Vec::new() })
    }

    /// Sends a part of the file. A failure is ignored: a server that has refused need not read on, and its answer says so.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _refused = self.stream.write_all(bytes).await;
    }

    /// Sends bytes as a slow line does: a piece, and the next one after `every`. What the line could not take in time, it does not take
    /// faster later.
    pub async fn send_slowly(&mut self, bytes: &[u8], piece_bytes: usize, every: Duration) {
        let _refused = write_slowly(&mut self.stream, bytes, piece_bytes, every).await;
    }

    /// The same, but it stops when the server ends the connection. What the server answers is ignored.
    pub async fn send_slowly_until_closed(mut self, bytes: &[u8], piece_bytes: usize, every: Duration) {
        let (mut reading, mut writing) = self.stream.split();
        let mut answer = Vec::new();
        tokio::select! {
            _closed = reading.read_to_end(&mut answer) => {}
            _refused = write_slowly(&mut writing, bytes, piece_bytes, every) => {}
        }
    }

    /// Sends the form's end and reads the answer.
    ///
    /// # Errors
    /// As [`RawRequest::answer`].
    pub async fn finish(mut self) -> Result<Answer> {
        let tail = std::mem::take(&mut self.tail);
        self.send(&tail).await;
        self.answer().await
    }

    /// Reads the answer without sending more.
    ///
    /// # Errors
    /// If the connection does not end properly after one whole answer.
    pub async fn answer(self) -> Result<Answer> {
        self.answer_while_sending(0).await
    }

    /// Reads the answer and sends `bytes` more bytes in the meantime, as browsers do.
    ///
    /// # Errors
    /// As [`RawRequest::answer`].
    pub async fn answer_while_sending(mut self, bytes: usize) -> Result<Answer> {
        let (mut reading, mut writing) = self.stream.split();
        let mut answer = Vec::new();
        let send = async {
            let block = [0; 64 * 1024];
            let mut left = bytes;
            while left > 0 && writing.write_all(&block[..left.min(block.len())]).await.is_ok() {
                left -= left.min(block.len());
            }
            std::future::pending::<()>().await;
        };
        let read: io::Result<usize> = tokio::select! {
            read = reading.read_to_end(&mut answer) => read,
            () = send => bail!("nothing was waited for"),
        };
        read.with_context(|| format!("the connection broke behind {:?}", String::from_utf8_lossy(&answer)))?;
        parse(&answer, true)?.with_context(|| format!("no answer: {:?}", String::from_utf8_lossy(&answer)))
    }
}

async fn write_slowly(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    piece_bytes: usize,
    every: Duration,
) -> io::Result<()> {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for piece in bytes.chunks(piece_bytes) {
        ticks.tick().await;
        to.write_all(piece).await?;
    }
    Ok(())
}

async fn connect(url: &str) -> Result<TcpStream> {
    let authority = authority(&Url::parse(url)?)?;
    let stream = TcpStream::connect(&authority).await.with_context(|| format!("{authority} cannot be reached"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The answer, if it has arrived as a whole.
fn parse(bytes: &[u8], closed: bool) -> Result<Option<Answer>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let (head, rest) = (std::str::from_utf8(&bytes[..end])?, &bytes[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status: u16 = status.with_context(|| format!("no status line: {head}"))?;
    if status == 100 {
        return parse(rest, closed);
    }
    let headers = parse_headers(lines)?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let body = if text("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        dechunked(rest)
    } else {
        let length = text("content-length").and_then(|length| length.parse().ok());
        let length = length.or_else(|| matches!(status, 204 | 304).then_some(0));
        length.map_or_else(|| closed.then(|| rest.to_vec()), |length: usize| rest.get(..length).map(<[u8]>::to_vec))
    };
    let body = match body {
        Some(body) => body,
        None if closed => bail!("the answer broke off: {head}"),
        None => return Ok(None),
    };
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(Answer { status, headers, body: body.into(), json }))
}

/// The headers of a request or an answer, from the lines after its first one.
pub(crate) fn parse_headers<'a>(lines: impl Iterator<Item = &'a str>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').with_context(|| format!("no header: {line}"))?;
        headers.append(name.parse::<HeaderName>()?, HeaderValue::from_str(value.trim())?);
    }
    Ok(headers)
}

/// The body of a chunked answer, if it has arrived as a whole.
fn dechunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
        if size == 0 {
            return Some(body);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_length_says_so() {
        let head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nX-A: b\r\n\r\n".as_slice();
        assert!(parse(head, false).unwrap().is_none());
        let answer = parse(&[head, b"{}".as_slice()].concat(), false).unwrap().unwrap();
        assert_eq!((answer.status, answer.header("x-a"), answer.body.as_ref()), (400, "b", b"{}".as_slice()));
        assert!(parse(head, true).is_err(), "it broke off");
    }

    #[test]
    fn chunks_are_put_together() {
        let head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
        let whole = [head, chunked(b"hello", 2).as_slice()].concat();
        assert!(parse(&whole[..whole.len() - 1], false).unwrap().is_none());
        assert_eq!(parse(&whole, false).unwrap().unwrap().body.as_ref(), b"hello");
    }
}

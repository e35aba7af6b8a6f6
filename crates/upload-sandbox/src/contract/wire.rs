//! Requests as bytes, for what no HTTP client would send, and forms written by hand.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::hearing;
use crate::client::Answer;

/// How long an answer may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A boundary as curl writes it.
pub(super) const BOUNDARY: &str = "------------------------d74496d66958873e";

/// What a client does when it has sent everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It waits for the answer.
    Wait,
    /// It says that nothing more will come, and waits for the answer.
    EndOfInput,
}

/// A request's bytes: exactly these headers after `Host`, no length of our own.
pub(super) fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>> {
    let url = Url::parse(url)?;
    let mut head = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", url.path(), authority(&url)?);
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    Ok([head.as_bytes(), body].concat())
}

/// The headers of a form of so many bytes.
pub(super) fn form_headers(content_length: usize) -> [(&'static str, String); 2] {
    [
        ("Content-Type", format!("multipart/form-data; boundary={BOUNDARY}")),
        ("Content-Length", content_length.to_string()),
    ]
}

/// Posts a form that was written by hand.
pub(super) async fn post_form(url: &str, body: &[u8], more_headers: &[(&str, &str)]) -> Result<Option<Answer>> {
    let headers = form_headers(body.len());
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).chain(more_headers.iter().copied()).collect();
    exchange(url, request("POST", url, &headers, body)?, Then::Wait).await
}

/// Writes bytes to the server of a URL and reads the first answer; `None` where it closes without one.
pub(super) async fn exchange(url: &str, bytes: Vec<u8>, then: Then) -> Result<Option<Answer>> {
    let url = Url::parse(url)?;
    let authority = authority(&url)?;
    let stream = TcpStream::connect(&authority).await.with_context(|| format!("{authority} cannot be reached"))?;
    let (mut reader, mut writer) = stream.into_split();
    let write = async {
        // A server may answer, and close, before it has everything.
        let mut sent = writer.write_all(&bytes).await;
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
    let answer: Option<Answer> = timeout(PATIENCE, answered).await.context("no answer within half a minute")??;
    if let Some(answer) = &answer {
        hearing::note_bytes(&bytes, &url, answer);
    }
    Ok(answer)
}

/// The host and port of a URL.
pub(super) fn authority(url: &Url) -> Result<String> {
    let host = url.host_str().context("a URL without a host")?;
    let port = url.port_or_known_default().context("a URL without a port")?;
    Ok(format!("{host}:{port}"))
}

/// A `multipart/form-data` body in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct FormBody {
    bytes: Vec<u8>,
}

impl FormBody {
    /// With all fields of a form that a server gave out.
    pub(super) fn of(form: &Value) -> Result<Self> {
        let fields = form["fields"].as_object().with_context(|| format!("a form has fields: {form}"))?;
        let fields = fields.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
        Ok(fields.fold(Self::default(), |body, (name, value)| body.field(name, value)))
    }

    /// Adds a field.
    pub(super) fn field(self, name: &str, value: &str) -> Self {
        self.part(format!("Content-Disposition: form-data; name=\"{name}\"").as_bytes(), value.as_bytes())
    }

    /// Adds the file, as a PNG under a harmless name.
    pub(super) fn file(self, content: &[u8]) -> Self {
        self.named_file(b"a.png", content)
    }

    /// Adds the file under a name of any bytes.
    pub(super) fn named_file(self, name: &[u8], content: &[u8]) -> Self {
        let disposition = b"Content-Disposition: form-data; name=\"file\"; filename=\"".as_slice();
        self.part(&[disposition, name, b"\"\r\nContent-Type: image/png"].concat(), content)
    }

    /// Adds a part with these header lines.
    pub(super) fn part(mut self, headers: &[u8], content: &[u8]) -> Self {
        let delimiter = format!("--{BOUNDARY}\r\n");
        for bytes in [delimiter.as_bytes(), headers, b"\r\n\r\n", content, b"\r\n"] {
            self.bytes.extend_from_slice(bytes);
        }
        self
    }

    /// The whole body.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.bytes
    }

    /// The body so far, without an end.
    pub(super) fn unfinished(self) -> Vec<u8> {
        self.bytes
    }
}

/// A body in chunks of at most so many bytes (RFC 9112, section 7.1).
pub(super) fn chunked(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(chunk_bytes) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Reads to the end of the first answer; `None` where there is none.
pub(super) async fn read_answer(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<Answer>> {
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

/// The answer, if it is here as a whole.
fn parse(bytes: &[u8], closed: bool) -> Result<Option<Answer>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let (head, rest) = (std::str::from_utf8(&bytes[..end])?, &bytes[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status: u16 = status.with_context(|| format!("no status line: {head}"))?;
    if status == 100 {
        return parse(rest, closed);
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').with_context(|| format!("no header: {line}"))?;
        headers.append(name.parse::<HeaderName>()?, HeaderValue::from_str(value.trim())?);
    }
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

/// The body of a chunked answer, if it is here as a whole.
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
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

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

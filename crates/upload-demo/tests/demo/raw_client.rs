//! A client that decides, byte by byte, what it has sent and when.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Chrome's.
const BOUNDARY: &str = "----WebKitFormBoundaryRv8Zs0kCq1nTtYp3";

/// A request that has begun.
pub struct RawRequest {
    stream: TcpStream,
    tail: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub json: Value,
}

impl RawAnswer {
    pub fn refusal(&self) -> (u16, &str) {
        (self.status, self.json["code"].as_str().unwrap_or_default())
    }

    pub fn assert_is_a_problem(&self) {
        assert!(self.head.contains("\ncontent-type: application/problem+json"), "{self:?}");
        let id = self.json["requestId"].as_str().unwrap();
        assert!(self.head.contains(&format!("\nx-request-id: {id}\r")), "{self:?}");
    }
}

impl RawRequest {
    /// A GET of a path that no client library would leave as it is.
    pub async fn get(url: &str, path: &str) -> RawAnswer {
        let mut request = Self::connect(url).await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n");
        request.send(head.as_bytes()).await;
        request.answer().await
    }

    /// Begins V1's stream route: everything before the file's first byte.
    pub async fn stream(url: &str, token: &str, file_bytes: usize) -> Self {
        Self::form(url, "/user/images/upload", &[("path", "user-profile")], token, file_bytes).await
    }

    /// Begins the upload of a form that V1 gave out.
    pub async fn ticket(url: &str, form: &Value, file_bytes: usize) -> Self {
        let fields = form["fields"].as_object().unwrap().iter();
        let fields: Vec<_> = fields.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
        Self::form(url, "/uploads", &fields, "", file_bytes).await
    }

    async fn form(url: &str, path: &str, fields: &[(&str, &str)], token: &str, file_bytes: usize) -> Self {
        let mut form = String::new();
        for (name, value) in fields {
            form += &format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        }
        form += &format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jpg\"\r\n");
        form += "Content-Type: image/jpeg\r\n\r\n";
        let tail = format!("\r\n--{BOUNDARY}--\r\n").into_bytes();
        let length = form.len() + file_bytes + tail.len();
        let mut request = Self { tail, ..Self::connect(url).await };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: example.org\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n"
        );
        request.send(head.as_bytes()).await;
        request.send(form.as_bytes()).await;
        request
    }

    async fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, tail: Vec::new() }
    }

    /// Sends a part of the file. A server that has refused it need not read it; the answer shows that.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _refused = self.stream.write_all(bytes).await;
    }

    /// Sends the form's end and reads the answer.
    pub async fn finish(mut self) -> RawAnswer {
        let tail = std::mem::take(&mut self.tail);
        self.send(&tail).await;
        self.answer().await
    }

    /// Reads the answer without sending more.
    pub async fn answer(self) -> RawAnswer {
        self.answer_while_sending(0).await
    }

    /// Reads the answer while `bytes` more are being sent, as browsers do.
    pub async fn answer_while_sending(mut self, bytes: usize) -> RawAnswer {
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
        tokio::select! {
            read = reading.read_to_end(&mut answer) => { read.unwrap(); }
            () = send => {}
        }
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        RawAnswer {
            status,
            head: format!("{}\r", head.to_lowercase()),
            json: serde_json::from_str(body).unwrap_or_default(),
        }
    }
}

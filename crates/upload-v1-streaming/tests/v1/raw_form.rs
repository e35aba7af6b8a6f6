//! A form written byte by byte, so that a test decides what the server has seen and when.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A form's text around its file.
#[derive(Debug, Clone)]
pub struct RawForm {
    pub boundary: String,
    pub fields: Vec<(String, String)>,
    pub content_type: String,
    /// What names the file.
    pub disposition: String,
    /// Bytes of a header that means nothing, in each part.
    pub padding_bytes: usize,
    /// Whether a line end follows the closing delimiter.
    pub line_end: bool,
}

/// An upload that has begun.
pub struct RawUpload {
    stream: TcpStream,
    tail: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    pub head: String,
    pub json: Value,
}

impl RawAnswer {
    pub fn refusal(&self) -> (u16, &str) {
        (self.status, self.json["code"].as_str().unwrap_or_default())
    }
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
    pub fn of_ticket(form: &Value) -> Self {
        let fields = form["fields"].as_object().unwrap().iter();
        let fields = fields.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        Self { fields, ..Self::of_profile_image() }
    }

    pub fn with_boundary(self, boundary: &str) -> Self {
        Self { boundary: boundary.to_owned(), ..self }
    }

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

    pub fn tail(&self) -> Vec<u8> {
        format!("\r\n--{}--{}", self.boundary, if self.line_end { "\r\n" } else { "" }).into_bytes()
    }

    /// Sends the request's head and the form's, with the Content-Length of a file of `file_bytes`.
    pub async fn begin(&self, url: &str, path: &str, token: &str, file_bytes: usize) -> RawUpload {
        let (head, tail) = (self.head(), self.tail());
        let length = format!("Content-Length: {}", head.len() + file_bytes + tail.len());
        let mut upload = self.connect(url, path, token, &length, tail).await;
        upload.send(&head).await;
        upload
    }

    /// Sends the request's head, as if `body_bytes` followed, and these bytes.
    pub async fn begin_with(&self, url: &str, path: &str, bytes: &[u8], tail: Vec<u8>, body_bytes: usize) -> RawUpload {
        let mut upload = self.connect(url, path, "", &format!("Content-Length: {body_bytes}"), tail).await;
        upload.send(bytes).await;
        upload
    }

    /// Sends a whole form in chunked transfer coding (RFC 9112, section 7.1).
    pub async fn send_chunked(&self, url: &str, path: &str, token: &str, file: &[u8]) -> RawAnswer {
        let body = [self.head(), file.to_vec(), self.tail()].concat();
        let mut upload = self.connect(url, path, token, "Transfer-Encoding: chunked", Vec::new()).await;
        for chunk in body.chunks(100_000) {
            let chunk = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
            // The server may have refused already; its answer says so.
            if upload.stream.write_all(&chunk).await.is_err() {
                break;
            }
        }
        upload.tail = b"0\r\n\r\n".to_vec();
        upload.finish().await
    }

    async fn connect(&self, url: &str, path: &str, token: &str, length: &str, tail: Vec<u8>) -> RawUpload {
        let address = url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Type: multipart/form-data; boundary={}\r\n{length}\r\n\r\n",
            self.boundary
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        RawUpload { stream, tail }
    }
}

impl RawUpload {
    /// Sends a part of the file. A server that has refused need not read on: its answer says so.
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
    pub async fn answer(mut self) -> RawAnswer {
        let mut answer = Vec::new();
        self.stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        RawAnswer { status, head: head.to_lowercase(), json: serde_json::from_str(body).unwrap_or_default() }
    }
}

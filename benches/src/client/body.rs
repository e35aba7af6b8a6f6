//! The body of a request: at most three pieces of shared bytes. The file is in memory once, for any number of uploads.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::payload::Payload;

/// 32 hexadecimal digits, as in Python's urllib3 and httpx. V1 knows this kind, and so the length of the file. It is fixed, because our
/// files do not contain it.
const BOUNDARY: &str = "9f3c1e7a5b2d486094e1d7c8a6b35f02";

/// The `Content-Type` of [`multipart`].
pub fn multipart_content_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

/// The pieces of one body.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    pieces: [Bytes; 3],
}

impl Pieces {
    /// A body of one piece.
    pub fn one(bytes: impl Into<Bytes>) -> Self {
        Self { pieces: [bytes.into(), Bytes::new(), Bytes::new()] }
    }
}

/// A form: the fields in order, then the file.
pub fn multipart(fields: &[(String, String)], file_field: &str, payload: &Payload) -> Pieces {
    let mut head = String::new();
    for (name, value) in fields {
        let name = escape(name);
        head += &format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    let name = escape(file_field);
    head += &format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"image.jpg\"\r\n");
    head += &format!("Content-Type: {}\r\n\r\n", payload.format);
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    Pieces { pieces: [head.into(), payload.file.clone(), tail.into()] }
}

/// A name between quotes, as browsers write it
/// (<https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data>).
fn escape(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.pieces.iter_mut().find(|piece| piece.has_remaining());
        Poll::Ready(next.map(|piece| Ok(Frame::data(std::mem::take(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_form_has_its_fields_in_order_and_the_file_last_and_shares_the_files_bytes() -> anyhow::Result<()> {
        let payload = Payload::jpeg(1_000, 1);
        let fields = [("key", "incoming/1"), ("a\"b", "c")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let form = multipart(&fields, "file", &payload);
        assert_eq!(form.pieces[1].as_ptr(), payload.file.as_ptr());
        let size = form.size_hint().exact();
        let sent = form.collect().await?.to_bytes();
        assert_eq!(size, Some(sent.len() as u64));
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nincoming/1\r\n\
             --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"a%22b\"\r\n\r\nc\r\n\
             --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"image.jpg\"\r\n\
             Content-Type: image/jpeg\r\n\r\n"
        );
        let expected = [head.as_bytes(), &payload.file, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat();
        assert_eq!(sent, expected);
        Ok(())
    }
}

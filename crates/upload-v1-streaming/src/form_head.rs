//! A look at the head of a form, up to the first byte of its file, to predict how long the file is.
//!
//! S3 needs a length before the first byte, but browsers, curl, Node and reqwest do not send a length for a part. The file
//! is the last part, so the request's Content-Length gives its length: the bytes before the file and after it (the closing
//! delimiter and, nearly always, a line break) are known. This module only predicts. actix-multipart parses, and the last
//! slice goes to the store only after the parser has proven the prediction.
//!
//! The only unknown is the optional line break after the closing delimiter. This module assumes it for the boundaries of
//! clients that are known to send it; every other form is buffered. Node's own `fetch` sends it since undici 6.20
//! (<https://github.com/nodejs/undici/pull/3625>, September 2024). An older one must declare `byteSize`, or it is refused.

use actix_web::http::header::{ContentDisposition, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use memchr::memmem;

/// How far into a form the file is looked for, in bytes.
pub const LOOK_AHEAD_BYTES: usize = 20 * 1024;
/// Largest block of headers that a part may have, in bytes.
pub const MAX_PART_HEADER_BYTES: usize = 8 * 1024;
/// How many headers a part may have, for the parser.
const MAX_PART_HEADERS: usize = 32;

/// The head of a form: what has been read of it, and where in it the file begins.
#[derive(Debug)]
pub struct FormHead {
    /// The chunks that were read, to be replayed to the parser.
    pub chunks: Vec<Bytes>,
    /// The offset of the file's first byte in the request's body; none where no file was seen in the head.
    pub file_offset: Option<u64>,
}

/// Why a body cannot be a form.
#[derive(Debug, thiserror::Error)]
pub enum HeadError<E> {
    /// The body does not begin with its boundary.
    #[error("the body does not begin with the boundary that its Content-Type names")]
    NoBoundary,
    /// A part's headers are longer than [`MAX_PART_HEADER_BYTES`].
    #[error("a part's headers are longer than {MAX_PART_HEADER_BYTES} bytes")]
    HeaderTooLong,
    /// The body could not be read.
    #[error("the body could not be read")]
    Body(E),
}

/// Reads `body` up to the first byte of the part named `file`, or as far as it looks.
pub async fn read_form_head<S, E>(body: &mut S, boundary: &str) -> Result<FormHead, HeadError<E>>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let mut scan = Scan::new(boundary);
    let mut chunks = Vec::new();
    let mut seen = BytesMut::new();
    loop {
        match scan.step(&seen) {
            Step::File(offset) => return Ok(FormHead { chunks, file_offset: Some(offset as u64) }),
            Step::NoBoundary => return Err(HeadError::NoBoundary),
            Step::HeaderTooLong => return Err(HeadError::HeaderTooLong),
            Step::More => {}
        }
        if seen.len() >= LOOK_AHEAD_BYTES {
            return Ok(FormHead { chunks, file_offset: None });
        }
        let Some(chunk) = body.next().await else {
            return Ok(FormHead { chunks, file_offset: None });
        };
        let chunk = chunk.map_err(HeadError::Body)?;
        seen.extend_from_slice(&chunk[..chunk.len().min(LOOK_AHEAD_BYTES - seen.len())]);
        chunks.push(chunk);
    }
}

/// The length of a file that begins at `file_offset` and is the last part of a body of `body_bytes`, if the body ends
/// with a line end after its closing delimiter; zero where there is no room for a file.
pub fn implied_file_bytes(body_bytes: u64, file_offset: u64, boundary: &str) -> u64 {
    body_bytes.saturating_sub(file_offset + closing_bytes(boundary) + 2)
}

/// Whether a file of `file_bytes` can be the last part of the body at all, with or without the final line end.
pub fn fits(file_bytes: u64, body_bytes: u64, file_offset: u64, boundary: &str) -> bool {
    let rest = file_offset.checked_add(file_bytes).and_then(|end| body_bytes.checked_sub(end));
    rest.is_some_and(|rest| rest == closing_bytes(boundary) || rest == closing_bytes(boundary) + 2)
}

/// The length of `\r\n--boundary--`.
fn closing_bytes(boundary: &str) -> u64 {
    boundary.len() as u64 + 6
}

/// Whether the boundary is one of a client that ends its forms with a line end.
pub fn ends_with_line_end(boundary: &str) -> bool {
    const PREFIXES: [&str; 7] = [
        "----WebKitFormBoundary",      // Chrome, Safari, Edge
        "----geckoformboundary",       // Firefox since 2023
        "---------------------------", // Firefox before
        "------------------------",    // curl, and npm's form-data
        "----formdata-undici-",        // Node's fetch
        "axios-",                      // axios in Node
        "dart-http-boundary-",         // Dart
    ];
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let reqwest = || {
        let groups: Vec<&str> = boundary.split('-').collect();
        groups.len() == 4 && groups.iter().all(|group| group.len() == 16 && hexadecimal(group))
    };
    let okhttp = || uuid::Uuid::try_parse(boundary).is_ok() && boundary.len() == 36;
    // Python's urllib3 and httpx write 32 hexadecimal digits, Go's mime/multipart 60.
    let digits = || matches!(boundary.len(), 32 | 60) && hexadecimal(boundary);
    PREFIXES.iter().any(|prefix| boundary.starts_with(prefix)) || reqwest() || okhttp() || digits()
}

/// The state of a scan of the head: at the beginning of a part's headers, or in a part's content.
struct Scan {
    first_line: Vec<u8>,
    delimiter: memmem::Finder<'static>,
    delimiter_bytes: usize,
    position: usize,
    in_content: bool,
}

enum Step {
    More,
    File(usize),
    NoBoundary,
    HeaderTooLong,
}

impl Scan {
    fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}\r\n");
        Self {
            first_line: format!("--{boundary}\r\n").into_bytes(),
            delimiter: memmem::Finder::new(&delimiter).into_owned(),
            delimiter_bytes: delimiter.len(),
            position: 0,
            in_content: false,
        }
    }

    /// Goes on as far as `seen` allows.
    fn step(&mut self, seen: &[u8]) -> Step {
        if self.position == 0 {
            let common = seen.len().min(self.first_line.len());
            if seen[..common] != self.first_line[..common] {
                // An empty form begins with its closing delimiter; the parser reports the missing part.
                let closing = self.first_line.len() - 2;
                let is_closing = common >= closing && seen[..closing] == self.first_line[..closing];
                return if is_closing && seen[closing] == b'-' { Step::More } else { Step::NoBoundary };
            }
            if common < self.first_line.len() {
                return Step::More;
            }
            self.position = common;
        }
        loop {
            let Some(rest) = seen.get(self.position..) else { return Step::More };
            if self.in_content {
                let Some(found) = self.delimiter.find(rest) else { return Step::More };
                self.position += found + self.delimiter_bytes;
                self.in_content = false;
            } else {
                let Some(found) = memmem::find(rest, b"\r\n\r\n") else {
                    return if rest.len() > MAX_PART_HEADER_BYTES { Step::HeaderTooLong } else { Step::More };
                };
                if found > MAX_PART_HEADER_BYTES {
                    return Step::HeaderTooLong;
                }
                self.position += found + 4;
                let part = Part::read(&rest[..found + 4]);
                if part.is_file {
                    return Step::File(self.position);
                }
                self.position = self.position.saturating_add(part.stated_bytes);
                self.in_content = true;
            }
        }
    }
}

/// What a part's headers say to the parser.
#[derive(Default)]
struct Part {
    is_file: bool,
    /// The length of content in which the parser looks for no delimiter.
    stated_bytes: usize,
}

impl Part {
    /// Reads headers with the parser's own means, so that both see the same; what it refuses says nothing here.
    fn read(headers: &[u8]) -> Self {
        let mut parsed = [httparse::EMPTY_HEADER; MAX_PART_HEADERS];
        let Ok(httparse::Status::Complete((_end, headers))) = httparse::parse_headers(headers, &mut parsed) else {
            return Self::default();
        };
        // If a header appears twice, the first one counts.
        let value = |name: &str| {
            headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
        };
        let disposition = value("content-disposition")
            .and_then(|value| HeaderValue::from_bytes(value).ok())
            .and_then(|value| ContentDisposition::from_raw(&value).ok());
        let stated_bytes = value("content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        Self {
            is_file: disposition
                .is_some_and(|disposition| disposition.is_form_data() && disposition.get_name() == Some("file")),
            stated_bytes: stated_bytes.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use actix_multipart::Multipart;
    use actix_web::http::header::{CONTENT_TYPE, HeaderMap};

    use super::*;

    const BOUNDARY: &str = "----WebKitFormBoundaryABCDEF0123456789";

    fn form(file: &[u8], line_end: &str) -> Vec<u8> {
        let mut body = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\nuser-profile\r\n--{BOUNDARY}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(file);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--{line_end}").as_bytes());
        body
    }

    async fn head_of(body: &[u8], chunk_bytes: usize) -> Result<FormHead, HeadError<()>> {
        let chunks: Vec<_> = body.chunks(chunk_bytes).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        read_form_head(&mut futures::stream::iter(chunks), BOUNDARY).await
    }

    #[tokio::test]
    async fn the_file_is_found_however_the_form_is_cut() {
        let file = b"\r\n\r\nbytes --of-- the file\r\n";
        let body = form(file, "\r\n");
        for chunk_bytes in [1, 2, 3, 7, 64, 1000] {
            let head = head_of(&body, chunk_bytes).await.unwrap();
            let offset = head.file_offset.unwrap();
            assert!(body[usize::try_from(offset).unwrap()..].starts_with(file), "{chunk_bytes}");
            assert_eq!(implied_file_bytes(body.len() as u64, offset, BOUNDARY), file.len() as u64);
            let replayed: Vec<u8> = head.chunks.concat();
            assert!(body.starts_with(&replayed));
        }
    }

    #[tokio::test]
    async fn a_form_without_its_line_end_fits_only_the_declared_length() {
        let body = form(b"12345", "");
        let offset = head_of(&body, 64).await.unwrap().file_offset.unwrap();
        let length = body.len() as u64;
        assert_eq!(implied_file_bytes(length, offset, BOUNDARY), 3, "wrong, and found out by the parser");
        assert!(fits(5, length, offset, BOUNDARY));
        assert!(!fits(4, length, offset, BOUNDARY));
        assert!(!fits(u64::MAX, length, offset, BOUNDARY));
    }

    #[tokio::test]
    async fn a_body_that_is_not_a_form_is_refused_at_once() {
        assert!(matches!(head_of(b"preamble\r\n--x", 64).await, Err(HeadError::NoBoundary)));
        let long = format!("--{BOUNDARY}\r\nContent-Disposition: {}", "x".repeat(MAX_PART_HEADER_BYTES));
        assert!(matches!(head_of(long.as_bytes(), 512).await, Err(HeadError::HeaderTooLong)));
        let empty = format!("--{BOUNDARY}--\r\n");
        assert_eq!(head_of(empty.as_bytes(), 5).await.unwrap().file_offset, None);
    }

    /// Where the parser sees the file begin, in a form whose file is empty and last: none where it refuses the form before.
    async fn parsed_offset(body: &[u8]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}").parse().unwrap());
        let body_bytes = Bytes::copy_from_slice(body);
        let mut multipart = Multipart::new(&headers, futures::stream::iter([Ok(body_bytes)]));
        while let Some(Ok(mut part)) = multipart.next().await {
            if part.name() == Some("file") {
                return Some(body.len() as u64 - closing_bytes(BOUNDARY) - 2);
            }
            part.bytes(MAX_PART_HEADER_BYTES).await.unwrap().ok()?;
        }
        None
    }

    #[tokio::test]
    async fn a_part_is_named_as_the_parser_names_it() {
        let dispositions = [
            ("form-data; name=\"file\"", true),
            ("form-data; NAME=\"file\"; filename=\"a.png\"", true),
            ("Form-Data;Name=file", true),
            ("form-data; name = \"file\" ; filename=a", true),
            ("form-data; name=\"f\\ile\"", true),
            ("form-data; filename=\"a; name=x\"; name=\"file\"", true),
            ("form-data; name=\"file\"; name=\"x\"", true),
            ("form-data; name=\"file\"\nContent-Type: image/png", true),
            ("form-data; name=\"x\"; name=\"file\"", false),
            ("form-data; name=\"x\"; filename=\"a;name=file;b\"", false),
            ("form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"file\"", false),
            ("form-data; name*=UTF-8\'\'file", false),
            ("form-data; name=\"File\"", false),
            ("form-data; name=\"file", false),
            ("attachment; name=\"file\"", false),
            ("name=\"file\"", false),
            ("form-data; name=\"file\";\r\n filename=\"a.png\"", false),
        ];
        for (disposition, named) in dispositions {
            let part = format!("--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n");
            let body = format!("{part}\r\n--{BOUNDARY}--\r\n");
            let offset = head_of(body.as_bytes(), 64).await.unwrap().file_offset;
            assert_eq!(offset, parsed_offset(body.as_bytes()).await, "{disposition}");
            assert_eq!(offset.is_some(), named, "{disposition}");
        }
    }

    #[tokio::test]
    async fn a_field_that_states_its_length_may_hold_what_looks_like_a_part() {
        let file = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n");
        let value = format!("\r\n{file}");
        let field = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"x\"\r\nContent-Length: ");
        let body = format!("{field}{}\r\n\r\n{value}\r\n{file}\r\n--{BOUNDARY}--\r\n", value.len());
        for chunk_bytes in [1, 64, 1000] {
            let offset = head_of(body.as_bytes(), chunk_bytes).await.unwrap().file_offset;
            assert_eq!(offset, parsed_offset(body.as_bytes()).await);
        }
        let endless = body.replace(&value.len().to_string(), &u64::MAX.to_string());
        assert_eq!(head_of(endless.as_bytes(), 64).await.unwrap().file_offset, None);
    }

    #[test]
    fn only_known_boundaries_are_predicted() {
        let known = [
            "----WebKitFormBoundaryx",
            "------------------------d74496d66958873e",
            "----formdata-undici-012345678901",
            "0123456789abcdef-0123456789abcdef-0123456789abcdef-0123456789abcdef",
            "----geckoformboundary1234",
            "0123456789abcdef0123456789abcdef",
            "2f0c0a3e-7b1c-4f7e-9f5e-0d6a2f3b4c5d",
        ];
        for boundary in known {
            assert!(ends_with_line_end(boundary), "{boundary}");
        }
        for boundary in ["x", "----", "boundary", "0123456789abcdef", "not-hex-at-all-but-four-groups"] {
            assert!(!ends_with_line_end(boundary), "{boundary}");
        }
    }
}

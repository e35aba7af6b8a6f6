//! The head of an HTTP/1.1 request, as a relay sees it on the wire.

use reqwest::header::HeaderMap;

use crate::raw;

/// Servers take no longer heads.
const LONGEST_HEAD_BYTES: usize = 16 * 1024;

/// A request's first line and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: String,
    /// The path and query.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// Its length in bytes, with the blank line at its end.
    pub bytes: usize,
}

/// Finds the head of each request of one connection.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    /// The beginning of a head that is not complete.
    begun: Option<Vec<u8>>,
}

impl RequestHead {
    /// A header's text; `None` if the header is missing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The head at the beginning of these bytes; `None` if it is not complete, or no head.
    fn parse(bytes: &[u8]) -> Option<Self> {
        const END: &[u8] = b"\r\n\r\n";
        let end = bytes.windows(END.len()).position(|window| window == END)?;
        let mut lines = std::str::from_utf8(&bytes[..end]).ok()?.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self { method, target, headers: raw::parse_headers(lines).ok()?, bytes: end + END.len() })
    }
}

impl HeadReader {
    /// The head that is complete with these bytes. `is_new` says that a request begins with them.
    pub(crate) fn read(&mut self, bytes: &[u8], is_new: bool) -> Option<RequestHead> {
        if is_new {
            self.begun = Some(Vec::new());
        }
        let begun = self.begun.as_mut()?;
        let room = LONGEST_HEAD_BYTES - begun.len();
        begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let head = RequestHead::parse(begun);
        if head.is_some() || begun.len() == LONGEST_HEAD_BYTES {
            self.begun = None;
        }
        head
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn a_head_is_found_when_it_is_complete_and_only_at_a_beginning() {
        let mut reader = HeadReader::default();
        assert_eq!(reader.read(b"PUT /a?b HTTP/1.1\r\nContent-Length: 3\r\n\r", true), None);
        let head = reader.read(b"\nabc", false).unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str(), head.bytes), ("PUT", "/a?b", 40));
        assert_eq!((head.header("content-length"), head.header("range")), (Some("3"), None));
        assert_eq!(reader.read(b"GET / HTTP/1.1\r\n\r\n", false), None, "a part of the body");
        assert_eq!(reader.read(b"GET / HTTP/1.1\r\n\r\n", true).unwrap().method, "GET");
    }

    #[test]
    fn what_has_no_end_is_no_head() {
        let mut reader = HeadReader::default();
        for is_new in [true, false] {
            assert_eq!(reader.read(&[0; LONGEST_HEAD_BYTES], is_new), None);
        }
    }
}

//! The `multipart/form-data` of an S3 POST: small fields, and last the file, which is not kept.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{objects::Beginning, signature::Refusal};

/// The largest size of all fields together, in bytes. S3's own limit is 20 KB.
const MOST_FIELD_BYTES: usize = 64 * 1024;

const MALFORMED: Refusal = "MalformedPOSTRequest";

/// Values by lower-case name.
type Values = BTreeMap<String, String>;

/// A form up to the first byte of its file.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) values: Values,
    /// The delimiter after the file.
    end: Vec<u8>,
    /// What was read after the fields.
    read: Bytes,
}

/// Reads the fields.
///
/// # Errors
/// If this is not a form, or has no file.
pub(super) async fn read_fields(content_type: &str, body: &mut Incoming) -> Result<Fields, Refusal> {
    let boundary = content_type.split(';').find_map(|parameter| parameter.trim().strip_prefix("boundary="));
    let boundary = boundary.ok_or(MALFORMED)?.trim_matches('"');
    let mut read = BytesMut::new();
    loop {
        if let Some((values, start)) = parse(&read, boundary)? {
            let end = format!("\r\n--{boundary}--").into_bytes();
            return Ok(Fields { values, end, read: read.split_off(start).freeze() });
        }
        if read.len() > MOST_FIELD_BYTES {
            return Err("MaxPostPreDataLengthExceeded");
        }
        let frame = body.frame().await.ok_or(MALFORMED)?.map_err(|_broken| "IncompleteBody")?;
        read.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
}

impl Fields {
    /// Reads the file and the end of the form. Returns the file's length in bytes and its beginning.
    ///
    /// # Errors
    /// If the form is not complete.
    pub(super) async fn read_file(&self, body: &mut Incoming) -> Result<(u64, Bytes), Refusal> {
        let mut beginning = Beginning::default();
        let mut tail = Vec::new();
        let mut rest = self.read.len() as u64;
        beginning.add(&self.read);
        self.keep_tail(&mut tail, &self.read);
        while let Some(frame) = body.frame().await {
            let bytes = frame.map_err(|_broken| "IncompleteBody")?.into_data().unwrap_or_default();
            rest += bytes.len() as u64;
            beginning.add(&bytes);
            self.keep_tail(&mut tail, &bytes);
        }
        let without_line = tail.strip_suffix(b"\r\n").unwrap_or(&tail);
        let without_end = without_line.strip_suffix(self.end.as_slice()).ok_or(MALFORMED)?;
        let length = rest - (tail.len() - without_end.len()) as u64;
        Ok((length, beginning.of_length(length)))
    }

    /// Keeps the last bytes: as many as the delimiter and a line end may have.
    fn keep_tail(&self, tail: &mut Vec<u8>, bytes: &[u8]) {
        let most = self.end.len() + 2;
        tail.extend_from_slice(&bytes[bytes.len().saturating_sub(most)..]);
        tail.drain(..tail.len().saturating_sub(most));
    }
}

/// The fields, and where the file begins. `None` if more bytes are needed.
fn parse(read: &[u8], boundary: &str) -> Result<Option<(Values, usize)>, Refusal> {
    let delimiter = format!("--{boundary}\r\n");
    let mut values = Values::new();
    let mut at = 0;
    loop {
        let rest = &read[at..];
        if rest.len() < delimiter.len() {
            return if delimiter.as_bytes().starts_with(rest) { Ok(None) } else { Err(MALFORMED) };
        }
        let rest = rest.strip_prefix(delimiter.as_bytes()).ok_or(MALFORMED)?;
        let Some(head_length) = find(rest, b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&rest[..head_length]).map_err(|_error| MALFORMED)?;
        let name = name_of(head).ok_or(MALFORMED)?;
        let start = head_length + 4;
        if name == "file" {
            return Ok(Some((values, at + delimiter.len() + start)));
        }
        let Some(length) = find(&rest[start..], format!("\r\n--{boundary}").as_bytes()) else { return Ok(None) };
        let value = std::str::from_utf8(&rest[start..start + length]).map_err(|_error| MALFORMED)?;
        values.insert(name, value.to_owned());
        at += delimiter.len() + start + length + 2;
    }
}

fn name_of(head: &str) -> Option<String> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let value = line.split(';').find_map(|parameter| parameter.trim().strip_prefix("name="))?;
    Some(value.trim_matches('"').to_ascii_lowercase())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const FORM: &[u8] = b"--xx\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\nincoming/1\r\n\
        --xx\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\nContent-Type: image/jpeg\r\n\r\nBYTES\r\n--xx--\r\n";

    #[test]
    fn fields_are_found_however_the_form_is_cut() {
        let start = find(FORM, b"BYTES").unwrap();
        for cut in 0..start {
            assert_eq!(parse(&FORM[..cut], "xx"), Ok(None), "{cut}");
        }
        let (values, at) = parse(FORM, "xx").unwrap().unwrap();
        assert_eq!(values, BTreeMap::from([("key".to_owned(), "incoming/1".to_owned())]));
        assert_eq!(at, start);
    }

    #[test]
    fn anything_but_a_form_is_refused() {
        assert_eq!(parse(b"{\"no\": \"form\"}", "xx"), Err(MALFORMED));
    }
}

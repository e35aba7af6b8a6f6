//! A multipart form as V1 takes it: small fields, then the file, then nothing.
//!
//! actix-multipart parses the form, and its result counts. This module adds limits that actix-multipart does not have (parts,
//! names, fields), and predicts the file's length from the form's head.

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::{HttpRequest, error::PayloadError, http::header, web};
use bytes::Bytes;
use futures::StreamExt;
use upload_domain::HEAD_BYTES;
use upload_http::{ApiError, Code, raise_receive_buffer};

use crate::{
    client_body::{self, BodyLimits, NotRead, Pace},
    form_head::{self, FormHead, HeadError, LOOK_AHEAD_BYTES, MAX_PART_HEADER_BYTES},
    form_input::{FileInput, FormInput},
    turns::Turn,
};

/// How large a form may be without its file, in bytes: its fields, headers and delimiters.
pub const FORM_OVERHEAD_BYTES: u64 = 64 * 1024;
/// The longest boundary, in bytes (RFC 2046, section 5.1.1).
const MAX_BOUNDARY_BYTES: usize = 70;
const MAX_PARTS: usize = 16;
const MAX_NAME_BYTES: usize = 64;
const MAX_FIELD_BYTES: usize = 4 * 1024;

/// The errors of any upload, because of its form or on the way to the store.
pub const BAD_FORM: &[Code] = &[
    Code::MalformedMultipart,
    Code::UnexpectedField,
    Code::MissingFile,
    Code::IncompleteBody,
    Code::UploadTimeout,
    Code::PayloadTooLarge,
    Code::MultipartLengthMismatch,
    Code::StorageTimeout,
    Code::StorageUnavailable,
    Code::TooManyUploads,
];

/// What a request's headers say about its form, before the body is read.
pub struct FormRequest {
    boundary: String,
    /// The request's Content-Length; none for a chunked request.
    body_bytes: Option<u64>,
}

/// The position of a form's file, from the form's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FilePlace {
    body_bytes: u64,
    file_offset: u64,
    /// The file's length, if a line end follows the closing delimiter.
    implied_bytes: u64,
}

/// The part that is the file.
enum FilePart {
    /// The parser finds its end.
    Parsed(Field),
    /// Its length is known. The parser gets only what comes after that.
    Exact(Box<FileInput>, Field),
}

/// A form whose parts are read in order.
pub struct Form {
    multipart: Multipart,
    input: FormInput,
    file: Option<FilePart>,
    /// What the file's own part says of its length, in bytes.
    part_bytes: Option<u64>,
    pace: Pace,
    boundary: String,
    /// The request's Content-Length; none for a chunked request.
    body_bytes: Option<u64>,
    place: Option<FilePlace>,
    parts: usize,
}

impl FormRequest {
    /// How many bytes of memory the file may need, as far as the headers say. `None` if the file's length will be known, or if
    /// the file is no longer than the part that is held of every file.
    pub fn held_bytes(&self, max_image_bytes: u64) -> Option<u64> {
        let most_bytes = self.body_bytes.unwrap_or(max_image_bytes).min(max_image_bytes);
        let predictable = is_predictable(self.body_bytes, &self.boundary);
        (!predictable && most_bytes > HEAD_BYTES as u64).then_some(most_bytes)
    }

    /// Refuses what cannot be a form, or is declared larger than `max_image_bytes` allows.
    pub fn check(request: &HttpRequest, max_image_bytes: u64) -> Result<Self, ApiError> {
        let headers = request.headers();
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|text| text.parse::<mime::Mime>().ok());
        let boundary = media_type
            .filter(|media_type| media_type.essence_str() == "multipart/form-data")
            .and_then(|media_type| media_type.get_param(mime::BOUNDARY).map(|boundary| boundary.as_str().to_owned()))
            .filter(|boundary| (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len()))
            .ok_or_else(|| {
                malformed("Content-Type must be multipart/form-data with a boundary of 1 to 70 characters.")
            })?;
        let body_bytes = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<u64>().ok());
        if body_bytes.is_some_and(|bytes| bytes > max_image_bytes + FORM_OVERHEAD_BYTES) {
            return Err(ApiError::payload_too_large(max_image_bytes));
        }
        Ok(Self { boundary, body_bytes })
    }

    /// Reads the form's head and gives its parts. The form holds the upload's turn.
    pub async fn open(
        self,
        request: &HttpRequest,
        payload: web::Payload,
        limits: BodyLimits,
        turn: Turn,
    ) -> Result<Form, ApiError> {
        raise_receive_buffer(request);
        let (mut body, mut pace) = client_body::watch(payload, limits, turn);
        let head = pace.wait(form_head::read_form_head(&mut body, &self.boundary)).await.map_err(not_read)?;
        let head = match head {
            Ok(head) => head,
            Err(HeadError::Body(error)) => return Err(body_error(MultipartError::Payload(error), &pace)),
            Err(HeadError::NoBoundary) => {
                return Err(malformed("The body does not begin with the boundary that Content-Type names."));
            }
            Err(HeadError::HeaderTooLong) => return Err(header_too_long()),
        };
        let FormHead { chunks, file_offset } = head;
        let place = self.body_bytes.zip(file_offset).map(|(body_bytes, file_offset)| FilePlace {
            body_bytes,
            file_offset,
            implied_bytes: form_head::implied_file_bytes(body_bytes, file_offset, &self.boundary),
        });
        let input = FormInput::new(chunks, body, file_offset.unwrap_or(u64::MAX));
        let multipart = Multipart::new(request.headers(), input.clone());
        let Self { boundary, body_bytes } = self;
        Ok(Form { multipart, input, file: None, part_bytes: None, pace, boundary, body_bytes, place, parts: 0 })
    }
}

impl Form {
    /// The next part, or none at the end of the form.
    pub async fn next_part(&mut self) -> Result<Option<Field>, ApiError> {
        let next = self.pace.wait(self.multipart.next()).await.map_err(not_read)?;
        let Some(field) = next else { return Ok(None) };
        let field = field.map_err(|error| body_error(error, &self.pace))?;
        self.parts += 1;
        if self.parts > MAX_PARTS {
            let detail = format!("A form can have at most {MAX_PARTS} parts.");
            return Err(ApiError::new(Code::TooManyParts, detail));
        }
        let header_bytes: usize =
            field.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if header_bytes > MAX_PART_HEADER_BYTES {
            return Err(header_too_long());
        }
        if field.name().is_none_or(|name| name.len() > MAX_NAME_BYTES) {
            return Err(malformed(&format!("Every part must have a name of at most {MAX_NAME_BYTES} bytes.")));
        }
        Ok(Some(field))
    }

    /// The value of a small field.
    pub async fn text(&mut self, field: &mut Field) -> Result<String, ApiError> {
        let read = self.pace.wait(field.bytes(MAX_FIELD_BYTES)).await.map_err(not_read)?;
        let bytes = read
            .map_err(|_exceeded| {
                malformed(&format!("A field other than the file can have at most {MAX_FIELD_BYTES} bytes."))
            })?
            .map_err(|error| body_error(error, &self.pace))?;
        String::from_utf8(bytes.to_vec()).map_err(|error| malformed("The value of a field is not UTF-8.").cause(error))
    }

    /// The predicted length of the file in bytes, which the parser must still prove. It is the length that the client or the
    /// file's part declares, if the request's own length allows it. Otherwise it is the length that the request's length
    /// implies, if the form's end can be predicted. Otherwise it is `None`.
    pub fn file_bytes(&self, declared_bytes: Option<u64>) -> Option<u64> {
        let place = self.place?;
        let fits = |bytes: &u64| form_head::fits(*bytes, place.body_bytes, place.file_offset, &self.boundary);
        let implied = form_head::ends_with_line_end(&self.boundary).then_some(place.implied_bytes);
        declared_bytes.or(self.part_bytes).filter(fits).or(implied)
    }

    /// Takes the part that is the file; its bytes come from [`Form::next_chunk`].
    ///
    /// A form that looks predictable has no reserved memory, and an upload with a turn must not wait for memory. So the form is refused if
    /// the file was not found in its head, unless the whole form is no longer than the part that is held of every file.
    pub fn begin_file(&mut self, file: Field) -> Result<(), ApiError> {
        let is_short = self.body_bytes.is_some_and(|bytes| bytes <= HEAD_BYTES as u64);
        if is_predictable(self.body_bytes, &self.boundary) && self.place.is_none() && !is_short {
            return Err(malformed(&format!(
                "The file must begin within the first {} KiB of the form.",
                LOOK_AHEAD_BYTES / 1024
            )));
        }
        let length = file.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        self.part_bytes = length.and_then(|text| text.parse().ok());
        self.file = Some(FilePart::Parsed(file));
        Ok(())
    }

    /// Takes the file as `length` bytes. It must still be proven that the form goes on as predicted.
    pub fn expect(&mut self, length: u64) {
        // The parser has a count of its own for a part that states its length.
        if self.place.is_none() || self.part_bytes.is_some() {
            return;
        }
        self.file = match self.file.take() {
            Some(FilePart::Parsed(part)) => {
                let bytes = Box::new(self.input.file(length, &self.boundary));
                Some(FilePart::Exact(bytes, part))
            }
            file => file,
        };
    }

    /// The file's next bytes; `None` when the part has ended.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        if let Some(FilePart::Exact(bytes, _part)) = &mut self.file {
            if let Some(left) = bytes.to_read() {
                self.pace.let_packets_gather(left).await;
            }
            match self.pace.wait(bytes.next()).await.map_err(not_read)? {
                Some(Ok(chunk)) => return Ok(Some(chunk)),
                Some(Err(error)) => return Err(body_error(error.into(), &self.pace)),
                None => {}
            }
        }
        // The parser gives what is left of the part: nothing if the length was right.
        let Some(FilePart::Parsed(mut part) | FilePart::Exact(_, mut part)) = self.file.take() else { return Ok(None) };
        self.input.open();
        match self.pace.wait(part.next()).await.map_err(not_read)? {
            Some(Ok(chunk)) => {
                self.file = Some(FilePart::Parsed(part));
                Ok(Some(chunk))
            }
            Some(Err(error)) => Err(body_error(error, &self.pace)),
            // The parser would wait for ever if a field that has ended were not dropped.
            None => Ok(None),
        }
    }

    /// Proves that nothing follows the file.
    pub async fn end(&mut self) -> Result<(), ApiError> {
        match self.next_part().await? {
            None => Ok(()),
            Some(_part) => Err(unexpected_field("The file must be the last part of the form.")),
        }
    }
}

/// Whether the form's head will be enough to predict the file's length.
fn is_predictable(body_bytes: Option<u64>, boundary: &str) -> bool {
    body_bytes.is_some() && form_head::ends_with_line_end(boundary)
}

/// A form that breaks the rules of RFC 7578 or of this server.
pub fn malformed(detail: &str) -> ApiError {
    ApiError::new(Code::MalformedMultipart, detail.to_owned())
}

/// A part that is unknown, appears twice or comes in the wrong place.
pub fn unexpected_field(detail: &str) -> ApiError {
    ApiError::new(Code::UnexpectedField, detail.to_owned())
}

fn header_too_long() -> ApiError {
    malformed(&format!("The headers of a part are longer than {MAX_PART_HEADER_BYTES} bytes."))
}

fn not_read(cause: NotRead) -> ApiError {
    match cause {
        NotRead::TooSlow => {
            ApiError::new(Code::UploadTimeout, "The form arrived too slowly; send it again over a faster connection.")
        }
        NotRead::NoTurn => ApiError::overloaded().cause(cause),
    }
}

/// What a failure to read the form means. The parser's errors are not `Send`, so the log gets their words.
fn body_error(error: MultipartError, pace: &Pace) -> ApiError {
    let cause = match &error {
        MultipartError::Payload(payload) => format!("{error}: {payload}"),
        MultipartError::Parse(parse) => format!("{error}: {parse}"),
        _ => error.to_string(),
    };
    let failure = match error {
        _ if pace.is_too_large() => ApiError::new(
            Code::PayloadTooLarge,
            "The form is larger than allowed; GET /limits gives the largest file size.",
        ),
        MultipartError::Incomplete | MultipartError::Payload(PayloadError::Incomplete(_) | PayloadError::Io(_)) => {
            ApiError::new(Code::IncompleteBody, "The body ended before the form's closing boundary.")
        }
        _ => malformed("The body is not valid multipart/form-data."),
    };
    failure.cause(cause)
}

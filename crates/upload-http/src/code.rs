//! The codes of every error in one declaration: the usual status, whether trying again helps, what it means, what to do.
//!
//! The interface's document and docs/API.md are made of this table, and nothing else spells a code.

use actix_web::http::StatusCode;
use upload_domain::Refusal;

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It will not, unless something changes.
    Never,
    /// It may, at any time.
    Possible,
    /// It may after `Retry-After`, which says one second to this many, unless the error knows better.
    AfterSeconds(u32),
}

/// Writes the codes; the line above each is what it means.
macro_rules! codes {
    ($(#[doc = $meaning:literal] $name:ident = $word:literal, $status:ident, $retry:expr, $advice:literal;)+) => {
        /// A stable word for what went wrong, by which programs decide.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $name),+
        }

        impl Code {
            /// Every code, by status.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }

            /// The status that it comes with, except where S3 has another one for the same thing.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),+ }
            }

            /// Whether the same request may succeed later.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => $retry),+ }
            }

            /// What it means, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning.trim_ascii()),+ }
            }

            /// What a client should do.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice),+ }
            }
        }
    };
}

codes! {
    /// The request body, or one of its fields, is not valid.
    InvalidRequest = "invalid_request", BAD_REQUEST, Retry::Never, "Correct the request; `detail` says what is wrong.";
    /// A PUT form needs `byteSize`, because the exact length is signed.
    ByteSizeRequired = "byte_size_required", BAD_REQUEST, Retry::Never, "Create the image with `byteSize`. If `formMethods` in `/limits` has POST, you can also ask for a POST form.";
    /// The body is not valid multipart/form-data, or it breaks a rule of this server; `detail` says which.
    MalformedMultipart = "malformed_multipart", BAD_REQUEST, Retry::Never,
        "Correct the form; `detail` says what is wrong.";
    /// The form has too many parts.
    TooManyParts = "too_many_parts", BAD_REQUEST, Retry::Never, "Send only the form's own fields and the file.";
    /// The form has a part that is unknown, appears twice or comes in the wrong place.
    UnexpectedField = "unexpected_field", BAD_REQUEST, Retry::Never,
        "Send each of the form's own fields once, and the file last.";
    /// The form has no part named `file`.
    MissingFile = "missing_file", BAD_REQUEST, Retry::Never, "Send the file as the last part, with the name `file`.";
    /// The body ended before the form was complete.
    IncompleteBody = "incomplete_body", BAD_REQUEST, Retry::Never, "Send the whole form again.";
    /// The bearer token is missing or not valid.
    InvalidToken = "invalid_token", UNAUTHORIZED, Retry::Never,
        "Get a new token and send it as `Authorization: Bearer`.";
    /// The user is not allowed to do this: by role or status, or because the competition has another host.
    Forbidden = "forbidden", FORBIDDEN, Retry::Never,
        "Do not try again until the user's role or status changes; link posters to your own competitions.";
    /// A field of the form is missing or was changed, or this server did not sign its ticket.
    InvalidForm = "invalid_form", FORBIDDEN, Retry::Never, "Send the form's fields unchanged, or request another form.";
    /// The form has expired.
    FormExpired = "form_expired", FORBIDDEN, Retry::Never, "Request another form: `POST /user/images/{id}/form`.";
    /// There is no such route, or the id in the path is not a UUID.
    NotFound = "not_found", NOT_FOUND, Retry::Never, "Correct the path.";
    /// The image does not exist, belongs to another user or, when you read it, is not linked.
    ImageNotFound = "image_not_found", NOT_FOUND, Retry::Never,
        "Check the id; you can upload and link only your own images.";
    /// There is no such competition.
    CompetitionNotFound = "competition_not_found", NOT_FOUND, Retry::Never, "Use the id of an existing competition.";
    /// The post does not exist or, when you delete it, belongs to another user.
    PostNotFound = "post_not_found", NOT_FOUND, Retry::Never, "Use the id of an existing post.";
    /// The route does not support this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Retry::Never,
        "Use a method that the `Allow` header lists.";
    /// The JSON body did not arrive in time.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT, Retry::Possible, "Send it again, with the whole body at once.";
    /// The form arrived too slowly or took too long.
    UploadTimeout = "upload_timeout", REQUEST_TIMEOUT, Retry::Possible, "Send it again over a faster connection.";
    /// The image was linked before, perhaps to something that was deleted; an image can be linked only once.
    AlreadyLinked = "already_linked", CONFLICT, Retry::Never, "Create and upload another image.";
    /// The image is being linked right now.
    LinkInProgress = "link_in_progress", CONFLICT, Retry::AfterSeconds(1), "Try again after `Retry-After`.";
    /// A file is being uploaded for the image right now.
    UploadInProgress = "upload_in_progress", CONFLICT, Retry::AfterSeconds(1), "Try again after `Retry-After`.";
    /// Nothing has been uploaded for the image yet.
    NotUploaded = "not_uploaded", CONFLICT, Retry::Possible, "Upload the file with the image's form, then try again.";
    /// The file was uploaded again while the image was being linked.
    UploadChanged = "upload_changed", CONFLICT, Retry::Possible, "Try again when no upload is under way.";
    /// The image was not linked in time.
    ImageExpired = "image_expired", GONE, Retry::Never, "Create and upload another image.";
    /// The file or the body is larger than allowed.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, Retry::Never,
        "Send less; `GET /limits` gives the largest file size.";
    /// The body's `Content-Type` or the image's format is not supported.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, Retry::Never,
        "Send JSON as `application/json`; `GET /limits` lists the image formats.";
    /// The request has a `Content-Encoding`.
    UnsupportedEncoding = "unsupported_encoding", UNSUPPORTED_MEDIA_TYPE, Retry::Never, "Send the body uncompressed.";
    /// The image's `path` does not match the target.
    WrongPath = "wrong_path", UNPROCESSABLE_ENTITY, Retry::Never, "Create an image with the `path` of this target.";
    /// The file is empty, or `byteSize` is 0.
    EmptyFile = "empty_file", UNPROCESSABLE_ENTITY, Retry::Never,
        "Use a file that is not empty; if a link returned this code, create another image first.";
    /// The file does not have the declared size, or it is larger than the limit.
    SizeMismatch = "size_mismatch", UNPROCESSABLE_ENTITY, Retry::Never,
        "Declare the file's real size, within `GET /limits`; if a link returned this code, create another image first.";
    /// The file is not an image of the declared format.
    ContentMismatch = "content_mismatch", UNPROCESSABLE_ENTITY, Retry::Never,
        "Create another image, and upload a file of the declared format.";
    /// The image is too wide, too high or has too many pixels.
    ImageTooLarge = "image_too_large", UNPROCESSABLE_ENTITY, Retry::Never,
        "Scale the image down (see `GET /limits`), create another image and upload it.";
    /// The image's header does not end within the file's first 256 KiB.
    HeaderTooLong = "header_too_long", UNPROCESSABLE_ENTITY, Retry::Never,
        "Remove the file's metadata or scale the image down, then create another image and upload it.";
    /// The file's SHA-256 does not match the declared one.
    ChecksumMismatch = "checksum_mismatch", UNPROCESSABLE_ENTITY, Retry::Never,
        "Upload the file that has this SHA-256; if a link returned this code, create another image first.";
    /// The file does not end where the request's `Content-Length` says.
    MultipartLengthMismatch = "multipart_length_mismatch", UNPROCESSABLE_ENTITY, Retry::Never,
        "Declare `byteSize` before the file, or end the form with a line break (CRLF).";
    /// You have more uploads open at the same time than one client may have.
    TooManyUploads = "too_many_uploads", TOO_MANY_REQUESTS, Retry::AfterSeconds(3),
        "Finish some of them first, then try again after `Retry-After`.";
    /// You have too many pending images, or have created too many bytes in 24 hours; `detail` says which.
    QuotaExceeded = "quota_exceeded", TOO_MANY_REQUESTS, Retry::AfterSeconds(60),
        "Link the images that you have uploaded, declare `byteSize`, or try again after `Retry-After`.";
    /// You, or all clients at your address, have made too many requests in a minute.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, Retry::AfterSeconds(60), "Try again after `Retry-After`.";
    /// The server failed and logged the cause.
    InternalError = "internal_error", INTERNAL_SERVER_ERROR, Retry::Never, "Report it with its `requestId`.";
    /// The server is already doing as much work as it can.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, Retry::AfterSeconds(3), "Try again after `Retry-After`.";
    /// This server is stopping.
    ShuttingDown = "shutting_down", SERVICE_UNAVAILABLE, Retry::AfterSeconds(3), "Try again after `Retry-After`.";
    /// The database cannot be reached, or did not finish in time.
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, Retry::AfterSeconds(3), "Try again after `Retry-After`.";
    /// The image store did not answer in time.
    StorageTimeout = "storage_timeout", SERVICE_UNAVAILABLE, Retry::AfterSeconds(3), "Try again after `Retry-After`.";
    /// The image store cannot be reached, or it failed.
    StorageUnavailable = "storage_unavailable", SERVICE_UNAVAILABLE, Retry::AfterSeconds(3), "Try again after `Retry-After`.";
}

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::EmptyFile => Self::EmptyFile,
            Refusal::SizeMismatch => Self::SizeMismatch,
            Refusal::ContentMismatch => Self::ContentMismatch,
            Refusal::ImageTooLarge => Self::ImageTooLarge,
            Refusal::HeaderTooLong => Self::HeaderTooLong,
            Refusal::ChecksumMismatch => Self::ChecksumMismatch,
        }
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusals_code_is_the_word_that_stands_on_the_row() {
        for refusal in Refusal::ALL {
            assert_eq!(Code::from(*refusal).as_str(), refusal.as_str());
        }
    }

    #[test]
    fn codes_are_distinct_words_in_the_order_of_their_statuses() {
        let statuses: Vec<u16> = Code::ALL.iter().map(|code| code.status().as_u16()).collect();
        assert!(statuses.is_sorted(), "{statuses:?}");
        let mut words: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            let busy = matches!(code.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            assert!(!busy || matches!(code.retry(), Retry::AfterSeconds(_)), "{code} says when to come back");
            assert!(code.meaning().ends_with('.') && code.advice().ends_with('.'), "{code}");
        }
    }
}

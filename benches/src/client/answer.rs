//! Answers, and the classes of failures.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{Response, StatusCode, body::Incoming, header::RETRY_AFTER};
use serde::Deserialize;

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The longest code in a class, in bytes.
const MAX_CODE_BYTES: usize = 64;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// How long the server asks to wait. `None` if it does not, or gives a date.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

impl Answer {
    pub(super) async fn read(response: Response<Incoming>) -> Result<Self, Failure> {
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(Failure::Unreadable),
            Err(error) => return Err(Failure::connection(error)),
        };
        Ok(Self { status: head.status, retry_after: retry_after.map(Duration::from_secs), body })
    }

    /// This answer as a failure: its status, and the code of a problem document or of an S3 error.
    pub fn refusal(&self) -> Failure {
        let status = self.status.as_u16();
        let code = self.problem_code().or_else(|| self.store_code());
        Failure::Refused(code.map_or_else(|| status.to_string(), |code| format!("{status} {code}")))
    }

    fn problem_code(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
        }
        let problem: Problem = serde_json::from_slice(&self.body).ok()?;
        is_code(&problem.code).then_some(problem.code)
    }

    /// The text of the first `<Code>` in S3's XML.
    fn store_code(&self) -> Option<String> {
        let text = std::str::from_utf8(&self.body).ok()?;
        let (code, _) = text.split_once("<Code>")?.1.split_once("</Code>")?;
        is_code(code).then(|| code.to_owned())
    }
}

fn is_code(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=MAX_CODE_BYTES).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Classes of answers that say that another server did not answer: the store, or the server behind nginx. The object may be in the store.
const PASSED_ON_WITHOUT_ANSWER: [&str; 3] = ["503 storage_timeout", "502", "504"];

/// Why an image failed. Its text is the class in which it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The connection failed, or ended before the answer.
    Connection,
    /// No answer in time.
    Timeout,
    /// The run was stopped.
    GivenUp,
    /// An answer other than success, with its class.
    Refused(String),
    /// A success with an unexpected body.
    Unreadable,
}

impl Failure {
    /// A failed connection. The cause goes to the log.
    pub fn connection(cause: impl fmt::Display) -> Self {
        tracing::debug!(%cause, "a connection failed");
        Self::Connection
    }

    /// Whether the image may have been stored all the same.
    pub fn is_undecided(&self) -> bool {
        match self {
            Self::Connection | Self::Timeout | Self::GivenUp => true,
            Self::Refused(class) => PASSED_ON_WITHOUT_ANSWER.contains(&class.as_str()),
            Self::Unreadable => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::GivenUp => "given up",
            Self::Refused(class) => class,
            Self::Unreadable => "unreadable answer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_classed_by_its_status_and_by_the_code_that_it_carries() {
        let class = |status, body: &'static str| {
            let answer = Answer { status, retry_after: None, body: Bytes::from_static(body.as_bytes()) };
            answer.refusal().to_string()
        };
        let problem = r#"{"type":"about:blank","status":503,"code":"overloaded"}"#;
        assert_eq!(class(StatusCode::SERVICE_UNAVAILABLE, problem), "503 overloaded");
        let error = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Wait.</Message></Error>";
        assert_eq!(class(StatusCode::SERVICE_UNAVAILABLE, error), "503 SlowDown");
        assert_eq!(class(StatusCode::BAD_GATEWAY, "<html><h1>502 Bad Gateway</h1></html>"), "502");
        assert_eq!(class(StatusCode::BAD_REQUEST, r#"{"code":"a whole sentence"}"#), "400");
    }

    #[test]
    fn an_image_may_be_stored_if_another_server_did_not_answer() {
        let refused = |class: &str| Failure::Refused(class.to_owned());
        assert!(refused("503 storage_timeout").is_undecided());
        assert!(refused("502").is_undecided());
        assert!(!refused("503 overloaded").is_undecided());
    }
}

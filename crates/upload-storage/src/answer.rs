//! What a store answered, beyond what the SDK's outputs say: its `Date`, its headers, its body as text.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::AfterDeserializationInterceptorContextRef},
    error::BoxError,
};

/// What a store answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// Keeps the last answer, whatever the SDK makes of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeepsAnswer(Arc<Mutex<Option<Answered>>>);

impl Answered {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the store itself has failed. With 501 it says that it does not know such a request.
    pub(crate) fn has_failed(&self) -> bool {
        self.status >= 500 && self.status != 501
    }

    /// A header's value; the name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _value)| found == name).map(|(_name, value)| value.as_str())
    }

    /// Whether a header lists this word, or `*`, which stands for every word.
    pub(crate) fn lists(&self, name: &str, wanted: &str) -> bool {
        let listed = self.header(name).unwrap_or_default();
        listed.split(',').map(str::trim).any(|word| word == "*" || word.eq_ignore_ascii_case(wanted))
    }

    /// The error code in the body.
    pub(crate) fn code(&self) -> Option<&str> {
        let (_before, rest) = self.body.split_once("<Code>")?;
        rest.split_once("</Code>").map(|(code, _after)| code)
    }

    /// Status and code, such as `403 AccessDenied`.
    pub(crate) fn words(&self) -> String {
        self.code().map_or_else(|| self.status.to_string(), |code| format!("{} {code}", self.status))
    }
}

impl KeepsAnswer {
    pub(crate) fn take(&self) -> Option<Answered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for KeepsAnswer {
    fn name(&self) -> &'static str {
        "KeepsAnswer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let headers = response.headers().iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let body = String::from_utf8_lossy(response.body().bytes().unwrap_or_default()).into_owned();
        let answered = Answered { status: response.status().as_u16(), headers: headers.collect(), body };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answered);
        Ok(())
    }
}

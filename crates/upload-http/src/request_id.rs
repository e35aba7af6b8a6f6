//! The id that identifies a request in the logs: from a trusted proxy, or our own.

use actix_web::{
    dev::ServiceRequest,
    http::header::{HeaderName, HeaderValue},
};
use ipnet::IpNet;
use uuid::Uuid;

use crate::client_address::is_trusted;

/// The header from which the id is accepted, and in which it is returned.
pub(crate) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from a proxy, in bytes.
const MAX_BYTES: usize = 128;

/// The id of one request.
#[derive(Debug)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Keeps the id of a trusted proxy if it is well-formed, or makes a new one.
    pub(crate) fn for_request(request: &ServiceRequest, trusted: &[IpNet]) -> Self {
        let peer = request.peer_addr().map(|address| address.ip().to_canonical());
        let believed = peer.is_some_and(|peer| is_trusted(peer, trusted));
        let given = request.headers().get(REQUEST_ID_HEADER).filter(|_given| believed);
        match given.and_then(sane) {
            Some(id) => Self(id.to_owned()),
            None => Self(Uuid::now_v7().to_string()),
        }
    }

    pub(crate) fn to_header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

fn sane(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/=+".contains(&byte);
    let whole = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(allowed);
    whole.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn id_of(header: &str, trusted: &str) -> String {
        let request = TestRequest::default()
            .peer_addr(([10, 1, 2, 3], 5000).into())
            .insert_header((REQUEST_ID_HEADER, header))
            .to_srv_request();
        let trusted: Vec<IpNet> = trusted.parse().into_iter().collect();
        RequestId::for_request(&request, &trusted).0
    }

    #[test]
    fn only_a_trusted_proxys_sane_id_is_kept() {
        assert_eq!(id_of("abc-1", "10.0.0.0/8"), "abc-1");
        assert_ne!(id_of("abc-1", "192.168.0.0/16"), "abc-1");
        for insane in ["", "a b", "a\"b", &"a".repeat(129)] {
            assert_ne!(id_of(insane, "10.0.0.0/8"), insane);
        }
    }
}

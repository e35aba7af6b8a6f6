//! What a caller's token says. Role and status are read again from the user's row by the statement that acts.

use crate::UserId;

/// The claims of a bearer token (RFC 7519). The code that decodes it requires and checks `exp`, `iss` and `aud`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The subject: whose token this is.
    pub user_id: UserId,
    /// The role at the time of issue; a hint for clients, never relied on.
    pub user_role: String,
    /// Expiry, in seconds since the Unix epoch.
    pub exp: u64,
    /// Issuer.
    pub iss: String,
    /// Audience.
    pub aud: String,
}

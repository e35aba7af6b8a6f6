//! Bearer tokens for tests and the demo, signed as a deployment's login service would sign them: HS256 with a shared secret.

use std::time::Duration;

use anyhow::{Context, Result};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use upload_domain::{Claims, Role, UserId};

/// `JWT_ISSUER` of every sandbox.
pub const ISSUER: &str = "upload-sandbox";
/// `JWT_AUDIENCE` of every sandbox.
pub const AUDIENCE: &str = "upload-servers";

const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The claims of a token for an hour, for tests that spoil one of them before they sign.
pub fn claims(user: UserId, role: Role) -> Claims {
    let expires_at = chrono::Utc::now() + LIFETIME;
    Claims {
        user_id: user,
        user_role: role.to_string(),
        exp: u64::try_from(expires_at.timestamp()).unwrap_or(0),
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
    }
}

/// Signs any claims with HS256.
pub fn sign(claims: &impl serde::Serialize, secret: &str) -> Result<String> {
    sign_with(claims, Algorithm::HS256, secret)
}

/// Signs with another algorithm of the HMAC family, for tokens that a server must refuse.
pub fn sign_with(claims: &impl serde::Serialize, algorithm: Algorithm, secret: &str) -> Result<String> {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .context("the token cannot be signed")
}

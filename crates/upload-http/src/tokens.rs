//! Verification of bearer tokens (RFC 8725: one algorithm, pinned by the deployer; required claims).
//!
//! jsonwebtoken takes a missing claim as valid unless it is also listed as required (CVE-2026-25537), so each is listed.
//! What the caller may do is not decided here: the statement that acts reads role and status from the row.

use actix_web::{HttpRequest, http::header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use upload_domain::{JwtAlgorithm, UserId};

use crate::{ApiError, Caller, HttpSettings, SettingsError};

/// How far the issuer's clock and ours may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 30;
/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Checks tokens against the deployer's issuer, audience, algorithm and key.
pub struct TokenVerifier {
    key: DecodingKey,
    validation: Validation,
}

/// What must be in a token besides `exp`, `iss` and `aud`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    user_id: UserId,
    #[serde(rename = "userRole")]
    _user_role: String,
}

impl TokenVerifier {
    /// Refuses a key that is not of the algorithm's kind.
    pub fn new(settings: &HttpSettings) -> Result<Self, SettingsError> {
        let pem = settings.jwt_public_key.as_deref().unwrap_or_default().replace("\\n", "\n");
        let secret = settings.jwt_secret.as_ref().map_or("", |secret| secret.expose_secret());
        let (algorithm, key) = match settings.jwt_algorithm {
            JwtAlgorithm::Hs256 => (Algorithm::HS256, Ok(DecodingKey::from_secret(secret.as_bytes()))),
            JwtAlgorithm::Rs256 => (Algorithm::RS256, DecodingKey::from_rsa_pem(pem.as_bytes())),
            JwtAlgorithm::Es256 => (Algorithm::ES256, DecodingKey::from_ec_pem(pem.as_bytes())),
            JwtAlgorithm::EdDsa => (Algorithm::EdDSA, DecodingKey::from_ed_pem(pem.as_bytes())),
        };
        let key = key.map_err(|_error| {
            SettingsError(format!("JWT_PUBLIC_KEY is not a PEM public key for JWT_ALGORITHM {algorithm:?}"))
        })?;
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&settings.jwt_issuer]);
        validation.set_audience(&[&settings.jwt_audience]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        Ok(Self { key, validation })
    }

    /// The caller whose token the request carries: one `Authorization` header with a valid bearer token.
    pub(crate) fn verify(&self, request: &HttpRequest) -> Result<Caller, ApiError> {
        let mut given = request.headers().get_all(header::AUTHORIZATION);
        let (Some(value), None) = (given.next(), given.next()) else {
            return Err(ApiError::invalid_token());
        };
        let token = value.to_str().ok().and_then(bearer).ok_or_else(ApiError::invalid_token)?;
        let decoded = jsonwebtoken::decode::<Subject>(token, &self.key, &self.validation)
            .map_err(|error| ApiError::invalid_token().cause(error))?;
        Ok(Caller { user_id: decoded.claims.user_id })
    }
}

/// The token of `Bearer <token>`; the scheme is case-insensitive (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let whole = scheme.eq_ignore_ascii_case("bearer") && token.len() <= MAX_TOKEN_BYTES;
    whole.then(|| token.trim())
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;

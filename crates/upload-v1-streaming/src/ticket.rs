//! V1's own form: a POST to `/uploads` whose ticket says what may be uploaded, as an S3 POST policy does for V2.
//!
//! A ticket is a JWT (RFC 7519) signed with a secret of its own, so that a bearer token is never a ticket, and a ticket
//! never a bearer token. A client can use it again until it expires, like an S3 form; the image's row decides whether an
//! upload still changes anything. The database's clock both sets and checks the expiry, to the second. This process's own
//! clock may differ by half a minute, which is much for a short form.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use upload_domain::{ImageFormat, ImageId, ImageLimits, Sha256Checksum, UserId, incoming_key};
use upload_persistence::images::Image;

const AUDIENCE: &str = "upload-ticket";

/// What one form allows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ticket {
    /// The image whose bytes may be uploaded.
    pub image: ImageId,
    /// The image's owner, whose share of the server the upload uses.
    pub user: UserId,
    /// The only format that they may have.
    pub format: ImageFormat,
    /// Smallest file, in bytes.
    pub min_bytes: u64,
    /// Largest file, in bytes.
    pub max_bytes: u64,
    /// The file's declared SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum_sha256: Option<Sha256Checksum>,
    aud: String,
    exp: i64,
}

impl Ticket {
    /// Allows one image's upload until `expires_at`: exactly `byte_size` bytes, or one byte to the largest size.
    pub fn new(image: &Image, limits: &ImageLimits, expires_at: DateTime<Utc>) -> Self {
        let (min_bytes, max_bytes) = image.byte_size.map_or((1, limits.max_image_bytes), |exact| (exact, exact));
        Self {
            image: image.id,
            user: image.user_id,
            format: image.format,
            min_bytes,
            max_bytes,
            checksum_sha256: image.checksum_sha256,
            aud: AUDIENCE.to_owned(),
            exp: expires_at.timestamp(),
        }
    }

    /// The exact size, where one was declared.
    pub fn exact_bytes(&self) -> Option<u64> {
        (self.min_bytes == self.max_bytes).then_some(self.max_bytes)
    }

    /// The `key` that the form carries: the same as in V2's form, so that clients see no difference.
    pub fn key(&self) -> String {
        incoming_key(self.image)
    }
}

/// Why a ticket is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// Its time is over.
    #[error("the form has expired")]
    Expired,
    /// It was not signed here, or was changed since.
    #[error("the ticket is missing, was changed or was not signed by this server")]
    Invalid(#[source] jsonwebtoken::errors::Error),
}

/// Signs and checks tickets.
pub struct TicketKey {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
}

impl TicketKey {
    /// A key from a secret of at least 32 bytes; all servers that share a form's URL share it.
    pub fn new(secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.required_spec_claims = HashSet::from(["exp".to_owned(), "aud".to_owned()]);
        // It would use this process's clock.
        validation.validate_exp = false;
        Self { signing: EncodingKey::from_secret(secret), checking: DecodingKey::from_secret(secret), validation }
    }

    /// Signs a ticket.
    pub fn sign(&self, ticket: &Ticket) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), ticket, &self.signing)
    }

    /// Reads a ticket that was signed here and has not expired at `now`, by the database's clock.
    pub fn check(&self, text: &str, now: DateTime<Utc>) -> Result<Ticket, TicketError> {
        let token = jsonwebtoken::decode::<Ticket>(text, &self.checking, &self.validation);
        let ticket = token.map_err(TicketError::Invalid)?.claims;
        if ticket.exp <= now.timestamp() { Err(TicketError::Expired) } else { Ok(ticket) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use uuid::Uuid;

    const NOW: DateTime<Utc> = DateTime::from_timestamp_nanos(1_700_000_000_500_000_000);

    fn ticket(seconds_from_now: i64) -> Ticket {
        Ticket {
            image: ImageId::from(Uuid::from_u128(1)),
            user: UserId::from(Uuid::from_u128(2)),
            format: ImageFormat::Png,
            min_bytes: 5,
            max_bytes: 5,
            checksum_sha256: None,
            aud: AUDIENCE.to_owned(),
            exp: (NOW + chrono::TimeDelta::seconds(seconds_from_now)).timestamp(),
        }
    }

    #[test]
    fn a_ticket_says_what_was_signed() {
        let key = TicketKey::new(&[7; 32]);
        let ticket = ticket(60);
        assert_eq!(key.check(&key.sign(&ticket).unwrap(), NOW).unwrap(), ticket);
        assert_eq!(ticket.exact_bytes(), Some(5));
    }

    #[test]
    fn a_ticket_ends_at_the_whole_second_by_the_clock_that_is_asked() {
        let key = TicketKey::new(&[7; 32]);
        let signed = key.sign(&ticket(60)).unwrap();
        let at = |milliseconds: i64| key.check(&signed, NOW + chrono::TimeDelta::milliseconds(milliseconds));
        assert!(at(-1_000_000_000).is_ok() && at(59_499).is_ok());
        assert!(matches!(at(59_500), Err(TicketError::Expired)));
    }

    #[test]
    fn an_expired_a_foreign_and_a_changed_ticket_are_refused() {
        let key = TicketKey::new(&[7; 32]);
        let check = |text: &str| key.check(text, NOW);
        assert!(matches!(check(&key.sign(&ticket(-1)).unwrap()), Err(TicketError::Expired)));
        let foreign = TicketKey::new(&[8; 32]).sign(&ticket(60)).unwrap();
        assert!(matches!(check(&foreign), Err(TicketError::Invalid(_))));
        let signed = key.sign(&ticket(60)).unwrap();
        let mut other = ticket(60);
        other.max_bytes = 1 << 40;
        let other = key.sign(&other).unwrap();
        let spliced: Vec<&str> = signed.split('.').take(1).chain(other.split('.').skip(1).take(1)).collect();
        let spliced = format!("{}.{}", spliced.join("."), signed.rsplit('.').next().unwrap());
        assert!(matches!(check(&spliced), Err(TicketError::Invalid(_))));
        let bearer_token = jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &serde_json::json!({"aud": "api", "exp": 4_000_000_000_u64}),
            &EncodingKey::from_secret(&[7; 32]),
        );
        assert!(matches!(check(&bearer_token.unwrap()), Err(TicketError::Invalid(_))));
    }
}

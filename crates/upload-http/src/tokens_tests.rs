use actix_web::test::TestRequest;
use clap::Parser;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::Code;

#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    http: HttpSettings,
}

const SECRET: &str = "01234567890123456789012345678901";
const USER: &str = "018f4f3e-7a50-7000-8000-000000000001";

fn verifier() -> TokenVerifier {
    let arguments = [
        "server",
        "--public-api-url=http://localhost",
        "--jwt-issuer=issuer",
        "--jwt-audience=audience",
        &format!("--jwt-secret={SECRET}"),
    ];
    let settings = crate::parse::<Settings>(arguments.map(Into::into));
    let verifier = settings.and_then(|settings| TokenVerifier::new(&settings.http));
    verifier.unwrap_or_else(|error| panic!("{error}"))
}

/// The claims of a good token, changed.
fn claims(change: Value) -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims =
        json!({ "userId": USER, "userRole": "USER", "exp": now + 600, "iss": "issuer", "aud": "audience" });
    if let (Some(claims), Value::Object(change)) = (claims.as_object_mut(), change) {
        for (name, value) in change {
            if value.is_null() {
                claims.remove(&name)
            } else {
                claims.insert(name, value)
            };
        }
    }
    claims
}

fn sign(algorithm: Algorithm, claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap_or_default()
}

fn outcome(authorization: &str) -> Result<Caller, ApiError> {
    let request = TestRequest::default().insert_header((header::AUTHORIZATION, authorization)).to_http_request();
    verifier().verify(&request)
}

#[test]
fn a_good_token_names_its_subject() {
    for scheme in ["Bearer", "bearer"] {
        let caller = outcome(&format!("{scheme} {}", sign(Algorithm::HS256, &claims(json!({})), SECRET)));
        assert_eq!(caller.ok().map(|caller| caller.user_id.to_string()).as_deref(), Some(USER));
    }
    let several = claims(json!({ "aud": ["other", "audience"] }));
    assert!(outcome(&format!("Bearer {}", sign(Algorithm::HS256, &several, SECRET))).is_ok());
}

#[test]
fn every_other_token_is_refused() {
    let now = jsonwebtoken::get_current_timestamp();
    let changes = [
        json!({ "exp": null }),
        json!({ "exp": now - 31 }),
        json!({ "exp": (now + 600).to_string() }),
        json!({ "exp": -1 }),
        json!({ "nbf": now + 120 }),
        json!({ "nbf": (now - 600).to_string() }),
        json!({ "iss": null }),
        json!({ "iss": "other" }),
        json!({ "aud": null }),
        json!({ "aud": "other" }),
        json!({ "aud": [] }),
        json!({ "userId": null }),
        json!({ "userId": "1" }),
        json!({ "userId": 1 }),
        json!({ "userRole": null }),
        json!({ "userRole": 1 }),
    ];
    for change in changes {
        let token = sign(Algorithm::HS256, &claims(change.clone()), SECRET);
        assert!(!token.is_empty() && outcome(&format!("Bearer {token}")).is_err(), "{change}");
    }
    let good = sign(Algorithm::HS256, &claims(json!({})), SECRET);
    let parts: Vec<&str> = good.split('.').collect();
    // {"alg":"none","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let refused = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Basic {good}"),
        good.clone(),
        format!("Bearer {good}x"),
        format!("Bearer {}", sign(Algorithm::HS384, &claims(json!({})), SECRET)),
        format!("Bearer {}", sign(Algorithm::HS256, &claims(json!({})), "another secret of thirty-two bytes")),
        format!("Bearer {}.{}", parts[0], parts[1]),
        format!("Bearer {}.{}.", parts[0], parts[1]),
        format!("Bearer {none}.{}.", parts[1]),
        format!("Bearer {none}.{}.{}", parts[1], parts[2]),
        format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1)),
    ];
    for authorization in refused {
        let error = outcome(&authorization).err().map(|error| (error.status().as_u16(), error.code()));
        assert_eq!(error, Some((401, Code::InvalidToken)), "{authorization}");
    }
    let twice = TestRequest::default()
        .append_header((header::AUTHORIZATION, format!("Bearer {good}")))
        .append_header((header::AUTHORIZATION, format!("Bearer {good}")))
        .to_http_request();
    assert!(verifier().verify(&twice).is_err());
    assert!(verifier().verify(&TestRequest::default().to_http_request()).is_err());
}

//! `token`.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use upload_domain::{Claims, Role, UserStatus};
use upload_sandbox::tokens::{AUDIENCE, ISSUER};

use crate::world::{answer, assert_refused, ops, stand};

/// The example keys of RFC 8410, section 10.
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\\n\
                           -----END PRIVATE KEY-----\\n";
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                          -----END PUBLIC KEY-----\n";

fn read(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Claims {
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    decode::<Claims>(token, key, &validation).unwrap().claims
}

fn seconds_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_token_is_what_the_servers_take() {
    let stand = stand().await;
    let user = stand.add_user(Role::Host, UserStatus::Active).await.unwrap();
    let key = DecodingKey::from_secret(stand.jwt_secret.as_bytes());
    for (lasts, seconds) in [("", 3600), ("--lasts 2d", 172_800)] {
        let before = seconds_now();
        let token = answer(&stand, &format!("token --user {user} {lasts}")).await;
        let claims = read(&token, Algorithm::HS256, &key);
        assert_eq!((claims.user_id, claims.user_role.as_str()), (user, "HOST"));
        assert!((before + seconds..=seconds_now() + seconds).contains(&claims.exp), "{lasts}: {}", claims.exp);
    }
}

#[tokio::test]
async fn an_asymmetric_algorithm_takes_the_private_key() {
    let stand = stand().await;
    let user = stand.add_user(Role::User, UserStatus::Active).await.unwrap();
    let token = ops(&stand, &format!("token --user {user}")).env("JWT_ALGORITHM", "EdDSA").without("JWT_SECRET");
    let finished = token.clone().env("JWT_PRIVATE_KEY", PRIVATE_KEY).run().await.unwrap();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let key = DecodingKey::from_ed_pem(PUBLIC_KEY.as_bytes()).unwrap();
    assert_eq!(read(&finished.stdout, Algorithm::EdDSA, &key).user_id, user);

    assert_refused(&token.clone().run().await.unwrap(), 2, &["JWT_PRIVATE_KEY must be set"]);
    for algorithm in ["EdDSA", "RS256", "ES256"] {
        let wrong = token.clone().env("JWT_ALGORITHM", algorithm).env("JWT_PRIVATE_KEY", PUBLIC_KEY);
        assert_refused(&wrong.run().await.unwrap(), 2, &["JWT_PRIVATE_KEY must be a private key in PEM"]);
    }
}

#[tokio::test]
async fn without_a_user_or_a_good_secret_there_is_no_token() {
    let stand = stand().await;
    let user = stand.add_user(Role::User, UserStatus::Active).await.unwrap();
    let nobody = "00000000-0000-0000-0000-000000000000";
    let finished = ops(&stand, &format!("token --user {nobody}")).run().await.unwrap();
    assert_refused(&finished, 1, &["there is no user", nobody]);

    let token = ops(&stand, &format!("token --user {user}"));
    let finished = token.clone().env("JWT_SECRET", "secret-word").run().await.unwrap();
    assert_refused(&finished, 2, &["JWT_SECRET", "32"]);
    assert!(!finished.stderr.contains("secret-word"));
    assert_refused(&token.clone().without("JWT_SECRET").run().await.unwrap(), 2, &["JWT_SECRET", "32"]);
    assert_refused(&token.without("JWT_ISSUER").run().await.unwrap(), 2, &["JWT_ISSUER"]);
}

//! Tokens that the servers must not accept (RFC 8725).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};
use upload_domain::Role;
use upload_sandbox::tokens;

use super::{
    subject::{NOTHING, Subject, assert_refused},
    wire::{self, Then},
};

const REFUSED: (u16, &str) = (401, "invalid_token");

/// A token with any header and any claims, and the right HMAC-SHA256 for them.
fn forge(header: &Value, claims: &Value, secret: &str) -> Result<String> {
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256)?;
    Ok(format!("{message}.{signature}"))
}

pub(super) async fn every_other_token_is_refused(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let secret = subject.stand.jwt_secret.clone();
    let now = chrono::Utc::now().timestamp();
    let good = serde_json::to_value(tokens::claims(user.id, Role::User))?;
    let plain = json!({ "alg": "HS256", "typ": "JWT" });
    let anybody = subject.anybody()?;
    anybody.with_token(forge(&plain, &good, &secret)?).me().await?.expect_status(200).context("the forge works")?;

    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |what: &str, authorization: String| {
        assert!(refused.insert(what.to_owned(), authorization).is_none(), "{what} is there twice");
    };
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().map(|claims| claims.remove(name));
        claims
    };

    let claims = [
        ("exp missing", without("exp")),
        ("exp past", with("exp", json!(now - 31))),
        ("exp zero", with("exp", json!(0))),
        ("exp negative", with("exp", json!(-1))),
        ("exp text", with("exp", json!((now + 600).to_string()))),
        ("exp null", with("exp", Value::Null)),
        ("exp true", with("exp", json!(true))),
        ("exp list", with("exp", json!([now + 600]))),
        ("nbf to come", with("nbf", json!(now + 600))),
        ("nbf text", with("nbf", json!((now - 600).to_string()))),
        ("iss missing", without("iss")),
        ("iss of another", with("iss", json!("another"))),
        ("iss in capitals", with("iss", json!(tokens::ISSUER.to_uppercase()))),
        ("iss empty", with("iss", json!(""))),
        ("iss null", with("iss", Value::Null)),
        ("aud missing", without("aud")),
        ("aud of another", with("aud", json!("another"))),
        ("aud none of them", with("aud", json!(["one", "another"]))),
        ("aud empty", with("aud", json!([]))),
        ("aud number", with("aud", json!(1))),
        ("aud null", with("aud", Value::Null)),
        ("userId missing", without("userId")),
        ("userId no id", with("userId", json!("admin"))),
        ("userId number", with("userId", json!(1))),
        ("userId null", with("userId", Value::Null)),
        ("userId list", with("userId", json!([user.id]))),
        ("userId quoting", with("userId", json!(format!("{}' OR '1'='1", user.id)))),
        ("userRole missing", without("userRole")),
        ("userRole number", with("userRole", json!(1))),
        ("no claims", json!({})),
        ("claims are a list", json!([good])),
        ("claims are a text", json!("claims")),
        ("claims are null", Value::Null),
    ];
    for (what, claims) in claims {
        add(what, format!("Bearer {}", forge(&plain, &claims, &secret)?));
    }

    // Signed with HS256 and the right secret, whatever algorithm their headers name.
    for algorithm in ["none", "None", "NONE", "nOnE", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA", "hs256", ""]
    {
        let header = json!({ "alg": algorithm, "typ": "JWT" });
        add(&format!("alg {algorithm:?}"), format!("Bearer {}", forge(&header, &good, &secret)?));
    }
    let none = forge(&json!({ "alg": "none", "typ": "JWT" }), &good, &secret)?;
    add("alg none, empty signature", format!("Bearer {}.", none.rsplit_once('.').context("a signature")?.0));
    for (what, header) in [
        ("alg missing", json!({ "typ": "JWT" })),
        ("alg number", json!({ "alg": 256 })),
        ("alg null", json!({ "alg": null })),
        ("alg list", json!({ "alg": ["HS256"] })),
        ("header is a list", json!(["HS256"])),
    ] {
        add(what, format!("Bearer {}", forge(&header, &good, &secret)?));
    }
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        add(&format!("truly {algorithm:?}"), format!("Bearer {}", tokens::sign_with(&good, algorithm, &secret)?));
    }
    for (what, other) in [
        ("another secret", "another secret of at least thirty-two bytes".to_owned()),
        ("an empty secret", String::new()),
        ("a secret with a line's end", format!("{secret}\n")),
        ("half of the secret", secret[..16].to_owned()),
    ] {
        add(what, format!("Bearer {}", tokens::sign(&good, &other)?));
    }

    // Garbled.
    let token = forge(&plain, &good, &secret)?;
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { anyhow::bail!("three parts: {token}") };
    let flipped = |text: &str| {
        let first = if text.starts_with('A') { 'B' } else { 'A' };
        format!("{first}{}", &text[1..])
    };
    let admin = URL_SAFE_NO_PAD.encode(with("userRole", json!("ADMIN")).to_string());
    for (what, garbled) in [
        ("no signature", format!("{header}.{payload}")),
        ("empty signature", format!("{header}.{payload}.")),
        ("flipped signature", format!("{header}.{payload}.{}", flipped(signature))),
        ("cut signature", format!("{header}.{payload}.{}", &signature[..signature.len() - 2])),
        ("longer signature", format!("{token}AAAA")),
        ("changed claims", format!("{header}.{admin}.{signature}")),
        ("flipped header", format!("{}.{payload}.{signature}", flipped(header))),
        ("padded", format!("{header}.{payload}.{signature}=")),
        ("four parts", format!("{token}.{signature}")),
        ("parts in another order", format!("{payload}.{header}.{signature}")),
        ("dots alone", "..".to_owned()),
        ("a word", "token".to_owned()),
        ("no base64", "!!!.!!!.!!!".to_owned()),
        ("twice", format!("{token} {token}")),
        ("with a comma", format!("{token},{token}")),
        ("quoted", format!("\"{token}\"")),
        ("nine kilobytes", "a".repeat(9 * 1024)),
    ] {
        add(what, format!("Bearer {garbled}"));
    }
    add("empty", String::new());
    add("the scheme alone", "Bearer".to_owned());
    add("the scheme and a space", "Bearer ".to_owned());
    add("no scheme", token.clone());
    add("another scheme", format!("Basic {token}"));
    add("the scheme twice", format!("Bearer Bearer {token}"));
    add("another separator", format!("Bearer:{token}"));
    assert!(refused.len() >= 40, "{}", refused.len());

    for (what, authorization) in &refused {
        let body = json!({ "path": "user-profile", "format": "image/png" });
        for request in
            [anybody.request(Method::GET, "/user/users/me"), anybody.request(Method::POST, "/user/images").json(&body)]
        {
            let answer = anybody.send(request.header("Authorization", authorization)).await?;
            assert_refused(what, &answer, REFUSED);
        }
    }
    assert_refused("no header", &anybody.me().await?, REFUSED);
    let in_query = anybody.get(&format!("/user/users/me?access_token={token}")).await?;
    assert_refused("in the query", &in_query, REFUSED);
    let url = format!("{}/user/users/me", subject.url());
    let bearer = format!("Bearer {token}");
    let twice = [("Authorization", bearer.as_str()), ("Authorization", bearer.as_str())];
    let answer = wire::exchange(&url, wire::request("GET", &url, &twice, b"")?, Then::Wait).await?;
    assert_refused("two headers", &answer.context("an answer")?, REFUSED);
    assert_eq!(subject.kept().await?, NOTHING);
    Ok(())
}

/// With a public key, the server accepts no token that was signed with the key's text as a secret. The keys are those of RFC 8037,
/// appendix A.
pub(super) async fn a_token_of_another_key_is_refused(subject: &mut Subject) -> Result<()> {
    let user = subject.user().await?;
    let private = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")?;
    let public = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")?;
    // RFC 8410: the bytes before the bare key in PKCS #8 and in SubjectPublicKeyInfo.
    let pkcs8 = [b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".as_slice(), &private].concat();
    let spki = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".as_slice(), &public].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(spki));
    subject.add_server(&[("JWT_ALGORITHM", "EdDSA"), ("JWT_PUBLIC_KEY", &pem), ("JWT_SECRET", "")]).await?;

    let claims = tokens::claims(user.id, Role::User);
    let anybody = subject.anybody()?;
    let right = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &EncodingKey::from_ed_der(&pkcs8))?;
    anybody.with_token(right).me().await?.expect_status(200)?;
    for secret in [pem.as_str(), pem.trim(), &pem.replace('\n', "\\n"), &subject.stand.jwt_secret, ""] {
        let token = tokens::sign(&claims, secret)?;
        assert_refused("HS256", &anybody.with_token(token).me().await?, REFUSED);
        let forged = forge(&json!({ "alg": "EdDSA", "typ": "JWT" }), &serde_json::to_value(&claims)?, secret)?;
        assert_refused("HS256 as EdDSA", &anybody.with_token(forged).me().await?, REFUSED);
    }
    Ok(())
}

//! `upload-ops token`: signs a token as a deployment's login service would, for trials and for troubleshooting.
//!
//! The settings are those that the servers check tokens with; an asymmetric algorithm needs the private half of the key.

use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use upload_domain::{Claims, JwtAlgorithm, UserId};
use upload_persistence::{DatabaseError, DatabaseSettings, users};

use crate::{Stop, command::duration, reach};

#[derive(Debug, clap::Args)]
pub(crate) struct TokenArguments {
    /// The id of the user, which `user add` printed
    #[arg(long)]
    user: UserId,

    /// How long the token is valid
    #[arg(long, default_value = "1h", value_parser = duration)]
    lasts: Duration,

    #[command(flatten)]
    database: DatabaseSettings,

    /// The algorithm that the servers accept
    #[arg(long, env, value_enum, default_value = "HS256")]
    jwt_algorithm: JwtAlgorithm,

    /// For HS256: the servers' JWT_SECRET, at least 32 bytes
    #[arg(long, env, hide_env_values = true)]
    jwt_secret: Option<SecretString>,

    /// For RS256, ES256 or EdDSA: the private key for the servers' JWT_PUBLIC_KEY, in PEM. You can write `\n` for a line break
    #[arg(long, env, hide_env_values = true)]
    jwt_private_key: Option<SecretString>,

    /// The `iss` claim that the servers expect
    #[arg(long, env)]
    jwt_issuer: String,

    /// The `aud` claim that the servers expect
    #[arg(long, env)]
    jwt_audience: String,
}

/// Prints a token for the user, and nothing else.
pub(crate) async fn run(arguments: &TokenArguments) -> Result<(), Stop> {
    let (algorithm, key) = signing_key(arguments)?;
    let database = reach::database(&arguments.database).await?;
    let mut connection = database.connection().await.context("cannot look up the user")?;
    let user = users::find(&mut connection, arguments.user).await.map_err(DatabaseError::from);
    let user =
        user.context("cannot look up the user")?.ok_or_else(|| anyhow!("there is no user {}", arguments.user))?;

    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("this machine's clock is set before 1970")?;
    let claims = Claims {
        user_id: user.id,
        user_role: user.role.to_string(),
        exp: (now + arguments.lasts).as_secs(),
        iss: arguments.jwt_issuer.clone(),
        aud: arguments.jwt_audience.clone(),
    };
    let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).context("cannot sign the token")?;
    println!("{token}");
    Ok(())
}

fn signing_key(arguments: &TokenArguments) -> Result<(Algorithm, EncodingKey), Stop> {
    let (algorithm, key) = match arguments.jwt_algorithm {
        JwtAlgorithm::Hs256 => (Algorithm::HS256, Ok(EncodingKey::from_secret(secret(arguments)?))),
        JwtAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_pem(private_key(arguments)?.as_bytes())),
        JwtAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_pem(private_key(arguments)?.as_bytes())),
        JwtAlgorithm::EdDsa => (Algorithm::EdDSA, EncodingKey::from_ed_pem(private_key(arguments)?.as_bytes())),
    };
    let key = key.map_err(|error| {
        Stop::settings(format!("JWT_PRIVATE_KEY must be a private key in PEM (PKCS#8) for {algorithm:?}: {error}"))
    })?;
    Ok((algorithm, key))
}

fn secret(arguments: &TokenArguments) -> Result<&[u8], Stop> {
    let secret = arguments.jwt_secret.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
    if secret.len() < JwtAlgorithm::LEAST_SECRET_BYTES {
        let least = JwtAlgorithm::LEAST_SECRET_BYTES;
        let text = format!("JWT_SECRET must be set to at least {least} random bytes with JWT_ALGORITHM HS256");
        return Err(Stop::settings(text));
    }
    Ok(secret.as_bytes())
}

fn private_key(arguments: &TokenArguments) -> Result<String, Stop> {
    let Some(pem) = &arguments.jwt_private_key else {
        return Err(Stop::settings(
            "JWT_PRIVATE_KEY must be set to the private key in PEM with JWT_ALGORITHM RS256, ES256 or EdDSA",
        ));
    };
    Ok(pem.expose_secret().replace("\\n", "\n"))
}

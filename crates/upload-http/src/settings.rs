//! The settings of both servers. One declaration gives the flag and the environment variable.
//!
//! If a value is wrong, the program names the variable and what to write instead, in one sentence, and exits with code 2.
//! Secrets are checked after clap has read them, because clap's messages repeat the value that they refuse. A URL may contain
//! a password by mistake, so values marked `hide_env_values` are not repeated here either.

use std::{
    error::Error as _,
    ffi::OsString,
    num::{IntErrorKind, NonZeroU32, ParseIntError},
};

use clap::{
    Args, Command, Parser, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use upload_domain::{ImageLimits, JwtAlgorithm, Timing, TimingSettings, origin};
use upload_persistence::{
    DatabaseSettings,
    quotas::{LEAST_COUNTED_BYTES, Quota},
};
use upload_storage::StorageSettings;
use url::Url;

/// The settings that V1 and V2 have in common.
#[derive(Debug, Clone, Args)]
pub struct CommonSettings {
    /// Listening, callers, limits, logs.
    #[command(flatten)]
    pub http: HttpSettings,
    /// Postgres.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// The S3 store.
    #[command(flatten)]
    pub storage: StorageSettings,
}

/// Listening, callers, limits, logs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpSettings {
    /// The address to listen on, as host:port. Port 0 takes any free port.
    #[arg(long, env, default_value = "127.0.0.1:8080")]
    pub bind_address: String,

    /// The URL at which clients reach this server, without user, query and fragment. Port 0 in it is replaced by the port of BIND_ADDRESS.
    #[arg(long, env, hide_env_values = true, value_parser = public_url)]
    pub public_api_url: Url,

    /// Origins of the web pages that may call this server, separated by commas. `*` allows every origin.
    #[arg(long, env, hide_env_values = true, value_delimiter = ',', value_parser = origin)]
    pub cors_origins: Vec<String>,

    /// Addresses or networks (CIDR) of proxies, separated by commas. The server keeps the `x-request-id` that they send.
    #[arg(long, env, value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,

    /// The algorithm that signs the callers' tokens. The server accepts no other.
    #[arg(long, env, value_enum, default_value = "HS256")]
    pub jwt_algorithm: JwtAlgorithm,

    /// For HS256: the secret that signs tokens, at least 32 bytes.
    #[arg(long, env, hide_env_values = true)]
    pub jwt_secret: Option<SecretString>,

    /// For RS256, ES256 or EdDSA: the issuer's public key in PEM. You can write `\n` for a line break.
    #[arg(long, env, hide_env_values = true)]
    pub jwt_public_key: Option<String>,

    /// The `iss` claim that tokens must have.
    #[arg(long, env, value_parser = not_empty)]
    pub jwt_issuer: String,

    /// The `aud` claim that tokens must have.
    #[arg(long, env, value_parser = not_empty)]
    pub jwt_audience: String,

    /// Largest file, in bytes.
    #[arg(
        long, env,
        default_value_t = ImageLimits::default().max_image_bytes,
        value_parser = clap::value_parser!(u64).range(1..=5_368_709_120)
    )]
    pub max_image_bytes: u64,

    /// Widest image, in pixels.
    #[arg(long, env, default_value_t = ImageLimits::default().max_width, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_width: u32,

    /// Highest image, in pixels.
    #[arg(long, env, default_value_t = ImageLimits::default().max_height, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_height: u32,

    /// Most pixels in one image (width times height).
    #[arg(long, env, default_value_t = ImageLimits::default().max_pixels, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_pixels: u64,

    /// Most pending images of one user: created and not linked. 0: any number.
    #[arg(long, env, default_value_t = 20)]
    pub max_pending_images: u32,

    /// Most bytes of images that one user may create in 24 hours. 0: any number.
    #[arg(long, env, default_value_t = 1024 * 1024 * 1024)]
    pub max_bytes_per_day: u64,

    /// Most requests with a token that one user may make in a minute. Not set: no limit.
    #[arg(long, env)]
    pub rate_limit_per_user: Option<NonZeroU32>,

    /// The same for one address, or for one /64 of IPv6. Not set: no limit.
    #[arg(long, env)]
    pub rate_limit_per_address: Option<NonZeroU32>,

    /// The Redis in which all servers count these requests together. Not set: each server counts alone.
    #[arg(long, env, hide_env_values = true)]
    pub redis_url: Option<SecretString>,

    /// How many images links may verify and pin at the same time. Other links wait as long as these make progress, and get 503 when none has for 45 s.
    #[arg(long, env, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub links_active: u16,

    /// Times of forms, bodies and pending images.
    #[command(flatten)]
    pub timing: TimingSettings,

    /// How long uploads may continue after SIGTERM, in seconds.
    #[arg(long, env, default_value_t = 25, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub shutdown_timeout: u64,

    /// The format of the logs on stderr.
    #[arg(long, env, value_enum, default_value = "json")]
    pub log_format: LogFormat,

    /// The least severe level to log for this project's own code. Libraries log only warnings and errors.
    #[arg(long, env, value_enum, default_value = "info")]
    pub log_level: LogLevel,

    /// Number of worker threads [default: the CPUs that this process may use].
    #[arg(long, env, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub http_workers: Option<u16>,

    /// Most open connections, over all workers. Further ones wait in the listen backlog; the server closes idle ones to make room.
    #[arg(long, env, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object on each line.
    Json,
    /// Plain lines for people.
    Human,
}

/// The least severe level to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Failures on which someone must act.
    Error,
    /// Also problems that the server handled itself.
    Warn,
    /// Also one line for each upload, link and refused request.
    Info,
    /// Also one line for each request.
    Debug,
    /// Everything.
    Trace,
}

/// A wrong setting, in one sentence that names the variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

impl CommonSettings {
    /// Refuses values that are valid alone but not together.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.http.check()?;
        self.database.check().map_err(|error| SettingsError(error.to_string()))?;
        self.storage.check().map_err(|error| SettingsError(error.to_string()))
    }
}

impl HttpSettings {
    /// The limits on an image.
    pub fn limits(&self) -> ImageLimits {
        ImageLimits {
            max_image_bytes: self.max_image_bytes,
            max_width: self.max_width,
            max_height: self.max_height,
            max_pixels: self.max_pixels,
        }
    }

    /// What one user may create. An image is pending until the sweep may remove it.
    pub(crate) fn quota(&self, timing: &Timing) -> Quota {
        Quota {
            max_pending: self.max_pending_images,
            pending_for: timing.pending_ttl,
            max_bytes_per_day: self.max_bytes_per_day,
            unknown_bytes: self.max_image_bytes,
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        self.timing.checked().map_err(|error| SettingsError(error.to_string()))?;
        let (day, image) = (self.max_bytes_per_day, self.max_image_bytes);
        if (1..image.max(LEAST_COUNTED_BYTES)).contains(&day) {
            return Err(SettingsError(format!(
                "MAX_BYTES_PER_DAY is {day}; it must be 0, or at least MAX_IMAGE_BYTES, which is {image}, and {LEAST_COUNTED_BYTES}"
            )));
        }
        let sentence = match (self.jwt_algorithm, &self.jwt_secret, &self.jwt_public_key) {
            (JwtAlgorithm::Hs256, None, _) => {
                "JWT_SECRET is not set: JWT_ALGORITHM HS256 needs at least 32 random bytes"
            }
            (JwtAlgorithm::Hs256, Some(secret), _)
                if secret.expose_secret().len() < JwtAlgorithm::LEAST_SECRET_BYTES =>
            {
                "JWT_SECRET is too short: it must have at least 32 random bytes"
            }
            (JwtAlgorithm::Hs256, Some(_), None) => return Ok(()),
            (JwtAlgorithm::Hs256, Some(_), Some(_)) => {
                "JWT_PUBLIC_KEY must not be set with JWT_ALGORITHM HS256, which takes JWT_SECRET alone"
            }
            (_, None, Some(_)) => return Ok(()),
            (_, _, None) => {
                "JWT_PUBLIC_KEY is not set: JWT_ALGORITHM RS256, ES256 and EdDSA need the issuer's key in PEM"
            }
            (_, Some(_), Some(_)) => "JWT_SECRET must not be set with JWT_ALGORITHM RS256, ES256 or EdDSA",
        };
        Err(SettingsError(sentence.to_owned()))
    }
}

/// Reads settings from `arguments` (the first is the program's name) and the environment. An empty variable counts as
/// one that is not set. Help and version are printed, and clap's own usage errors too; both end the process.
pub fn parse<S: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<S, SettingsError> {
    let all = S::command();
    let command = all.clone().mut_args(|argument| {
        let empty = argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if empty { argument.env(None::<&'static str>) } else { argument }
    });
    let parsed = command.try_get_matches_from(arguments).and_then(|mut matches| S::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| match sentence(&error, &all) {
        Some(sentence) => SettingsError(sentence),
        None => error.exit(),
    })
}

/// clap's error as a sentence that names the variable, or `None` if the error is about the command line itself.
fn sentence(error: &clap::Error, command: &Command) -> Option<String> {
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    };
    let (variables, hidden) = match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(shown) => {
            let argument = argument(shown, command);
            (variable(shown, argument), argument.is_some_and(clap::Arg::is_hide_env_values_set))
        }
        ContextValue::Strings(shown) => {
            let variables = shown.iter().map(|shown| variable(shown, argument(shown, command)));
            (variables.collect::<Vec<_>>().join(", "), false)
        }
        _ => return None,
    };
    match error.kind() {
        ErrorKind::MissingRequiredArgument => Some(format!("{variables} must be set")),
        ErrorKind::InvalidValue => {
            let right = text(ContextKind::ValidValue)?;
            Some(format!("{variables} is `{}`; it must be one of {right}", text(ContextKind::InvalidValue)?))
        }
        ErrorKind::ValueValidation => {
            let cause = error.source().map_or_else(String::new, |cause| match cause.downcast_ref::<ParseIntError>() {
                Some(wrong) if *wrong.kind() == IntErrorKind::PosOverflow => ": it is too large".to_owned(),
                Some(_none) => ": it must be a whole number".to_owned(),
                None => format!(": {cause}"),
            });
            let value = text(ContextKind::InvalidValue).filter(|_value| !hidden);
            let value = value.map_or_else(String::new, |value| format!(" is `{value}`, which"));
            Some(format!("{variables}{value} cannot be used{cause}"))
        }
        _ => None,
    }
}

/// What clap shows as `--form-ttl <FORM_TTL>`.
fn argument<'a>(shown: &str, command: &'a Command) -> Option<&'a clap::Arg> {
    let name = flag(shown).strip_prefix("--")?;
    command.get_arguments().find(|argument| argument.get_long() == Some(name))
}

/// `--form-ttl <FORM_TTL>` as `FORM_TTL (--form-ttl)`.
fn variable(shown: &str, argument: Option<&clap::Arg>) -> String {
    match argument.and_then(clap::Arg::get_env) {
        Some(variable) => format!("{} ({})", variable.to_string_lossy(), flag(shown)),
        None => flag(shown).to_owned(),
    }
}

fn flag(shown: &str) -> &str {
    shown.split([' ', '=']).next().unwrap_or(shown)
}

fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it must not be empty") } else { Ok(text.to_owned()) }
}

fn public_url(text: &str) -> Result<Url, &'static str> {
    const RIGHT: &str = "it must be a URL such as https://api.example.org, without user, query and fragment";
    let mut url = Url::parse(text).map_err(|_error| RIGHT)?;
    // An `@` anywhere is refused: the text before it may be a password, and clients see this URL.
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || text.contains(['@', '?', '#']) {
        return Err(RIGHT);
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let address = text.parse::<std::net::IpAddr>().map(IpNet::from);
    address.or_else(|_error| text.parse()).map_err(|_error| "it must be an address or a network such as 10.0.0.0/8")
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;

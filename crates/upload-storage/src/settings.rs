//! The address of the store and its keys: flags and environment from one declaration.
//!
//! A URL may contain a password by mistake, so URLs are `hide_env_values` too: neither `--help` nor a refusal repeats such a value.
//!
//! There are three keys, so that the parts of a key that clients see never give access to more than they should. The *server's* key is in
//! no URL and no form. The *signer's* may only put `incoming/*`. The *reader's* may only get `media/*`.

use s3_presigned_post::{Bucket, PolicyError};
use secrecy::SecretString;
use url::Url;

use crate::key::{Key, KeySettings, KeyVariables, Source};

const SERVER: KeyVariables = KeyVariables {
    id: "S3_ACCESS_KEY_ID",
    secret: "S3_SECRET_ACCESS_KEY",
    token: "S3_SESSION_TOKEN",
    profile: "S3_PROFILE",
};
const READER: KeyVariables = KeyVariables {
    id: "S3_READER_ACCESS_KEY_ID",
    secret: "S3_READER_SECRET_ACCESS_KEY",
    token: "S3_READER_SESSION_TOKEN",
    profile: "S3_READER_PROFILE",
};
const SIGNER: KeyVariables = KeyVariables {
    id: "S3_SIGNER_ACCESS_KEY_ID",
    secret: "S3_SIGNER_SECRET_ACCESS_KEY",
    token: "S3_SIGNER_SESSION_TOKEN",
    profile: "S3_SIGNER_PROFILE",
};

/// How URLs name the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Addressing {
    /// `http://host/bucket/key`
    #[default]
    Path,
    /// `http://bucket.host/key`
    VirtualHost,
}

/// When the SDK adds checksums of its own to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum ChecksumMode {
    /// Only if S3 requires one: bodies are sent unchanged, with a plain Content-Length. Every store supports that.
    #[default]
    WhenRequired,
    /// Whenever the SDK can: streamed bodies become aws-chunked with a trailer, and over plain http each 64 KiB is also signed. This
    /// costs CPU on both sides, and some stores refuse it.
    WhenSupported,
}

/// How a link makes verified bytes unchangeable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Pin {
    /// By a copy to a key that no client can write. Every store can do that.
    #[default]
    Copy,
    /// By the version id of what was verified. The bucket must have versioning.
    Version,
}

/// What to do if a key has too few or too many rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum KeyCheck {
    /// The server does not start.
    #[default]
    Enforce,
    /// The server logs it. For stores whose keys have rights to whole buckets only.
    Warn,
    /// The server does not check.
    Off,
}

/// How clients send a file to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum UploadMethod {
    /// With a POST form, or with a presigned PUT if the client asks for one.
    #[default]
    Post,
    /// With a presigned PUT alone. For stores without POST forms, such as Cloudflare R2. A client must then declare each file's length.
    Put,
}

/// Which forms the server signs.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct UploadMethodSettings {
    /// How clients send files to the store: with POST forms (or a presigned PUT if a client asks for one), or with presigned PUTs alone, for stores without POST forms
    #[arg(id = "form_method", long = "form-method", env = "FORM_METHOD", value_enum, default_value_t)]
    pub form_method: UploadMethod,
}

/// The bucket, and the keys of the server and the reader.
#[derive(Debug, Clone, clap::Args)]
pub struct StorageSettings {
    /// The URL at which the servers reach the store
    #[arg(id = "s3_endpoint", long = "s3-endpoint", env = "S3_ENDPOINT", hide_env_values = true, value_name = "URL", value_parser = parse_url)]
    pub endpoint: Url,
    /// The URL at which clients reach the store [default: S3_ENDPOINT]
    #[arg(id = "s3_public_endpoint", long = "s3-public-endpoint", env = "S3_PUBLIC_ENDPOINT", hide_env_values = true, value_name = "URL", value_parser = parse_url)]
    pub public_endpoint: Option<Url>,
    /// The region in the signatures of requests
    #[arg(id = "s3_region", long = "s3-region", env = "S3_REGION", default_value = "us-east-1")]
    pub region: String,
    /// The bucket's name
    #[arg(id = "s3_bucket", long = "s3-bucket", env = "S3_BUCKET")]
    pub bucket: String,
    /// How URLs name the bucket
    #[arg(id = "s3_addressing", long = "s3-addressing", env = "S3_ADDRESSING", value_enum, default_value_t)]
    pub addressing: Addressing,
    /// When the SDK adds checksums of its own
    #[arg(id = "s3_checksums", long = "s3-checksums", env = "S3_CHECKSUMS", value_enum, default_value_t)]
    pub checksums: ChecksumMode,
    /// How a link makes verified bytes unchangeable: by a copy to a key that no client can write, or by the id of the version that was verified (the bucket must have versioning)
    #[arg(id = "s3_pin", long = "s3-pin", env = "S3_PIN", value_enum, default_value_t)]
    pub pin: Pin,
    /// The server's key: may read, write and delete incoming/* and media/*, and list the bucket. Without it and S3_PROFILE, AWS's default chain is asked: environment, web identity, container, instance
    #[arg(id = "s3_access_key_id", long = "s3-access-key-id", env = "S3_ACCESS_KEY_ID")]
    pub access_key_id: Option<String>,
    /// The secret of S3_ACCESS_KEY_ID
    #[arg(
        id = "s3_secret_access_key",
        long = "s3-secret-access-key",
        env = "S3_SECRET_ACCESS_KEY",
        hide_env_values = true
    )]
    pub secret_access_key: Option<SecretString>,
    /// The session token of S3_ACCESS_KEY_ID, if that key is temporary. The server does not know when such a key expires, so forms and URLs may expire earlier than they say
    #[arg(id = "s3_session_token", long = "s3-session-token", env = "S3_SESSION_TOKEN", hide_env_values = true)]
    pub session_token: Option<SecretString>,
    /// Instead of S3_ACCESS_KEY_ID: a profile in AWS's shared config and credentials files, which may name a role
    #[arg(id = "s3_profile", long = "s3-profile", env = "S3_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// The reader's key: may only get media/*. It signs the URLs to which GET /images/{id} redirects
    #[arg(id = "s3_reader_access_key_id", long = "s3-reader-access-key-id", env = "S3_READER_ACCESS_KEY_ID")]
    pub reader_access_key_id: Option<String>,
    /// The secret of S3_READER_ACCESS_KEY_ID
    #[arg(
        id = "s3_reader_secret_access_key",
        long = "s3-reader-secret-access-key",
        env = "S3_READER_SECRET_ACCESS_KEY",
        hide_env_values = true
    )]
    pub reader_secret_access_key: Option<SecretString>,
    /// The session token of S3_READER_ACCESS_KEY_ID, if that key is temporary. The server does not know when such a key expires
    #[arg(
        id = "s3_reader_session_token",
        long = "s3-reader-session-token",
        env = "S3_READER_SESSION_TOKEN",
        hide_env_values = true
    )]
    pub reader_session_token: Option<SecretString>,
    /// Instead of S3_READER_ACCESS_KEY_ID: a profile in AWS's shared config and credentials files
    #[arg(id = "s3_reader_profile", long = "s3-reader-profile", env = "S3_READER_PROFILE", value_name = "NAME")]
    pub reader_profile: Option<String>,
    /// Allow one key in several roles, for trials only: forms and URLs then show the id of a key that has more rights
    #[arg(id = "s3_allow_one_key", long = "s3-allow-one-key", env = "S3_ALLOW_ONE_KEY", default_value_t = false, action = clap::ArgAction::Set, value_name = "true|false")]
    pub allow_one_key: bool,
    /// What to do if a key has too few or too many rights: refuse to start, warn (for stores without rights for prefixes), or do not check
    #[arg(id = "s3_key_check", long = "s3-key-check", env = "S3_KEY_CHECK", value_enum, default_value_t)]
    pub key_check: KeyCheck,
    /// A URL that serves media/* without a signature, for instance of a CDN. Redirects then lead there
    #[arg(id = "media_public_base_url", long = "media-public-base-url", env = "MEDIA_PUBLIC_BASE_URL", hide_env_values = true, value_name = "URL", value_parser = parse_url)]
    pub media_public_base_url: Option<Url>,
}

/// The key that signs the forms clients upload with.
#[derive(Debug, Clone, clap::Args)]
pub struct SignerSettings {
    /// The signer's key: may only put incoming/*
    #[arg(id = "s3_signer_access_key_id", long = "s3-signer-access-key-id", env = "S3_SIGNER_ACCESS_KEY_ID")]
    pub access_key_id: Option<String>,
    /// The secret of S3_SIGNER_ACCESS_KEY_ID
    #[arg(
        id = "s3_signer_secret_access_key",
        long = "s3-signer-secret-access-key",
        env = "S3_SIGNER_SECRET_ACCESS_KEY",
        hide_env_values = true
    )]
    pub secret_access_key: Option<SecretString>,
    /// The session token of S3_SIGNER_ACCESS_KEY_ID, if that key is temporary. The server does not know when such a key expires
    #[arg(
        id = "s3_signer_session_token",
        long = "s3-signer-session-token",
        env = "S3_SIGNER_SESSION_TOKEN",
        hide_env_values = true
    )]
    pub session_token: Option<SecretString>,
    /// Instead of S3_SIGNER_ACCESS_KEY_ID: a profile in AWS's shared config and credentials files
    #[arg(id = "s3_signer_profile", long = "s3-signer-profile", env = "S3_SIGNER_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
}

/// Wrong settings. The message names the variable and says what to set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// One key in two roles.
    #[error("{first} and {second} must name different keys, or set S3_ALLOW_ONE_KEY=true for a trial")]
    OneKey {
        /// The variable of one role.
        first: &'static str,
        /// The variable of the other.
        second: &'static str,
    },
    /// An id without its secret, or the other way round.
    #[error("{missing} must be set, because {set} is set")]
    HalfKey {
        /// The variable that is set.
        set: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// Two sources for one key.
    #[error("{key} and {profile} must not both be set: a key comes either from the settings or from a profile")]
    KeyAndProfile {
        /// The variable of the key.
        key: &'static str,
        /// The variable of the profile.
        profile: &'static str,
    },
    /// A source of credentials has no credentials, or cannot be reached.
    #[error(
        "{origin} gives no credentials ({cause}); correct it, or set {ids}",
        ids = own_key_of(origin)
    )]
    NoCredentials {
        /// The variable that names the source, or words for the default chain.
        origin: &'static str,
        /// What it said.
        cause: String,
    },
    /// Nothing to sign forms with.
    #[error("set S3_SIGNER_ACCESS_KEY_ID and S3_SIGNER_SECRET_ACCESS_KEY, or S3_SIGNER_PROFILE")]
    NoSigner,
    /// Nothing to serve images with.
    #[error(
        "set S3_READER_ACCESS_KEY_ID and S3_READER_SECRET_ACCESS_KEY, or S3_READER_PROFILE, or MEDIA_PUBLIC_BASE_URL if \
         media/* is public"
    )]
    NoReader,
    /// An endpoint, the region or the bucket cannot stand in a URL.
    #[error("{variable}, S3_REGION or S3_BUCKET cannot be used with S3_ADDRESSING: {reason}")]
    Address {
        /// The endpoint's variable.
        variable: &'static str,
        /// What is wrong.
        reason: PolicyError,
    },
}

impl StorageSettings {
    /// Refuses what a server must not start with: half a key, a missing reader, an address that cannot be used.
    ///
    /// # Errors
    /// [`SettingsError`] with the variables at fault.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.bucket_at(&self.endpoint, "S3_ENDPOINT")?;
        self.public_bucket()?;
        self.server()?;
        if self.reader()?.is_none() && self.media_public_base_url.is_none() {
            return Err(SettingsError::NoReader);
        }
        Ok(())
    }

    /// Refuses one key in two roles. A key's id is known only when its credentials are.
    pub(crate) fn check_distinct(&self, first: &Key, second: &Key) -> Result<(), SettingsError> {
        if self.allow_one_key || first.id() != second.id() {
            return Ok(());
        }
        Err(SettingsError::OneKey { first: first.origin(), second: second.origin() })
    }

    /// Where the server's credentials come from.
    pub(crate) fn server(&self) -> Result<Source, SettingsError> {
        let settings = KeySettings {
            variables: &SERVER,
            id: self.access_key_id.as_ref(),
            secret: self.secret_access_key.as_ref(),
            token: self.session_token.as_ref(),
            profile: self.profile.as_ref(),
        };
        Ok(settings.source()?.unwrap_or(Source::DefaultChain))
    }

    /// The source of the reader's credentials, if one is set.
    pub(crate) fn reader(&self) -> Result<Option<Source>, SettingsError> {
        let settings = KeySettings {
            variables: &READER,
            id: self.reader_access_key_id.as_ref(),
            secret: self.reader_secret_access_key.as_ref(),
            token: self.reader_session_token.as_ref(),
            profile: self.reader_profile.as_ref(),
        };
        settings.source()
    }

    /// The bucket as clients reach it.
    pub(crate) fn public_bucket(&self) -> Result<Bucket, SettingsError> {
        match &self.public_endpoint {
            Some(endpoint) => self.bucket_at(endpoint, "S3_PUBLIC_ENDPOINT"),
            None => self.bucket_at(&self.endpoint, "S3_ENDPOINT"),
        }
    }

    pub(crate) fn bucket_at(&self, endpoint: &Url, variable: &'static str) -> Result<Bucket, SettingsError> {
        let addressing = match self.addressing {
            Addressing::Path => s3_presigned_post::Addressing::Path,
            Addressing::VirtualHost => s3_presigned_post::Addressing::VirtualHost,
        };
        Bucket::new(endpoint.as_str(), addressing, &self.region, &self.bucket)
            .map_err(|reason| SettingsError::Address { variable, reason })
    }
}

impl SignerSettings {
    /// Refuses half a key, and none.
    ///
    /// # Errors
    /// [`SettingsError`] with the variables at fault.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.source().map(|_source| ())
    }

    /// Where the signer's credentials come from. Never from the default chain: that is the server's.
    pub(crate) fn source(&self) -> Result<Source, SettingsError> {
        let settings = KeySettings {
            variables: &SIGNER,
            id: self.access_key_id.as_ref(),
            secret: self.secret_access_key.as_ref(),
            token: self.session_token.as_ref(),
            profile: self.profile.as_ref(),
        };
        settings.source()?.ok_or(SettingsError::NoSigner)
    }
}

/// What you can set instead of a source that has no credentials.
fn own_key_of(origin: &str) -> &'static str {
    match origin {
        "S3_PROFILE" => "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY",
        "S3_READER_PROFILE" => "S3_READER_ACCESS_KEY_ID and S3_READER_SECRET_ACCESS_KEY",
        "S3_SIGNER_PROFILE" => "S3_SIGNER_ACCESS_KEY_ID and S3_SIGNER_SECRET_ACCESS_KEY",
        _ => "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or S3_PROFILE",
    }
}

/// This URL appears in answers to clients, so an `@` anywhere is refused: the text before it may be a password.
fn parse_url(text: &str) -> Result<Url, &'static str> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && !text.contains(['@', '?', '#']) => {
            Ok(url)
        }
        _ => Err(
            "it must be a URL such as http://127.0.0.1:9000 or https://s3.eu-west-1.amazonaws.com, without user, query and fragment",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Signer, Storage};
    use aws_sdk_s3::config::Credentials;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        storage: StorageSettings,
        #[command(flatten)]
        signer: SignerSettings,
    }

    const NEEDED: [&str; 12] = [
        "--s3-endpoint=http://127.0.0.1:9000",
        "--s3-bucket=pictures",
        "--s3-access-key-id=server",
        "--s3-secret-access-key=very-secret",
        "--s3-session-token=token-secret",
        "--s3-reader-access-key-id=reader",
        "--s3-reader-secret-access-key=read-secret",
        "--s3-reader-session-token=",
        "--s3-signer-access-key-id=signer",
        "--s3-signer-secret-access-key=sign-secret",
        "--s3-addressing=path",
        "--s3-checksums=when_supported",
    ];

    fn command(more: &[&str]) -> Result<Command, clap::Error> {
        Command::try_parse_from([&["x"], &NEEDED[..], more].concat())
    }

    #[test]
    fn debug_hides_every_secret() {
        let shown = format!("{:?}", command(&[]).unwrap());
        assert!(shown.contains("pictures") && !shown.contains("-secret"), "{shown}");
    }

    async fn opened(command: &Command) -> Result<(), SettingsError> {
        command.storage.check()?;
        let storage = Storage::new(&command.storage).await?;
        storage.check_distinct(&Signer::new(&command.storage, &command.signer).await?)
    }

    #[tokio::test]
    async fn three_different_keys_pass_and_an_empty_token_is_none() {
        let command = command(&[]).unwrap();
        assert_eq!(opened(&command).await, Ok(()));
        let storage = Storage::new(&command.storage).await.unwrap();
        let token = |credentials: &Credentials| credentials.session_token().map(str::to_owned);
        let life = Duration::from_secs(300);
        assert_eq!(token(&storage.server().credentials(life).await.unwrap()).as_deref(), Some("token-secret"));
        assert_eq!(token(&storage.reader().unwrap().credentials(life).await.unwrap()), None);
        assert_eq!(command.storage.checksums, ChecksumMode::WhenSupported);
        let shown = format!("{storage:?}");
        assert!(shown.contains("pictures") && !shown.contains("-secret"), "{shown}");
    }

    #[tokio::test]
    async fn one_key_in_two_roles_is_refused_unless_allowed() {
        let mut command = command(&[]).unwrap();
        command.signer.access_key_id = Some("reader".to_owned());
        let (first, second) = ("S3_READER_ACCESS_KEY_ID", "S3_SIGNER_ACCESS_KEY_ID");
        assert_eq!(opened(&command).await, Err(SettingsError::OneKey { first, second }));
        command.signer.access_key_id = Some("server".to_owned());
        let first = "S3_ACCESS_KEY_ID";
        assert_eq!(opened(&command).await, Err(SettingsError::OneKey { first, second }));
        command.storage.reader_access_key_id = Some("server".to_owned());
        let second = "S3_READER_ACCESS_KEY_ID";
        assert_eq!(opened(&command).await, Err(SettingsError::OneKey { first, second }));
        command.storage.allow_one_key = true;
        assert_eq!(opened(&command).await, Ok(()));
    }

    #[test]
    fn images_need_a_reader_or_a_public_address() {
        let mut command = command(&[]).unwrap();
        (command.storage.reader_access_key_id, command.storage.reader_secret_access_key) = (None, None);
        command.storage.reader_session_token = None;
        assert_eq!(command.storage.check(), Err(SettingsError::NoReader));
        command.storage.media_public_base_url = Some("https://cdn.example/".parse().unwrap());
        assert_eq!(command.storage.check(), Ok(()));
    }

    #[tokio::test]
    async fn half_a_key_and_a_key_with_a_profile_are_refused() {
        type Spoil = fn(&mut Command);
        let cases: [(&str, Spoil); 10] = [
            ("S3_SECRET_ACCESS_KEY must be set, because S3_ACCESS_KEY_ID is set", |all| {
                all.storage.secret_access_key = None
            }),
            ("S3_ACCESS_KEY_ID must be set, because S3_SECRET_ACCESS_KEY is set", |all| {
                all.storage.access_key_id = Some(String::new());
            }),
            ("S3_ACCESS_KEY_ID must be set, because S3_SESSION_TOKEN is set", |all| {
                (all.storage.access_key_id, all.storage.secret_access_key) = (None, None);
            }),
            (
                "S3_ACCESS_KEY_ID and S3_PROFILE must not both be set: a key comes either from the settings or from a profile",
                |all| {
                    all.storage.profile = Some("server".to_owned());
                },
            ),
            (
                "S3_SESSION_TOKEN and S3_PROFILE must not both be set: a key comes either from the settings or from a profile",
                |all| {
                    (all.storage.access_key_id, all.storage.secret_access_key) = (None, None);
                    all.storage.profile = Some("server".to_owned());
                },
            ),
            ("S3_READER_SECRET_ACCESS_KEY must be set, because S3_READER_ACCESS_KEY_ID is set", |all| {
                all.storage.reader_secret_access_key = None;
            }),
            (
                "S3_READER_ACCESS_KEY_ID and S3_READER_PROFILE must not both be set: a key comes either from the settings or from a profile",
                |all| {
                    all.storage.reader_profile = Some("reader".to_owned());
                },
            ),
            ("S3_SIGNER_SECRET_ACCESS_KEY must be set, because S3_SIGNER_ACCESS_KEY_ID is set", |all| {
                all.signer.secret_access_key = Some("".into());
            }),
            (
                "S3_SIGNER_SECRET_ACCESS_KEY and S3_SIGNER_PROFILE must not both be set: a key comes either from the settings or from a profile",
                |all| {
                    (all.signer.access_key_id, all.signer.profile) = (None, Some("signer".to_owned()));
                },
            ),
            ("set S3_SIGNER_ACCESS_KEY_ID and S3_SIGNER_SECRET_ACCESS_KEY, or S3_SIGNER_PROFILE", |all| {
                // scripts/minio sets this one in the environment.
                all.signer.session_token = None;
                (all.signer.access_key_id, all.signer.secret_access_key) = (None, None);
            }),
        ];
        for (sentence, spoil) in cases {
            let mut command = command(&[]).unwrap();
            spoil(&mut command);
            assert_eq!(opened(&command).await.unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn a_wrong_value_says_what_would_be_right() {
        for wrong in [
            "localhost:9000",
            "ftp://host",
            "http://user:password@host",
            "http://:password@host",
            "http://user@host",
            "http://user:1/2@host",
            "http://host/?a=b",
            "http://host/#a",
        ] {
            for flag in ["--s3-public-endpoint", "--media-public-base-url"] {
                let error = command(&[flag, wrong]).unwrap_err().to_string();
                let expected =
                    "http://127.0.0.1:9000 or https://s3.eu-west-1.amazonaws.com, without user, query and fragment";
                assert!(error.contains(flag) && error.contains(expected), "{wrong}: {error}");
            }
        }
        let mut command = command(&[]).unwrap();
        command.storage.bucket = "no bucket".to_owned();
        assert!(matches!(command.storage.check(), Err(SettingsError::Address { variable: "S3_ENDPOINT", .. })));
    }
}

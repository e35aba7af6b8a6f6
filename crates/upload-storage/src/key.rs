//! One of the three keys: where its credentials come from, and how temporary ones are refreshed.
//!
//! What differs from the SDK's own way (its lazy identity cache), and why:
//! - Credentials are always fetched on the runtime that opened the key. The connections of a fetch die with the runtime that opened
//!   them, and the runtimes of actix's workers end.
//! - After a failed refresh, the old credentials are used until they expire. The SDK's cache drops them earlier.
//! - The caller that signs a form says how long the form should be valid. Credentials that expire before that are refreshed first.
//!
//! Limits of aws-config 1.13: it reads a profile's file once (`ProfileFileCredentialsProvider`), so a changed key needs a restart. A profile
//! with a `role_arn` does not work with MinIO's STS, which answers AssumeRole without an ARN (awslabs/aws-sdk-rust#1288); use a
//! `credential_process` that calls it. SSO and `aws login` are left out, because they are for people.

use std::{
    error::Error as _,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use aws_config::{
    default_provider::credentials::DefaultCredentialsChain,
    environment::region::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain,
    profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider},
    provider_config::ProviderConfig,
};
use aws_credential_types::provider::{
    ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future::ProvideCredentials as Provided,
};
use aws_sdk_s3::config::{Credentials, Region};
use secrecy::{ExposeSecret, SecretString};
use tokio::{runtime::Handle, task::JoinHandle, time::timeout};
use tracing::warn;

use crate::{SettingsError, StorageError, error::chain};

/// How long one fetch may take.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two fetches, so that not every request asks a source that fails or has nothing newer yet.
const FETCH_PAUSE: Duration = Duration::from_secs(5);
/// Credentials that expire sooner than this are refreshed while they are still used. Some sources, such as EC2's, have new ones only
/// five minutes before the old ones expire.
const REFRESH_BEFORE: Duration = Duration::from_secs(10 * 60);
/// Credentials that expire sooner than this count as expired, because a request needs time to arrive.
const LEAST_LIFE: Duration = Duration::from_secs(10);

/// The variables of one key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyVariables {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) token: &'static str,
    pub(crate) profile: &'static str,
}

/// The settings of one key. An empty variable counts as not set.
#[derive(Debug)]
pub(crate) struct KeySettings<'a> {
    pub(crate) variables: &'static KeyVariables,
    pub(crate) id: Option<&'a String>,
    pub(crate) secret: Option<&'a SecretString>,
    pub(crate) token: Option<&'a SecretString>,
    pub(crate) profile: Option<&'a String>,
}

/// Where a key's credentials come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The settings themselves.
    Settings(Credentials, &'static KeyVariables),
    /// A profile of AWS's shared files.
    Profile(String, &'static KeyVariables),
    /// AWS's default chain, which the SDKs use when nothing is set.
    DefaultChain,
}

/// A key that can sign at any time. Cheap to clone; clones share their credentials.
#[derive(Clone)]
pub(crate) struct Key {
    shared: Arc<Shared>,
}

struct Shared {
    /// The variable that says where the credentials come from.
    origin: &'static str,
    provider: SharedCredentialsProvider,
    runtime: Handle,
    held: Mutex<Held>,
    /// Held by the fetch that runs; only one runs at a time.
    turn: tokio::sync::Mutex<()>,
}

struct Held {
    credentials: Credentials,
    fetched_at: Instant,
    /// Why the last fetch failed.
    failure: Option<Arc<str>>,
}

/// Temporary credentials have expired, and the source gave no others.
#[derive(Debug, thiserror::Error)]
#[error("the credentials of {origin} have expired and were not refreshed: {cause}")]
struct Ended {
    origin: &'static str,
    cause: Arc<str>,
}

impl KeySettings<'_> {
    /// The source to open; `None` if nothing is set.
    pub(crate) fn source(&self) -> Result<Option<Source>, SettingsError> {
        let variables = self.variables;
        let id = self.id.filter(|id| !id.is_empty());
        let secret = self.secret.map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty());
        let token = self.token.map(ExposeSecret::expose_secret).filter(|token| !token.is_empty());
        let profile = self.profile.filter(|profile| !profile.is_empty());
        match (id, secret, token, profile) {
            (Some(id), Some(secret), token, None) => {
                let credentials = Credentials::new(id, secret, token.map(str::to_owned), None, "settings");
                Ok(Some(Source::Settings(credentials, variables)))
            }
            (None, None, None, Some(profile)) => Ok(Some(Source::Profile(profile.clone(), variables))),
            (None, None, None, None) => Ok(None),
            (Some(_), _, _, Some(_)) => {
                Err(SettingsError::KeyAndProfile { key: variables.id, profile: variables.profile })
            }
            (_, Some(_), _, Some(_)) => {
                Err(SettingsError::KeyAndProfile { key: variables.secret, profile: variables.profile })
            }
            (_, _, Some(_), Some(_)) => {
                Err(SettingsError::KeyAndProfile { key: variables.token, profile: variables.profile })
            }
            (Some(_), None, _, None) => Err(SettingsError::HalfKey { set: variables.id, missing: variables.secret }),
            (None, Some(_), _, None) => Err(SettingsError::HalfKey { set: variables.secret, missing: variables.id }),
            (None, None, Some(_), None) => Err(SettingsError::HalfKey { set: variables.token, missing: variables.id }),
        }
    }
}

impl Source {
    fn origin(&self) -> &'static str {
        match self {
            Self::Settings(_, variables) => variables.id,
            Self::Profile(_, variables) => variables.profile,
            Self::DefaultChain => "the AWS default chain",
        }
    }

    /// `region` is for AWS's own STS, if neither the environment nor the profile names one.
    async fn provider(self, region: &str) -> SharedCredentialsProvider {
        let region = Region::new(region.to_owned());
        match self {
            Self::Settings(credentials, _) => SharedCredentialsProvider::new(credentials),
            Self::Profile(name, _) => {
                let of_profile = ProfileFileRegionProvider::builder().profile_name(&name).build();
                let regions = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
                let region = regions.or_else(of_profile).or_else(region).region().await;
                let config = ProviderConfig::without_region().with_region(region);
                let profile = ProfileFileCredentialsProvider::builder().profile_name(name).configure(&config).build();
                SharedCredentialsProvider::new(profile)
            }
            Self::DefaultChain => {
                let regions = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
                let regions = regions.or_else(ProfileFileRegionProvider::new()).or_else(region);
                SharedCredentialsProvider::new(DefaultCredentialsChain::builder().region(regions).build().await)
            }
        }
    }
}

impl Key {
    /// Fetches the key's first credentials. This runtime will fetch all later ones, too.
    pub(crate) async fn open(source: Source, region: &str) -> Result<Self, SettingsError> {
        let origin = source.origin();
        let provider = source.provider(region).await;
        let credentials = fetch(&provider)
            .await
            .map_err(|cause| SettingsError::NoCredentials { origin, cause: cause.to_string() })?;
        let held = Mutex::new(Held { credentials, fetched_at: Instant::now(), failure: None });
        let runtime = Handle::current();
        let shared = Shared { origin, provider, runtime, held, turn: tokio::sync::Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The setting that the key comes from.
    pub(crate) fn origin(&self) -> &'static str {
        self.shared.origin
    }

    /// The id of the credentials that are held now.
    pub(crate) fn id(&self) -> String {
        self.shared.held().credentials.access_key_id().to_owned()
    }

    /// Credentials that are valid for `wanted`, if the source has such; else those that are valid longest.
    pub(crate) async fn credentials(&self, wanted: Duration) -> Result<Credentials, StorageError> {
        let wanted = wanted.max(LEAST_LIFE);
        if self.shared.should_fetch(wanted.max(REFRESH_BEFORE)) {
            let refreshed = self.refresh(wanted.max(REFRESH_BEFORE));
            if self.shared.held().lives_less_than(wanted) {
                refreshed.await.map_err(StorageError::unavailable)?;
            }
        }
        let held = self.shared.held();
        if held.lives_less_than(LEAST_LIFE) {
            let cause = held.failure.clone().unwrap_or_else(|| "their source has no newer ones".into());
            return Err(StorageError::unavailable(Ended { origin: self.shared.origin, cause }));
        }
        Ok(held.credentials.clone())
    }

    /// Concurrent calls make only one fetch: the others wait for their turn and then find new credentials.
    fn refresh(&self, wanted: Duration) -> JoinHandle<()> {
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move {
            let _turn = shared.turn.lock().await;
            if shared.should_fetch(wanted) {
                let fetched = fetch(&shared.provider).await;
                shared.keep(fetched);
            }
        })
    }
}

impl ProvideCredentials for Key {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(async { self.credentials(LEAST_LIFE).await.map_err(CredentialsError::provider_error) })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("origin", &self.shared.origin).finish_non_exhaustive()
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn should_fetch(&self, wanted: Duration) -> bool {
        let held = self.held();
        held.lives_less_than(wanted) && held.fetched_at.elapsed() >= FETCH_PAUSE
    }

    fn keep(&self, fetched: Result<Credentials, Arc<str>>) {
        let mut held = self.held();
        held.fetched_at = Instant::now();
        match fetched {
            Ok(credentials) => {
                held.credentials = credentials;
                held.failure = None;
            }
            Err(cause) => {
                // Logged once, not for every request. After the old ones have expired, each failing request reports that itself.
                if held.failure.is_none() {
                    let remaining_seconds = held.life().map_or(0, |life| life.as_secs());
                    let origin = self.origin;
                    warn!(origin, remaining_seconds, %cause, "cannot refresh S3 credentials; the old ones are used until they expire");
                }
                held.failure = Some(cause);
            }
        }
    }
}

impl Held {
    /// How long the credentials are still valid; `None` if they never expire, or if that is not known.
    fn life(&self) -> Option<Duration> {
        let expiry = self.credentials.expiry()?;
        Some(expiry.duration_since(SystemTime::now()).unwrap_or_default())
    }

    fn lives_less_than(&self, wanted: Duration) -> bool {
        self.life().is_some_and(|life| life < wanted)
    }
}

/// Credentials that are still valid, or the reason why there are none.
async fn fetch(provider: &SharedCredentialsProvider) -> Result<Credentials, Arc<str>> {
    let fetched = timeout(FETCH_LIMIT, provider.provide_credentials()).await;
    let fetched = fetched.map_err(|_elapsed| format!("there was no answer within {} s", FETCH_LIMIT.as_secs()))?;
    let credentials = fetched.map_err(|error| words(&error))?;
    if credentials.expiry().is_some_and(|expiry| expiry < SystemTime::now() + LEAST_LIFE) {
        return Err("the credentials that it gave have already expired".into());
    }
    Ok(without_empty_token(credentials))
}

/// A source's error in one line. The default chain lists in several lines what it has tried.
fn words(error: &CredentialsError) -> String {
    let said = match (error, error.source()) {
        (CredentialsError::CredentialsNotLoaded(_), Some(cause)) => chain(cause),
        // A missing file gives this error too.
        (CredentialsError::CredentialsNotLoaded(_), None) => {
            "there are none in the files of AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE".to_owned()
        }
        _ => chain(error),
    };
    said.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// Container endpoints must send a token (aws-config 1.13, `json_credentials.rs`), so those without one send an empty token. In a
/// signature, that would be a token that no store knows.
fn without_empty_token(credentials: Credentials) -> Credentials {
    if credentials.session_token() != Some("") {
        return credentials;
    }
    let (id, secret) = (credentials.access_key_id(), credentials.secret_access_key());
    Credentials::new(id, secret, None, credentials.expiry(), "without an empty token")
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use aws_credential_types::credential_fn::provide_credentials_fn;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_source_that_never_answers_is_given_up_when_its_time_is_over() {
        let begun = Instant::now();
        let fetched = fetch(&SharedCredentialsProvider::new(provide_credentials_fn(pending))).await;
        assert_eq!(fetched.unwrap_err().as_ref(), "there was no answer within 10 s");
        assert_eq!(begun.elapsed(), FETCH_LIMIT);
    }
}

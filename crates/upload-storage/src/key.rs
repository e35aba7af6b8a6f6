//! One of the three keys: where its credentials come from, and how temporary ones stay fresh.
//!
//! What differs from the SDK's own way (its lazy identity cache), and why:
//! - Credentials are fetched on the runtime that opened the key, whoever asks: the connections of a fetch die with the runtime that
//!   opened them, and the runtimes of actix's workers do.
//! - A refresh that fails takes nothing away: old credentials are used until they end. The SDK's cache throws them away earlier.
//! - Whoever signs a form says how long it should live; credentials that end before are refreshed first.
//!
//! Surprises of aws-config 1.13: a profile's file is read once (`ProfileFileCredentialsProvider`), so that a key that is changed there is
//! seen after a restart. A profile with a `role_arn` does not work on MinIO's STS, which answers AssumeRole without an ARN
//! (awslabs/aws-sdk-rust#1288); a `credential_process` that asks it does. SSO and `aws login` are left out: they are for people.

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
/// The pause between two fetches, so that neither a broken source nor one that has nothing newer yet is asked by every request.
const FETCH_PAUSE: Duration = Duration::from_secs(5);
/// Credentials with less life than this are refreshed while they are still used. Sources that cannot be told when to renew, such as
/// EC2's, have new ones five minutes before the old ones end.
const REFRESH_BEFORE: Duration = Duration::from_secs(10 * 60);
/// Credentials with less life than this count as ended: a request has to arrive before they do.
const LEAST_LIFE: Duration = Duration::from_secs(10);

/// The variables of one key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyVariables {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) token: &'static str,
    pub(crate) profile: &'static str,
}

/// What is set of one key. A variable that is set to nothing counts as not set.
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
    /// Wherever AWS's SDKs look when they are told nothing.
    DefaultChain,
}

/// A key that can be signed with at any time. Cheap to clone; clones share their credentials.
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
    /// Held by the one fetch at a time.
    turn: tokio::sync::Mutex<()>,
}

struct Held {
    credentials: Credentials,
    fetched_at: Instant,
    /// Why the last fetch brought nothing.
    failure: Option<Arc<str>>,
}

/// Temporary credentials have ended, and no others were to be had.
#[derive(Debug, thiserror::Error)]
#[error("the credentials of {origin} have ended and were not refreshed: {cause}")]
struct Ended {
    origin: &'static str,
    cause: Arc<str>,
}

impl KeySettings<'_> {
    /// What to open; `None` where nothing is set.
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

    /// `region` is for AWS's own STS, where neither the environment nor the profile names one.
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

    /// Credentials that live for `wanted`, if such can be had; else those that live longest.
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

    /// Many at once make one fetch: whoever had to wait for its turn finds that there is nothing left to do.
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
                // Once, and not by every request: where the old ones end, each that fails says so itself.
                if held.failure.is_none() {
                    let remaining_seconds = held.life().map_or(0, |life| life.as_secs());
                    let origin = self.origin;
                    warn!(origin, remaining_seconds, %cause, "S3 credentials were not refreshed; the old ones go on until they end");
                }
                held.failure = Some(cause);
            }
        }
    }
}

impl Held {
    /// How long the credentials still live; `None` where they never end, or nobody says when.
    fn life(&self) -> Option<Duration> {
        let expiry = self.credentials.expiry()?;
        Some(expiry.duration_since(SystemTime::now()).unwrap_or_default())
    }

    fn lives_less_than(&self, wanted: Duration) -> bool {
        self.life().is_some_and(|life| life < wanted)
    }
}

/// Credentials that live, or in words why there are none.
async fn fetch(provider: &SharedCredentialsProvider) -> Result<Credentials, Arc<str>> {
    let fetched = timeout(FETCH_LIMIT, provider.provide_credentials()).await;
    let fetched = fetched.map_err(|_elapsed| format!("there was no answer within {} s", FETCH_LIMIT.as_secs()))?;
    let credentials = fetched.map_err(|error| words(&error))?;
    if credentials.expiry().is_some_and(|expiry| expiry < SystemTime::now() + LEAST_LIFE) {
        return Err("those that were given have ended already".into());
    }
    Ok(without_empty_token(credentials))
}

/// What a source says, in one line: the default chain tells in several what it has tried.
fn words(error: &CredentialsError) -> String {
    let said = match (error, error.source()) {
        (CredentialsError::CredentialsNotLoaded(_), Some(cause)) => chain(cause),
        // So it is with a file that is not there, too.
        (CredentialsError::CredentialsNotLoaded(_), None) => {
            "there are none in the files of AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE".to_owned()
        }
        _ => chain(error),
    };
    said.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// Container endpoints must send a token (aws-config 1.13, `json_credentials.rs`), so those that have none send an empty one. Signed
/// with, it would be a token that no store knows.
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

//! The bucket itself: `upload-ops` creates it and sets it up, readiness checks it, and the sandbox deletes it.
//!
//! CORS and lifecycle are read before they are written, to keep rules that are not ours: S3 replaces the whole list at each write.

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::get_bucket_lifecycle_configuration::GetBucketLifecycleConfigurationError,
    types::{
        BucketLifecycleConfiguration, BucketLocationConstraint, BucketVersioningStatus, CorsConfiguration, CorsRule,
        CreateBucketConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
        VersioningConfiguration,
    },
};
use chrono::{DateTime, Utc};
use upload_domain::INCOMING_PREFIX;

use crate::{
    Listing, Storage, StorageError,
    answer::KeepsAnswer,
    error::{code, status},
};

/// The id of our own CORS rule.
const CORS_RULE: &str = "upload-servers";
/// The id of our own lifecycle rule.
const LIFECYCLE_RULE: &str = "expire-incoming";
/// After how many days the store itself removes objects in `incoming/`. This is only a fallback; the sweep is hours earlier.
pub const INCOMING_DAYS: i32 = 1;
/// How long a browser may remember a preflight's answer, in seconds.
const PREFLIGHT_SECONDS: i32 = 3600;

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done now.
    Done,
    /// There was nothing to do.
    AlreadyThere,
    /// The store does not support this for a bucket; the text is the store's own.
    NotSupported(String),
}

/// Whether writes to the bucket make versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    /// They never did.
    Never,
    /// They do.
    Enabled,
    /// They did. The old versions are still there.
    Suspended,
}

/// The result of one HeadBucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether the bucket is there; the server's key may then use it.
    pub exists: bool,
    /// The store's clock when it answered, in whole seconds; `None` if the answer has no readable `Date`.
    pub date: Option<DateTime<Utc>>,
}

/// Creates the bucket, in the region of the settings.
///
/// # Errors
/// [`StorageError`]; [`StorageError::Refused`] also when the name belongs to someone else.
pub async fn create(storage: &Storage) -> Result<Outcome, StorageError> {
    let mut create = storage.client().create_bucket().bucket(storage.bucket());
    // us-east-1 is the one region that may not be named (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html).
    if storage.region() != "us-east-1" {
        let region = BucketLocationConstraint::from(storage.region());
        create = create
            .create_bucket_configuration(CreateBucketConfiguration::builder().location_constraint(region).build());
    }
    match create.send().await {
        Ok(_created) => Ok(Outcome::Done),
        Err(error) if code(&error) == Some("BucketAlreadyOwnedByYou") => Ok(Outcome::AlreadyThere),
        // Some stores know only one owner, and give this answer for our own bucket.
        Err(error) if code(&error) == Some("BucketAlreadyExists") => match look(storage).await {
            Ok(Look { exists: true, .. }) => Ok(Outcome::AlreadyThere),
            _ => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Lets pages of these origins (such as `https://app.example`) upload and read, without credentials.
///
/// # Errors
/// [`StorageError`].
pub async fn set_cors(storage: &Storage, origins: &[String]) -> Result<Outcome, StorageError> {
    let rule = CorsRule::builder()
        .id(CORS_RULE)
        .set_allowed_origins(Some(origins.to_vec()))
        .set_allowed_methods(Some(["GET", "HEAD", "POST", "PUT"].map(str::to_owned).to_vec()))
        .allowed_headers("*")
        .set_expose_headers(Some(["ETag", "Location"].map(str::to_owned).to_vec()))
        .max_age_seconds(PREFLIGHT_SECONDS)
        .build()
        .map_err(|error| StorageError::Refused(error.into()))?;

    let current = match storage.client().get_bucket_cors().bucket(storage.bucket()).send().await {
        Ok(current) => current.cors_rules.unwrap_or_default(),
        Err(error) if code(&error) == Some("NoSuchCORSConfiguration") => Vec::new(),
        Err(error) => return not_supported(error),
    };
    let Some(rules) = merged(current, rule, |rule| rule.id() == Some(CORS_RULE)) else {
        return Ok(Outcome::AlreadyThere);
    };
    let cors = CorsConfiguration::builder().set_cors_rules(Some(rules)).build();
    let cors = cors.map_err(|error| StorageError::Refused(error.into()))?;
    match storage.client().put_bucket_cors().bucket(storage.bucket()).cors_configuration(cors).send().await {
        Ok(_set) => Ok(Outcome::Done),
        Err(error) => not_supported(error),
    }
}

/// Makes the store itself remove objects in `incoming/` after [`INCOMING_DAYS`].
///
/// # Errors
/// [`StorageError`].
pub async fn set_lifecycle(storage: &Storage) -> Result<Outcome, StorageError> {
    let rule = LifecycleRule::builder()
        .id(LIFECYCLE_RULE)
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(INCOMING_PREFIX).build())
        .expiration(LifecycleExpiration::builder().days(INCOMING_DAYS).build())
        .build()
        .map_err(|error| StorageError::Refused(error.into()))?;
    let current = match lifecycle_rules(storage).await {
        Ok(current) => current,
        Err(error) => return not_supported(error),
    };
    match merged(current, rule, |rule| rule.id() == Some(LIFECYCLE_RULE)) {
        Some(rules) => put_lifecycle_rules(storage, rules).await,
        None => Ok(Outcome::AlreadyThere),
    }
}

/// Removes the rule of [`set_lifecycle`]. In a bucket with versions that rule hides each linked image behind a delete marker after a day,
/// and no sweep comes back for the marker.
///
/// # Errors
/// [`StorageError`].
pub async fn remove_lifecycle(storage: &Storage) -> Result<Outcome, StorageError> {
    let mut rules = match lifecycle_rules(storage).await {
        Ok(rules) => rules,
        Err(error) => return not_supported(error),
    };
    let before = rules.len();
    rules.retain(|rule| rule.id() != Some(LIFECYCLE_RULE));
    if rules.len() == before {
        return Ok(Outcome::AlreadyThere);
    }
    if !rules.is_empty() {
        return put_lifecycle_rules(storage, rules).await;
    }
    match storage.client().delete_bucket_lifecycle().bucket(storage.bucket()).send().await {
        Ok(_removed) => Ok(Outcome::Done),
        Err(error) => not_supported(error),
    }
}

/// Makes every later write to the bucket a version of its own.
///
/// # Errors
/// [`StorageError`].
pub async fn enable_versioning(storage: &Storage) -> Result<Outcome, StorageError> {
    set_versioning(storage, BucketVersioningStatus::Enabled).await
}

/// Lets later writes replace each other again. The versions stay.
///
/// # Errors
/// [`StorageError`].
pub async fn suspend_versioning(storage: &Storage) -> Result<Outcome, StorageError> {
    set_versioning(storage, BucketVersioningStatus::Suspended).await
}

async fn set_versioning(storage: &Storage, status: BucketVersioningStatus) -> Result<Outcome, StorageError> {
    if versioning(storage).await? == Versioning::from(Some(&status)) {
        return Ok(Outcome::AlreadyThere);
    }
    let configuration = VersioningConfiguration::builder().status(status).build();
    let put = storage.client().put_bucket_versioning().bucket(storage.bucket());
    match put.versioning_configuration(configuration).send().await {
        Ok(_set) => Ok(Outcome::Done),
        Err(error) => not_supported(error),
    }
}

/// Whether writes make versions, as the store says. A store that does not know the question makes none.
///
/// # Errors
/// [`StorageError`]; [`StorageError::Refused`] when the key may not ask.
pub async fn versioning(storage: &Storage) -> Result<Versioning, StorageError> {
    match storage.client().get_bucket_versioning().bucket(storage.bucket()).send().await {
        Ok(answer) => Ok(answer.status.as_ref().into()),
        Err(error) => not_supported(error).map(|_outcome| Versioning::Never),
    }
}

async fn lifecycle_rules(
    storage: &Storage,
) -> Result<Vec<LifecycleRule>, SdkError<GetBucketLifecycleConfigurationError, HttpResponse>> {
    Ok(lifecycle(storage).await?.into_iter().map(|(rule, _xml)| rule).collect())
}

/// The bucket's rules, each with its XML, because the SDK's type leaves out what MinIO adds. None if the bucket has no rules.
pub(crate) async fn lifecycle(
    storage: &Storage,
) -> Result<Vec<(LifecycleRule, String)>, SdkError<GetBucketLifecycleConfigurationError, HttpResponse>> {
    let answer = KeepsAnswer::default();
    let get = storage.client().get_bucket_lifecycle_configuration().bucket(storage.bucket());
    let rules = match get.customize().interceptor(answer.clone()).send().await {
        Ok(current) => current.rules.unwrap_or_default(),
        Err(error) if code(&error) == Some("NoSuchLifecycleConfiguration") => Vec::new(),
        Err(error) => return Err(error),
    };
    let text = answer.take().map(|answered| answered.body).unwrap_or_default();
    let xml = text.split("<Rule>").skip(1).map(str::to_owned).chain(std::iter::repeat(String::new()));
    Ok(rules.into_iter().zip(xml).collect())
}

/// Which keys a rule is for.
pub(crate) fn prefix(rule: &LifecycleRule) -> &str {
    let filter = rule.filter();
    let of_filter = filter.and_then(|filter| filter.prefix().or_else(|| filter.and()?.prefix()));
    #[expect(deprecated, reason = "a rule may still have its prefix in the old place")]
    of_filter.or_else(|| rule.prefix()).unwrap_or_default()
}

async fn put_lifecycle_rules(storage: &Storage, rules: Vec<LifecycleRule>) -> Result<Outcome, StorageError> {
    let lifecycle = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build();
    let lifecycle = lifecycle.map_err(|error| StorageError::Refused(error.into()))?;
    let put = storage.client().put_bucket_lifecycle_configuration().bucket(storage.bucket());
    match put.lifecycle_configuration(lifecycle).send().await {
        Ok(_set) => Ok(Outcome::Done),
        Err(error) => not_supported(error),
    }
}

/// Whether the bucket is there, and the time by the store's clock.
///
/// # Errors
/// [`StorageError`]; [`StorageError::Refused`] when the server's key may not look.
pub async fn look(storage: &Storage) -> Result<Look, StorageError> {
    let (exists, date) = head(storage).await;
    Ok(Look { exists: exists?, date })
}

/// Like [`look`], but with the store's clock even if the store refuses: it refuses every signature if the clocks differ too much.
pub async fn head(storage: &Storage) -> (Result<bool, StorageError>, Option<DateTime<Utc>>) {
    let answer = KeepsAnswer::default();
    let head = storage.client().head_bucket().bucket(storage.bucket()).customize().interceptor(answer.clone());
    let exists = match head.send().await {
        Ok(_there) => Ok(true),
        Err(error) if status(&error) == Some(404) => Ok(false),
        Err(error) => Err(error.into()),
    };
    let answered = answer.take();
    let date = answered.as_ref().and_then(|answered| DateTime::parse_from_rfc2822(answered.header("date")?).ok());
    (exists, date.map(|date| date.to_utc()))
}

/// Removes the bucket with everything in it. A missing bucket is no error.
///
/// # Errors
/// [`StorageError`].
pub async fn empty_and_remove(storage: &Storage) -> Result<(), StorageError> {
    if !look(storage).await?.exists {
        return Ok(());
    }
    let everything = Listing::of_all(storage, "").await?.all().await?;
    storage.delete_listed(&everything).await?;
    match storage.client().delete_bucket().bucket(storage.bucket()).send().await {
        Ok(_removed) => Ok(()),
        Err(error) if status(&error) == Some(404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl From<Option<&BucketVersioningStatus>> for Versioning {
    fn from(status: Option<&BucketVersioningStatus>) -> Self {
        match status {
            Some(BucketVersioningStatus::Enabled) => Self::Enabled,
            Some(BucketVersioningStatus::Suspended) => Self::Suspended,
            _ => Self::Never,
        }
    }
}

/// The rules to write, with our rule instead of its older version; `None` if our rule is already there.
fn merged<R: PartialEq>(mut current: Vec<R>, rule: R, is_ours: impl Fn(&R) -> bool) -> Option<Vec<R>> {
    if current.contains(&rule) {
        return None;
    }
    current.retain(|other| !is_ours(other));
    current.push(rule);
    Some(current)
}

/// Separates "this store does not support that" from a failure.
pub(crate) fn not_supported<E>(error: SdkError<E, HttpResponse>) -> Result<Outcome, StorageError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    if !matches!(status(&error), Some(405 | 501)) && code(&error) != Some("NotImplemented") {
        return Err(error.into());
    }
    let said = error.as_service_error().and_then(|service| service.message().or(service.code()));
    Ok(Outcome::NotSupported(said.unwrap_or("not implemented").to_owned()))
}

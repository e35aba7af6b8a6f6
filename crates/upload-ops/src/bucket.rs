//! `upload-ops bucket`: prints the result of each step. A step that the store does not support is printed, but is not a failure.

use upload_domain::origin;
use upload_storage::{
    Pin, Storage, StorageError, StorageSettings,
    bucket::{self, INCOMING_DAYS, Outcome, Versioning},
};

use crate::{Stop, reach};

#[derive(Debug, clap::Args)]
pub(crate) struct BucketArguments {
    #[command(flatten)]
    storage: StorageSettings,

    /// Origins of the browsers' pages that may upload to the store, separated by commas; `*` allows every one
    #[arg(long, env, hide_env_values = true, value_delimiter = ',', value_parser = origin)]
    cors_origins: Vec<String>,

    /// Enable versioning, which S3_PIN=version needs. With S3_PIN=version it is enabled without this flag
    #[arg(long)]
    versioning: bool,
}

/// Creates the bucket and sets its rules. It keeps what already exists.
pub(crate) async fn run(arguments: &BucketArguments) -> Result<(), Stop> {
    let (storage, exists) = reach::any_bucket(&arguments.storage).await?;
    let name = &arguments.storage.bucket;
    let created = match exists {
        true => Outcome::AlreadyThere,
        false => {
            bucket::create(&storage).await.map_err(|error| not_done(error, &format!("create the bucket `{name}`")))?
        }
    };
    println!(
        "bucket {name}: {}",
        match created {
            Outcome::Done => "created".to_owned(),
            Outcome::AlreadyThere => "exists already".to_owned(),
            Outcome::NotSupported(words) => format!("the store does not create buckets ({words})"),
        }
    );

    let origins = arguments.cors_origins.join(",");
    if origins.is_empty() {
        println!(
            "CORS: not changed, because CORS_ORIGINS is not set; without CORS, web pages cannot upload to the store"
        );
    } else {
        let cors = bucket::set_cors(&storage, &arguments.cors_origins)
            .await
            .map_err(|error| not_done(error, "set the CORS of the bucket"))?;
        println!("CORS: {}", cors_report(cors, &origins));
    }

    if arguments.versioning || storage.pin() == Pin::Version {
        enable_versioning(&storage).await?;
        return let_nothing_expire(&storage).await;
    }
    // Without the answer, this might let linked images expire.
    let versioning = bucket::versioning(&storage).await;
    if versioning.map_err(|error| not_done(error, "get the versioning of the bucket"))? != Versioning::Never {
        return let_nothing_expire(&storage).await;
    }
    let lifecycle =
        bucket::set_lifecycle(&storage).await.map_err(|error| not_done(error, "set the lifecycle of the bucket"))?;
    println!(
        "lifecycle: {}",
        match lifecycle {
            Outcome::Done => format!("incoming/ now expires after {INCOMING_DAYS} day"),
            Outcome::AlreadyThere => format!("incoming/ expires after {INCOMING_DAYS} day already"),
            Outcome::NotSupported(words) => {
                format!(
                    "not supported by the store ({words}); only `upload-ops sweep` removes uploads that were never linked"
                )
            }
        }
    );
    Ok(())
}

async fn enable_versioning(storage: &Storage) -> Result<(), Stop> {
    let enabled = bucket::enable_versioning(storage).await;
    match enabled.map_err(|error| not_done(error, "enable versioning of the bucket"))? {
        Outcome::Done => println!("versioning: now enabled"),
        Outcome::AlreadyThere => println!("versioning: enabled already"),
        Outcome::NotSupported(words) => {
            return Err(Stop::Settings(format!(
                "S3_ENDPOINT: the store has no versioning ({words}); use this store with S3_PIN=copy and without --versioning"
            )));
        }
    }
    Ok(())
}

/// In a bucket with versions, linked images may be in `incoming/`. So the rule that expires it goes.
async fn let_nothing_expire(storage: &Storage) -> Result<(), Stop> {
    let lifecycle = bucket::remove_lifecycle(storage).await;
    match lifecycle.map_err(|error| not_done(error, "set the lifecycle of the bucket"))? {
        Outcome::Done => println!("lifecycle: the rule that expired incoming/ is removed"),
        Outcome::AlreadyThere | Outcome::NotSupported(_) => println!("lifecycle: no rule expires incoming/"),
    }
    Ok(())
}

/// A key without the right is a wrong setting; a store that fails is a failure.
fn not_done(error: StorageError, step: &str) -> Stop {
    let error = anyhow::Error::new(error);
    match error.downcast_ref() {
        Some(StorageError::Refused(_)) => Stop::Settings(format!(
            "S3_ACCESS_KEY_ID: this key is not allowed to {step} ({error:#}); use an admin key for this command only, never for a \
             server, or correct S3_ENDPOINT if there is no S3 store"
        )),
        _ => Stop::Failure(error.context(format!("failed to {step}"))),
    }
}

/// MinIO has CORS for the whole server only, so this prints the setting for it.
fn cors_report(outcome: Outcome, origins: &str) -> String {
    match outcome {
        Outcome::Done => format!("now set for {origins}"),
        Outcome::AlreadyThere => format!("set for {origins} already"),
        Outcome::NotSupported(words) => format!(
            "not supported for a bucket by the store ({words}). MinIO has one setting for the whole server: start it with\n    \
             MINIO_API_CORS_ALLOW_ORIGIN={origins}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_without_cors_for_a_bucket_gets_the_setting_spelled_out() {
        let report =
            cors_report(Outcome::NotSupported("NotImplemented".to_owned()), "https://a.example,https://b.example");
        assert!(report.ends_with("\n    MINIO_API_CORS_ALLOW_ORIGIN=https://a.example,https://b.example"), "{report}");
    }
}

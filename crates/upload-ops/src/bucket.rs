//! `upload-ops bucket`: each step is reported; one that the store does not have is no failure, but is said.

use upload_domain::origin;
use upload_storage::{
    StorageError, StorageSettings,
    bucket::{self, INCOMING_DAYS, Outcome},
};

use crate::{Stop, reach};

#[derive(Debug, clap::Args)]
pub(crate) struct BucketArguments {
    #[command(flatten)]
    storage: StorageSettings,

    /// Origins of the browsers' pages that may upload to the store, separated by commas; `*` allows every one
    #[arg(long, env, hide_env_values = true, value_delimiter = ',', value_parser = origin)]
    cors_origins: Vec<String>,
}

/// Creates the bucket and sets its rules; what is there already stays.
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
            Outcome::AlreadyThere => "was there already".to_owned(),
            Outcome::NotSupported(words) => format!("the store does not create buckets ({words})"),
        }
    );

    let origins = arguments.cors_origins.join(",");
    if origins.is_empty() {
        println!("CORS: left as it is, since CORS_ORIGINS is not set; browsers' pages cannot upload to the store");
    } else {
        let cors = bucket::set_cors(&storage, &arguments.cors_origins)
            .await
            .map_err(|error| not_done(error, "set the CORS of the bucket"))?;
        println!("CORS: {}", cors_report(cors, &origins));
    }

    let lifecycle =
        bucket::set_lifecycle(&storage).await.map_err(|error| not_done(error, "set the lifecycle of the bucket"))?;
    println!(
        "lifecycle: {}",
        match lifecycle {
            Outcome::Done => format!("incoming/ now expires after {INCOMING_DAYS} day"),
            Outcome::AlreadyThere => format!("incoming/ expires after {INCOMING_DAYS} day already"),
            Outcome::NotSupported(words) => {
                format!("the store has none ({words}); only `upload-ops sweep` removes what was never linked")
            }
        }
    );
    Ok(())
}

/// A key that may not is a wrong setting; a store that fails is a failure.
fn not_done(error: StorageError, step: &str) -> Stop {
    let error = anyhow::Error::new(error);
    match error.downcast_ref() {
        Some(StorageError::Refused(_)) => Stop::Settings(format!(
            "S3_ACCESS_KEY_ID: this key may not {step} ({error:#}); use one that may, for this command alone and for no server, or \
             correct S3_ENDPOINT if it leads to no S3 store"
        )),
        _ => Stop::Failure(error.context(format!("failed to {step}"))),
    }
}

/// MinIO has CORS for the whole server only; its setting is printed as it has to be made.
fn cors_report(outcome: Outcome, origins: &str) -> String {
    match outcome {
        Outcome::Done => format!("now set for {origins}"),
        Outcome::AlreadyThere => format!("set for {origins} already"),
        Outcome::NotSupported(words) => format!(
            "the store has no CORS for a bucket ({words}). MinIO has it for the whole server: start it with\n    \
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

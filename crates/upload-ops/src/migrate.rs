//! `upload-ops migrate`.

use anyhow::Context;
use upload_persistence::{
    DatabaseSettings,
    migrations::{self, MigrationError},
};

use crate::Stop;

#[derive(Debug, clap::Args)]
pub(crate) struct MigrateArguments {
    #[command(flatten)]
    database: DatabaseSettings,
}

/// Applies what the database lacks, and prints each version.
pub(crate) async fn run(arguments: &MigrateArguments) -> Result<(), Stop> {
    let applied = match migrations::run(&arguments.database).await {
        Err(MigrationError::Settings(error)) => return Err(Stop::settings(error)),
        outcome => outcome.context("the database was not migrated")?,
    };
    for version in &applied {
        println!("applied {version}");
    }
    if applied.is_empty() {
        println!("nothing to apply: the database has every migration");
    }
    Ok(())
}

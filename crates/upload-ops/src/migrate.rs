//! `upload-ops migrate`.

use anyhow::Context;
use upload_persistence::{
    DatabaseSettings,
    migrations::{self, SchemaStanding},
};

use crate::{Stop, reach};

#[derive(Debug, clap::Args)]
pub(crate) struct MigrateArguments {
    #[command(flatten)]
    database: DatabaseSettings,
}

/// Applies the missing migrations and prints each version. It refuses a database that is newer than this binary.
pub(crate) async fn run(arguments: &MigrateArguments) -> Result<(), Stop> {
    let (_database, standing) = reach::any_database(&arguments.database).await?;
    if let (SchemaStanding::Newer { .. }, Some(advice)) = (&standing, standing.advice()) {
        return Err(Stop::Settings(advice));
    }
    let applied = migrations::run(&arguments.database).await.context("cannot migrate the database")?;
    for version in &applied {
        println!("applied {version}");
    }
    if applied.is_empty() {
        println!("nothing to apply: the database has every migration");
    }
    Ok(())
}

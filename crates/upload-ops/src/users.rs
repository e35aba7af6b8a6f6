//! `upload-ops user add`.

use anyhow::Context;
use upload_domain::{Role, UserId, UserStatus};
use upload_persistence::{
    DatabaseError, DatabaseSettings,
    users::{self, NewUser},
};
use uuid::Uuid;

use crate::{Stop, reach};

#[derive(Debug, clap::Args)]
pub(crate) struct AddArguments {
    #[command(flatten)]
    database: DatabaseSettings,

    /// What the user may do: ADMIN, HOST, USER or TEMPORARY_USER
    #[arg(long)]
    role: Role,

    /// The name that others see
    #[arg(long)]
    nickname: Option<String>,

    /// E-mail address
    #[arg(long)]
    email: Option<String>,
}

/// Adds a user, and prints only the id.
pub(crate) async fn add(arguments: &AddArguments) -> Result<(), Stop> {
    let database = reach::database(&arguments.database).await?;
    let new = NewUser {
        id: UserId::from(Uuid::now_v7()),
        role: arguments.role,
        status: UserStatus::Active,
        nickname: arguments.nickname.as_deref(),
        email: arguments.email.as_deref(),
    };
    let mut connection = database.connection().await.context("cannot add the user")?;
    let user = users::insert(&mut connection, &new).await.map_err(DatabaseError::from);
    println!("{}", user.context("cannot add the user")?.id);
    Ok(())
}

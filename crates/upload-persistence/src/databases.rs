//! Making and removing whole databases, for sandboxes: no server and no operation of a deployment does that.

use crate::{DatabaseError, DatabaseSettings};

/// Makes the database `name`, as a copy of `template` if one is given; nobody may be connected to the template.
pub async fn create(admin_url: &str, name: &str, template: Option<&str>) -> Result<(), DatabaseError> {
    let template = template.map(|template| format!(" TEMPLATE {}", quoted(template))).unwrap_or_default();
    administer(admin_url, &format!("CREATE DATABASE {}{template}", quoted(name))).await
}

/// Removes the database `name`, if it is there, and cuts off whoever is connected to it.
pub async fn drop_with_force(admin_url: &str, name: &str) -> Result<(), DatabaseError> {
    administer(admin_url, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))).await
}

async fn administer(admin_url: &str, statement: &str) -> Result<(), DatabaseError> {
    let endpoint = DatabaseSettings::for_url(admin_url).unlimited_endpoint();
    let endpoint = endpoint.map_err(|error| DatabaseError::Unavailable(error.into()))?;
    let (client, connection) = endpoint.connect().await.map_err(DatabaseError::Unavailable)?;
    let driver = tokio::spawn(connection);
    let outcome = client.batch_execute(statement).await;
    drop(client);
    // Waits for the goodbye, so that the session is gone when this returns.
    if let Ok(Err(error)) = driver.await {
        tracing::debug!(error = &error as &dyn std::error::Error, "The administering connection ended badly");
    }
    outcome.map_err(|error| DatabaseError::Unavailable(error.into()))
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

//! Making and removing whole databases, for sandboxes: no server and no operation of a deployment does that.
//!
//! Each call has a connection of its own, which is gone when it returns.

use tokio_postgres::SimpleQueryMessage;

use crate::{DatabaseError, DatabaseSettings};

/// A row as text, a column that is null as `None`.
pub type TextRow = Vec<Option<String>>;

/// Makes the database `name`, as a copy of `template` if one is given; nobody may be connected to the template.
pub async fn create(admin_url: &str, name: &str, template: Option<&str>) -> Result<(), DatabaseError> {
    let template = template.map(|template| format!(" TEMPLATE {}", quoted(template))).unwrap_or_default();
    run(admin_url, &format!("CREATE DATABASE {}{template}", quoted(name))).await.map(|_no_rows| ())
}

/// Removes the database `name`, if it exists, and closes all connections to it.
pub async fn drop_with_force(admin_url: &str, name: &str) -> Result<(), DatabaseError> {
    run(admin_url, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))).await.map(|_no_rows| ())
}

/// Runs statements as they are, and returns all their rows.
pub async fn run(url: &str, statements: &str) -> Result<Vec<TextRow>, DatabaseError> {
    let endpoint = DatabaseSettings::for_url(url).unlimited_endpoint();
    let endpoint = endpoint.map_err(|error| DatabaseError::Unavailable(error.into()))?;
    let (client, connection) = endpoint.connect().await.map_err(DatabaseError::Unavailable)?;
    let driver = tokio::spawn(connection);
    let outcome = client.simple_query(statements).await;
    drop(client);
    // Waits for the goodbye, so that the session is gone when this returns.
    if let Ok(Err(error)) = driver.await {
        tracing::debug!(error = &error as &dyn std::error::Error, "The admin connection failed");
    }
    let messages = outcome.map_err(|error| DatabaseError::Unavailable(error.into()))?;
    Ok(messages.iter().filter_map(text_row).collect())
}

fn text_row(message: &SimpleQueryMessage) -> Option<TextRow> {
    match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect()),
        _ => None,
    }
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

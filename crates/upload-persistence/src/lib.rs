#![doc = include_str!("../README.md")]

pub mod competitions;
pub mod databases;
pub mod ended_links;
pub mod image_attempts;
pub mod images;
pub mod inventory;
pub mod migrations;
pub mod post_images;
pub mod poster_images;
pub mod posts;
pub mod profile_images;
pub mod quotas;
pub mod users;

mod advice;
mod applied;
mod cached;
mod database;
mod endpoint;
mod moment;
mod one_row;
#[rustfmt::skip] // It is what `diesel print-schema` writes, to the letter.
mod schema;
mod settings;
mod stored;
mod tls;
mod verified;

pub use database::{Database, DatabaseError, PooledConnection};
pub use diesel::result::{Error as QueryError, QueryResult};
pub use endpoint::TlsError;
pub use settings::{DatabaseSettings, SettingsError};
pub use verified::Verified;

/// A connection that the queries run on.
pub type Connection = diesel_async::AsyncPgConnection;

//! The `user` table: who may act.

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::RunQueryDsl;
use upload_domain::{Role, UserId, UserStatus};

use crate::{
    Connection, QueryResult,
    one_row::one_row,
    schema::user,
    stored::{Stored, words},
};

/// A user's row.
#[derive(Debug, Clone, PartialEq, Eq, diesel::Queryable, diesel::Selectable)]
#[diesel(table_name = user, check_for_backend(diesel::pg::Pg))]
pub struct User {
    /// The subject of a token.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub id: UserId,
    /// What the user may do.
    #[diesel(deserialize_as = Stored<Role>)]
    pub role: Role,
    /// Which social network vouches for the user.
    pub sns_auth_provider: Option<String>,
    /// The user's id at that network.
    pub sns_id: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Full name.
    pub name: Option<String>,
    /// Telephone number.
    pub phone_number: Option<String>,
    /// The name that others see.
    pub nickname: Option<String>,
    /// Gender, as the user states it.
    pub gender: Option<String>,
    /// Date of birth, as the user states it.
    pub birth: Option<String>,
    /// Belt rank.
    pub belt: Option<String>,
    /// The media key of the live profile image.
    pub profile_image_url_key: Option<String>,
    /// Whether the user may act at all.
    #[diesel(deserialize_as = Stored<UserStatus>)]
    pub status: UserStatus,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

/// The user to insert.
#[derive(Debug, Clone, Copy)]
pub struct NewUser<'a> {
    /// The id to give.
    pub id: UserId,
    /// What the user may do.
    pub role: Role,
    /// Whether the user may act at all.
    pub status: UserStatus,
    /// The name that others see.
    pub nickname: Option<&'a str>,
    /// E-mail address.
    pub email: Option<&'a str>,
}

/// Adds a user.
pub async fn insert(connection: &mut Connection, new: &NewUser<'_>) -> QueryResult<User> {
    let statement = diesel::insert_into(user::table)
        .values((
            user::id.eq(new.id.uuid()),
            user::role.eq(new.role.as_str()),
            user::status.eq(new.status.as_str()),
            user::nickname.eq(new.nickname),
            user::email.eq(new.email),
        ))
        .returning(User::as_returning());
    one_row(statement.load(connection).await?).ok_or(diesel::NotFound)
}

/// The user with this id.
pub async fn find(connection: &mut Connection, id: UserId) -> QueryResult<Option<User>> {
    user::table.find(id.uuid()).select(User::as_select()).first(connection).await.optional()
}

/// The user with this id, where they are ACTIVE and registered.
pub async fn find_active(connection: &mut Connection, id: UserId) -> QueryResult<Option<User>> {
    user::table
        .find(id.uuid())
        .filter(user::status.eq(UserStatus::Active.as_str()))
        .filter(user::role.eq_any(words(Role::REGISTERED)))
        .select(User::as_select())
        .first(connection)
        .await
        .optional()
}

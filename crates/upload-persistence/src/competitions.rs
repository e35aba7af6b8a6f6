//! The `competition` table.

use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, IntoSql, OptionalExtension, QueryDsl, SelectableHelper,
    sql_types::{Text, Uuid},
};
use diesel_async::RunQueryDsl;
use upload_domain::{CompetitionId, Role, UserId, UserStatus};

use crate::{
    Connection, QueryResult,
    one_row::one_row,
    schema::{competition, user},
    stored::words,
};

/// A competition's row.
#[derive(Debug, Clone, PartialEq, Eq, diesel::Queryable, diesel::Selectable)]
#[diesel(table_name = competition, check_for_backend(diesel::pg::Pg))]
pub struct Competition {
    /// Identifier.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub id: CompetitionId,
    /// Its title.
    pub title: String,
    /// Its host.
    #[diesel(deserialize_as = uuid::Uuid)]
    pub host_user_id: UserId,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
}

/// The competition to insert.
#[derive(Debug, Clone, Copy)]
pub struct NewCompetition<'a> {
    /// The id to give.
    pub id: CompetitionId,
    /// Its title.
    pub title: &'a str,
    /// The host: the user who creates it.
    pub host_user_id: UserId,
}

/// Adds a competition, or `None` if its host is not ACTIVE with a role that runs competitions.
pub async fn insert(connection: &mut Connection, new: &NewCompetition<'_>) -> QueryResult<Option<Competition>> {
    let row = user::table
        .find(new.host_user_id.uuid())
        .filter(user::status.eq(UserStatus::Active.as_str()))
        .filter(user::role.eq_any(words(Role::COMPETITION)))
        .select((new.id.uuid().into_sql::<Uuid>(), new.title.into_sql::<Text>(), user::id));
    let statement = diesel::insert_into(competition::table)
        .values(row)
        .into_columns((competition::id, competition::title, competition::host_user_id))
        .returning(Competition::as_returning());
    statement.load(connection).await.map(one_row)
}

/// The competition with this id.
pub async fn find(connection: &mut Connection, id: CompetitionId) -> QueryResult<Option<Competition>> {
    competition::table.find(id.uuid()).select(Competition::as_select()).first(connection).await.optional()
}

//! Which migrations a database has: the table of Diesel's harness, which `diesel print-schema` leaves out. Only read here.

use std::collections::BTreeSet;

use diesel::{QueryDsl, QueryResult, sql_types::Text};
use diesel_async::RunQueryDsl;

use crate::Connection;

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

diesel::define_sql_function! {
    /// The table of a name on the search path, if there is one; it takes no right to it.
    fn to_regclass(name: Text) -> Nullable<Oid>;
}

/// The versions of the applied migrations; empty if nothing was ever migrated.
pub(crate) async fn versions(connection: &mut Connection) -> QueryResult<BTreeSet<String>> {
    use self::__diesel_schema_migrations::dsl::{__diesel_schema_migrations, version};

    let failed = match __diesel_schema_migrations.select(version).load(connection).await {
        Ok(versions) => return Ok(versions.into_iter().collect()),
        Err(error) => error,
    };
    // A statement that names a missing table fails, and diesel-async hides the code of that error; so a second statement checks.
    let table: Option<u32> =
        match diesel::select(to_regclass("__diesel_schema_migrations")).get_result(connection).await {
            Ok(table) => table,
            Err(second) => {
                tracing::debug!(error = &second as &dyn std::error::Error, "Cannot look up the table of migrations");
                return Err(failed);
            }
        };
    if table.is_some() { Err(failed) } else { Ok(BTreeSet::new()) }
}

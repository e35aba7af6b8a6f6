//! Lets a statement be prepared once per connection.
//!
//! Diesel caches neither `UPDATE` statements (its `update_statement/mod.rs` marks them all unsafe to cache, since the columns
//! of a changeset may vary) nor `sql_query`; each run then costs a second round trip, for Parse. Here a statement's text depends
//! only on its type, and the cache's key is that text together with the types of its binds, so caching is safe.
//! Use this only for statements with a fixed number of texts: no inlined lists, and no identifiers from outside.

use diesel::{
    QueryResult,
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
};

/// A statement that is prepared once per connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cached<Statement>(pub(crate) Statement);

impl<Statement: QueryFragment<Pg>> QueryFragment<Pg> for Cached<Statement> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _backend: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

/// No static id: the cache's key is the statement's text.
impl<Statement> QueryId for Cached<Statement> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Statement: Query> Query for Cached<Statement> {
    type SqlType = Statement::SqlType;
}

//! Times that are counted from the database's clock, so that the clocks of servers do not matter.

use std::time::Duration;

use diesel::{
    QueryResult,
    data_types::PgInterval,
    expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate},
    pg::Pg,
    query_builder::{AstPass, QueryFragment, QueryId},
    sql_types::{Interval, Timestamptz},
};

/// `now() + interval`, where the interval may be negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment(PgInterval);

/// The database's time minus a duration.
pub(crate) fn ago(duration: Duration) -> Moment {
    Moment(PgInterval::from_microseconds(interval(duration).microseconds.saturating_neg()))
}

/// A duration as Postgres keeps it, in microseconds; one of more than 290,000 years is cut to that.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    PgInterval::from_microseconds(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

impl Expression for Moment {
    type SqlType = Timestamptz;
}

impl QueryFragment<Pg> for Moment {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("(now() + ");
        out.push_bind_param::<Interval, _>(&self.0)?;
        out.push_sql(")");
        Ok(())
    }
}

impl QueryId for Moment {
    type QueryId = Self;

    const HAS_STATIC_QUERY_ID: bool = true;
}

/// As a constant it goes with grouped and with ungrouped columns.
impl<GroupBy> ValidGrouping<GroupBy> for Moment {
    type IsAggregate = is_aggregate::Never;
}

impl<Source> SelectableExpression<Source> for Moment where Self: AppearsOnTable<Source> {}
impl<Source> AppearsOnTable<Source> for Moment where Self: Expression {}

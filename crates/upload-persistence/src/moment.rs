//! Times that are counted from the database's clock, so that the clocks of servers do not matter.

use std::time::Duration;

use diesel::{
    QueryResult,
    data_types::PgInterval,
    expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate},
    pg::Pg,
    query_builder::{AstPass, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{Interval, Nullable, Timestamptz},
};

/// `now() + interval`, where the interval may be negative or, as an `Option`, absent: then so is the moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<Length = PgInterval>(Length);

/// The database's time so much later.
pub(crate) fn from_now(duration: Duration) -> Moment {
    Moment(interval(duration))
}

/// The database's time so much later, if a duration is given.
pub(crate) fn from_now_if(duration: Option<Duration>) -> Moment<Option<PgInterval>> {
    Moment(duration.map(interval))
}

/// The database's time so much earlier.
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

impl Expression for Moment<Option<PgInterval>> {
    type SqlType = Nullable<Timestamptz>;
}

impl<Length: ToSql<Nullable<Interval>, Pg>> QueryFragment<Pg> for Moment<Length> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("(now() + ");
        out.push_bind_param::<Nullable<Interval>, _>(&self.0)?;
        out.push_sql(")");
        Ok(())
    }
}

impl<Length: 'static> QueryId for Moment<Length> {
    type QueryId = Self;

    const HAS_STATIC_QUERY_ID: bool = true;
}

/// As a constant it goes with grouped and with ungrouped columns.
impl<Length, GroupBy> ValidGrouping<GroupBy> for Moment<Length> {
    type IsAggregate = is_aggregate::Never;
}

impl<Source, Length> SelectableExpression<Source> for Moment<Length> where Self: AppearsOnTable<Source> {}
impl<Source, Length> AppearsOnTable<Source> for Moment<Length> where Self: Expression {}

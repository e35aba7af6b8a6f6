//! The row of a statement that writes and returns one, once it is committed.
//!
//! diesel-async's `get_result` returns with the first row. Without a transaction of its own, a statement is committed later than that, when
//! Postgres reads the message after it (Sync), and Postgres may end the session before:
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING>. The row is sent even then. So a statement that must
//! be committed is read to its end.

/// The row of a statement that returns at most one. Give it what `load` returns, not `get_result`.
pub(crate) fn one_row<Row>(rows: Vec<Row>) -> Option<Row> {
    rows.into_iter().next()
}

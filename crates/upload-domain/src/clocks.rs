//! How far apart the clocks of the application, the database and the store are. This file reads no clock itself.
//!
//! The database sets the dates of forms. In V2 the store decides whether a form has expired, in V1 the server does. So the three clocks
//! must agree within the skew that `PENDING_TTL` allows for. A query gives the database's time, and the store's answer to HeadBucket has a
//! `Date`. The clock was read at some moment between question and answer, so each reading is a span. Two clocks differ by the least that
//! their spans allow, so a slow network never looks like a wrong clock.

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

/// Clocks that differ by more are worth a warning.
const NOTABLE: TimeDelta = TimeDelta::seconds(5);
/// Clocks that differ by more make the server not ready. Sweep and forms are designed for twice this skew.
const TOLERABLE: TimeDelta = TimeDelta::seconds(30);
/// The store gives whole seconds only.
const STORE_RESOLUTION: TimeDelta = TimeDelta::seconds(1);

/// Whose clock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Clock {
    Application,
    Database,
    Store,
}

/// How far ahead of the application's clock another one is: somewhere in this span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    least: TimeDelta,
    most: TimeDelta,
}

/// The offsets of the other clocks, if they could be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockOffsets {
    /// The database's.
    pub database: Option<ClockOffset>,
    /// The store's.
    pub store: Option<ClockOffset>,
}

/// A clock that is notably apart from another, or from both others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockDifference {
    odd: Clock,
    direction: &'static str,
    other: Clock,
    agreeing: Option<Clock>,
    by: TimeDelta,
}

impl ClockOffset {
    const NONE: Self = Self { least: TimeDelta::zero(), most: TimeDelta::zero() };

    /// That of the database's clock. It said `said` in answer to a question of the time `asked_at`, and the answer took `took`.
    pub fn of_database(asked_at: DateTime<Utc>, took: Duration, said: DateTime<Utc>) -> Self {
        Self::new(asked_at, took, said, TimeDelta::zero())
    }

    /// The same of the store's clock.
    pub fn of_store(asked_at: DateTime<Utc>, took: Duration, said: DateTime<Utc>) -> Self {
        Self::new(asked_at, took, said, STORE_RESOLUTION)
    }

    fn new(asked_at: DateTime<Utc>, took: Duration, said: DateTime<Utc>, resolution: TimeDelta) -> Self {
        let took = TimeDelta::from_std(took).unwrap_or(TimeDelta::MAX);
        let since_asked = said - asked_at;
        Self { least: since_asked - took, most: since_asked + resolution }
    }

    /// The middle of the span.
    pub fn middle(self) -> TimeDelta {
        self.least + (self.most - self.least) / 2
    }

    /// By how much the first clock is ahead of the second, at least.
    fn ahead_of(self, other: Self) -> TimeDelta {
        self.least - other.most
    }

    fn agrees_with(self, other: Self) -> bool {
        self.ahead_of(other) <= NOTABLE && other.ahead_of(self) <= NOTABLE
    }
}

impl ClockOffsets {
    /// The two clocks that are furthest apart, if they are far enough apart for a warning.
    pub fn difference(&self) -> Option<ClockDifference> {
        let known = [
            (Clock::Application, Some(ClockOffset::NONE)),
            (Clock::Database, self.database),
            (Clock::Store, self.store),
        ];
        let known: Vec<_> = known.into_iter().filter_map(|(clock, offset)| Some((clock, offset?))).collect();
        let pairs = known.iter().flat_map(|one| known.iter().map(move |other| (one, other)));
        let (&(ahead, first), &(behind, second)) = pairs.max_by_key(|((_, one), (_, other))| one.ahead_of(*other))?;
        let by = first.ahead_of(second);
        if by <= NOTABLE {
            return None;
        }
        let third = known.iter().find(|(clock, _offset)| *clock != ahead && *clock != behind);
        let agrees = |offset: ClockOffset| {
            third.filter(|(_third, thirds)| thirds.agrees_with(offset)).map(|(third, _offset)| *third)
        };
        let (odd, direction, other, agreeing) = match (agrees(first), agrees(second)) {
            (Some(third), None) => (behind, "behind", ahead.min(third), Some(ahead.max(third))),
            (None, Some(third)) => (ahead, "ahead of", behind.min(third), Some(behind.max(third))),
            _ => (ahead, "ahead of", behind, None),
        };
        Some(ClockDifference { odd, direction, other, agreeing, by })
    }
}

impl ClockDifference {
    /// Whether a server may go on with it.
    pub fn is_tolerable(&self) -> bool {
        self.by <= TOLERABLE
    }

    /// Whether the same clocks are apart as before, and as gravely.
    pub fn is_like(&self, before: &Self) -> bool {
        *self == Self { by: self.by, ..*before } && self.is_tolerable() == before.is_tolerable()
    }
}

impl fmt::Display for ClockDifference {
    /// For example "the store's clock is 40 s ahead of the application's and the database's". If two clocks agree, the third comes first.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = (self.by.num_milliseconds() + 500) / 1000;
        let Self { odd, direction, other, .. } = self;
        write!(formatter, "the {odd}'s clock is {seconds} s {direction} the {other}'s")?;
        match self.agreeing {
            Some(agreeing) => write!(formatter, " and the {agreeing}'s"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Application => "application",
            Self::Database => "database",
            Self::Store => "store",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(least: i64, most: i64) -> Option<ClockOffset> {
        Some(ClockOffset { least: TimeDelta::seconds(least), most: TimeDelta::seconds(most) })
    }

    fn said(database: Option<ClockOffset>, store: Option<ClockOffset>) -> Option<(String, bool)> {
        let difference = ClockOffsets { database, store }.difference()?;
        Some((difference.to_string(), difference.is_tolerable()))
    }

    #[test]
    fn the_odd_clock_is_named_first_and_the_direction_is_right() {
        let table = [
            (seconds(0, 0), seconds(40, 41), "the store's clock is 40 s ahead of the application's and the database's"),
            (seconds(0, 0), seconds(-41, -40), "the store's clock is 40 s behind the application's and the database's"),
            (seconds(31, 31), seconds(0, 1), "the database's clock is 31 s ahead of the application's and the store's"),
            (seconds(-31, -31), seconds(0, 1), "the database's clock is 31 s behind the application's and the store's"),
            (seconds(40, 40), seconds(40, 41), "the application's clock is 40 s behind the database's and the store's"),
            (
                seconds(-40, -40),
                seconds(-40, -39),
                "the application's clock is 40 s ahead of the database's and the store's",
            ),
            (seconds(-20, -20), seconds(20, 21), "the store's clock is 40 s ahead of the database's"),
            (None, seconds(40, 41), "the store's clock is 40 s ahead of the application's"),
            (seconds(-40, -40), None, "the application's clock is 40 s ahead of the database's"),
        ];
        for (database, store, expected) in table {
            assert_eq!(said(database, store), Some((expected.to_owned(), false)));
        }
    }

    #[test]
    fn five_seconds_give_no_warning_and_thirty_are_tolerable() {
        assert_eq!(said(seconds(5, 5), seconds(0, 1)), None);
        assert_eq!(said(None, None), None);
        let (sentence, tolerable) = said(seconds(30, 30), seconds(0, 1)).unwrap_or_default();
        assert!(tolerable && sentence.contains("30 s"), "{sentence}");
        assert_eq!(said(seconds(31, 31), None).map(|(_sentence, tolerable)| tolerable), Some(false));
    }

    #[test]
    fn a_slow_answer_is_no_difference() {
        // Asked 40 s ago: the time that was said may be of then or of now.
        assert_eq!(said(seconds(-40, 0), seconds(0, 1)), None);
        assert_eq!(
            said(seconds(-40, 0), seconds(-80, -79)),
            Some(("the store's clock is 79 s behind the application's and the database's".to_owned(), false))
        );
    }

    #[test]
    fn an_answer_is_placed_between_question_and_answer() {
        let asked_at = DateTime::UNIX_EPOCH;
        let (took, said) = (Duration::from_secs(4), asked_at + TimeDelta::seconds(10));
        let offset = ClockOffset::of_store(asked_at, took, said);
        assert_eq!((offset.least, offset.most), (TimeDelta::seconds(6), TimeDelta::seconds(11)));
        let offset = ClockOffset::of_database(asked_at, took, said);
        assert_eq!((offset.most, offset.middle()), (TimeDelta::seconds(10), TimeDelta::seconds(8)));
    }
}

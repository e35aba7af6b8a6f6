//! Reading the other clocks, and the database's time without asking it. [`upload_domain::ClockOffsets`] compares them.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Instant,
};

use chrono::{DateTime, TimeDelta, Utc};
use upload_domain::ClockOffset;

/// The moment before a question, by the application's clock.
pub(crate) struct Question {
    asked_at: DateTime<Utc>,
    asked: Instant,
}

/// The database's clock, as it was read last.
#[derive(Debug, Default)]
pub(crate) struct DatabaseClock {
    offset_ms: AtomicI64,
}

impl Question {
    pub(crate) fn ask() -> Self {
        Self { asked_at: Utc::now(), asked: Instant::now() }
    }

    /// The database's clock, from its answer that has just come.
    pub(crate) fn database(&self, said: DateTime<Utc>) -> ClockOffset {
        // Not the clock a second time: somebody may have set it in between.
        ClockOffset::of_database(self.asked_at, self.asked.elapsed(), said)
    }

    /// The store's clock, from its answer that has just come.
    pub(crate) fn store(&self, said: DateTime<Utc>) -> ClockOffset {
        ClockOffset::of_store(self.asked_at, self.asked.elapsed(), said)
    }
}

impl DatabaseClock {
    /// Takes over what was read last.
    pub(crate) fn set(&self, offset: ClockOffset) {
        self.offset_ms.store(offset.middle().num_milliseconds(), Ordering::Relaxed);
    }

    /// The database's time now, without asking it.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::milliseconds(self.offset_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_time_goes_on_from_its_last_answer() {
        let question = Question::ask();
        let clock = DatabaseClock::default();
        clock.set(question.database(question.asked_at + TimeDelta::seconds(100)));
        let ahead = clock.now() - Utc::now();
        assert!(ahead > TimeDelta::seconds(95) && ahead <= TimeDelta::seconds(100), "{ahead}");
    }
}

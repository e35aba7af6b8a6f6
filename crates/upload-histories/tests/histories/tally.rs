//! What the histories have done, so that a run shows what it has tested.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    time::Duration,
};

use crate::script::{Fault, Link};

#[derive(Debug, Default)]
pub struct Tally {
    pub histories: u64,
    steps: u64,
    /// How many faults there were of each kind, and how many of them met any traffic.
    faults: BTreeMap<String, (u64, u64)>,
    kills: u64,
    /// Requests that another one overtook while they held an image.
    overtaken: u64,
    /// Answers without a fault that failed because this machine was too slow.
    slow: u64,
    /// The longest time until an answer while a link was broken.
    longest: BTreeMap<String, Duration>,
    /// By request and answer.
    answers: BTreeMap<(String, String), u64>,
    /// The most states that a model had.
    most_states: usize,
}

impl Tally {
    pub fn step(&mut self) {
        self.steps += 1;
    }

    pub fn kill(&mut self) {
        self.kills += 1;
    }

    /// Counts a fault, and whether it bit: a fault that begins after the last turn does nothing.
    pub fn fault(&mut self, fault: Fault, bit: bool) {
        let kind = format!("{:?}", fault.kind);
        let kind = kind.split(' ').next().unwrap_or_default();
        let (all, bitten) = self.faults.entry(format!("{kind} {:?}", fault.link)).or_default();
        *all += 1;
        *bitten += u64::from(bit);
    }

    pub fn overtake(&mut self) {
        self.overtaken += 1;
    }

    pub fn slow(&mut self) {
        self.slow += 1;
    }

    /// How many of a hundred answers failed because the machine was too slow.
    pub fn slow_percent(&self) -> f64 {
        let answers: u64 = self.answers.values().sum();
        self.slow as f64 * 100.0 / answers.max(1) as f64
    }

    pub fn heard(&mut self, request: &str, answer: &str) {
        *self.answers.entry((request.to_owned(), answer.trim().to_owned())).or_default() += 1;
    }

    pub fn took(&mut self, broken: Link, time: Duration) {
        let longest = self.longest.entry(format!("{broken:?}")).or_default();
        *longest = time.max(*longest);
    }

    pub fn states(&mut self, states: usize) {
        self.most_states = self.most_states.max(states);
    }

    pub fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.kills += other.kills;
        self.overtaken += other.overtaken;
        self.slow += other.slow;
        self.most_states = self.most_states.max(other.most_states);
        for (fault, (all, bitten)) in other.faults {
            let own = self.faults.entry(fault).or_default();
            *own = (own.0 + all, own.1 + bitten);
        }
        for (broken, time) in other.longest {
            let own = self.longest.entry(broken).or_default();
            *own = time.max(*own);
        }
        for (answer, count) in other.answers {
            *self.answers.entry(answer).or_default() += count;
        }
    }
}

impl Display for Tally {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (faults, bitten) = self.faults.values().fold((0, 0), |sum, fault| (sum.0 + fault.0, sum.1 + fault.1));
        let answers: u64 = self.answers.values().sum();
        writeln!(
            formatter,
            "{} histories, {} steps, {answers} answers, {} of them too slow, {faults} faults, of which {bitten} bit, {} kills, {} overtaken, \
             at most {} states",
            self.histories, self.steps, self.slow, self.kills, self.overtaken, self.most_states
        )?;
        for (fault, (all, bitten)) in &self.faults {
            writeln!(formatter, "  {all:6} {fault}, of which {bitten} bit")?;
        }
        for (broken, time) in &self.longest {
            writeln!(
                formatter,
                "  {:6.1} s at most until an answer while the link to {broken} was broken",
                time.as_secs_f64()
            )?;
        }
        for ((request, answer), count) in &self.answers {
            let answer = if answer == "0" { "no answer" } else { answer };
            writeln!(formatter, "  {count:6} {request}: {answer}")?;
        }
        Ok(())
    }
}

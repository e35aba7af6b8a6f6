//! What the histories have done, so that a run shows what it has tested.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use crate::script::Fault;

#[derive(Debug, Default)]
pub struct Tally {
    pub histories: u64,
    steps: u64,
    faults: BTreeMap<String, u64>,
    kills: u64,
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

    pub fn fault(&mut self, fault: Option<Fault>) {
        let Some(Fault { link, kind }) = fault else { return };
        let kind = format!("{kind:?}");
        let kind = kind.split(' ').next().unwrap_or_default();
        *self.faults.entry(format!("{kind} {link:?}")).or_default() += 1;
    }

    /// How many faults there were.
    pub fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    pub fn heard(&mut self, request: &str, answer: &str) {
        *self.answers.entry((request.to_owned(), answer.trim().to_owned())).or_default() += 1;
    }

    pub fn states(&mut self, states: usize) {
        self.most_states = self.most_states.max(states);
    }

    pub fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.kills += other.kills;
        self.most_states = self.most_states.max(other.most_states);
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        for (answer, count) in other.answers {
            *self.answers.entry(answer).or_default() += count;
        }
    }
}

impl Display for Tally {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let faults = self.faults();
        let answers: u64 = self.answers.values().sum();
        writeln!(
            formatter,
            "{} histories, {} steps, {answers} answers, {faults} faults, {} kills, at most {} states",
            self.histories, self.steps, self.kills, self.most_states
        )?;
        for (fault, count) in &self.faults {
            writeln!(formatter, "  {count:6} {fault}")?;
        }
        for ((request, answer), count) in &self.answers {
            let answer = if answer == "0" { "no answer" } else { answer };
            writeln!(formatter, "  {count:6} {request}: {answer}")?;
        }
        Ok(())
    }
}

//! `answers.txt`: what each case hears from either server. Both servers share the file, so a case fails if its answers differ from
//! the other server's or from earlier ones. The file also shows what the suite covers, without a run.
//!
//! A case that hears something else fails with the difference. `UPDATE_CONTRACT=1` writes the difference into the file instead: then
//! the commit's diff shows it, and the other server's suite must agree with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Strategy, hearing::Said};

/// Where the file is.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/answers.txt");

/// V1's own routes. V2 does not have them.
pub(super) const V1S_OWN: [&str; 2] = ["/uploads", "/user/images/upload"];

/// The text above the answers.
const PREFACE: &str = "\
# What the servers answer to each case of the contract. A route, what it answers (a status with a problem's code, or with a body's
# names: a name alone is a text), and the cases that hear it: all of them from both servers, except where it says otherwise.
# `may`: a race decides whether the case hears it. `V1`, `V2`: only this server gives this answer.
# A case that hears something else fails. UPDATE_CONTRACT=1 with the tests of one server writes it down; the other's must agree.
# The words in brackets behind a case are written by hand, and kept.
";

/// Which server gives the answer, and whether always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// Both, always.
    Both,
    /// Either, sometimes.
    May,
    /// One of them alone, always.
    Only(Strategy),
}

/// The whole file: each answer, the cases that hear it, and their marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answers(BTreeMap<Said, BTreeMap<String, Mark>>);

/// Compares the answers that a case heard from a server with the file, or writes them into it.
pub(super) fn check(case: &str, strategy: Strategy, heard: &BTreeSet<Said>) -> Result<()> {
    // Cases run at the same time, and any of them may write.
    if std::env::var_os("UPDATE_CONTRACT").is_some() {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(PATH)?;
        file.lock()?;
        let answers = Answers::from(&mut file)?.renewed(case, strategy, heard);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(answers.to_string().as_bytes())?;
        return Ok(());
    }
    let difference = read()?.difference(case, strategy, heard);
    ensure!(
        difference.is_empty(),
        "{case} hears something else than answers.txt says (- is in the file, + was heard):\n{difference}\
         If that is right, run the case again with UPDATE_CONTRACT=1, read the file's diff, and run the other server's suite."
    );
    Ok(())
}

/// Reads the file.
pub(super) fn read() -> Result<Answers> {
    let mut file = File::open(PATH).with_context(|| format!("{PATH} cannot be read"))?;
    file.lock_shared()?;
    Answers::from(&mut file)
}

/// Whether only V1 has the route.
pub(super) fn is_v1s_own(route: &str) -> bool {
    route.split_once(' ').is_some_and(|(_method, path)| V1S_OWN.contains(&path))
}

impl Mark {
    fn of(strategy: Strategy, route: &str) -> Self {
        if is_v1s_own(route) { Self::Only(strategy) } else { Self::Both }
    }

    /// Whether a server always gives the answer.
    pub(super) fn is_said_by(self, strategy: Strategy) -> bool {
        self == Self::Both || self == Self::Only(strategy)
    }
}

impl Answers {
    fn from(file: &mut File) -> Result<Self> {
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Self::parse(&text)
    }

    /// Everything, in the file's order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Said, &str, Mark)> {
        self.0.iter().flat_map(|(said, cases)| cases.iter().map(move |(case, mark)| (said, case.as_str(), *mark)))
    }

    fn of<'a>(&'a self, case: &'a str) -> impl Iterator<Item = (&'a Said, Mark)> {
        self.0.iter().filter_map(move |(said, cases)| Some((said, *cases.get(case)?)))
    }

    /// The answers that the case should have heard and did not, and those that it should not have heard.
    fn difference(&self, case: &str, strategy: Strategy, heard: &BTreeSet<Said>) -> String {
        let known: BTreeMap<&Said, Mark> = self.of(case).collect();
        let missing = known.iter().filter(|(said, mark)| mark.is_said_by(strategy) && !heard.contains(*said));
        let missing = missing.map(|(said, _mark)| format!("- {} {}\n", said.route, said.answer));
        let expected =
            |said: &Said| known.get(said).is_some_and(|mark| *mark == Mark::May || mark.is_said_by(strategy));
        let unexpected = heard.iter().filter(|said| !expected(said));
        missing.chain(unexpected.map(|said| format!("+ {} {}\n", said.route, said.answer))).collect()
    }

    /// Replaces the server's earlier answers with its present ones. Marks made by hand stay.
    fn renewed(mut self, case: &str, strategy: Strategy, heard: &BTreeSet<Said>) -> Self {
        for (said, cases) in &mut self.0 {
            if cases.get(case).is_some_and(|mark| mark.is_said_by(strategy)) && !heard.contains(said) {
                cases.remove(case);
            }
        }
        for said in heard {
            let mark = Mark::of(strategy, &said.route);
            self.0.entry(said.clone()).or_default().entry(case.to_owned()).or_insert(mark);
        }
        self.0.retain(|_said, cases| !cases.is_empty());
        self
    }

    fn parse(text: &str) -> Result<Self> {
        let mut answers = Self::default();
        let (mut route, mut answer) = (String::new(), String::new());
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let words = line.trim_start();
            match line.len() - words.len() {
                0 => route = words.to_owned(),
                4 => answer = words.to_owned(),
                8 => {
                    let (case, mark) = words.split_once(' ').unwrap_or((words, ""));
                    let said = Said { route: route.clone(), answer: answer.clone() };
                    answers.0.entry(said).or_default().insert(case.to_owned(), mark.parse()?);
                }
                _ => bail!("answers.txt has a line that begins nowhere: {line}"),
            }
        }
        Ok(answers)
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(PREFACE)?;
        let mut route = "";
        for (said, cases) in &self.0 {
            if said.route != route {
                route = &said.route;
                write!(formatter, "\n{route}\n")?;
            }
            writeln!(formatter, "    {}", said.answer)?;
            for (case, mark) in cases {
                writeln!(formatter, "        {case}{mark}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Both => "",
            Self::May => " (may)",
            Self::Only(Strategy::Streaming) => " (V1)",
            Self::Only(Strategy::Presigned) => " (V2)",
        })
    }
}

impl std::str::FromStr for Mark {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "" => Self::Both,
            "(may)" => Self::May,
            "(V1)" => Self::Only(Strategy::Streaming),
            "(V2)" => Self::Only(Strategy::Presigned),
            _ => bail!("answers.txt has a mark that is none: {text}"),
        })
    }
}

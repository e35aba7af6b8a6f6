//! What the doctor has found: the checks, what follows from them, and how they are printed.

use std::fmt::Write as _;

use serde::Serialize;
use upload_storage::capabilities::Shown;

/// The shape of the JSON. It grows with a member that takes another meaning, and not with a new one.
const SHAPE: u32 = 1;

/// One question, its answer, and what the answer means for this deployment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    /// Its stable name.
    pub(super) id: &'static str,
    /// What it is about: an origin, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// The question in words.
    question: &'static str,
    answer: Answer,
    pub(super) grade: Grade,
    /// What the store does instead, or why nobody knows.
    said: Option<String>,
    /// What to do, if the grade is not `good`.
    remedy: Option<&'static str>,
}

/// The answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Yes,
    No,
    /// The store did not let us find out.
    Unknown,
    /// It needs a key that is not set.
    NotAsked,
}

/// What an answer means for a deployment with these settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Grade {
    Good,
    /// It works, but know this.
    Note,
    /// It is not safe, or does not work.
    Unsafe,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    shape: u32,
    /// Whether no check is `unsafe`.
    safe: bool,
    /// The settings to use; a setting for which no value is safe is null.
    settings: Settings,
    checks: Vec<Check>,
}

/// The settings to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Settings {
    #[serde(rename = "S3_PIN")]
    pub(super) pin: Option<&'static str>,
    /// Null also without a signer's key.
    #[serde(rename = "FORM_METHOD")]
    pub(super) form_method: Option<&'static str>,
}

impl Check {
    /// A check that is good if the answer is yes. Otherwise it has this grade, and this is the remedy.
    pub(super) fn new(
        id: &'static str,
        question: &'static str,
        shown: &Shown,
        otherwise: Grade,
        remedy: &'static str,
    ) -> Self {
        let answer = match shown {
            Shown::Yes => Answer::Yes,
            Shown::No(_) => Answer::No,
            Shown::Unknown(_) => Answer::Unknown,
        };
        let (grade, remedy) = match answer {
            Answer::Yes => (Grade::Good, None),
            _ => (otherwise, Some(remedy)),
        };
        Self { id, subject: None, question, answer, grade, said: shown.said().map(str::to_owned), remedy }
    }

    /// A question that needs a key which is not set.
    pub(super) fn not_asked(id: &'static str, question: &'static str, said: &str) -> Self {
        let (answer, grade) = (Answer::NotAsked, Grade::Good);
        Self { id, subject: None, question, answer, grade, said: Some(said.to_owned()), remedy: None }
    }

    /// What this check is about.
    pub(super) fn about(mut self, subject: &str) -> Self {
        self.subject = Some(subject.to_owned());
        self
    }

    fn sentence(&self) -> String {
        let mut sentence = self.question.to_owned();
        if let Some(subject) = &self.subject {
            let _infallible = write!(sentence, " ({subject})");
        }
        let _infallible = write!(sentence, " {}", self.answer.word());
        if let Some(said) = &self.said {
            let _infallible = write!(sentence, ": {said}");
        }
        if let Some(remedy) = self.remedy {
            let _infallible = write!(sentence, "; {remedy}");
        }
        sentence
    }
}

impl Answer {
    fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
            Self::NotAsked => "not asked",
        }
    }
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Unsafe => "UNSAFE",
        }
    }
}

impl Report {
    pub(super) fn new(checks: Vec<Check>, settings: Settings) -> Self {
        let safe = checks.iter().all(|check| check.grade != Grade::Unsafe);
        Self { shape: SHAPE, safe, settings, checks }
    }

    /// The checks that make the deployment unsafe, in one line; `None` if it is safe.
    pub(super) fn faults(&self) -> Option<String> {
        let faults = self.checks.iter().filter(|check| check.grade == Grade::Unsafe);
        let faults: Vec<String> = faults.map(Check::sentence).collect();
        (!self.safe).then(|| faults.join(" | "))
    }

    /// A line for each check, and the settings to use.
    pub(super) fn text(&self) -> String {
        let lines = self.checks.iter().map(|check| format!("{:<7} {}\n", check.grade.word(), check.sentence()));
        let mut text: String = lines.collect();
        for (name, value) in [("S3_PIN", self.settings.pin), ("FORM_METHOD", self.settings.form_method)] {
            if let Some(value) = value {
                let _infallible = writeln!(text, "use {name}={value}");
            }
        }
        text.push_str(if self.safe { "this deployment is safe\n" } else { "this deployment is NOT safe\n" });
        text
    }
}

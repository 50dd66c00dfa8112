//! What each step came to: a line for people as soon as it is known, or one document at the end.

use std::process::ExitCode;

use client_failover_client::ClientError;
use serde::Serialize;
use serde_json::value::to_raw_value;

use super::super::OperatorError;
use super::super::output::{Format, Printer, Tone, printable};

/// How wide the first two columns are.
const OUTCOME_WIDTH: usize = "would not work".len();
const STEP_WIDTH: usize = "unknown session".len();

/// Why a step would not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub said: String,
    /// What to do.
    pub to_do: String,
    /// The exit code that says it.
    pub code: u8,
}

/// Why a step did not come to its end.
#[derive(Debug)]
pub enum Trouble {
    /// It would not work for an adapter.
    WouldNotWork(Fault),
    /// The command itself fails.
    Failed(OperatorError),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::WouldNotWork(fault)
    }
}

impl From<OperatorError> for Trouble {
    fn from(error: OperatorError) -> Trouble {
        Trouble::Failed(error)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        Trouble::Failed(error.into())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Outcome {
    Ok,
    Warning,
    WouldNotWork,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Step {
    step: &'static str,
    outcome: Outcome,
    text: String,
    what_to_do: Option<String>,
}

/// The steps that were taken.
pub struct Report {
    format: Format,
    printer: Printer,
    endpoint: String,
    steps: Vec<Step>,
    /// The exit code: that of the first fault.
    code: u8,
}

impl Report {
    /// Nothing yet.
    pub fn new(format: Format, endpoint: &str) -> Report {
        Report { format, printer: Printer::stdout(), endpoint: printable(endpoint), steps: Vec::new(), code: 0 }
    }

    /// A step that works.
    pub fn ok(&mut self, step: &'static str, said: impl Into<String>) -> Result<(), OperatorError> {
        self.add(step, Outcome::Ok, said.into(), None)
    }

    /// A step that works, and deserves a look.
    pub fn warn(&mut self, step: &'static str, said: String, to_do: &str) -> Result<(), OperatorError> {
        self.add(step, Outcome::Warning, said, Some(to_do.to_owned()))
    }

    /// A step that would not work.
    pub fn fault(&mut self, step: &'static str, fault: Fault) -> Result<(), OperatorError> {
        if self.code == 0 {
            self.code = fault.code;
        }
        self.add(step, Outcome::WouldNotWork, fault.said, Some(fault.to_do))
    }

    fn add(
        &mut self,
        step: &'static str,
        outcome: Outcome,
        said: String,
        to_do: Option<String>,
    ) -> Result<(), OperatorError> {
        // What a service said is in it.
        let step = Step { step, outcome, text: printable(&said), what_to_do: to_do.map(|text| printable(&text)) };
        if self.format == Format::Table {
            let (word, tone) = match outcome {
                Outcome::Ok => ("ok", Tone::Plain),
                Outcome::Warning => ("warning", Tone::Warning),
                Outcome::WouldNotWork => ("would not work", Tone::Alarm),
            };
            let line = format!("{word:OUTCOME_WIDTH$}  {:STEP_WIDTH$}  {}", step.step, step.text);
            self.printer.line(&self.printer.paint(tone, &line))?;
            if let Some(to_do) = &step.what_to_do {
                let indent = " ".repeat(OUTCOME_WIDTH + STEP_WIDTH + 4);
                self.printer.line(&self.printer.paint(tone, &format!("{indent}{to_do}")))?;
            }
        }
        self.steps.push(step);
        Ok(())
    }

    /// Says what came of it all.
    pub fn end(mut self) -> Result<ExitCode, OperatorError> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Whole<'a> {
            endpoint: &'a str,
            works: bool,
            steps: &'a [Step],
        }
        let works = self.code == 0;
        match self.format {
            Format::Table => {
                let not = if works { "" } else { "not " };
                self.printer.line(&format!("An adapter would {not}work with this endpoint."))?;
            }
            Format::Json | Format::Yaml => {
                let whole = Whole { endpoint: &self.endpoint, works, steps: &self.steps };
                let raw = to_raw_value(&whole).map_err(OperatorError::unintelligible)?;
                self.printer.document(self.format, &raw)?;
            }
        }
        Ok(ExitCode::from(self.code))
    }
}

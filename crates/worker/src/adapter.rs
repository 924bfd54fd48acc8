//! How a task becomes an invocation of a program, and how what the program prints becomes output and usage.
//!
//! [`Plain`] does it for any command. A program with a format of its own gets an [`Adapter`] of its own, and nothing
//! else changes.

use adjutant_wire::Task;

use crate::template::Template;
use crate::usage::{self, Totals};

/// What is run for a task.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The program.
    pub(crate) program: String,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// What it reads from stdin.
    pub(crate) stdin: Vec<u8>,
}

/// What a line that begins with `{` is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Output like any other.
    Output,
    /// What the attempt used so far.
    Usage(Totals),
}

/// Knows one kind of program.
pub(crate) trait Adapter: Send + Sync {
    /// What to run for `task`.
    ///
    /// # Errors
    /// Why it cannot be run, for people: the attempt fails with it.
    fn invocation(&self, task: &Task) -> Result<Invocation, String>;

    /// What a line of its standard output that begins with `{` is.
    fn interpret(&self, line: &str) -> Meaning;
}

/// Any command: the task on stdin, its output on stdout, with lines of usage among it.
pub(crate) struct Plain {
    template: Template,
}

impl Plain {
    /// `command` is a program with its arguments.
    pub(crate) fn new(command: &[String]) -> Self {
        let (program, arguments) = command
            .split_first()
            .map_or(("", &[][..]), |(program, arguments)| {
                (program.as_str(), arguments)
            });
        Self {
            template: Template::parse(program, arguments),
        }
    }

    /// Placeholders that no task can fill.
    pub(crate) fn unknown_placeholders(&self) -> Vec<&str> {
        self.template.unknown()
    }
}

impl Adapter for Plain {
    fn invocation(&self, task: &Task) -> Result<Invocation, String> {
        Ok(Invocation {
            program: self.template.program().to_owned(),
            arguments: self.template.expand(task)?,
            stdin: serde_json::to_vec(task)
                .map_err(|error| format!("the task cannot be written as JSON: {error}"))?,
        })
    }

    fn interpret(&self, line: &str) -> Meaning {
        usage::parse(line).map_or(Meaning::Output, Meaning::Usage)
    }
}

//! What the worker knows of the programs that it runs: how each is called for a task, and what it prints.
//!
//! ```text
//!  task ──► call: the user's command, the flags that are missing, the prompt, the session, the budget ──► process
//!                                                                                                            │
//!  feed ◄── report: answer, usage, session, limit, verdict ◄── reader ◄── documents (or lines) ◄── stdout ◄──┘
//! ```
//!
//! A module for each command line of an agent, named like it: a constant that says how it is called, and a [`Reader`]
//! of what it prints. Both are pure: events in, facts out. What none of them knows is run as [`AdapterKind::Plain`].
//!
//! # Invariants
//! - What the user wrote stays as it is and in its order; flags are added, never repeated and never replaced.
//! - No flag that is added permits the program anything.
//! - A number that is not there is not made up: no usage is better than a guess.
//! - Fields that are not known, or are of another kind than expected, are passed over.
//! - Memory is bounded, whatever is printed.
//!
//! # Not here
//! What becomes of the facts: `crate::outcome`. Where a session is kept for the next attempt: `crate::session`.

mod agy;
mod aider;
mod amp;
mod call;
mod claude;
mod codex;
mod cursor;
mod documents;
mod fields;
mod gemini;
mod goose;
mod listener;
mod messages;
mod notice;
mod opencode;
mod plain;
mod report;
mod tally;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use adjutant_core::money::Money;
use adjutant_wire::Task;
use serde_json::Value;

use crate::session::Session;
use crate::template::Template;

pub(crate) use call::Call;
pub(crate) use listener::Listener;
pub(crate) use notice::wait_in;
pub(crate) use plain::{Meaning, interpret};
#[cfg(test)]
pub(crate) use report::MAX_ANSWER_BYTES;
pub(crate) use report::{Limit, Report, Verdict};

/// Which kind of program a worker runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AdapterKind {
    /// Claude Code, `claude`.
    Claude,
    /// Codex, `codex`.
    Codex,
    /// Gemini CLI, `gemini`.
    Gemini,
    /// opencode, `opencode`.
    Opencode,
    /// Cursor's agent, `cursor-agent`.
    Cursor,
    /// Amp, `amp`.
    Amp,
    /// goose, `goose`.
    Goose,
    /// Antigravity, `agy`.
    Agy,
    /// aider, `aider`.
    Aider,
    /// Any other command: the task on stdin, the output on stdout.
    Plain,
}

impl AdapterKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Claude,
        Self::Codex,
        Self::Gemini,
        Self::Opencode,
        Self::Cursor,
        Self::Amp,
        Self::Goose,
        Self::Agy,
        Self::Aider,
        Self::Plain,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Opencode => "opencode",
            Self::Cursor => "cursor",
            Self::Amp => "amp",
            Self::Goose => "goose",
            Self::Agy => "agy",
            Self::Aider => "aider",
            Self::Plain => "plain",
        }
    }

    /// The one for a command, by the name of its program.
    pub fn of_command(command: &[String]) -> Self {
        let program = command.first().map(Path::new).and_then(Path::file_name);
        let named = program.and_then(|name| {
            Self::ALL
                .into_iter()
                .find(|kind| kind.cli().is_some_and(|cli| name == cli.program))
        });
        named.unwrap_or(Self::Plain)
    }

    const fn cli(self) -> Option<&'static Cli> {
        match self {
            Self::Claude => Some(&claude::CLI),
            Self::Codex => Some(&codex::CLI),
            Self::Gemini => Some(&gemini::CLI),
            Self::Opencode => Some(&opencode::CLI),
            Self::Cursor => Some(&cursor::CLI),
            Self::Amp => Some(&amp::CLI),
            Self::Goose => Some(&goose::CLI),
            Self::Agy => Some(&agy::CLI),
            Self::Aider => Some(&aider::CLI),
            Self::Plain => None,
        }
    }
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AdapterKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no adapter `{text}`; there are {names}")
        })
    }
}

/// The command line of an agent.
pub(crate) struct Cli {
    /// The name of its program.
    pub(crate) program: &'static str,
    /// How it is called.
    pub(crate) call: Call,
    /// What it prints.
    pub(crate) prints: Prints,
    /// Who reads that.
    pub(crate) reader: fn(Past) -> Box<dyn Reader>,
    /// What some of its exit codes mean.
    pub(crate) exit_codes: &'static [(i32, &'static str)],
}

/// What a program prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prints {
    /// JSON objects, and none that says how it went is a failure.
    Events,
    /// Text for people; its exit code says how it went.
    Lines,
}

/// What was before this attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// The session that this attempt goes on with.
    pub(crate) resumed: Option<Session>,
}

/// Reads what one kind of program prints.
pub(crate) trait Reader: Send {
    /// A JSON object of its standard output.
    fn event(&mut self, event: &Value, report: &mut Report);

    /// A line of its standard output, where it prints text.
    fn line(&mut self, _line: &str, _report: &mut Report) {}
}

/// What is run for a task.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The program.
    pub(crate) program: String,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// What it reads from stdin, which is closed after it.
    pub(crate) stdin: Vec<u8>,
    /// Whether it goes on with the session that it was given.
    pub(crate) resumes: bool,
}

/// What an attempt brings along that a program may be told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extras<'a> {
    /// The session of an earlier attempt.
    pub(crate) session: Option<&'a Session>,
    /// What it may cost.
    pub(crate) budget: Option<Money>,
}

/// How a worker's command is run for its tasks.
pub(crate) struct Adapter {
    kind: AdapterKind,
    template: Template,
    command: Vec<String>,
}

impl Adapter {
    /// `command` is a program with its arguments.
    pub(crate) fn new(kind: AdapterKind, command: &[String]) -> Self {
        let (program, arguments) = command
            .split_first()
            .map_or(("", &[][..]), |(program, arguments)| {
                (program.as_str(), arguments)
            });
        Self {
            kind,
            template: Template::parse(program, arguments),
            command: arguments.to_vec(),
        }
    }

    /// Which kind it is.
    pub(crate) const fn kind(&self) -> AdapterKind {
        self.kind
    }

    /// Why what the program prints when it is called so could not be read, if that is so.
    pub(crate) fn objection(&self) -> Option<String> {
        self.kind.cli()?.call.objection(self.kind, &self.command)
    }

    /// Placeholders that no task can fill.
    pub(crate) fn unknown_placeholders(&self) -> Vec<&str> {
        self.template.unknown()
    }

    /// Whether the program takes a budget, and the user gave it none.
    pub(crate) fn takes_budget(&self) -> bool {
        self.kind
            .cli()
            .is_some_and(|cli| cli.call.takes_budget(&self.command))
    }

    /// What to run for `task`.
    ///
    /// # Errors
    /// Why it cannot be run, for people: the attempt fails with it.
    pub(crate) fn invocation(&self, task: &Task, extras: Extras<'_>) -> Result<Invocation, String> {
        let own = self.template.expand(task)?;
        let as_json = || {
            serde_json::to_vec(task).map_err(|error| format!("the task cannot be written as JSON: {error}"))
        };
        let program = self.template.program().to_owned();
        let Some(cli) = self.kind.cli() else {
            return Ok(Invocation {
                program,
                arguments: own,
                stdin: as_json()?,
                resumes: false,
            });
        };
        let says_prompt = self.template.has_placeholders() || cli.call.says_prompt(&self.command);
        let composed = cli.call.compose(own, &self.command, says_prompt, task, extras)?;
        Ok(Invocation {
            program,
            arguments: composed.arguments,
            stdin: match composed.stdin {
                Some(prompt) => prompt.into_bytes(),
                None if says_prompt => as_json()?,
                None => Vec::new(),
            },
            resumes: composed.resumes,
        })
    }

    /// Who listens to what the program prints; none where it is a plain command. `names` are the models as the server
    /// knows them.
    pub(crate) fn listener(&self, names: Vec<String>, past: Past) -> Option<Listener> {
        self.kind.cli().map(|cli| Listener::new(cli, names, past))
    }

    /// What an exit code means, where that is known.
    pub(crate) fn exit_words(&self, code: i32) -> Option<&'static str> {
        let codes = self.kind.cli()?.exit_codes;
        codes
            .iter()
            .find(|(known, _)| *known == code)
            .map(|(_, words)| *words)
    }
}

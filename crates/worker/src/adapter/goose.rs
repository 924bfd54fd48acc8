//! goose: `goose run --output-format stream-json -i -`, the prompt on stdin.
//!
//! `complete` is the last line, and comes after an `error` as well. Its numbers may be null; newer builds tell the cost.

use serde_json::Value;

use super::call::{Flag, Prompt, Resume};
use super::fields::{Names, dollars, text};
use super::messages::texts;
use super::report::{Report, Verdict};
use super::{Call, Cli, Past, Prints, Reader};

pub(super) const CLI: Cli = Cli {
    program: "goose",
    call: Call {
        subcommand: &["run"],
        flags: &[Flag::value(&["--output-format"], "stream-json", &[])],
        prompt: Prompt::Stdin(&["-i", "-"]),
        prompt_flags: &["--text", "-t", "--instructions", "-i", "--recipe"],
        prompt_after: &[],
        // What it prints does not tell its session.
        resume: Resume::No,
        session_flags: &[],
        budget: None,
    },
    prints: Prints::Events,
    reader: |_: Past| Box::new(Goose::default()),
    exit_codes: &[],
};

const USAGE: Names = Names {
    input: &["input_tokens"],
    cached: "cache_read_input_tokens",
    output: &["output_tokens"],
    input_has_cached: true,
};

#[derive(Default)]
struct Goose {
    /// Which message the answer is of: it comes in parts.
    message: Option<String>,
}

impl Reader for Goose {
    fn event(&mut self, event: &Value, report: &mut Report) {
        match text(event, "type") {
            Some("message") => {
                let Some(message) = event.get("message") else {
                    return;
                };
                let id = text(message, "id").map(str::to_owned);
                if text(message, "role") != Some("assistant") || id.is_none() || id != self.message {
                    report.end_answer();
                }
                if text(message, "role") == Some("assistant") {
                    self.message = id;
                    for text in texts(message) {
                        report.say(text);
                    }
                }
            }
            Some("error") => {
                let error = event.get("error").unwrap_or(&Value::Null);
                let why = error
                    .as_str()
                    .or(text(error, "message"))
                    .or(text(event, "message"));
                report.fail(why.unwrap_or("an error"));
            }
            Some("complete") => {
                let (tokens, cost) = (USAGE.read(event), dollars(event, "cost_usd"));
                if tokens.is_some() || cost.is_some() {
                    report.tally.raise(None, tokens.unwrap_or_default(), cost);
                }
                if !matches!(report.verdict, Some(Verdict::Failure(_))) {
                    report.succeed();
                }
                report.settled = true;
            }
            _ => {}
        }
    }
}

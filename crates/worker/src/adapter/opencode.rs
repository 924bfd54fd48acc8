//! opencode: `opencode run --format json -- …`.
//!
//! Each step says what it used and cost, and all of them are added up. There is no last line: a step that ended, and
//! not in order to call a tool, is the result if nothing follows it.

use serde_json::Value;

use super::call::{Flag, Prompt, Resume};
use super::fields::{count, dollars, text};
use super::report::Report;
use super::{Call, Cli, Past, Prints, Reader};
use adjutant_core::attempt::Tokens;

pub(super) const CLI: Cli = Cli {
    program: "opencode",
    call: Call {
        subcommand: &["run"],
        flags: &[Flag::value(&["--format"], "json", &[])],
        prompt: Prompt::Last,
        prompt_flags: &["--command"],
        prompt_after: &["run"],
        resume: Resume::Flag("--session"),
        session_flags: &["--session", "-s", "--continue", "-c"],
        budget: None,
    },
    prints: Prints::Events,
    reader: |_: Past| Box::new(Opencode),
    exit_codes: &[],
};

struct Opencode;

impl Reader for Opencode {
    fn event(&mut self, event: &Value, report: &mut Report) {
        report.in_session(text(event, "sessionID"));
        let part = event.get("part").unwrap_or(&Value::Null);
        match text(event, "type") {
            Some("step_start") => {
                report.end_answer();
                report.go_on();
            }
            Some("text") => report.say(text(part, "text").unwrap_or("")),
            Some("step_finish") => {
                let (tokens, cost) = (used(part), dollars(part, "cost"));
                if tokens.is_some() || cost.is_some() {
                    report.tally.add(None, tokens.unwrap_or_default(), cost);
                }
                if text(part, "reason") == Some("tool-calls") {
                    report.go_on();
                } else {
                    report.succeed();
                }
            }
            Some("error") => {
                let error = event.get("error").unwrap_or(&Value::Null);
                let message = error.get("data").and_then(|data| text(data, "message"));
                let message = message.or(text(error, "message"));
                report.fail(&match (text(error, "name"), message) {
                    (Some(name), Some(message)) => format!("{name}: {message}"),
                    (Some(one), None) | (None, Some(one)) => one.to_owned(),
                    (None, None) => "an error".to_owned(),
                });
            }
            _ => {}
        }
    }
}

/// What is read from a cache is in no other number; what is written to it is fresh input.
fn used(part: &Value) -> Option<Tokens> {
    let tokens = part.get("tokens")?;
    let (input, output) = (count(tokens, "input"), count(tokens, "output"));
    if input.is_none() && output.is_none() {
        return None;
    }
    let cache = |name| {
        tokens
            .get("cache")
            .and_then(|cache| count(cache, name))
            .unwrap_or(0)
    };
    Some(Tokens {
        tokens_in: input.unwrap_or(0).saturating_add(cache("write")),
        tokens_out: output
            .unwrap_or(0)
            .saturating_add(count(tokens, "reasoning").unwrap_or(0)),
        tokens_cached: cache("read"),
    })
}

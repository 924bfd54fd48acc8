//! Codex: `codex exec --json -`, the prompt on stdin.
//!
//! Usage comes at the end of a turn, as totals of the whole thread: also of what earlier attempts used in it. What those
//! counted is taken off, and what is counted now is kept with the session for the next one.

use adjutant_core::attempt::Tokens;
use serde_json::Value;

use super::call::{Flag, Prompt, Resume};
use super::fields::{Names, text};
use super::report::Report;
use super::{Call, Cli, Past, Prints, Reader};
use crate::session::Session;

pub(super) const CLI: Cli = Cli {
    program: "codex",
    call: Call {
        subcommand: &["exec", "e"],
        flags: &[Flag::switch(&["--json", "--experimental-json"])],
        prompt: Prompt::Stdin(&["-"]),
        prompt_flags: &["-"],
        prompt_after: &["exec", "e"],
        resume: Resume::Word("resume"),
        session_flags: &["--ephemeral"],
        budget: None,
    },
    prints: Prints::Events,
    reader: |past: Past| {
        Box::new(Codex {
            past: past.resumed,
            ..Codex::default()
        })
    },
    exit_codes: &[],
};

/// What came out of thinking is in the output.
const USAGE: Names = Names {
    input: &["input_tokens"],
    cached: "cached_input_tokens",
    output: &["output_tokens"],
    input_has_cached: true,
};

#[derive(Default)]
struct Codex {
    past: Option<Session>,
    /// What earlier attempts counted of this thread.
    counted: Tokens,
}

impl Reader for Codex {
    fn event(&mut self, event: &Value, report: &mut Report) {
        match text(event, "type") {
            Some("thread.started") => {
                let thread = text(event, "thread_id");
                report.in_session(thread);
                let past = self.past.take();
                if let Some(past) = past.filter(|past| Some(past.id.as_str()) == thread) {
                    self.counted = past.counted;
                    report.counted = past.counted;
                }
            }
            Some("turn.started") => report.go_on(),
            Some("item.completed") => {
                let item = event.get("item").unwrap_or(&Value::Null);
                if text(item, "type") == Some("agent_message") {
                    report.answer(text(item, "text").unwrap_or(""));
                }
            }
            Some("turn.completed") => {
                if let Some(total) = event.get("usage").and_then(|usage| USAGE.read(usage)) {
                    self.count(total, report);
                }
                report.succeed();
                report.settled = true;
            }
            Some("turn.failed") => {
                let error = event.get("error").unwrap_or(&Value::Null);
                let why = text(error, "message").or(text(event, "message"));
                report.fail(why.unwrap_or("the turn failed"));
                report.settled = true;
            }
            Some("error") => report.complain(text(event, "message").unwrap_or("an error")),
            _ => {}
        }
    }
}

impl Codex {
    fn count(&mut self, total: Tokens, report: &mut Report) {
        let before = self.counted;
        // A total cannot be less than what was counted before: it is one of this run then.
        if total.tokens_in < before.tokens_in || total.tokens_out < before.tokens_out {
            self.counted = Tokens::default();
        }
        report.tally.raise(None, total.beyond(self.counted), None);
        report.counted = total;
    }
}

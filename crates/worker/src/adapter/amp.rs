//! Amp: `amp --execute --stream-json`, the prompt on stdin.
//!
//! Each message says what it used, and all of them are added up; the result says nothing of it.

use serde_json::Value;

use super::call::{Flag, Prompt, Resume};
use super::fields::{is, text};
use super::messages::{Counted, texts};
use super::report::Report;
use super::{Call, Cli, Past, Prints, Reader};

pub(super) const CLI: Cli = Cli {
    program: "amp",
    call: Call {
        subcommand: &[],
        // Another flag stands after `--execute`, so that nothing is taken for its value.
        flags: &[
            Flag::switch(&["--execute", "-x"]),
            Flag::switch(&["--stream-json"]),
        ],
        prompt: Prompt::Stdin(&[]),
        prompt_flags: &["--stream-json-input"],
        prompt_after: &["--execute", "-x"],
        resume: Resume::First(&["threads", "continue"]),
        session_flags: &[],
        budget: None,
    },
    prints: Prints::Events,
    reader: |_: Past| Box::new(Amp::default()),
    exit_codes: &[],
};

#[derive(Default)]
struct Amp {
    counted: Counted,
}

impl Reader for Amp {
    fn event(&mut self, event: &Value, report: &mut Report) {
        report.in_session(text(event, "session_id"));
        match text(event, "type") {
            Some("assistant") => {
                report.settled = false;
                let Some(message) = event.get("message") else {
                    return;
                };
                if let Some(tokens) = self.counted.increase(message) {
                    report.tally.add(text(message, "model"), tokens, None);
                }
                if text(event, "parent_tool_use_id").is_none() {
                    report.end_answer();
                    for text in texts(message) {
                        report.say(text);
                    }
                }
            }
            Some("user") => {
                report.settled = false;
                report.end_answer();
            }
            Some("result") => {
                let said = text(event, "result");
                if is(event, "is_error") {
                    let why = text(event, "error").or(said).or(text(event, "subtype"));
                    report.fail(why.unwrap_or("it says that it failed, and not why"));
                } else {
                    if let Some(said) = said {
                        report.answer(said);
                    }
                    report.succeed();
                }
                report.settled = true;
            }
            _ => {}
        }
    }
}

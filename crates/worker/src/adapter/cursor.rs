//! Cursor's agent: `cursor-agent --print --output-format stream-json -- …`.
//!
//! Newer builds tell usage with the result. A failure prints no result: stderr and the exit code say why.

use serde_json::Value;

use super::call::{Flag, Prompt, Resume};
use super::fields::{Names, is, text};
use super::messages::texts;
use super::report::Report;
use super::{Call, Cli, Past, Prints, Reader};

pub(super) const CLI: Cli = Cli {
    program: "cursor-agent",
    call: Call {
        subcommand: &[],
        flags: &[
            Flag::switch(&["--print", "-p"]),
            Flag::value(&["--output-format"], "stream-json", &["json"]),
        ],
        prompt: Prompt::Last,
        prompt_flags: &[],
        prompt_after: &["-p", "--print"],
        resume: Resume::Flag("--resume"),
        session_flags: &["--resume", "--continue"],
        budget: None,
    },
    prints: Prints::Events,
    reader: |_: Past| Box::new(Cursor::default()),
    exit_codes: &[],
};

const USAGE: Names = Names {
    input: &["inputTokens", "cacheWriteTokens"],
    cached: "cacheReadTokens",
    output: &["outputTokens"],
    input_has_cached: false,
};

#[derive(Default)]
struct Cursor {
    model: Option<String>,
}

impl Reader for Cursor {
    fn event(&mut self, event: &Value, report: &mut Report) {
        report.in_session(text(event, "session_id"));
        match text(event, "type") {
            Some("system") => {
                if let Some(model) = text(event, "model") {
                    self.model = Some(model.to_owned());
                }
            }
            // Parts of an answer come one by one.
            Some("assistant") => {
                report.settled = false;
                for text in event.get("message").into_iter().flat_map(texts) {
                    report.say(text);
                }
            }
            Some("user" | "tool_call") => {
                report.settled = false;
                report.end_answer();
            }
            Some("result") => {
                if let Some(tokens) = event.get("usage").and_then(|usage| USAGE.read(usage)) {
                    report.tally.raise(self.model.as_deref(), tokens, None);
                }
                if is(event, "is_error") || text(event, "subtype") != Some("success") {
                    let why = text(event, "result").or(text(event, "subtype"));
                    report.fail(why.unwrap_or("it says that it failed, and not why"));
                } else {
                    report.answer(text(event, "result").unwrap_or(""));
                    report.succeed();
                }
                report.settled = true;
            }
            _ => {}
        }
    }
}

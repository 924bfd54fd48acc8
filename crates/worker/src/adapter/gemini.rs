//! Gemini CLI: `gemini --output-format stream-json --prompt=…`.
//!
//! Usage comes with the result, by model where it says so. With `json` it prints one object with the response.

use adjutant_core::attempt::Tokens;
use serde_json::Value;

use super::call::{Flag, Prompt, Resume};
use super::fields::{Names, count, text};
use super::report::Report;
use super::{Call, Cli, Past, Prints, Reader};

pub(super) const CLI: Cli = Cli {
    program: "gemini",
    call: Call {
        subcommand: &[],
        flags: &[Flag::value(&["--output-format", "-o"], "stream-json", &["json"])],
        prompt: Prompt::Joined("--prompt"),
        prompt_flags: &["--prompt", "-p"],
        prompt_after: &[],
        resume: Resume::Flag("--resume"),
        session_flags: &["--resume", "-r"],
        budget: None,
    },
    prints: Prints::Events,
    reader: |_: Past| Box::new(Gemini::default()),
    exit_codes: &[
        (41, "not signed in"),
        (42, "bad input"),
        (52, "bad configuration"),
        (53, "turn limit reached"),
        (130, "cancelled"),
    ],
};

/// `stats.models.<model>.tokens` of `json`.
const TOKENS: Names = Names {
    input: &["prompt"],
    cached: "cached",
    output: &["candidates", "thoughts"],
    input_has_cached: true,
};

/// `stats` of `stream-json`, as a whole and by model.
const STATS: Names = Names {
    input: &["input_tokens"],
    cached: "cached",
    output: &["output_tokens"],
    input_has_cached: true,
};

#[derive(Default)]
struct Gemini {
    model: Option<String>,
}

impl Reader for Gemini {
    fn event(&mut self, event: &Value, report: &mut Report) {
        report.in_session(text(event, "session_id"));
        match text(event, "type") {
            Some("init") => self.model = text(event, "model").map(str::to_owned),
            Some("message") if text(event, "role") == Some("assistant") => {
                report.say(text(event, "content").unwrap_or(""));
            }
            Some("message" | "tool_use" | "tool_result") => {
                report.settled = false;
                report.end_answer();
            }
            // The result says whether it was the end.
            Some("error") => report.complain(text(event, "message").unwrap_or("an error")),
            Some("result") => {
                self.stats(event, report);
                if text(event, "status") == Some("success") {
                    report.succeed();
                } else {
                    Self::fail(event, report);
                }
                report.settled = true;
            }
            None => self.document(event, report),
            Some(_) => {}
        }
    }
}

impl Gemini {
    /// All of `json`.
    fn document(&self, event: &Value, report: &mut Report) {
        let (response, error) = (event.get("response"), event.get("error"));
        if response.is_none() && error.is_none() {
            return;
        }
        self.stats(event, report);
        report.answer(text(event, "response").unwrap_or(""));
        if error.is_some_and(|error| !error.is_null()) {
            Self::fail(event, report);
        } else {
            report.succeed();
        }
        report.settled = true;
    }

    fn fail(event: &Value, report: &mut Report) {
        let error = event.get("error").unwrap_or(&Value::Null);
        let message = text(error, "message").or(error.as_str());
        let why = message.map(str::to_owned).or(report.complaint.clone());
        let why = why.unwrap_or_else(|| "it says that it failed, and not why".to_owned());
        match text(error, "type") {
            Some(kind) => report.fail(&format!("{kind}: {why}")),
            None => report.fail(&why),
        }
    }

    fn stats(&self, event: &Value, report: &mut Report) {
        let Some(stats) = event.get("stats") else { return };
        let by_model = stats.get("models").and_then(Value::as_object);
        let mut told = false;
        for (model, used) in by_model.into_iter().flatten() {
            let tokens = match used.get("tokens") {
                Some(tokens) => TOKENS.read(tokens),
                None => streamed(used),
            };
            if let Some(tokens) = tokens {
                report.tally.raise(Some(model), tokens, None);
                told = true;
            }
        }
        if !told && let Some(tokens) = streamed(stats) {
            report.tally.raise(self.model.as_deref(), tokens, None);
        }
    }
}

/// What `total_tokens` has beyond input and output is thinking, which has no number of its own there.
fn streamed(stats: &Value) -> Option<Tokens> {
    let tokens = STATS.read(stats)?;
    let beyond_input = count(stats, "total_tokens")
        .unwrap_or(0)
        .saturating_sub(count(stats, "input_tokens").unwrap_or(0));
    Some(Tokens {
        tokens_out: tokens.tokens_out.max(beyond_input),
        ..tokens
    })
}

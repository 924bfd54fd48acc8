//! Antigravity: `agy --output-format json -p …`.
//!
//! It prints one object at its end.

use serde_json::Value;

use super::call::{Flag, Prompt, Resume};
use super::fields::{Names, text};
use super::report::Report;
use super::{Call, Cli, Past, Prints, Reader};

pub(super) const CLI: Cli = Cli {
    program: "agy",
    call: Call {
        subcommand: &[],
        flags: &[Flag::value(&["--output-format"], "json", &[])],
        prompt: Prompt::After("-p"),
        prompt_flags: &["-p", "--print", "--prompt"],
        prompt_after: &[],
        resume: Resume::No,
        session_flags: &[],
        budget: None,
    },
    prints: Prints::Events,
    reader: |_: Past| Box::new(Agy),
    exit_codes: &[],
};

const USAGE: Names = Names {
    input: &["input_tokens"],
    cached: "cache_read_tokens",
    output: &["output_tokens", "thinking_tokens"],
    input_has_cached: false,
};

struct Agy;

impl Reader for Agy {
    fn event(&mut self, event: &Value, report: &mut Report) {
        let Some(status) = text(event, "status") else {
            return;
        };
        report.in_session(text(event, "conversation_id"));
        if let Some(tokens) = event.get("usage").and_then(|usage| USAGE.read(usage)) {
            report.tally.raise(text(event, "model"), tokens, None);
        }
        let response = text(event, "response");
        if status == "SUCCESS" {
            report.answer(response.unwrap_or(""));
            report.succeed();
        } else {
            let error = event.get("error").unwrap_or(&Value::Null);
            let why = error.as_str().or(text(error, "message")).or(response);
            match why {
                Some(why) => report.fail(&format!("{status}: {why}")),
                None => report.fail(status),
            }
        }
        report.settled = true;
    }
}

//! Claude Code: `claude -p --output-format stream-json --verbose`, the prompt on stdin.
//!
//! Usage comes with each message while it runs, and as totals of the run with the result; an API failure is a result
//! with `subtype: "success"` and `is_error: true`. It may go on running after its result. With `json` it prints one
//! result, or all events as one array.

use std::time::Duration;

use adjutant_core::time::Timestamp;
use serde_json::Value;

use super::call::{Flag, Prompt, Resume};
use super::fields::{Names, count, dollars, is, text};
use super::messages::{Counted, USAGE, texts};
use super::report::{Limit, Report};
use super::{Call, Cli, Past, Prints, Reader};
use crate::usage::Totals;

pub(super) const CLI: Cli = Cli {
    program: "claude",
    call: Call {
        subcommand: &[],
        flags: &[
            Flag::switch(&["--print", "-p"]),
            Flag::value(&["--output-format"], "stream-json", &["json"]),
            Flag {
                only_with: Some(("--output-format", "stream-json")),
                ..Flag::switch(&["--verbose"])
            },
        ],
        prompt: Prompt::Stdin(&[]),
        prompt_flags: &["--input-format"],
        prompt_after: &["-p", "--print"],
        resume: Resume::Flag("--resume"),
        session_flags: &[
            "--resume",
            "-r",
            "--continue",
            "-c",
            "--session-id",
            "--no-session-persistence",
        ],
        budget: Some("--max-budget-usd"),
    },
    prints: Prints::Events,
    reader: |_: Past| Box::new(Claude::default()),
    exit_codes: &[],
};

/// Usage of a model in the result.
const MODEL_USAGE: Names = Names {
    input: &["inputTokens", "cacheCreationInputTokens"],
    cached: "cacheReadInputTokens",
    output: &["outputTokens"],
    input_has_cached: false,
};

#[derive(Default)]
struct Claude {
    model: Option<String>,
    counted: Counted,
    /// Which limit was reached: five hours, a week and others are told of apart.
    limited: Option<String>,
}

impl Reader for Claude {
    fn event(&mut self, event: &Value, report: &mut Report) {
        report.in_session(text(event, "session_id"));
        match text(event, "type") {
            Some("system") => self.name_model(event),
            Some("assistant") => {
                report.settled = false;
                self.message(event, report);
            }
            Some("user") => {
                report.settled = false;
                report.end_answer();
            }
            Some("rate_limit_event") => self.limit(event, report),
            Some("result") => self.result(event, report),
            _ => {}
        }
    }
}

impl Claude {
    fn name_model(&mut self, named: &Value) {
        if let Some(model) = text(named, "model").filter(|model| !model.starts_with('<')) {
            self.model = Some(model.to_owned());
        }
    }

    fn message(&mut self, event: &Value, report: &mut Report) {
        let Some(message) = event.get("message") else {
            return;
        };
        let of_helper = text(event, "parent_tool_use_id").is_some();
        if let Some(tokens) = self.counted.increase(message) {
            let model = text(message, "model").or(self.model.as_deref());
            report.tally.add(model, tokens, None);
        }
        if !of_helper {
            self.name_model(message);
            report.end_answer();
            for text in texts(message) {
                report.say(text);
            }
        }
    }

    fn limit(&mut self, event: &Value, report: &mut Report) {
        let Some(info) = event.get("rate_limit_info") else {
            return;
        };
        let which = text(info, "rateLimitType").map(str::to_owned);
        match text(info, "status") {
            Some("rejected") => {
                let resets_at = info.get("resetsAt").and_then(Value::as_u64);
                if let Some(until) = resets_at.and_then(|seconds| {
                    let micros = Duration::from_secs(seconds).as_micros();
                    i64::try_from(micros).ok().map(Timestamp::from_micros)
                }) {
                    report.limit = Some(Limit::Until(until));
                    self.limited = which;
                }
            }
            Some("allowed" | "allowed_warning") if self.limited == which => {
                self.limited = None;
                report.limit = None;
            }
            _ => {}
        }
    }

    fn result(&mut self, event: &Value, report: &mut Report) {
        self.totals(event, report);
        let said = text(event, "result");
        let subtype = text(event, "subtype").unwrap_or("");
        if subtype == "success" && !is(event, "is_error") {
            report.answer(said.unwrap_or(""));
            report.succeed();
        } else {
            let errors = event.get("errors").and_then(Value::as_array);
            let first = errors.and_then(|errors| errors.first()?.as_str());
            let why = said.or(first);
            report.fail(&match (count(event, "api_error_status"), subtype, why) {
                (Some(status), _, Some(why)) => format!("API error {status}: {why}"),
                (Some(status), _, None) => format!("API error {status}"),
                (None, "success" | "", Some(why)) => why.to_owned(),
                (None, "success" | "", None) => "it says that it failed, and not why".to_owned(),
                (None, subtype, Some(why)) => format!("{subtype}: {why}"),
                (None, subtype, None) => subtype.to_owned(),
            });
        }
        report.settled = true;
    }

    /// The totals of the run. Those by model count what helpers used as well; they may name a model otherwise than its
    /// messages do.
    fn totals(&self, event: &Value, report: &mut Report) {
        let by_model = event.get("modelUsage").and_then(Value::as_object);
        let by_model = by_model.into_iter().flatten().filter_map(|(model, usage)| {
            Some(Totals {
                model: Some(model.clone()),
                tokens: MODEL_USAGE.read(usage)?,
                cost: dollars(usage, "costUSD"),
            })
        });
        let by_model: Vec<Totals> = by_model.collect();
        if !by_model.is_empty() {
            report.tally.raise_each(&by_model);
            return;
        }
        let cost = dollars(event, "total_cost_usd");
        let tokens = event.get("usage").and_then(|usage| USAGE.read(usage));
        if tokens.is_some() || cost.is_some() {
            let model = self.model.as_deref();
            report.tally.raise_all(model, tokens.unwrap_or_default(), cost);
        }
    }
}

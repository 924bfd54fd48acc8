//! aider: `aider --no-pretty --message=…`, text for people.
//!
//! `Tokens: 1.2k sent, 340 received. Cost: $0.01 message, $0.05 session.` comes after each message: tokens are added up,
//! and the cost of the session is the total. Its exit code says how it went, except that it ends well after an API
//! failure: a line that begins with `litellm.`, the name of an error and a colon is one, unless a message came to its end
//! after it. An answer may have such lines as well, but its `Tokens:` follow.

use adjutant_core::attempt::Tokens;
use adjutant_core::money::Money;
use serde_json::Value;

use super::call::{Flag, Prompt, Resume};
use super::fields::from_dollars;
use super::report::Report;
use super::{Call, Cli, Past, Prints, Reader};

pub(super) const CLI: Cli = Cli {
    program: "aider",
    call: Call {
        subcommand: &[],
        flags: &[Flag::switch(&["--no-pretty", "--pretty"])],
        prompt: Prompt::Joined("--message"),
        prompt_flags: &["--message", "--msg", "-m", "--message-file", "-f"],
        prompt_after: &[],
        resume: Resume::No,
        session_flags: &[],
        budget: None,
    },
    prints: Prints::Lines,
    reader: |_: Past| Box::new(Aider::default()),
    exit_codes: &[],
};

#[derive(Default)]
struct Aider {
    model: Option<String>,
}

impl Reader for Aider {
    fn event(&mut self, _: &Value, _: &mut Report) {}

    fn line(&mut self, line: &str, report: &mut Report) {
        let whole = line;
        let line = line.trim_start_matches(['>', ' ']);
        if let Some(named) = line.strip_prefix("Main model:").or(line.strip_prefix("Model:")) {
            // It is told once, at the start: later ones are words of an answer.
            if self.model.is_none() {
                self.model = named.split_whitespace().next().map(str::to_owned);
            }
        } else if let Some((tokens, cost)) = line.strip_prefix("Tokens:").and_then(used) {
            let model = self.model.as_deref();
            report.tally.add(model, tokens, None);
            report.tally.raise_all(model, Tokens::default(), cost);
            report.go_on();
        } else if is_error(whole) {
            report.fail(whole);
        }
    }
}

/// `litellm.RateLimitError: …`, where the line begins: what is quoted or indented is part of an answer, or of what a test
/// printed.
fn is_error(line: &str) -> bool {
    let named = line
        .strip_prefix("litellm.")
        .and_then(|rest| rest.split_once(':'));
    named.is_some_and(|(name, _)| {
        name.ends_with("Error") && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// ` 1.2k sent, 300 cache write, 8k cache hit, 340 received. Cost: $0.01 message, $0.05 session.`
fn used(text: &str) -> Option<(Tokens, Option<Money>)> {
    let (counts, costs) = text.split_once("Cost:").unwrap_or((text, ""));
    let mut tokens = Tokens::default();
    let mut found = false;
    for part in counts.split(", ") {
        let Some((number, what)) = part.trim().split_once(' ') else {
            continue;
        };
        let Some(number) = abbreviated(number) else {
            continue;
        };
        match what.trim_end_matches(['.', ' ']) {
            "sent" => tokens.tokens_in = number,
            "received" => tokens.tokens_out = number,
            "cache hit" => tokens.tokens_cached = number,
            _ => continue,
        }
        found = true;
    }
    let mut amounts = costs.split('$').skip(1).filter_map(|part| {
        let end = part
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(part.len());
        from_dollars(part[..end].trim_end_matches('.').parse().ok()?)
    });
    // The first is that of the message, the second that of the session.
    let cost = amounts.nth(1);
    found.then_some((tokens, cost))
}

/// A number such as `340`, `1.2k` or `3M`.
fn abbreviated(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1_000.0),
        b'm' | b'M' => (&text[..text.len() - 1], 1_000_000.0),
        _ => (text, 1.0),
    };
    let number = digits.replace(',', "").parse::<f64>().ok()? * factor;
    #[expect(clippy::cast_precision_loss, reason = "the bound is exact as f64")]
    let most = Tokens::MAX as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number lies between zero and the bound"
    )]
    let whole = (0.0..=most).contains(&number).then(|| number.round() as u64);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_litellm_begins_are_errors() {
        assert!(is_error("litellm.APIError: APIError: it broke"));
        for line in [
            "litellm.RateLimitError is retried now.",
            "litellm.exceptions.RateLimitError: x",
            "litellm.completion: raises an Error",
            "    litellm.RateLimitError: x",
            "> litellm.RateLimitError: x",
            "E litellm.RateLimitError: x",
            "litellm.",
        ] {
            assert!(!is_error(line), "{line}");
        }
    }

    #[test]
    fn lines_about_tokens_are_read_leniently() {
        let nanos = |nanos| Some(Money::from_nanos(nanos));
        for (line, sent, received, cached, cost) in [
            (
                " 1.2k sent, 340 received. Cost: $0.01 message, $0.05 session.",
                1_200,
                340,
                0,
                nanos(50_000_000),
            ),
            (
                " 12k sent, 3.2k cache write, 8k cache hit, 1M received.",
                12_000,
                1_000_000,
                8_000,
                None,
            ),
            (
                " 5 sent, 6 received. Cost: $0.0012 message, $0.0034 session",
                5,
                6,
                0,
                nanos(3_400_000),
            ),
            (" 5 sent, 6 received. Cost: $0.01 message", 5, 6, 0, None),
            (" 1,200 sent, x received", 1_200, 0, 0, None),
        ] {
            let expected = Tokens {
                tokens_in: sent,
                tokens_out: received,
                tokens_cached: cached,
            };
            assert_eq!(used(line), Some((expected, cost)), "{line}");
        }
        for line in [
            "",
            " many sent",
            " -5 sent",
            " NaN sent",
            " 1e30 sent",
            " infk received",
        ] {
            assert_eq!(used(line), None, "{line}");
        }
    }
}

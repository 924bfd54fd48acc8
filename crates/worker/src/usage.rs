//! What a command says it used: lines of JSON with the totals of the attempt.
//!
//! `{"tokens_in": 1200, "tokens_out": 300, "tokens_cached": 0, "cost": 1.5, "model": "m"}`, where one of the first
//! two is enough. They are totals, not increases: a line that is lost is made good by the next, and one that is sent
//! twice counts once.

use adjutant_core::attempt::Tokens;
use adjutant_core::money::Money;
use serde::Deserialize;

/// More models than this in one attempt are garbage, not models.
pub(crate) const MAX_MODELS: usize = 64;
/// A longer name is garbage too.
const MAX_MODEL_BYTES: usize = 200;

/// Spending beyond this since the last report is told at once instead of with the next one in turn.
const MUCH_TOKENS: u64 = 10_000;
/// The same of money: ten cents.
const MUCH_COST: Money = Money::from_nanos(100_000_000);

/// How soon the server has to hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgency {
    /// With the next report in turn.
    InTurn,
    /// At once: a limit could be overrun by a lot.
    AtOnce,
}

/// One report of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Totals {
    /// The model; none when the line does not say.
    pub(crate) model: Option<String>,
    /// Its tokens.
    pub(crate) tokens: Tokens,
    /// Its cost; none when the line does not say.
    pub(crate) cost: Option<Money>,
}

#[derive(Deserialize)]
struct Line {
    tokens_in: Option<u64>,
    tokens_out: Option<u64>,
    tokens_cached: Option<u64>,
    cost: Option<Money>,
    model: Option<String>,
}

impl From<Line> for Totals {
    fn from(line: Line) -> Self {
        Self {
            model: line.model,
            tokens: Tokens {
                tokens_in: line.tokens_in.unwrap_or(0),
                tokens_out: line.tokens_out.unwrap_or(0),
                tokens_cached: line.tokens_cached.unwrap_or(0),
            },
            cost: line.cost,
        }
    }
}

/// Reads a line as a report, if it is one that the server would take.
pub(crate) fn parse(line: &str) -> Option<Totals> {
    let read: Line = serde_json::from_str(line).ok()?;
    if read.tokens_in.is_none() && read.tokens_out.is_none() {
        return None;
    }
    let mut totals = Totals::from(read);
    totals.model = totals.model.filter(|model| !model.is_empty());
    let Tokens {
        tokens_in,
        tokens_out,
        tokens_cached,
    } = totals.tokens;
    let sane = [tokens_in, tokens_out, tokens_cached]
        .iter()
        .all(|count| *count <= Tokens::MAX)
        && totals.model.as_deref().is_none_or(is_model_name);
    sane.then_some(totals)
}

/// Whether the server would take this as the name of a model.
pub(crate) fn is_model_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_MODEL_BYTES && !text.chars().any(char::is_control)
}

/// The totals of an attempt, by model.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    entries: Vec<Entry>,
    /// Which of them changed last.
    last: Option<usize>,
}

#[derive(Debug)]
struct Entry {
    totals: Totals,
    /// What the server was told.
    told: Option<(Tokens, Option<Money>)>,
}

impl Entry {
    fn is_untold(&self) -> bool {
        self.told != Some((self.totals.tokens, self.totals.cost))
    }

    /// What the server does not know of.
    fn unknown(&self) -> (u64, Money) {
        let (tokens, cost) = self.told.unwrap_or_default();
        let tokens = self.totals.tokens.beyond(tokens).counted();
        (
            tokens,
            self.totals.cost.unwrap_or_default() - cost.unwrap_or_default(),
        )
    }
}

impl Usage {
    /// Takes a report in: totals never fall.
    pub(crate) fn update(&mut self, report: Totals) {
        let index = self
            .entries
            .iter()
            .position(|entry| entry.totals.model == report.model);
        let Some(index) = index else {
            if self.entries.len() < MAX_MODELS {
                self.last = Some(self.entries.len());
                self.entries.push(Entry {
                    totals: report,
                    told: None,
                });
            }
            return;
        };
        let known = &mut self.entries[index];
        let tokens = known
            .totals
            .tokens
            .plus(report.tokens.beyond(known.totals.tokens));
        known.totals.tokens = tokens;
        known.totals.cost = known.totals.cost.max(report.cost);
        self.last = Some(index);
    }

    /// What the server has not been told yet.
    pub(crate) fn untold(&self) -> Vec<Totals> {
        self.entries
            .iter()
            .filter(|entry| entry.is_untold())
            .map(|entry| entry.totals.clone())
            .collect()
    }

    /// Whether the server has to be told something, and how soon.
    pub(crate) fn urgency(&self) -> Option<Urgency> {
        let untold = || self.entries.iter().filter(|entry| entry.is_untold());
        untold().next()?;
        let (tokens, cost) = untold()
            .map(Entry::unknown)
            .fold((0_u64, Money::ZERO), |(tokens, cost), (more, dearer)| {
                (tokens.saturating_add(more), cost + dearer)
            });
        Some(if tokens >= MUCH_TOKENS || cost >= MUCH_COST {
            Urgency::AtOnce
        } else {
            Urgency::InTurn
        })
    }

    /// The server knows these totals; newer ones may have come meanwhile.
    pub(crate) fn told(&mut self, totals: &Totals) {
        for entry in &mut self.entries {
            if entry.totals.model == totals.model {
                entry.told = Some((totals.tokens, totals.cost));
            }
        }
    }

    /// The totals that changed last: they ride on the completion.
    pub(crate) fn last(&self) -> Option<&Totals> {
        self.last.map(|index| &self.entries[index].totals)
    }

    /// Over all models.
    pub(crate) fn sum(&self) -> (Tokens, Option<Money>) {
        let tokens = self
            .entries
            .iter()
            .fold(Tokens::default(), |sum, entry| sum.plus(entry.totals.tokens));
        let costs = self.entries.iter().filter_map(|entry| entry.totals.cost);
        let cost = costs.fold(None, |sum: Option<Money>, cost| {
            Some(sum.unwrap_or_default() + cost)
        });
        (tokens, cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_tokens_are_reports_and_others_are_not() {
        for (line, tokens_in, model) in [
            (
                r#"{"tokens_in":5,"tokens_out":2,"model":"m","cost":1.5,"more":[1]}"#,
                5,
                Some("m"),
            ),
            (r#" {"tokens_out":2} "#, 0, None),
            ("{\"tokens_in\":5,\"model\":null}\r\n", 5, None),
            (r#"{"tokens_in":5,"model":""}"#, 5, None),
        ] {
            let totals = parse(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(
                (totals.tokens.tokens_in, totals.model.as_deref()),
                (tokens_in, model),
                "{line}"
            );
        }
        for line in [
            "",
            "{}",
            "{",
            r#"{"tokens_cached":1}"#,
            r#"{"tokens_in":-1}"#,
            r#"{"tokens_in":1.5}"#,
            r#"{"tokens_in":"5"}"#,
            r#"{"tokens_in":1,"cost":-1}"#,
            r#"{"tokens_in":9999999999999999999}"#,
            r#"{"tokens_in":1,"model":"a\u0000b"}"#,
            r#"{"tokens_in":1} {"tokens_in":2}"#,
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn totals_never_fall_and_are_told_once() {
        let mut usage = Usage::default();
        usage.update(parse(r#"{"tokens_in":10,"tokens_out":1,"model":"a","cost":2}"#).unwrap());
        usage.update(parse(r#"{"tokens_in":7,"tokens_out":4,"model":"b"}"#).unwrap());
        let untold = usage.untold();
        assert_eq!(untold.len(), 2);
        usage.told(&untold[0]);
        usage.update(parse(r#"{"tokens_in":8,"tokens_out":3,"model":"a","cost":1}"#).unwrap());
        assert_eq!(usage.last().unwrap().tokens.tokens_out, 3);
        assert_eq!(
            usage.sum(),
            (
                Tokens {
                    tokens_in: 17,
                    tokens_out: 7,
                    tokens_cached: 0
                },
                Some(Money::from_cents(2.0).unwrap())
            )
        );
        usage.told(&untold[0]);
        assert_eq!(
            usage.untold().len(),
            2,
            "an old report does not tell newer totals"
        );
    }

    #[test]
    fn much_that_the_server_does_not_know_of_is_urgent() {
        let mut usage = Usage::default();
        assert_eq!(usage.urgency(), None);
        let spend = |usage: &mut Usage, line: &str| {
            usage.update(parse(line).unwrap());
            let urgency = usage.urgency();
            for totals in usage.untold() {
                usage.told(&totals);
            }
            assert_eq!(usage.urgency(), None);
            urgency
        };
        let (in_turn, at_once) = (Some(Urgency::InTurn), Some(Urgency::AtOnce));
        assert_eq!(spend(&mut usage, r#"{"tokens_in":9999,"model":"a"}"#), in_turn);
        assert_eq!(
            spend(&mut usage, r#"{"tokens_in":9999,"tokens_out":9999,"model":"a"}"#),
            in_turn
        );
        assert_eq!(spend(&mut usage, r#"{"tokens_in":30000,"model":"a"}"#), at_once);
        assert_eq!(
            spend(&mut usage, r#"{"tokens_out":1,"model":"b","cost":9.9}"#),
            in_turn
        );
        assert_eq!(
            spend(&mut usage, r#"{"tokens_out":1,"model":"b","cost":20}"#),
            at_once
        );
        assert_eq!(
            spend(&mut usage, r#"{"tokens_out":1,"model":"b","cost":20}"#),
            None
        );
    }
}

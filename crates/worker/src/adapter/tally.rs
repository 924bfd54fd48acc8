//! What an attempt used, by the model as the program names it, and told by the model as the server knows it.

use adjutant_core::attempt::Tokens;
use adjutant_core::money::Money;

use crate::usage::{MAX_MODELS, Totals, is_model_name};

/// What was used so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Names of models that the task and the worker's configuration use.
    names: Vec<String>,
    entries: Vec<Totals>,
    changed: bool,
}

impl Tally {
    pub(super) const fn new(names: Vec<String>) -> Self {
        Self {
            names,
            entries: Vec::new(),
            changed: false,
        }
    }

    /// Adds what was used of a model since.
    pub(super) fn add(&mut self, model: Option<&str>, tokens: Tokens, cost: Option<Money>) {
        if tokens.is_zero() && cost.is_none_or(|cost| cost == Money::ZERO) {
            return;
        }
        let Some(entry) = self.entry(model) else { return };
        entry.tokens = bounded(entry.tokens.plus(tokens));
        if let Some(cost) = cost {
            entry.cost = Some((entry.cost.unwrap_or_default() + cost).min(Money::MAX));
        }
        self.changed = true;
    }

    /// Takes totals of a model in. They never fall.
    pub(super) fn raise(&mut self, model: Option<&str>, tokens: Tokens, cost: Option<Money>) {
        if tokens.is_zero() && cost.is_none_or(|cost| cost == Money::ZERO) {
            return;
        }
        let Some(entry) = self.entry(model) else { return };
        entry.tokens = entry.tokens.plus(tokens.beyond(entry.tokens));
        entry.cost = entry.cost.max(cost);
        self.changed = true;
    }

    /// Takes totals over all models in: what is beyond those of the others is this one's.
    pub(super) fn raise_all(&mut self, model: Option<&str>, tokens: Tokens, cost: Option<Money>) {
        let model = name_of(model);
        let others = || {
            self.entries
                .iter()
                .filter(|entry| entry.model.as_deref() != model)
        };
        let used = others().fold(Tokens::default(), |sum, entry| sum.plus(entry.tokens));
        let paid: Money = others().filter_map(|entry| entry.cost).sum();
        let cost = cost.map(|cost| (cost - paid).or_zero());
        self.raise(model, tokens.beyond(used), cost);
    }

    /// The totals, by the names that the server knows, when there is something new in them.
    pub(crate) fn news(&mut self) -> Vec<Totals> {
        if !std::mem::take(&mut self.changed) {
            return Vec::new();
        }
        self.totals()
    }

    /// The totals, by the names that the server knows.
    pub(crate) fn totals(&self) -> Vec<Totals> {
        let mut totals: Vec<Totals> = Vec::new();
        for entry in &self.entries {
            let model = entry.model.as_deref().map(|model| known_as(model, &self.names));
            match totals.iter_mut().find(|known| known.model.as_deref() == model) {
                None => totals.push(Totals {
                    model: model.map(str::to_owned),
                    ..entry.clone()
                }),
                Some(known) => {
                    known.tokens = bounded(known.tokens.plus(entry.tokens));
                    known.cost = match (known.cost, entry.cost) {
                        (Some(one), Some(other)) => Some(one + other),
                        (one, other) => one.or(other),
                    };
                }
            }
        }
        totals
    }

    /// More models than one attempt can use are garbage.
    fn entry(&mut self, model: Option<&str>) -> Option<&mut Totals> {
        let model = name_of(model);
        let known = self
            .entries
            .iter()
            .position(|entry| entry.model.as_deref() == model);
        let at = match known {
            Some(at) => at,
            None if self.entries.len() < MAX_MODELS => {
                self.entries.push(Totals {
                    model: model.map(str::to_owned),
                    tokens: Tokens::default(),
                    cost: None,
                });
                self.entries.len() - 1
            }
            None => return None,
        };
        self.entries.get_mut(at)
    }
}

/// The server takes no more of one kind in a report.
fn bounded(tokens: Tokens) -> Tokens {
    Tokens {
        tokens_in: tokens.tokens_in.min(Tokens::MAX),
        tokens_out: tokens.tokens_out.min(Tokens::MAX),
        tokens_cached: tokens.tokens_cached.min(Tokens::MAX),
    }
}

/// A model's name without what says how it was used, such as `[1m]`; none where it names no model, such as `<synthetic>`.
fn name_of(model: Option<&str>) -> Option<&str> {
    let name = model?;
    let name = name.split_once('[').map_or(name, |(name, _)| name).trim();
    (!name.starts_with('<') && is_model_name(name)).then_some(name)
}

/// The name that the server knows a model by: limits on `sonnet` hold for `claude-sonnet-4-5-20250929` as well. Words
/// may stand before the known name, and only numbers after it, so that `gpt-5-mini` is not `gpt-5`.
fn known_as<'a>(model: &'a str, names: &'a [String]) -> &'a str {
    if names.iter().any(|name| name == model) {
        return model;
    }
    let fits = |name: &&String| {
        let Some(at) = model.rfind(name.as_str()) else {
            return false;
        };
        let (before, after) = (&model[..at], &model[at + name.len()..]);
        let begins = before.is_empty() || before.ends_with(['-', '/', '.', ':']);
        let ends = after.is_empty() || after.starts_with(['-', '@', ':']);
        // After a number only a date is no further one: `opus-4-1` is not `opus-4`.
        let least = if name.ends_with(|last: char| last.is_ascii_digit()) {
            6
        } else {
            1
        };
        let is_number = |word: &str| word.len() >= least && word.bytes().all(|byte| byte.is_ascii_digit());
        let numbers = after.split(['-', '@', ':']).filter(|word| !word.is_empty());
        begins
            && ends
            && numbers
                .into_iter()
                .all(|word| is_number(word) || word == "latest")
    };
    let longest = names.iter().filter(|name| !name.is_empty()).filter(fits);
    longest
        .max_by_key(|name| name.len())
        .map_or(model, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(tokens_in: u64) -> Tokens {
        Tokens {
            tokens_in,
            ..Tokens::default()
        }
    }

    #[test]
    fn models_are_told_by_the_names_that_the_server_knows() {
        let names = ["sonnet", "gpt-5", "claude-opus-4", "openai/o3"].map(str::to_owned);
        for (printed, told) in [
            ("sonnet", "sonnet"),
            ("claude-sonnet-4-5-20250929", "sonnet"),
            ("us.anthropic/claude-sonnet-4@20250514", "sonnet"),
            ("claude-sonnet-latest", "sonnet"),
            ("claude-opus-4-20250514", "claude-opus-4"),
            ("claude-opus-4-1-20250805", "claude-opus-4-1-20250805"),
            ("gpt-5", "gpt-5"),
            ("gpt-5-mini", "gpt-5-mini"),
            ("gpt-5.1", "gpt-5.1"),
            ("xgpt-5", "xgpt-5"),
            ("haiku", "haiku"),
        ] {
            assert_eq!(known_as(printed, &names), told);
        }
    }

    #[test]
    fn models_that_the_server_knows_by_one_name_are_added_up() {
        let mut tally = Tally::new(vec!["sonnet".into()]);
        tally.add(Some("claude-sonnet-4-5"), tokens(5), None);
        tally.raise(
            Some("claude-sonnet-4-0[1m]"),
            tokens(7),
            Some(Money::from_nanos(3)),
        );
        tally.add(Some("<synthetic>"), tokens(0), None);
        let told = tally.news();
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].model.as_deref(), told[0].tokens, told[0].cost),
            (Some("sonnet"), tokens(12), Some(Money::from_nanos(3)))
        );
        assert!(tally.news().is_empty(), "nothing new");
    }

    #[test]
    fn totals_over_all_models_leave_the_others_what_is_theirs() {
        let mut tally = Tally::default();
        tally.add(Some("a"), tokens(10), Some(Money::from_nanos(4)));
        tally.add(Some("b"), tokens(20), None);
        tally.raise_all(Some("b"), tokens(50), Some(Money::from_nanos(10)));
        let told: Vec<_> = tally
            .totals()
            .into_iter()
            .map(|one| (one.tokens.tokens_in, one.cost))
            .collect();
        assert_eq!(
            told,
            [(10, Some(Money::from_nanos(4))), (40, Some(Money::from_nanos(6)))]
        );
        tally.raise_all(Some("b"), tokens(5), None);
        assert_eq!(tally.totals()[1].tokens, tokens(40), "totals never fall");
    }

    #[test]
    fn garbage_does_not_grow_it() {
        let mut tally = Tally::default();
        for number in 0..1_000 {
            tally.add(Some(&format!("model-{number}")), tokens(Tokens::MAX), None);
            tally.add(Some("model-0"), tokens(Tokens::MAX), None);
        }
        assert_eq!(tally.totals().len(), MAX_MODELS);
        assert_eq!(tally.totals()[0].tokens, tokens(Tokens::MAX));
    }
}

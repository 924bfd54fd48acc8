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

impl Totals {
    /// Adds those of the same model under another name.
    fn join(&mut self, other: &Self) {
        self.tokens = bounded(self.tokens.plus(other.tokens));
        self.cost = match (self.cost, other.cost) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
    }
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

    /// Takes totals of each model in that together are all that was used. What was counted under a name that is not among
    /// them was one of these under another name: it stays, since totals never fall, and is not counted once more.
    pub(super) fn raise_each(&mut self, models: &[Totals]) {
        let mut models = by_name(models);
        // Where it is open whose another name was, the one that used the most lacks what was counted under it.
        models.sort_by_key(|model| model.tokens.counted());
        let names = self.booked_under(&models);
        let sum = |all: &[Totals]| {
            let tokens = all
                .iter()
                .fold(Tokens::default(), |sum, one| sum.plus(one.tokens));
            let cost: Money = all.iter().filter_map(|one| one.cost).sum();
            (tokens, cost)
        };
        let ((tokens, cost), (counted, paid)) = (sum(&models), sum(&self.entries));
        let (mut tokens, mut cost) = (tokens.beyond(counted), (cost - paid).or_zero());
        for (model, name) in models.iter().zip(names) {
            if model.tokens.is_zero() && model.cost.is_none_or(|cost| cost == Money::ZERO) {
                continue;
            }
            let Some(entry) = self.entry(name.as_deref()) else {
                continue;
            };
            let wanted = model.tokens.beyond(entry.tokens);
            let more = wanted.beyond(wanted.beyond(tokens));
            entry.tokens = bounded(entry.tokens.plus(more));
            tokens = tokens.beyond(more);
            if let Some(total) = model.cost {
                let known = entry.cost.unwrap_or_default();
                let more = (total - known).or_zero().min(cost);
                entry.cost = Some(known + more);
                cost -= more;
            }
            self.changed = true;
        }
    }

    /// The names under which these models are counted: where one has none yet, that of an entry which is not among them
    /// and looks like it, such as `us.anthropic.claude-opus-4-6-v1` for `claude-opus-4-6`, so that its tokens and their
    /// cost stay together.
    fn booked_under(&self, models: &[Totals]) -> Vec<Option<String>> {
        let mut names: Vec<Option<String>> = models.iter().map(|model| model.model.clone()).collect();
        let is_open = |name: &Option<String>| self.entries.iter().all(|entry| entry.model != *name);
        let mut open: Vec<usize> = (0..names.len()).filter(|at| is_open(&names[*at])).collect();
        for entry in &self.entries {
            let Some(other) = entry.model.as_deref() else {
                continue;
            };
            if models.iter().any(|model| model.model == entry.model) {
                continue;
            }
            let alike = open.iter().enumerate().filter_map(|(index, at)| {
                let name = models[*at].model.as_deref()?;
                (other.contains(name) || name.contains(other)).then_some((name.len(), index))
            });
            if let Some((_, index)) = alike.max() {
                names[open.swap_remove(index)] = Some(other.to_owned());
            }
        }
        names
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
                Some(known) => known.join(entry),
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

/// The totals by the names under which they are counted. More models than one attempt can use are garbage.
fn by_name(models: &[Totals]) -> Vec<Totals> {
    let mut named: Vec<Totals> = Vec::new();
    for model in models {
        let name = name_of(model.model.as_deref());
        if let Some(known) = named.iter_mut().find(|known| known.model.as_deref() == name) {
            known.join(model);
        } else if named.len() < MAX_MODELS {
            named.push(Totals {
                model: name.map(str::to_owned),
                ..model.clone()
            });
        }
    }
    named
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

    /// Totals of a model.
    fn used(model: &str, tokens_in: u64, nanos: i64) -> Totals {
        Totals {
            model: Some(model.to_owned()),
            tokens: tokens(tokens_in),
            cost: Some(Money::from_nanos(nanos)),
        }
    }

    /// What was added before totals of each model came, and what is told after it: nanos of -1 are no cost.
    fn after(added: &[(&str, u64)], models: &[Totals]) -> Vec<(String, u64, i64)> {
        let mut tally = Tally::default();
        for (model, count) in added {
            tally.add(Some(model), tokens(*count), None);
        }
        tally.raise_each(models);
        let told = tally.totals();
        tally.raise_each(models);
        assert_eq!(tally.totals(), told, "the same once more is nothing new");
        let mut told: Vec<_> = told
            .into_iter()
            .map(|one| {
                let cost = one.cost.map_or(-1, Money::as_nanos);
                (one.model.unwrap_or_default(), one.tokens.tokens_in, cost)
            })
            .collect();
        told.sort();
        told
    }

    #[test]
    fn what_was_counted_under_another_name_is_not_counted_once_more() {
        let told = |told: &[(&str, u64, i64)]| -> Vec<(String, u64, i64)> {
            told.iter()
                .map(|(model, count, cost)| ((*model).to_owned(), *count, *cost))
                .collect()
        };
        let (opus, long) = ("claude-opus-4-6", "us.anthropic.claude-opus-4-6-v1");
        let (haiku, arn) = ("claude-haiku-4-5", "arn:aws:bedrock:1:profile/x");
        let both = [used(opus, 530, 9), used(haiku, 400, 2)];
        // The names are the same, or one is in the other.
        assert_eq!(
            after(&[(opus, 30)], &both),
            told(&[(haiku, 400, 2), (opus, 530, 9)])
        );
        assert_eq!(
            after(&[(long, 30)], &both),
            told(&[(haiku, 400, 2), (long, 530, 9)])
        );
        assert_eq!(
            after(&[(opus, 30)], &[used(long, 530, 9)]),
            told(&[(opus, 530, 9)])
        );
        // No name says what it was.
        assert_eq!(
            after(&[(arn, 30)], &both),
            told(&[(arn, 30, -1), (haiku, 400, 2), (opus, 500, 9)])
        );
        // Both names were streamed.
        assert_eq!(
            after(&[(opus, 30), (long, 100)], &both),
            told(&[(haiku, 400, 2), (opus, 430, 9), (long, 100, -1)])
        );
        // More was told than it says: that stays.
        assert_eq!(
            after(&[(long, 900)], &[used(opus, 530, 9)]),
            told(&[(long, 900, 9)])
        );
        // One model in two modes.
        assert_eq!(
            after(
                &[(opus, 30)],
                &[used("claude-opus-4-6[1m]", 20, 1), used(opus, 30, 2)]
            ),
            told(&[(opus, 50, 3)])
        );
    }

    #[test]
    fn garbage_does_not_grow_it() {
        let mut tally = Tally::default();
        let garbage: Vec<Totals> = (0..1_000)
            .map(|number| used(&format!("garbage-{number}"), Tokens::MAX, i64::MAX))
            .collect();
        tally.raise_each(&garbage);
        assert_eq!(tally.totals().len(), MAX_MODELS);
        let mut tally = Tally::default();
        for number in 0..1_000 {
            tally.add(Some(&format!("model-{number}")), tokens(Tokens::MAX), None);
            tally.add(Some("model-0"), tokens(Tokens::MAX), None);
        }
        assert_eq!(tally.totals().len(), MAX_MODELS);
        assert_eq!(tally.totals()[0].tokens, tokens(Tokens::MAX));
    }
}

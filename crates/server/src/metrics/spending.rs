//! What was used, by agent or by model: tokens and cost, under the names that have [`Places`].

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use adjutant_core::attempt::Tokens;
use adjutant_core::money::Money;
use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::places::Places;

/// Kinds of tokens.
const KINDS: [&str; 3] = ["input", "output", "cached"];

/// Counts what was used by each of some names.
pub(super) struct Spending {
    /// The label that the names stand under.
    by: &'static str,
    places: Places,
    tokens: Family<Whose, Counter>,
    /// In dollars.
    cost: Family<Whose, Counter<f64, AtomicU64>>,
}

/// The labels of one of its series.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Whose {
    by: &'static str,
    name: String,
    /// Of tokens.
    kind: Option<&'static str>,
}

impl EncodeLabelSet for Whose {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        (self.by, self.name.as_str()).encode(encoder.encode_label())?;
        self.kind
            .map_or(Ok(()), |kind| ("kind", kind).encode(encoder.encode_label()))
    }
}

impl Spending {
    pub(super) fn new(by: &'static str) -> Self {
        Self {
            by,
            places: Places::default(),
            tokens: Family::default(),
            cost: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let by = self.by;
        registry.register(
            format!("adjutant_{by}_tokens"),
            format!("Tokens that were booked, by {by} and kind"),
            self.tokens.clone(),
        );
        registry.register(
            format!("adjutant_{by}_cost_dollars"),
            format!("Cost that was booked, by {by}"),
            self.cost.clone(),
        );
    }

    /// Counts what is new. The series of a name that loses its place for it end.
    pub(super) fn add(&mut self, name: &str, tokens: Tokens, cost: Money, heard: Instant) {
        let by = self.by;
        let whose = |name: &str, kind| Whose {
            by,
            name: name.to_owned(),
            kind,
        };
        let (place, loser) = self.places.of(name, heard);
        if let Some(loser) = loser {
            for kind in KINDS {
                self.tokens.remove(&whose(&loser, Some(kind)));
            }
            self.cost.remove(&whose(&loser, None));
        }
        let counts = [tokens.tokens_in, tokens.tokens_out, tokens.tokens_cached];
        for (kind, count) in KINDS.into_iter().zip(counts) {
            self.tokens.get_or_create(&whose(place, Some(kind))).inc_by(count);
        }
        self.cost.get_or_create(&whose(place, None)).inc_by(dollars(cost));
    }
}

/// A counter does not go back, and so a cost that was corrected downwards stays as it was counted.
#[expect(
    clippy::cast_precision_loss,
    reason = "the ledger has the cost to the nano-dollar; a plot need not"
)]
fn dollars(cost: Money) -> f64 {
    cost.as_nanos().max(0) as f64 / 1e9
}

//! What an attempt may cost: what is held for its task at dispatch, for programs that can be given a budget.

use std::collections::BTreeMap;
use std::time::Duration;

use adjutant_client::Client;
use adjutant_core::money::Money;
use adjutant_wire::Task;

/// The start of a command does not wait longer for a price.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a million tokens of output cost, by model.
#[derive(Clone, Debug)]
pub(crate) struct Prices(BTreeMap<String, Money>);

impl Prices {
    pub(crate) const fn new(known: BTreeMap<String, Money>) -> Self {
        Self(known)
    }

    /// The estimate of a task at the price of output, as the server holds it. None without an estimate, without a model,
    /// or without a price that the worker may know.
    pub(crate) async fn budget(&self, client: &Client, task: &Task, models: &[String]) -> Option<Money> {
        if task.estimated_tokens == 0 {
            return None;
        }
        let ((Some(model), _) | (None, [model])) = (&task.model, models) else {
            return None;
        };
        let price = match self.0.get(model) {
            Some(price) => *price,
            None => ask(client, model).await?,
        };
        (price > Money::ZERO).then(|| price.per_million(task.estimated_tokens))
    }
}

async fn ask(client: &Client, model: &str) -> Option<Money> {
    match tokio::time::timeout(PATIENCE, client.model(model)).await {
        Ok(Ok(known)) => Some(known.prices.output),
        Ok(Err(error)) => {
            tracing::debug!(model, %error, "no budget: the price of the model is not told");
            None
        }
        Err(_) => None,
    }
}

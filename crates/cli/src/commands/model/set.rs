//! `adjutant model set`.

use adjutant_core::money::Money;
use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::values;

/// Set the quota and the prices of a model; what is not named stays
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant model set sonnet --input-price 300 --output-price 1500 --cached-price 30
  adjutant model set sonnet --daily-tokens 5000000 --hourly-rate 100 --cost-ceiling 10000")]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Arguments {
    /// The model
    model: String,
    /// Tokens in a UTC day; 0 is unlimited
    #[arg(long, value_name = "N", group = "what")]
    daily_tokens: Option<u64>,
    /// Attempts started in a UTC hour; 0 is unlimited
    #[arg(long, value_name = "N", group = "what")]
    hourly_rate: Option<u64>,
    /// Cents in total; 0 is unlimited
    #[arg(long, value_name = "CENTS", value_parser = values::cents, group = "what")]
    cost_ceiling: Option<Money>,
    /// Cents for a million tokens of fresh input
    #[arg(long, value_name = "CENTS", value_parser = values::cents, group = "what")]
    input_price: Option<Money>,
    /// Cents for a million tokens of output
    #[arg(long, value_name = "CENTS", value_parser = values::cents, group = "what")]
    output_price: Option<Money>,
    /// Cents for a million tokens of cached input
    #[arg(long, value_name = "CENTS", value_parser = values::cents, group = "what")]
    cached_price: Option<Money>,
}

/// Sets it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    let mut model = client.model(&arguments.model).await?;
    if let Some(tokens) = arguments.daily_tokens {
        model.daily_token_budget = tokens;
    }
    if let Some(rate) = arguments.hourly_rate {
        model.hourly_rate_limit = rate;
    }
    if let Some(cost) = arguments.cost_ceiling {
        model.cost_ceiling = cost;
    }
    let prices = &mut model.prices;
    prices.input = arguments.input_price.unwrap_or(prices.input);
    prices.output = arguments.output_price.unwrap_or(prices.output);
    prices.cached = arguments.cached_price.unwrap_or(prices.cached);
    super::show(&client.put_model(&arguments.model, &model).await?, context)
}

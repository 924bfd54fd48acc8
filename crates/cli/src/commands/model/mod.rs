//! `adjutant model …`: quotas and prices of models.

mod set;
mod show;

use adjutant_wire::Model;
use clap::Subcommand;

use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Facts;
use crate::text::{dollars, limit};

/// What can be done with models.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Set(set::Arguments),
    Show(show::Arguments),
}

/// Runs one of them.
pub(crate) async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Set(arguments) => set::run(&arguments, context).await,
        Command::Show(arguments) => show::run(&arguments, context).await,
    }
}

fn show(model: &Model, context: &Context) -> Outcome {
    context.printer.show(model, || {
        let mut facts = Facts::default();
        facts.add("model", &model.model);
        facts.add("tokens in a day", limit(model.daily_token_budget));
        facts.add("attempts in an hour", limit(model.hourly_rate_limit));
        let ceiling = model.cost_ceiling;
        facts.add(
            "cost in total",
            if ceiling.as_nanos() == 0 {
                "unlimited".to_owned()
            } else {
                dollars(ceiling)
            },
        );
        let prices = &model.prices;
        facts.add(
            "a million tokens",
            format!(
                "{} in, {} out, {} cached",
                dollars(prices.input),
                dollars(prices.output),
                dollars(prices.cached)
            ),
        );
        facts.to_string()
    })
}

//! `adjutant allowance …`: what an agent may use in a day.

mod reset;
mod set;
mod show;

use adjutant_client::Client;
use adjutant_wire::{Allowance, AllowanceCheck, AllowanceUsage};
use clap::Subcommand;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Facts;
use crate::text::{dollars, left, limit, number, time};

/// What can be done with allowances.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Set(set::Arguments),
    Show(show::Arguments),
    Reset(reset::Arguments),
}

/// Runs one of them.
pub(crate) async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Set(arguments) => set::run(arguments, context).await,
        Command::Show(arguments) => show::run(&arguments, context).await,
        Command::Reset(arguments) => reset::run(&arguments, context).await,
    }
}

/// What is set for an agent, and where it stands.
#[derive(Serialize, Debug)]
pub(crate) struct Standing {
    /// What is set.
    pub(crate) allowance: Allowance,
    /// What is left.
    pub(crate) check: AllowanceCheck,
    /// What was used.
    pub(crate) usage: AllowanceUsage,
}

/// Reads where an agent stands.
pub(crate) async fn standing(client: &Client, agent: &str) -> Result<Standing, adjutant_client::Error> {
    Ok(Standing {
        allowance: client.allowance(agent).await?,
        check: client.check_allowance(agent, None).await?,
        usage: client.allowance_usage(agent).await?,
    })
}

fn show(standing: &Standing, context: &Context) -> Outcome {
    context.printer.show(standing, || {
        let Standing {
            allowance,
            check,
            usage,
        } = standing;
        let mut facts = Facts::default();
        facts.add("agent", &usage.agent_id);
        facts.add("status", &check.status);
        facts.add_some("refused because", check.reason.as_str());
        facts.add(
            "tokens today",
            format!(
                "{} of {}, {} left",
                number(usage.tokens_used),
                limit(allowance.daily_token_limit),
                left(check.remaining_tokens)
            ),
        );
        facts.add(
            "jobs today",
            format!(
                "{} of {}, {} left",
                number(usage.jobs_started),
                limit(allowance.daily_job_limit),
                left(check.remaining_jobs)
            ),
        );
        facts.add(
            "jobs now",
            format!("{} of {}", usage.active_jobs, limit(allowance.concurrent_jobs)),
        );
        facts.add("cost today", dollars(usage.cost));
        facts.add(
            "longest job",
            if allowance.max_job_duration.is_zero() {
                "unlimited".to_owned()
            } else {
                allowance.max_job_duration.to_string()
            },
        );
        facts.add(
            "models",
            if allowance.model_allowlist.is_empty() {
                "any".to_owned()
            } else {
                allowance.model_allowlist.join(" ")
            },
        );
        facts.add("since", time(usage.period_start));
        facts.to_string()
    })
}

//! `adjutant limit set`.

use adjutant_core::limit::Window;
use adjutant_core::money::Money;
use adjutant_wire::LimitSpec;
use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::values;

/// Set a limit over one window; what is not named stays
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant limit set fleet --window day --cost 1000          ten dollars a day
  adjutant limit set project:web --window hour --jobs 20
  adjutant limit set repo:acme/web --window day --none       no limits for the day

Scopes: fleet, project:P, agent:A, model:M, repo:OWNER/NAME")]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Arguments {
    /// Whose use is limited
    #[arg(value_parser = values::scope)]
    scope: String,
    /// Over which period: hour, day or total; hours and days are those of UTC
    #[arg(long, value_parser = values::window, default_value = "day")]
    window: Window,
    /// Input and output tokens
    #[arg(long, value_name = "N", group = "what")]
    tokens: Option<u64>,
    /// Money, in cents
    #[arg(long, value_name = "CENTS", value_parser = values::cents, group = "what")]
    cost: Option<Money>,
    /// Attempts started
    #[arg(long, value_name = "N", group = "what")]
    jobs: Option<u64>,
    /// Attempts at the same time
    #[arg(long, value_name = "N", group = "what")]
    concurrent: Option<u64>,
    /// Pull requests made
    #[arg(long, value_name = "N", group = "what")]
    pull_requests: Option<u64>,
    /// Issues made
    #[arg(long, value_name = "N", group = "what")]
    issues: Option<u64>,
    /// Only refuse new attempts, do not stop running ones
    #[arg(long, group = "what", conflicts_with = "hard")]
    soft: bool,
    /// Stop running attempts too when tokens or cost are used up (the default)
    #[arg(long, group = "what")]
    hard: bool,
    /// Remove what is set over this window
    #[arg(long, group = "what",
        conflicts_with_all = ["tokens", "cost", "jobs", "concurrent", "pull_requests", "issues", "soft", "hard"])]
    none: bool,
}

/// Sets it.
pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    let mut limits = client.limits(&arguments.scope).await?.limits;
    let before = limits.iter().position(|limit| limit.window == arguments.window);
    let mut limit = before.map_or_else(|| LimitSpec::none(arguments.window), |at| limits.remove(at));
    limit.tokens = arguments.tokens.or(limit.tokens);
    limit.cost = arguments.cost.or(limit.cost);
    limit.jobs = arguments.jobs.or(limit.jobs);
    limit.concurrent = arguments.concurrent.or(limit.concurrent);
    limit.pull_requests = arguments.pull_requests.or(limit.pull_requests);
    limit.issues = arguments.issues.or(limit.issues);
    limit.hard = arguments.hard || (limit.hard && !arguments.soft);
    if !arguments.none {
        limits.push(limit);
    }
    let limits = client.put_limits(&arguments.scope, &limits).await?;
    super::show(&limits, context)
}

//! `adjutant repo set`.

use adjutant_core::time::Span;
use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::values;

/// Set the limits of a repository; what is not named stays
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant repo set acme/web --daily-prs 5 --cooldown 30m")]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Arguments {
    /// The repository
    #[arg(value_name = "OWNER/NAME")]
    repo: String,
    /// Pull requests in a UTC day; 0 is unlimited
    #[arg(long, value_name = "N", group = "what")]
    daily_prs: Option<u64>,
    /// Issues in a UTC day; 0 is unlimited
    #[arg(long, value_name = "N", group = "what")]
    daily_issues: Option<u64>,
    /// Nothing starts for so long after a failed attempt
    #[arg(long, value_parser = values::span, group = "what")]
    cooldown: Option<Span>,
}

/// Sets them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    let mut repo = client.repo(&arguments.repo).await?;
    repo.max_daily_prs = arguments.daily_prs.unwrap_or(repo.max_daily_prs);
    repo.max_daily_issues = arguments.daily_issues.unwrap_or(repo.max_daily_issues);
    repo.cooldown_after_failure = arguments.cooldown.unwrap_or(repo.cooldown_after_failure);
    super::show(&client.put_repo(&arguments.repo, &repo).await?, context)
}

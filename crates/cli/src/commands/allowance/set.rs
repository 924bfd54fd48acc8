//! `adjutant allowance set`.

use adjutant_core::time::Span;
use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::values;

/// Set what an agent may use; what is not named stays
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant allowance set laptop-claude --daily-tokens 2000000 --daily-jobs 50
  adjutant allowance set laptop-claude --models sonnet,haiku --max-job-duration 30m
  adjutant allowance set laptop-claude --daily-tokens 0     no limit on tokens")]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Arguments {
    /// The agent, registered or not
    agent: String,
    /// Tokens in a UTC day; 0 is unlimited
    #[arg(long, value_name = "N", group = "what")]
    daily_tokens: Option<u64>,
    /// Attempts started in a UTC day; 0 is unlimited
    #[arg(long, value_name = "N", group = "what")]
    daily_jobs: Option<u64>,
    /// Attempts at the same time; 0 is unlimited
    #[arg(long, value_name = "N", group = "what")]
    concurrent_jobs: Option<u64>,
    /// The longest that one attempt may run; 0 is unlimited
    #[arg(long, value_parser = values::span, group = "what")]
    max_job_duration: Option<Span>,
    /// The models that it may use, separated by commas; empty is any
    #[arg(long, value_delimiter = ',', group = "what")]
    models: Option<Vec<String>>,
}

/// Sets it.
pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    let mut allowance = client.allowance(&arguments.agent).await?;
    if let Some(tokens) = arguments.daily_tokens {
        allowance.daily_token_limit = tokens;
    }
    if let Some(jobs) = arguments.daily_jobs {
        allowance.daily_job_limit = jobs;
    }
    if let Some(jobs) = arguments.concurrent_jobs {
        allowance.concurrent_jobs = jobs;
    }
    if let Some(duration) = arguments.max_job_duration {
        allowance.max_job_duration = duration;
    }
    if let Some(models) = arguments.models {
        allowance.model_allowlist = models.into_iter().filter(|model| !model.is_empty()).collect();
    }
    client.put_allowance(&arguments.agent, &allowance).await?;
    super::show(&super::standing(&client, &arguments.agent).await?, context)
}

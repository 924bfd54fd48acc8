//! `adjutant repo …`: limits of repositories.

mod set;
mod show;

use adjutant_wire::Repo;
use clap::Subcommand;

use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Facts;
use crate::text::limit;

/// What can be done with repositories.
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

fn show(repo: &Repo, context: &Context) -> Outcome {
    context.printer.show(repo, || {
        let mut facts = Facts::default();
        facts.add("repo", &repo.repo);
        facts.add("pull requests in a day", limit(repo.max_daily_prs));
        facts.add("issues in a day", limit(repo.max_daily_issues));
        facts.add("pause after a failure", repo.cooldown_after_failure.to_string());
        facts.to_string()
    })
}

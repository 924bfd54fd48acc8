//! `adjutant webhook …`: places that are told of events.

mod add;
mod dead;
mod list;
mod remove;
mod resume;
mod retry;
mod show;
mod test;

use adjutant_wire::Webhook;
use clap::Subcommand;

use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Facts;
use crate::text::{number, time};

/// What can be done with webhooks.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Add(add::Arguments),
    List(list::Arguments),
    Show(show::Arguments),
    Test(test::Arguments),
    Dead(dead::Arguments),
    Retry(retry::Arguments),
    Resume(resume::Arguments),
    Remove(remove::Arguments),
}

/// Runs one of them.
pub(crate) async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Add(arguments) => add::run(&arguments, context).await,
        Command::List(arguments) => list::run(&arguments, context).await,
        Command::Show(arguments) => show::run(&arguments, context).await,
        Command::Test(arguments) => test::run(&arguments, context).await,
        Command::Dead(arguments) => dead::run(&arguments, context).await,
        Command::Retry(arguments) => retry::run(&arguments, context).await,
        Command::Resume(arguments) => resume::run(&arguments, context).await,
        Command::Remove(arguments) => remove::run(&arguments, context).await,
    }
}

/// What it is told of, in words.
fn events(webhook: &Webhook) -> String {
    if webhook.events.is_empty() {
        "all".to_owned()
    } else {
        webhook.events.join(" ")
    }
}

/// Everything about a webhook.
fn facts(webhook: &Webhook) -> String {
    let mut facts = Facts::default();
    facts.add("name", &webhook.name);
    facts.add("url", &webhook.url);
    facts.add("events", events(webhook));
    facts.add("status", &webhook.status);
    facts.add_some("because", webhook.detail.as_deref().unwrap_or_default());
    let failing = webhook.failing_since.map(time).unwrap_or_default();
    facts.add_some("failing since", &failing);
    facts.add("delivered up to", number(webhook.cursor));
    facts.add("waiting", number(webhook.pending));
    facts.add("dead letters", number(webhook.dead));
    facts.add("missed", number(webhook.missed));
    facts.add("added", time(webhook.created_at));
    facts.add_some("secret", webhook.secret.as_deref().unwrap_or_default());
    facts.to_string()
}

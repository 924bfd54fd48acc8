//! Several servers on one PostgreSQL database: how long a submission to one takes to be in the hands of an agent that
//! waits on another, and whether two servers do as much as one.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::backlog::work_off;
use super::{LABEL, Span, crowd, put_rate};
use crate::arguments::Arguments;
use crate::figures::{Figures, Times};
use crate::party::{Agent, submit, task};
use crate::server::Server;

/// Agents of the comparison. Half of them have limits.
const AGENTS: usize = 200;
/// Long enough that the sync has arrived and waits, and both servers rest.
const REST: Duration = Duration::from_millis(20);
/// The first ones fill caches.
const UNCOUNTED: usize = 20;

pub(super) async fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    if arguments.cluster.is_none() {
        return Ok(());
    }
    across(arguments, figures).await?;
    for servers in [1, 2, 2, 1] {
        together(arguments, figures, servers).await?;
    }
    Ok(())
}

/// Submission on one server, agent on another.
async fn across(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    let near = Server::start(arguments, &[]).await?;
    let far = Server::beside(arguments, &near).await?;
    let mut agent = Agent::register(&far, "agent".into(), LABEL).await?;
    let mut submitter = near.connect().await?;
    let task = task(LABEL);
    let mut pickup = Times::default();
    for number in 0..arguments.samples.min(1_000) + UNCOUNTED {
        let submission = async {
            tokio::time::sleep(REST).await;
            let begun = Instant::now();
            submit(&mut submitter, &task).await?;
            io::Result::Ok(begun)
        };
        let wait = async {
            let job = agent.sync(None).await?;
            io::Result::Ok((job, Instant::now()))
        };
        let ((job, arrived), begun) = tokio::try_join!(wait, submission)?;
        agent.complete(&job).await?;
        if number >= UNCOUNTED {
            pickup.push(arrived - begun);
        }
    }
    figures.put_times("servers.submit_to_agent_elsewhere", &mut pickup);
    far.end().await?;
    near.end().await
}

/// The same agents and the same work, on one server or spread over several.
async fn together(arguments: &Arguments, figures: &mut Figures, number: usize) -> io::Result<()> {
    let first = Server::start(arguments, &[]).await?;
    let mut servers = vec![Arc::new(first)];
    while servers.len() < number {
        servers.push(Arc::new(Server::beside(arguments, &servers[0]).await?));
    }
    let mut agents = Vec::with_capacity(AGENTS);
    for number in 0..AGENTS {
        let server = &servers[number % servers.len()];
        let mut agent = Agent::register(server, format!("agent-{number}"), LABEL).await?;
        if number % 2 == 0 {
            agent.limit().await?;
        }
        agents.push(agent);
    }
    let span = Span::after_warm_up(arguments.length);
    let mut loops = JoinSet::new();
    for agent in agents {
        loops.spawn(work_off(agent, span));
    }
    let mut all = Times::default();
    let cpu = crowd(loops, span, &servers[0], |one: Times| all.append(one)).await?;
    let name = format!("servers_{number}.lifecycles");
    put_rate(figures, &name, &all, arguments.length, &cpu);
    figures.put_times(&name, &mut all);
    for server in servers.into_iter().rev().filter_map(Arc::into_inner) {
        server.end().await?;
    }
    Ok(())
}

//! Whether a backlog slows dispatch down: the same work with few and with many tasks waiting.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{LABEL, Span, crowd, put_rate};
use crate::arguments::Arguments;
use crate::figures::{Figures, Times, count};
use crate::http::Connection;
use crate::party::{Agent, submit, task};
use crate::server::Server;

const SHORT: usize = 1_000;
/// Tasks taken one after the other; the short backlog must hold more.
const PULLS: usize = 500;
/// Tasks of one batch: the most that the server takes.
const BATCH: usize = 1_000;
/// Connections that load the backlog.
const LOADERS: usize = 4;
/// Before a batch is offered again that a server had no place for.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    for backlog in [SHORT, arguments.backlog] {
        let name = format!("backlog_{backlog}");
        let server = Server::start(arguments, &[]).await?;
        let begun = Instant::now();
        load(&server, backlog).await?;
        figures.put(
            format!("{name}.load"),
            count(backlog) / begun.elapsed().as_secs_f64(),
            "tasks/s",
        );
        figures.put(format!("{name}.resident"), server.resident_mib()?, "MiB");
        pull(&server, figures, &name).await?;
        work(arguments, &server, figures, &name).await?;
        server.end().await?;
    }
    Ok(())
}

pub(super) async fn load(server: &Server, backlog: usize) -> io::Result<()> {
    let batches = Arc::new(AtomicUsize::new(backlog.div_ceil(BATCH)));
    let body: Arc<str> = format!("[{}]", vec![task(LABEL); BATCH].join(",")).into();
    let mut loaders = JoinSet::new();
    for _ in 0..LOADERS {
        loaders.spawn(load_on(
            server.connect().await?,
            Arc::clone(&batches),
            Arc::clone(&body),
        ));
    }
    while let Some(joined) = loaders.join_next().await {
        joined.map_err(io::Error::other)??;
    }
    Ok(())
}

async fn load_on(mut connection: Connection, batches: Arc<AtomicUsize>, body: Arc<str>) -> io::Result<()> {
    let one_less = |left: usize| left.checked_sub(1);
    while batches
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
        .is_ok()
    {
        // A server that is asked for more than it can take in says so; whoever has time comes again.
        loop {
            match connection.offer("/api/batch/tasks", body.as_bytes()).await? {
                200..=299 => break,
                503 => tokio::time::sleep(PAUSE).await,
                status => return Err(io::Error::other(format!("a batch was answered with {status}"))),
            }
        }
    }
    Ok(())
}

/// One agent hands in a task and is given the next, one after the other.
async fn pull(server: &Server, figures: &mut Figures, name: &str) -> io::Result<()> {
    let mut agent = Agent::register(server, "puller".into(), LABEL).await?;
    let mut times = Times::default();
    let mut held = agent.sync(None).await?;
    for _ in 0..PULLS {
        let begun = Instant::now();
        held = agent.sync(Some(&held)).await?;
        times.push(begun.elapsed());
    }
    figures.put_times(&format!("{name}.next_task"), &mut times);
    agent.complete(&held).await
}

/// Many agents work while as much is submitted, so that the backlog stays as long as it is.
async fn work(arguments: &Arguments, server: &Server, figures: &mut Figures, name: &str) -> io::Result<()> {
    let mut agents = Vec::with_capacity(arguments.connections);
    for number in 0..arguments.connections {
        agents.push(Agent::register(server, format!("agent-{number}"), LABEL).await?);
    }
    let span = Span::after_warm_up(arguments.length);
    let mut loops = JoinSet::new();
    for agent in agents {
        loops.spawn(work_off(agent, span));
    }
    let mut times = Times::default();
    let cpu = crowd(loops, span, server, |one| times.append(one)).await?;
    let name = format!("{name}.work");
    put_rate(figures, &name, &times, arguments.length, &cpu);
    figures.put_times(&name, &mut times);
    Ok(())
}

/// Submits a task and takes one, handing in the one before, over and over.
pub(super) async fn work_off(mut agent: Agent, span: Span) -> io::Result<Times> {
    let task = task(LABEL);
    let mut times = Times::default();
    let mut done = None;
    while !span.is_over() {
        let begun = Instant::now();
        submit(&mut agent.connection, &task).await?;
        done = Some(agent.sync(done.as_ref()).await?);
        let ended = Instant::now();
        if span.covers(begun, ended) {
            times.push(ended - begun);
        }
    }
    Ok(times)
}

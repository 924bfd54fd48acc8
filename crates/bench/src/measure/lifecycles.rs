//! Whole lives of tasks on many connections, each with an agent of its own: submit, sync, complete, one after the
//! other.

use std::io;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{LABEL, Span, crowd, put_rate};
use crate::arguments::Arguments;
use crate::figures::{Figures, Times};
use crate::party::{Agent, submit, submit_many, task};
use crate::server::Server;

/// How a life ends, and whose tasks an agent may take.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    name: &'static str,
    /// The completion rides in the next sync.
    rides: bool,
    /// Every agent can take its own tasks alone, so that its sync never waits for another connection.
    own_label: bool,
}

const WAYS: [Way; 3] = [
    Way {
        name: "lifecycles",
        rides: false,
        own_label: false,
    },
    Way {
        name: "lifecycles_own_label",
        rides: false,
        own_label: true,
    },
    Way {
        name: "lifecycles_done_in_sync",
        rides: true,
        own_label: false,
    },
];

/// What a connection measured: times of each kind of request and of whole lives.
#[derive(Default)]
struct Measured {
    lives: Times,
    submit: Times,
    sync: Times,
    complete: Times,
}

pub(super) async fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    for way in WAYS {
        run_way(arguments, figures, way).await?;
    }
    in_batches(arguments, figures).await
}

/// Tasks in one submission, and in the hands of one agent.
pub(super) const BATCH: usize = 100;
/// Connections that work in batches.
pub(super) const BATCHERS: usize = 8;

/// Whole lives in batches: a hundred submitted at once, a hundred taken and handed in by one sync.
async fn in_batches(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    let name = "lifecycles_in_batches";
    let server = Server::start(arguments, &[]).await?;
    let span = Span::after_warm_up(arguments.length);
    let mut loops = JoinSet::new();
    for number in 0..BATCHERS {
        let agent =
            Agent::register_with_room(server.reach(), format!("agent-{number}"), LABEL, BATCH).await?;
        loops.spawn(live_in_batches(agent, task(LABEL), span));
    }
    let mut all = Times::default();
    let cpu = crowd(loops, span, &server, |one: Times| all.append(one)).await?;
    put_rate(figures, name, &all, arguments.length, &cpu);
    figures.put_times(&format!("{name}.whole"), &mut all);
    server.end().await
}

async fn live_in_batches(mut agent: Agent, task: String, span: Span) -> io::Result<Times> {
    let mut lives = Times::default();
    let mut done = Vec::new();
    let mut since = Instant::now();
    while !span.is_over() {
        submit_many(&mut agent.connection, &task, BATCH).await?;
        let handed_in = done.len();
        done = agent.sync_many(&done, BATCH).await?;
        let now = Instant::now();
        if span.covers(since, now) {
            (0..handed_in).for_each(|_| lives.push(now - since));
        }
        since = now;
    }
    while !done.is_empty() {
        done = agent.sync_many(&done, 0).await?;
    }
    Ok(lives)
}

async fn run_way(arguments: &Arguments, figures: &mut Figures, way: Way) -> io::Result<()> {
    let server = Server::start(arguments, &[]).await?;
    let mut parties = Vec::with_capacity(arguments.connections);
    for number in 0..arguments.connections {
        let label = if way.own_label {
            format!("{LABEL}-{number}")
        } else {
            LABEL.to_owned()
        };
        let agent = Agent::register(&server, format!("agent-{number}"), &label).await?;
        parties.push((agent, task(&label)));
    }
    let span = Span::after_warm_up(arguments.length);
    let mut loops = JoinSet::new();
    for (agent, task) in parties {
        loops.spawn(live(agent, task, way, span));
    }
    let mut all = Measured::default();
    let cpu = crowd(loops, span, &server, |one: Measured| {
        all.lives.append(one.lives);
        all.submit.append(one.submit);
        all.sync.append(one.sync);
        all.complete.append(one.complete);
    })
    .await?;
    put_rate(figures, way.name, &all.lives, arguments.length, &cpu);
    figures.put_times(&format!("{}.whole", way.name), &mut all.lives);
    figures.put_times(&format!("{}.submit", way.name), &mut all.submit);
    figures.put_times(&format!("{}.sync", way.name), &mut all.sync);
    if !way.rides {
        figures.put_times(&format!("{}.complete", way.name), &mut all.complete);
    }
    figures.put(
        format!("{}.resident_after", way.name),
        server.resident_mib()?,
        "MiB",
    );
    server.end().await
}

async fn live(mut agent: Agent, task: String, way: Way, span: Span) -> io::Result<Measured> {
    let mut measured = Measured::default();
    let mut done = None;
    while !span.is_over() {
        let begun = Instant::now();
        submit(&mut agent.connection, &task).await?;
        let submitted = Instant::now();
        let job = agent.sync(done.take().as_ref()).await?;
        let synced = Instant::now();
        if way.rides {
            done = Some(job);
        } else {
            agent.complete(&job).await?;
        }
        let ended = Instant::now();
        if span.covers(begun, ended) {
            measured.submit.push(submitted - begun);
            measured.sync.push(synced - submitted);
            measured.complete.push(ended - synced);
            measured.lives.push(ended - begun);
        }
    }
    // What others wait for may be here: they are answered while the run winds down, and no life is lost to it.
    if let Some(job) = done {
        agent.complete(&job).await?;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    Ok(measured)
}

//! What agents feel of a flood: the time that a sync takes while nobody submits, while as much is submitted as the
//! server can take, and while five times as much is tried.
//!
//! Agents have a thread of their own: on the generator's they would wait for the generator, not for the server. They
//! sync without waiting, and there is nothing for them to start.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{LABEL, Span, crowd};
use crate::arguments::Arguments;
use crate::figures::{Figures, Times, count};
use crate::party::{Agent, task};
use crate::server::{Reach, Server};

/// Agents that sync.
const AGENTS: usize = 8;
/// The pause between two syncs of an agent.
const PAUSE: Duration = Duration::from_millis(10);
/// How many times its capacity the server is asked to take.
const TIMES: u32 = 5;
/// Connections of the flood, for each one that capacity is measured with.
const WIDER: usize = 64;

pub(super) async fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    let server = Server::start(arguments, &[]).await?;
    let idle = probe(server.reach(), arguments.length);
    figures.put_times("flood.sync_idle", &mut idle.await?);

    let (capacity, refused, mut syncs) = submitters(arguments, &server, arguments.connections, None).await?;
    figures.put("flood.capacity.accepted", capacity, "/s");
    figures.put("flood.capacity.refused", refused, "/s");
    figures.put_times("flood.sync_at_capacity", &mut syncs);

    let connections = arguments.connections * WIDER;
    let interval = Duration::from_secs_f64(count(connections) / (capacity * f64::from(TIMES)));
    let (accepted, refused, mut syncs) = submitters(arguments, &server, connections, Some(interval)).await?;
    figures.put("flood.at_5x.accepted", accepted, "/s");
    figures.put("flood.at_5x.refused", refused, "/s");
    figures.put_times("flood.sync_at_5x", &mut syncs);
    server.end().await
}

/// Submits on many connections while agents sync; each as fast as it is answered, or at an interval. Gives what was
/// accepted and refused per second, and the times of syncs.
async fn submitters(
    arguments: &Arguments,
    server: &Server,
    connections: usize,
    interval: Option<Duration>,
) -> io::Result<(f64, f64, Times)> {
    let mut open = Vec::with_capacity(connections);
    let task = Arc::new(task(LABEL));
    for _ in 0..connections {
        let mut connection = server.connect().await?;
        // A connection that asks nothing is closed, and so many take their time to be opened.
        connection.offer("/api/tasks", task.as_bytes()).await?;
        open.push(connection);
    }
    let span = Span::after_warm_up(arguments.length);
    let mut loops = JoinSet::new();
    for (number, mut connection) in open.into_iter().enumerate() {
        let task = Arc::clone(&task);
        loops.spawn(async move {
            let (mut accepted, mut refused) = (0, 0);
            // Spread evenly over the interval, so that the flood is steady.
            let share = f64::from(u32::try_from(number % connections).unwrap_or(0)) / count(connections);
            let mut next = Instant::now() + interval.unwrap_or_default().mul_f64(share);
            while !span.is_over() {
                if let Some(interval) = interval {
                    tokio::time::sleep_until(next.into()).await;
                    // Who is late does not make up for it: that would be another rate.
                    next = (next + interval).max(Instant::now());
                }
                let begun = Instant::now();
                let status = connection.offer("/api/tasks", task.as_bytes()).await?;
                if span.covers(begun, Instant::now()) {
                    match status {
                        201 => accepted += 1,
                        503 => refused += 1,
                        other => return Err(io::Error::other(format!("a submission was answered {other}"))),
                    }
                }
            }
            Ok((accepted, refused))
        });
    }
    let syncs = probe(server.reach(), arguments.length + super::WARM_UP);
    let (mut accepted, mut refused) = (0_usize, 0_usize);
    let submissions = crowd(loops, span, server, |(own_accepted, own_refused)| {
        accepted += own_accepted;
        refused += own_refused;
    });
    let (syncs, submissions) = tokio::join!(syncs, submissions);
    submissions?;
    let secs = arguments.length.as_secs_f64();
    Ok((count(accepted) / secs, count(refused) / secs, syncs?))
}

/// Agents that sync for so long, on a thread of their own. The first tenth of their syncs does not count.
fn probe(reach: Reach, length: Duration) -> impl Future<Output = io::Result<Times>> + use<> {
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async move {
            let mut loops = JoinSet::new();
            for number in 0..AGENTS {
                let done = Arc::clone(&done);
                loops.spawn(async move {
                    let id = format!("prober-{number}");
                    let mut agent = Agent::register_at(reach, id, "nothing").await?;
                    let mut times = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let begun = Instant::now();
                        agent.look().await?;
                        times.push(begun.elapsed());
                        tokio::time::sleep(PAUSE).await;
                    }
                    io::Result::Ok(times)
                });
            }
            let mut all = Times::default();
            while let Some(joined) = loops.join_next().await {
                let times = joined.map_err(io::Error::other)??;
                for time in times.iter().skip(times.len() / 10) {
                    all.push(*time);
                }
            }
            Ok(all)
        })
    });
    async move {
        tokio::time::sleep(length).await;
        stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
        joined.unwrap_or_else(|_| Err(io::Error::other("the agents broke")))
    }
}

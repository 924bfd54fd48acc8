//! What people see: how long the server takes for a page and for the metrics with many tasks and agents, and what open
//! dashboards cost while events come.

use std::io;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{interval, timeout_at};

use super::backlog::load;
use super::{LABEL, OBSERVED};
use crate::arguments::Arguments;
use crate::figures::{Figures, Times};
use crate::http::Connection;
use crate::party::{submit, task};
use crate::server::Server;

/// How often each page is opened. Opened means loaded: nobody is given what others saw.
const OPENED: usize = 50;
/// What is opened, by the name of its figure.
const PAGES: &[(&str, &str)] = &[
    ("overview", "/"),
    ("fleet", "/dashboard/fleet"),
    ("agent", "/dashboard/agents/agent-1"),
    ("tasks", "/dashboard/queue"),
    ("pending", "/dashboard/queue?status=pending"),
    ("task", "/dashboard/tasks/looked-at"),
    ("dead_letters", "/dashboard/dead-letters"),
    ("limits", "/dashboard/limits"),
    ("trends", "/dashboard/trends"),
    ("events", "/dashboard/events"),
    ("metrics", "/metrics"),
];
/// Dashboards that are open at a time.
const VIEWERS: usize = 100;
/// What they show, in turn.
const SHOWN: &[&str] = &["/", "/", "/dashboard/fleet", "/dashboard/queue?status=pending"];
/// An event in each of these.
const EVENT_EVERY: Duration = Duration::from_millis(10);
/// What a page says that asks for its content alone, where that of a moment ago will do.
const CONTENT: &str = "adjutant-part: content\r\n";
/// The time for which an agent counts that says nothing.
const TTL: &str = "45m";

pub(super) async fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    let server = Server::start(arguments, &["--agent-ttl", TTL]).await?;
    let mut connection = server.connect().await?;
    for number in 0..arguments.agents {
        // Able to do something else, so that the backlog stays.
        let body = format!(r#"{{"id":"agent-{number}","capabilities":["other"],"models":["opus"]}}"#);
        connection.post("/api/agents", body.as_bytes()).await?;
    }
    load(&server, arguments.backlog).await?;
    let looked_at = format!(r#"{{"id":"looked-at","title":"x","labels":["{LABEL}"]}}"#);
    submit(&mut connection, &looked_at).await?;
    for (name, path) in PAGES {
        let mut times = Times::default();
        for _ in 0..OPENED {
            let begun = Instant::now();
            connection.get(path, "").await?;
            times.push(begun.elapsed());
        }
        figures.put_times(&format!("dashboard.{name}"), &mut times);
    }
    let quiet = observe(&server, 0).await?;
    let open = observe(&server, VIEWERS).await?;
    figures.put("dashboard.events_alone_cpu", quiet, "% of a core");
    figures.put(format!("dashboard.open_{VIEWERS}_cpu"), open, "% of a core");
    figures.put("dashboard.viewers_cpu", open - quiet, "% of a core");
    server.end().await
}

/// The CPU that the server takes while events come and so many look, in percent of one core.
async fn observe(server: &Server, viewers: usize) -> io::Result<f64> {
    let mut loops = JoinSet::new();
    loops.spawn(keep_submitting(server.connect().await?));
    for number in 0..viewers {
        let pulse = server.connect().await?;
        loops.spawn(view(pulse, server.connect().await?, SHOWN[number % SHOWN.len()]));
    }
    // Until every page was loaded once.
    tokio::time::sleep(OBSERVED / 2).await;
    let before = server.cpu()?;
    let end = tokio::time::Instant::now() + OBSERVED;
    // None of them ends by itself but by a failure.
    if let Ok(Some(ended)) = timeout_at(end, loops.join_next()).await {
        ended.map_err(io::Error::other)??;
    }
    let used = server.cpu()?.saturating_sub(before);
    loops.shutdown().await;
    Ok(used.as_secs_f64() / OBSERVED.as_secs_f64() * 100.0)
}

/// Submits one task after the other, at a steady pace: each is an event.
async fn keep_submitting(mut connection: Connection) -> io::Result<()> {
    let (task, mut pace) = (task(LABEL), interval(EVENT_EVERY));
    loop {
        pace.tick().await;
        submit(&mut connection, &task).await?;
    }
}

/// What a browser does with an open page: it is told of changes, and asks for the content again.
async fn view(mut pulse: Connection, mut page: Connection, path: &str) -> io::Result<()> {
    page.get(path, "").await?;
    pulse.listen("/dashboard/pulse").await?;
    loop {
        pulse.beat().await?;
        page.get(path, CONTENT).await?;
    }
}

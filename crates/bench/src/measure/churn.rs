//! What many lives leave behind in PostgreSQL: dead rows, and how large the tables and their indexes become.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::LABEL;
use super::lifecycles::{BATCH, BATCHERS};
use crate::arguments::Arguments;
use crate::figures::{Figures, count};
use crate::party::{Agent, submit_many, task};
use crate::server::Server;

/// Looks at the tables while the lives go by.
const LOOKS: usize = 4;
/// Autovacuum looks at every table once in a minute, unless it is told otherwise: after that it has seen all of it.
const REST: Duration = Duration::from_secs(75);

/// The tables, with what they hold: estimates of the rows that are seen and of those that are dead, and bytes.
const TABLES: &str = "SELECT relname, n_live_tup, n_dead_tup, pg_table_size(relid), pg_indexes_size(relid) \
    FROM pg_stat_user_tables WHERE pg_total_relation_size(relid) >= 1048576 OR n_dead_tup > 0 ORDER BY relname";
/// Updates in all, and those for which no index was written.
const UPDATES: &str = "SELECT sum(n_tup_upd), sum(n_tup_hot_upd) FROM pg_stat_user_tables";

pub(super) async fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    if arguments.cluster.is_none() {
        return Ok(());
    }
    let server = Server::start(arguments, &[]).await?;
    let mut agents = Vec::with_capacity(BATCHERS);
    for number in 0..BATCHERS {
        let name = format!("agent-{number}");
        agents.push(Agent::register_with_room(server.reach(), name, LABEL, BATCH).await?);
    }
    let part = arguments.lives / LOOKS;
    for look in 1..=LOOKS {
        let begun = Instant::now();
        agents = live(agents, part).await?;
        let name = format!("churn.after_{}", part * look);
        let rate = count(part) / begun.elapsed().as_secs_f64();
        figures.put(format!("{name}.rate"), rate, "/s");
        tables(&server, figures, &name).await?;
    }
    tokio::time::sleep(REST).await;
    tables(&server, figures, "churn.at_rest").await?;
    server.end().await
}

/// So many lives, shared by all agents.
async fn live(agents: Vec<Agent>, lives: usize) -> io::Result<Vec<Agent>> {
    let left = Arc::new(AtomicUsize::new(lives.div_ceil(BATCH)));
    let mut loops = JoinSet::new();
    for agent in agents {
        loops.spawn(live_on(agent, Arc::clone(&left)));
    }
    let mut agents = Vec::new();
    while let Some(joined) = loops.join_next().await {
        agents.push(joined.map_err(io::Error::other)??);
    }
    Ok(agents)
}

async fn live_on(mut agent: Agent, left: Arc<AtomicUsize>) -> io::Result<Agent> {
    let task = task(LABEL);
    let mut done = Vec::new();
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
    {
        submit_many(&mut agent.connection, &task, BATCH).await?;
        done = agent.sync_many(&done, BATCH).await?;
    }
    // Others may have taken what this one submitted, and it what they did: in the end nobody holds anything.
    while !done.is_empty() {
        done = agent.sync_many(&done, 0).await?;
    }
    Ok(agent)
}

async fn tables(server: &Server, figures: &mut Figures, name: &str) -> io::Result<()> {
    for row in server.sql(TABLES).await?.lines() {
        let mut fields = row.split('|');
        let table = fields.next().unwrap_or_default();
        for (what, unit, scale) in [
            ("live", "rows", 1.0),
            ("dead", "rows", 1.0),
            ("heap", "MiB", 1_048_576.0),
            ("indexes", "MiB", 1_048_576.0),
        ] {
            figures.put(
                format!("{name}.{table}.{what}"),
                field(fields.next(), row)? / scale,
                unit,
            );
        }
    }
    let row = server.sql(UPDATES).await?;
    let mut fields = row.split('|');
    let (all, hot) = (field(fields.next(), &row)?, field(fields.next(), &row)?);
    figures.put(format!("{name}.updates"), all, "rows");
    figures.put(format!("{name}.updates_without_index"), hot / all * 100.0, "%");
    Ok(())
}

fn field(field: Option<&str>, row: &str) -> io::Result<f64> {
    field
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other(format!("not a row of numbers: {row}")))
}

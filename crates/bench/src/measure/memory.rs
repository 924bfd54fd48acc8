//! Resident memory and CPU of a server that has nothing to do: without agents, and with agents that wait.

use std::io;
use std::time::Duration;

use super::{LABEL, OBSERVED};
use crate::arguments::Arguments;
use crate::figures::{Figures, count};
use crate::party::Agent;
use crate::server::Server;

/// After this time what a start or a registration left behind has settled.
const SETTLE: Duration = Duration::from_secs(3);
/// A wait is at most a third of the time after which an agent counts as gone: this makes it long enough for all
/// waits of a measurement to be open at the same time.
const TTL: &str = "45m";
const WAIT_SECS: u32 = 900;

pub(super) async fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    let server = Server::start(arguments, &["--agent-ttl", TTL]).await?;
    tokio::time::sleep(SETTLE).await;
    let idle = server.resident_mib()?;
    figures.put("memory.idle", idle, "MiB");
    figures.put("memory.idle_cpu", observe(&server).await?, "% of a core");
    let mut agents = Vec::new();
    for number in [1_000, 10_000].map(|number| arguments.agents.min(number)) {
        while agents.len() < number {
            let mut agent = Agent::register(&server, format!("agent-{}", agents.len()), LABEL).await?;
            agent.wait(WAIT_SECS).await?;
            agents.push(agent);
        }
        tokio::time::sleep(SETTLE).await;
        let resident = server.resident_mib()?;
        let name = format!("memory.waiting_{number}");
        figures.put(&name, resident, "MiB");
        figures.put(
            format!("{name}.each"),
            (resident - idle) * 1_024.0 / count(number),
            "KiB",
        );
        figures.put(format!("{name}.cpu"), observe(&server).await?, "% of a core");
    }
    server.end().await
}

/// The CPU that the server takes while nothing is asked of it, in percent of one core.
async fn observe(server: &Server) -> io::Result<f64> {
    let before = server.cpu()?;
    tokio::time::sleep(OBSERVED).await;
    let used = server.cpu()?.saturating_sub(before);
    Ok(used.as_secs_f64() / OBSERVED.as_secs_f64() * 100.0)
}

//! The measurements, each on a server of its own.

mod backlog;
mod churn;
mod dashboard;
mod disk;
mod flood;
mod latency;
mod lifecycles;
mod memory;
mod servers;
mod submissions;

use std::io;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::figures::{Figures, Times, count};
use crate::process;
use crate::server::Server;

/// The label that tasks ask for and agents have.
const LABEL: &str = "count";
/// What happens in this time of a run is not counted: caches fill, connections open.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the CPU is observed that a server takes by itself.
const OBSERVED: Duration = Duration::from_secs(10);

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Measure {
    Latency,
    Lifecycles,
    Submit,
    Memory,
    Backlog,
    Dashboard,
    Flood,
    Servers,
    Churn,
}

impl Measure {
    /// All of them, in the order in which they run.
    pub(crate) const ALL: [Self; 9] = [
        Self::Latency,
        Self::Lifecycles,
        Self::Submit,
        Self::Memory,
        Self::Backlog,
        Self::Dashboard,
        Self::Flood,
        Self::Servers,
        Self::Churn,
    ];

    /// The measurement with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "latency" => Some(Self::Latency),
            "lifecycles" => Some(Self::Lifecycles),
            "submit" => Some(Self::Submit),
            "memory" => Some(Self::Memory),
            "backlog" => Some(Self::Backlog),
            "dashboard" => Some(Self::Dashboard),
            "flood" => Some(Self::Flood),
            "servers" => Some(Self::Servers),
            "churn" => Some(Self::Churn),
            _ => None,
        }
    }
}

/// Runs what is asked for.
pub(crate) async fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    for measure in &arguments.measures {
        match measure {
            Measure::Latency => latency::run(arguments, figures).await?,
            Measure::Lifecycles => lifecycles::run(arguments, figures).await?,
            Measure::Submit => submissions::run(arguments, figures).await?,
            Measure::Memory => memory::run(arguments, figures).await?,
            Measure::Backlog => backlog::run(arguments, figures).await?,
            Measure::Dashboard => dashboard::run(arguments, figures).await?,
            Measure::Flood => flood::run(arguments, figures).await?,
            Measure::Servers => servers::run(arguments, figures).await?,
            Measure::Churn => churn::run(arguments, figures).await?,
        }
    }
    Ok(())
}

/// The part of a run that counts.
#[derive(Clone, Copy)]
struct Span {
    from: Instant,
    until: Instant,
}

impl Span {
    /// Begins after the warm-up.
    fn after_warm_up(length: Duration) -> Self {
        let from = Instant::now() + WARM_UP;
        Self {
            from,
            until: from + length,
        }
    }

    fn covers(self, begun: Instant, ended: Instant) -> bool {
        begun >= self.from && ended <= self.until
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.until
    }
}

/// What CPU a run took.
struct Cpu {
    server: Duration,
    generator: Duration,
    machine: Duration,
}

impl Cpu {
    fn now(server: &Server) -> io::Result<Self> {
        Ok(Self {
            server: server.cpu()?,
            generator: process::cpu(std::process::id())?,
            machine: process::machine_cpu()?,
        })
    }
}

/// Lets loops run for a span and gathers what they measured. A loop ends by itself when the span is over; one that
/// still waits for another that has ended is given up.
async fn crowd<T: Send + 'static>(
    mut loops: JoinSet<io::Result<T>>,
    span: Span,
    server: &Server,
    mut gather: impl FnMut(T),
) -> io::Result<(Cpu, Cpu)> {
    const GRACE: Duration = Duration::from_millis(500);
    tokio::time::sleep_until(span.from.into()).await;
    let before = Cpu::now(server)?;
    tokio::time::sleep_until(span.until.into()).await;
    let after = Cpu::now(server)?;
    let end = tokio::time::sleep(GRACE);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            joined = loops.join_next() => match joined {
                Some(joined) => gather(joined.map_err(io::Error::other)??),
                None => break,
            },
        }
    }
    loops.shutdown().await;
    Ok((before, after))
}

/// Tells how many there were per second, what CPU each took, and whether something else used the machine.
fn put_rate(figures: &mut Figures, name: &str, times: &Times, length: Duration, cpu: &(Cpu, Cpu)) {
    let number = count(times.len());
    figures.put(format!("{name}.rate"), number / length.as_secs_f64(), "/s");
    let (before, after) = cpu;
    let server = after.server.saturating_sub(before.server);
    let generator = after.generator.saturating_sub(before.generator);
    let others = after.machine.saturating_sub(before.machine + server + generator);
    figures.put(
        format!("{name}.server_cpu_each"),
        server.as_secs_f64() * 1e6 / number,
        "µs",
    );
    for (who, used) in [("server", server), ("generator", generator), ("others", others)] {
        figures.put(
            format!("{name}.{who}_cores"),
            used.as_secs_f64() / length.as_secs_f64(),
            "cores",
        );
    }
}

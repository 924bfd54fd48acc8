//! Agents that the server itself speaks for: they are reached by A2A, and no worker is needed for them.
//!
//! ```text
//! keeper ── finds agents with a url ──> host, one for each ── roll-call, as a worker does ──> engine
//!                                         └─ job, one for each attempt ── message:send, tasks/{id}, :cancel ──> peer
//! ```
//!
//! To the engine such an agent is one like any other: it is offered attempts, takes them, and ends them. What is
//! different is who speaks: a server, under a session that it adopts the agent with. Where several servers share a
//! store one of them has it; when that one stops the next takes over at once, and when it is killed as soon as the agent
//! counts as gone.
//!
//! # Invariants
//! - The id of the peer's task is noted before anything else is done with it, so that the attempt outlives the server; and a
//!   task whose id could not be noted is sent again under the same name.
//! - A peer is asked at the addresses that were found when it was registered, and nowhere else ([`crate::outward`]).
//! - Whatever a peer does, its attempt ends: with what it says, or with what is wrong with it.
//!
//! # Not here
//! Who may adopt an agent: the core. The fleet as an agent that others ask: [`crate::a2a`].

mod ask;
mod host;
mod job;
mod words;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use adjutant_core::access::Actor;
use adjutant_core::agent::{Agent, Peer};
use adjutant_core::command::{Answer, Command};
use adjutant_core::name::AgentId;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::host::Host;
use crate::app::App;
use crate::failure::Failure;

/// How often agents are looked for that nobody speaks for. Those that register here are seen at once.
const ROUND: Duration = Duration::from_secs(5);

/// Speaks for all agents that have a URL, until the server is to stop.
pub(crate) async fn keep(app: App, leaving: CancellationToken) {
    let mut hosts: HashMap<AgentId, Hosted> = HashMap::new();
    while !leaving.is_cancelled() {
        match look_around(&app).await {
            Ok(agents) => {
                hosts.retain(|_, hosted| !hosted.running.is_finished());
                for (agent, peer) in agents {
                    if let Some(hosted) = hosts.get(&agent.id) {
                        hosted.peer.send_replace(peer);
                    } else if is_free(&app, &agent) {
                        hosts.insert(agent.id.clone(), Hosted::begin(&app, &agent, peer, &leaving));
                    }
                }
            }
            Err(error) => tracing::warn!(error = %error.0, "agents with a url could not be looked for"),
        }
        tokio::select! {
            () = leaving.cancelled() => {}
            () = app.peers_changed.notified() => {}
            () = tokio::time::sleep(ROUND) => {}
        }
    }
    for (agent, hosted) in hosts {
        if let Err(error) = hosted.running.await {
            tracing::error!(%agent, %error, "the host of an agent broke");
        }
    }
}

/// Whether it is worth while to ask for an agent that is not spoken for here.
fn is_free(app: &App, agent: &Agent) -> bool {
    !app.handle.is_shared() || agent.session.is_none() || agent.offline
}

/// The agents that have a URL.
async fn look_around(app: &App) -> Result<Vec<(Arc<Agent>, Arc<Peer>)>, Failure> {
    let ids = app.handle.query(|reader| reader.peers()).await?;
    // All at once, so that they share a turn.
    let asked = ids
        .into_iter()
        .map(|id| app.handle.call(Actor::admin(), Command::GetAgent(id), None));
    let found = join_all(asked)
        .await
        .into_iter()
        .filter_map(|answer| match answer {
            Ok(Answer::Agent(agent)) => Some((agent.peer.clone()?, agent)),
            // One that is gone by now is none.
            _ => None,
        });
    Ok(found.map(|(peer, agent)| (agent, peer)).collect())
}

/// An agent that this server speaks for.
struct Hosted {
    peer: watch::Sender<Arc<Peer>>,
    running: JoinHandle<()>,
}

impl Hosted {
    fn begin(app: &App, agent: &Agent, peer: Arc<Peer>, leaving: &CancellationToken) -> Self {
        let (peer, told) = watch::channel(peer);
        let host = Host::new(app.clone(), agent, told, leaving.clone());
        Self {
            peer,
            running: tokio::spawn(host.run()),
        }
    }
}

//! The bridge: requests go to the server beside each other, answers come back as they are ready.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adjutant_client::{Client, McpMessage};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::lines::{self, Line, MAX_LINE_BYTES};
use super::message::{Request, Said, too_long};
use super::pulse::Pulse;
use crate::failure::{Failure, Outcome};

/// Requests at a time; a client that asks more waits until some are answered.
const MAX_IN_FLIGHT: usize = 64;
/// What is asked when stdin ends gets so long to be answered: enough for all but a wait for work, which nobody wants any
/// more.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What is settled in the conversation.
#[derive(Default)]
struct Settled {
    /// The revision that the handshake agreed on.
    revision: Option<String>,
    /// The session, if the server has such.
    session: Option<String>,
    /// Whether the last request came to nothing: so that a person is told once, and not for each request.
    came_to_nothing: bool,
}

/// What everyone who carries a message needs.
#[derive(Clone)]
struct Bridge {
    client: Client,
    settled: Arc<Mutex<Settled>>,
    out: mpsc::Sender<String>,
    pulse: Pulse,
}

/// Carries messages until stdin ends, or nobody reads stdout any more.
pub(super) async fn run(client: Client) -> Outcome {
    let (out, mut unread) = lines::outgoing();
    let pulse = Pulse::default();
    let beating = tokio::spawn(pulse.clone().beat(client.clone()));
    let bridge = Bridge {
        client,
        settled: Arc::default(),
        out,
        pulse,
    };
    let mut carried = JoinSet::new();
    tokio::select! {
        () = bridge.carry_all(&mut carried) => {}
        _ = &mut unread => {}
    }
    let answered = async { while carried.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_ANSWERS, answered).await.is_err() {
        carried.shutdown().await;
    }
    beating.abort();
    drop(bridge);
    // What is answered is also written, unless nobody reads it.
    let _ = tokio::time::timeout(LAST_ANSWERS, unread).await;
    Ok(())
}

impl Bridge {
    async fn carry_all(&self, carried: &mut JoinSet<()>) {
        let mut lines = lines::incoming();
        let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        // By the text of their ids, which tells the number 1 from the name "1".
        let mut requests: HashMap<String, AbortHandle> = HashMap::new();
        while let Some(line) = lines.recv().await {
            while carried.try_join_next().is_some() {}
            let text = match line {
                Line::Text(text) => text,
                Line::TooLong => {
                    self.say(too_long(MAX_LINE_BYTES)).await;
                    continue;
                }
            };
            match Said::read(&text) {
                Said::Unreadable(answer) => self.say(answer).await,
                // Nothing is passed on: that the connection ends is what the server needs to know.
                Said::Cancelled(id) => {
                    if let Some(request) = requests.remove(&id.to_string()) {
                        request.abort();
                    }
                }
                Said::Notice { revision } => self.notify(text, revision).await,
                Said::Request(request) => {
                    requests.retain(|_, request| !request.is_finished());
                    let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                        return;
                    };
                    let (bridge, id) = (self.clone(), request.id.to_string());
                    let task = carried.spawn(async move {
                        bridge.carry(request, text).await;
                        drop(place);
                    });
                    requests.insert(id, task);
                }
            }
        }
    }

    /// Carries a request there, and its answer back.
    async fn carry(&self, request: Request, text: String) {
        let message = self.message(&request, text);
        // What comes before the answer is told at once; only streams have such.
        let early = self.out.clone();
        let tell = move |text: String| {
            if early.try_send(one_line(text)).is_err() {
                tracing::warn!("a message was dropped: stdout is not read fast enough");
            }
        };
        match self.client.mcp(message, tell).await {
            Ok(answer) => {
                let mut messages = answer.messages;
                self.reached(answer.session);
                let Some(last) = messages.pop() else {
                    self.say(request.not_reached("the server gave no answer")).await;
                    return;
                };
                let (line, value) = request.fit(last);
                if let Some(value) = value {
                    self.learn(&request, &value);
                }
                self.say(line).await;
            }
            Err(error) => {
                let words = error.to_string();
                self.complain(error);
                self.say(request.not_reached(&words)).await;
            }
        }
    }

    /// Carries a notice, in its turn: what follows it may depend on it.
    async fn notify(&self, text: String, revision: Option<String>) {
        let message = {
            let settled = self.settled();
            McpMessage {
                text,
                protocol_version: revision.or_else(|| settled.revision.clone()),
                session: settled.session.clone(),
                ..McpMessage::default()
            }
        };
        if let Err(error) = self.client.mcp(message, |_| {}).await {
            self.complain(error);
        }
    }

    fn message(&self, request: &Request, text: String) -> McpMessage {
        let settled = self.settled();
        let revision = if request.is_handshake() {
            None
        } else {
            request.revision.clone().or_else(|| settled.revision.clone())
        };
        let (method, name) = request.in_head(revision.as_deref());
        McpMessage {
            text,
            protocol_version: revision,
            method,
            name,
            session: settled.session.clone(),
        }
    }

    /// The server was reached, and may have begun a session.
    fn reached(&self, session: Option<String>) {
        let mut settled = self.settled();
        settled.came_to_nothing = false;
        if session.is_some() {
            settled.session = session;
        }
    }

    /// What an answer settles.
    fn learn(&self, request: &Request, answer: &Value) {
        if request.is_handshake()
            && let Some(revision) = answer["result"]["protocolVersion"].as_str()
        {
            self.settled().revision = Some(revision.to_owned());
        }
        self.pulse.notice(request, answer);
    }

    /// Tells a person what is wrong.
    fn complain(&self, error: adjutant_client::Error) {
        if !std::mem::replace(&mut self.settled().came_to_nothing, true) {
            Failure::from(error).tell();
        }
    }

    async fn say(&self, line: String) {
        // Nobody may read any more; then the bridge ends anyway.
        let _ = self.out.send(line).await;
    }

    fn settled(&self) -> MutexGuard<'_, Settled> {
        // It is whole whenever it can be seen: nothing is changed in two steps.
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message of a stream on one line.
fn one_line(text: String) -> String {
    if text.contains(['\n', '\r']) {
        serde_json::from_str::<Value>(&text).map_or(text, |value| value.to_string())
    } else {
        text
    }
}

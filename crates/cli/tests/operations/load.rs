//! Load: clients that submit tasks and an agent that works them off, until they are told to stop.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adjutant_client::Client;
use adjutant_wire::{BatchItem, Completion, NewAgent, NewTask, Running, SyncRequest};
use tokio::task::JoinHandle;

use crate::support::TOKEN;

/// What the server has said yes to.
#[derive(Clone, Default, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) submitted: BTreeSet<String>,
    pub(crate) completed: BTreeSet<String>,
}

/// Clients at work.
pub(crate) struct Load {
    said: Arc<Mutex<Acknowledged>>,
    slowest: Arc<Mutex<Duration>>,
    stop: Arc<AtomicBool>,
    at_work: Vec<JoinHandle<()>>,
}

pub(crate) fn client(url: &str) -> Client {
    Client::new(url, Some(TOKEN.into())).unwrap()
}

pub(crate) fn task(id: impl Into<String>) -> NewTask {
    NewTask {
        id: Some(id.into()),
        title: "some work".into(),
        description: "x".repeat(500),
        ..NewTask::default()
    }
}

pub(crate) async fn register(client: &Client, id: &str, max_load: u32) {
    let agent = NewAgent {
        id: id.into(),
        max_load: Some(max_load),
        ..NewAgent::default()
    };
    client.register_agent(&agent).await.unwrap();
}

impl Load {
    /// Starts some submitters, whose tasks have ids that begin so, and an agent with room for many.
    pub(crate) async fn start(url: &str, prefix: &str) -> Self {
        let client = client(url);
        let mut load = Self {
            said: Arc::default(),
            slowest: Arc::default(),
            stop: Arc::default(),
            at_work: Vec::new(),
        };
        register(&client, "worker", 20).await;
        for number in 0..4 {
            load.at_work.push(tokio::spawn(submit(
                client.clone(),
                format!("{prefix}-{number}"),
                Arc::clone(&load.said),
                Arc::clone(&load.slowest),
                Arc::clone(&load.stop),
            )));
        }
        let agent = Worker {
            client,
            said: Arc::clone(&load.said),
            running: Vec::new(),
        };
        load.at_work
            .push(tokio::spawn(agent.work(Arc::clone(&load.stop))));
        load
    }

    /// What was said yes to by now.
    pub(crate) fn said(&self) -> Acknowledged {
        self.said.lock().unwrap().clone()
    }

    /// The longest that a submission has taken since this was last asked.
    pub(crate) fn slowest(&self) -> Duration {
        std::mem::take(&mut self.slowest.lock().unwrap())
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        for one in self.at_work {
            one.await.unwrap();
        }
        self.said.lock().unwrap().clone()
    }
}

async fn submit(
    client: Client,
    submitter: String,
    said: Arc<Mutex<Acknowledged>>,
    slowest: Arc<Mutex<Duration>>,
    stop: Arc<AtomicBool>,
) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{submitter}-{number}");
        let begin = Instant::now();
        client.create_task(&task(&id), None).await.unwrap();
        let took = begin.elapsed();
        said.lock().unwrap().submitted.insert(id);
        let mut slowest = slowest.lock().unwrap();
        *slowest = took.max(*slowest);
    }
}

/// An agent that is done with everything at once.
pub(crate) struct Worker {
    client: Client,
    said: Arc<Mutex<Acknowledged>>,
    running: Vec<Running>,
}

impl Worker {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            said: Arc::default(),
            running: Vec::new(),
        }
    }

    async fn work(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            self.round().await;
        }
    }

    /// Reports what it ran as done, and takes what there is. Gives how much that was.
    pub(crate) async fn round(&mut self) -> usize {
        let done: Vec<Completion> = self
            .running
            .iter()
            .map(|running| Completion {
                id: Some(running.id.clone()),
                attempt: Some(running.attempt),
                success: true,
                ..Completion::default()
            })
            .collect();
        let request = SyncRequest {
            running: self.running.clone(),
            done,
            wait: Some(0.2),
            ..SyncRequest::default()
        };
        let answer = self.client.sync("worker", &request).await.unwrap();
        for (running, result) in self.running.drain(..).zip(&answer.done) {
            assert_eq!(status(result), 200, "{result:?}");
            self.said.lock().unwrap().completed.insert(running.id);
        }
        self.running = answer
            .start
            .iter()
            .map(|start| Running {
                id: start.task.id.clone(),
                attempt: start.attempt,
            })
            .collect();
        self.running.len()
    }
}

fn status(item: &BatchItem) -> u16 {
    item.status
}

//! The two sides of a measurement: who submits, and agents that do the work.

use std::io;

use serde::Deserialize;

use crate::http::Connection;
use crate::server::{Reach, Server};

/// How long a sync waits. Work comes within milliseconds, or something is wrong.
const WAIT_SECS: u32 = 15;

/// An attempt to start.
#[derive(Debug)]
pub(crate) struct Job {
    id: String,
    attempt: u32,
}

impl Job {
    /// What an agent says of it when it is done.
    fn done(&self) -> String {
        let (id, attempt) = (&self.id, self.attempt);
        format!(r#"{{"id":"{id}","attempt":{attempt},"success":true,"output":"42 lines"}}"#)
    }
}

#[derive(Deserialize)]
struct SyncAnswer {
    start: Vec<Start>,
}

#[derive(Deserialize)]
struct Start {
    task: Task,
    attempt: u32,
}

#[derive(Deserialize)]
struct Task {
    id: String,
}

/// A task of about 300 bytes that asks for one label.
pub(crate) fn task(label: &str) -> String {
    let description = "Count the lines of every file below src, by language, and write the table to the report. \
        Leave generated files out. Say how many files were skipped, and why.";
    format!(
        r#"{{"title":"Count the lines","description":"{description}","labels":["{label}"],"payload":{{"path":"src","depth":4}}}}"#
    )
}

/// An agent on a connection of its own. It takes one task at a time.
pub(crate) struct Agent {
    pub(crate) connection: Connection,
    id: String,
    path: String,
}

impl Agent {
    /// Registers an agent with one capability.
    pub(crate) async fn register(server: &Server, id: String, label: &str) -> io::Result<Self> {
        Self::register_at(server.reach(), id, label).await
    }

    /// Sets limits that are never reached: they are checked all the same.
    pub(crate) async fn limit(&mut self) -> io::Result<()> {
        let path = format!("/api/allowances/{}", self.id);
        let body = br#"{"daily_token_limit":1000000000,"daily_job_limit":1000000,"concurrent_jobs":100}"#;
        self.connection.put(&path, body).await?;
        Ok(())
    }

    /// Hands in many that were finished, and takes many.
    pub(crate) async fn sync_many(&mut self, done: &[Job], max: usize) -> io::Result<Vec<Job>> {
        let wait = max.min(1);
        self.exchange(done, &format!(r#""max":{max},"wait":{wait}"#))
            .await
    }

    /// One sync of an agent that runs nothing any more.
    async fn exchange(&mut self, done: &[Job], ask: &str) -> io::Result<Vec<Job>> {
        let done: Vec<String> = done.iter().map(Job::done).collect();
        let body = format!(r#"{{"running":[],"done":[{}],{ask}}}"#, done.join(","));
        let answer = self.connection.post(&self.path, body.as_bytes()).await?;
        let answer: SyncAnswer = serde_json::from_slice(answer)?;
        let jobs = answer.start.into_iter().map(|start| Job {
            id: start.task.id,
            attempt: start.attempt,
        });
        Ok(jobs.collect())
    }

    /// The same from another thread.
    pub(crate) async fn register_at(reach: Reach, id: String, label: &str) -> io::Result<Self> {
        Self::register_with_room(reach, id, label, 1).await
    }

    /// An agent that takes so many tasks at a time.
    pub(crate) async fn register_with_room(
        reach: Reach,
        id: String,
        label: &str,
        room: usize,
    ) -> io::Result<Self> {
        let mut connection = reach.connect().await?;
        let body = format!(r#"{{"id":"{id}","capabilities":["{label}"],"max_load":{room}}}"#);
        connection.post("/api/agents", body.as_bytes()).await?;
        let path = format!("/api/agents/{id}/sync");
        Ok(Self { connection, id, path })
    }

    /// Waits for work, handing in what was finished. A completion is answered at once, also where there is nothing to
    /// start yet: then the agent waits with a second sync.
    pub(crate) async fn sync(&mut self, done: Option<&Job>) -> io::Result<Job> {
        if let Some(job) = done
            && let Some(next) = self.sync_once(std::slice::from_ref(job)).await?
        {
            return Ok(next);
        }
        match self.sync_once(&[]).await? {
            Some(job) => Ok(job),
            None => Err(io::Error::other("a sync waited in vain: no work came")),
        }
    }

    async fn sync_once(&mut self, done: &[Job]) -> io::Result<Option<Job>> {
        let jobs = self.exchange(done, &format!(r#""wait":{WAIT_SECS}"#)).await?;
        Ok(jobs.into_iter().next())
    }

    /// Asks whether there is something to do, without waiting.
    pub(crate) async fn look(&mut self) -> io::Result<()> {
        self.connection.post(&self.path, br#"{"running":[]}"#).await?;
        Ok(())
    }

    /// Begins to wait for work, and leaves the answer for another time.
    pub(crate) async fn wait(&mut self, secs: u32) -> io::Result<()> {
        let body = format!(r#"{{"running":[],"wait":{secs}}}"#);
        self.connection.send(&self.path, body.as_bytes()).await
    }

    /// Hands in what was finished.
    pub(crate) async fn complete(&mut self, job: &Job) -> io::Result<()> {
        let path = format!("/api/tasks/{}/complete", job.id);
        let body = format!(
            r#"{{"success":true,"output":"42 lines","attempt":{},"agent_id":"{}"}}"#,
            job.attempt, self.id
        );
        self.connection.post(&path, body.as_bytes()).await?;
        Ok(())
    }
}

/// Submits many tasks at once.
pub(crate) async fn submit_many(connection: &mut Connection, task: &str, number: usize) -> io::Result<()> {
    let body = format!("[{}]", vec![task; number].join(","));
    connection.post("/api/batch/tasks", body.as_bytes()).await?;
    Ok(())
}

/// Submits one task.
pub(crate) async fn submit(connection: &mut Connection, task: &str) -> io::Result<()> {
    connection.post("/api/tasks", task.as_bytes()).await?;
    Ok(())
}

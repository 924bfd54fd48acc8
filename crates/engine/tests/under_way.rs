//! Commits that are under way while the next turn is decided, some of which come to nothing: nobody is told of what did
//! not happen, and everything happens once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adjutant_core::access::Actor;
use adjutant_core::command::{Answer, Command, Completion, NewAgent, NewTask, Running, Sync, SyncAnswer};
use adjutant_core::set::Settings;
use adjutant_core::set::rows::{Changes, Rows, Wanted};
use adjutant_core::task::TaskResult;
use adjutant_core::time::Span;
use adjutant_engine::{Engine, Handle};
use adjutant_store::memory::Memory;
use adjutant_store::{Commit, CommitError, Reader, Store, StoreError};

/// A store whose commits are under way until they are asked for, and one in three of which is rolled back then.
struct Wavering {
    memory: Memory,
    commits: u64,
    under_way: Option<Result<u64, CommitError>>,
    rolled_back: Arc<AtomicU64>,
}

impl Store for Wavering {
    fn is_shared(&self) -> bool {
        true
    }

    fn census(&mut self) -> Result<Rows, StoreError> {
        self.memory.census()
    }

    fn load(&mut self, wanted: &Wanted) -> Result<Rows, StoreError> {
        self.memory.load(wanted)
    }

    fn begin_commit(&mut self, changes: &Changes) -> Result<Commit, CommitError> {
        assert!(self.under_way.is_none(), "one at a time");
        self.commits += 1;
        self.under_way = Some(if self.commits.is_multiple_of(3) {
            self.memory.abandon();
            self.rolled_back.fetch_add(1, Ordering::Relaxed);
            Err(StoreError::Busy("another server was in the way".into()).into())
        } else {
            self.memory.commit(changes)
        });
        Ok(Commit::UnderWay)
    }

    fn end_commit(&mut self) -> Result<u64, CommitError> {
        let ended = self.under_way.take().expect("one is under way");
        if ended.is_err() {
            // What was begun on top of it goes with it.
            self.memory.abandon();
        }
        ended
    }

    fn commit(&mut self, changes: &Changes) -> Result<u64, CommitError> {
        self.begin_commit(changes)?;
        self.end_commit()
    }

    fn abandon(&mut self) {
        self.memory.abandon();
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        self.memory.reader()
    }
}

async fn call(handle: &Handle, command: Command) -> Answer {
    let answer = handle.call(Actor::admin(), command, None).await;
    answer.expect("nobody notices")
}

async fn sync(handle: &Handle, agent: &str, n: u64, running: Vec<Running>) -> SyncAnswer {
    let sync = Sync {
        agent: agent.into(),
        session: Some("session".into()),
        n: Some(n),
        running: Some(running),
        done: Vec::new(),
        max: None,
        wait: Span::from_secs(2),
    };
    match call(handle, Command::Sync(sync)).await {
        Answer::Sync(answer) => *answer,
        other => panic!("a sync is answered with {other:?}"),
    }
}

/// Does what it is given until there is nothing for a while; gives how often each task was started.
async fn work(handle: Handle, agent: String) -> BTreeMap<String, usize> {
    let mut started = BTreeMap::new();
    let mut n = 0;
    loop {
        n += 1;
        let answer = sync(&handle, &agent, n, Vec::new()).await;
        assert!(answer.stop.is_empty(), "{:?}", answer.stop);
        if answer.start.is_empty() {
            return started;
        }
        for start in answer.start {
            let id = start.view.task.id.clone();
            *started.entry(id.to_string()).or_default() += 1;
            let completion = Completion {
                id,
                attempt: Some(start.attempt),
                agent: Some(agent.as_str().into()),
                result: TaskResult {
                    success: true,
                    output: String::new(),
                    artifacts: Vec::new(),
                    error_message: String::new(),
                },
                model: None,
                tokens: None,
                cost: None,
                rate_limited_until: None,
            };
            let complete = Command::Complete {
                completions: vec![Ok(completion)],
                batch: false,
            };
            call(&handle, complete).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_to_nothing_is_taken_again_and_nobody_notices() {
    const AGENTS: usize = 6;
    const TASKS: usize = 150;
    let rolled_back = Arc::new(AtomicU64::new(0));
    let store = Wavering {
        memory: Memory::shared(),
        commits: 0,
        under_way: None,
        rolled_back: Arc::clone(&rolled_back),
    };
    let (handle, engine) = Engine::start(store, Settings::default()).expect("it starts");
    let mut workers = Vec::new();
    for number in 0..AGENTS {
        let id = format!("agent-{number}");
        let agent = NewAgent {
            id: id.as_str().into(),
            name: id.clone(),
            capabilities: Arc::default(),
            models: Arc::default(),
            max_load: 1,
            metadata: None,
            session: Some("session".into()),
            peer: None,
        };
        call(&handle, Command::Register(agent)).await;
        workers.push(tokio::spawn(work(handle.clone(), id)));
    }
    let submitters = (0..3).map(|submitter| {
        let handle = handle.clone();
        tokio::spawn(async move {
            for number in (submitter..TASKS).step_by(3) {
                let id = format!("task-{number}");
                let submit = Command::Submit {
                    tasks: vec![Ok(NewTask::new(id.as_str(), "a task"))],
                    batch: false,
                };
                call(&handle, submit).await;
            }
        })
    });
    for submitter in submitters.collect::<Vec<_>>() {
        submitter.await.expect("all is accepted");
    }
    let mut started = BTreeMap::new();
    for worker in workers {
        for (id, times) in worker.await.expect("it works to the end") {
            *started.entry(id).or_insert(0) += times;
        }
    }
    assert_eq!(started.len(), TASKS);
    assert!(started.values().all(|times| *times == 1), "{started:?}");
    assert!(rolled_back.load(Ordering::Relaxed) > 20, "some came to nothing");
    let counts = handle.task_counts().await.expect("they are read");
    assert_eq!(counts.iter().sum::<u64>(), TASKS as u64);
    let ended = tokio::task::spawn_blocking(move || engine.stop());
    tokio::time::timeout(Duration::from_secs(30), ended)
        .await
        .expect("it ends")
        .expect("nothing panicked")
        .expect("it ended well");
}

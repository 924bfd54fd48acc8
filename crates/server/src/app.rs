//! The application: what handlers share, and the router over all of them.

use std::ops::Deref;
use std::sync::Arc;

use adjutant_core::access::Actor;
use adjutant_core::agent::Agent;
use adjutant_core::command::{Answer, Command, IdempotencyKey, TaskView};
use adjutant_core::counter::Counter;
use adjutant_core::limit::{Policy, Scope};
use adjutant_core::name::TaskId;
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::task::{Status, Task};
use adjutant_core::time::Timestamp;
use adjutant_engine::{Handle, Refusal};
use adjutant_store::StoredTask;
use adjutant_wire as wire;
use axum::Router;
use http::StatusCode;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::a2a::card::Skills;
use crate::access::caller::Caller;
use crate::access::directory::{Directory, Pass};
use crate::access::guard::guard;
use crate::access::links::Links;
use crate::access::origin::Origins;
use crate::access::session::Sessions;
use crate::access::sign_in::SignIns;
use crate::access::table::Table;
use crate::attempt_token::AttemptMint;
use crate::body::BodyBounds;
use crate::config::Config;
use crate::dashboard::Dashboard;
use crate::failure::{Failure, error_body};
use crate::metrics::Metrics;
use crate::serve::ServeError;
use crate::{a2a, dashboard, page, routes, view};

/// Tasks whose texts are read at a time where it is not known how long they are.
const PRESENTED_AT_A_TIME: usize = 16;

/// What handlers share; cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

/// The shared part of an [`App`].
pub(crate) struct Shared {
    /// The engine.
    pub(crate) handle: Handle,
    /// What the server was told.
    pub(crate) config: Config,
    /// The names that requests may be addressed to.
    pub(crate) origins: Origins,
    /// Who may use what.
    pub(crate) table: Table,
    /// Which token speaks for whom.
    pub(crate) directory: Directory,
    /// Attempt tokens.
    pub(crate) mint: AttemptMint,
    /// Session cookies.
    pub(crate) sessions: Sessions,
    /// Sign-in links.
    pub(crate) links: Links,
    /// Failed sign-ins.
    pub(crate) sign_ins: SignIns,
    /// How bodies are bounded.
    pub(crate) bodies: BodyBounds,
    /// A KiB of large answers that are being sent, each.
    pub(crate) answers: Arc<Semaphore>,
    /// One for each event stream that may be open.
    pub(crate) streams: Arc<Semaphore>,
    /// What the agent card of A2A offers.
    pub(crate) skills: Skills,
    /// Told when an agent has registered that the server is to speak for.
    pub(crate) peers_changed: Notify,
    /// What Prometheus reads.
    pub(crate) metrics: Metrics,
    /// What open dashboards share.
    pub(crate) dashboard: Dashboard,
    /// How many times webhooks were changed here.
    pub(crate) webhooks_changed: watch::Sender<u64>,
    /// The store's secret, which those of webhooks are made of.
    pub(crate) secret: [u8; 32],
    /// Ends streams when the server stops.
    pub(crate) shutdown: CancellationToken,
}

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// Reads what is needed from the store.
    pub(crate) async fn open(
        handle: Handle,
        config: Config,
        shutdown: CancellationToken,
    ) -> Result<Self, ServeError> {
        let origins = Origins::new(&config).map_err(ServeError::Config)?;
        let (metrics, watcher) = Metrics::new();
        handle.watch(watcher)?;
        let secret = handle.query(|reader| reader.secret()).await?;
        Ok(Self(Arc::new(Shared {
            directory: Directory::open(handle.clone()).await?,
            mint: AttemptMint::new(secret),
            sessions: Sessions::new(secret, is_on_tls(&config)),
            links: Links::default(),
            dashboard: Dashboard::start(&handle, &shutdown),
            origins,
            table: Table::new(),
            sign_ins: SignIns::default(),
            bodies: BodyBounds::new(config.max_body_memory_bytes, config.stall_timeout),
            answers: Arc::new(Semaphore::new(config.max_answer_memory_bytes >> 10)),
            streams: Arc::new(Semaphore::new(config.max_streams)),
            skills: Skills::default(),
            peers_changed: Notify::new(),
            metrics,
            webhooks_changed: watch::Sender::new(0),
            secret,
            handle,
            config,
            shutdown,
        })))
    }

    /// The router over all endpoints.
    pub(crate) fn router(self) -> Router {
        let routes = routes::all().split_for_parts().0.merge(routes::aliases());
        // Tools ask for what they need as everyone else does, through the guard.
        let api = self.clone().guarded(routes.clone());
        let mcp = routes::mcp::route(api, self.config.max_body_bytes);
        let browsers = routes::sign_in::browser_routes().merge(dashboard::routes());
        self.guarded(routes.merge(mcp).merge(a2a::routes()).merge(browsers))
    }

    /// These routes behind the guard, which also answers for what is not routed.
    pub(crate) fn guarded(self, routes: Router<Self>) -> Router {
        routes
            .layer(axum::middleware::from_fn_with_state(self.clone(), guard))
            .with_state(self)
    }

    /// Has a change of a webhook noticed before anything more is delivered.
    pub(crate) fn webhooks_have_changed(&self) {
        self.webhooks_changed.send_modify(|times| *times += 1);
    }

    /// Asks something that changes nothing.
    pub(crate) async fn ask(&self, actor: Actor, command: Command) -> Result<Answer, Failure> {
        Ok(self.handle.call(actor, command, None).await?)
    }

    /// All agents, by id.
    pub(crate) async fn agents(&self, actor: Actor) -> Result<Vec<Arc<Agent>>, Failure> {
        let command = Command::ListAgents {
            status: None,
            capabilities: Vec::new(),
        };
        match self.ask(actor, command).await? {
            Answer::Agents(agents) => Ok(agents),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for a change.
    pub(crate) async fn change(
        &self,
        caller: Caller,
        command: Command,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Answer, Failure> {
        Ok(self.handle.call(caller.actor, command, idempotency).await?)
    }

    /// Asks for a change of a task, and shows the task as it is then.
    pub(crate) async fn change_task(
        &self,
        caller: Caller,
        command: Command,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<wire::Task, Failure> {
        match self.change(caller, command, idempotency).await? {
            Answer::Task(view) => self.present_one(*view).await,
            other => Err(unexpected(&other)),
        }
    }

    /// Asks something whose answer is what is set and used for a scope.
    pub(crate) async fn standing(
        &self,
        caller: Caller,
        command: Command,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Standing, Failure> {
        Standing::of(self.change(caller, command, idempotency).await?)
    }

    /// Starts the periods of a scope anew, and reads what is set and used then.
    pub(crate) async fn reset(
        &self,
        caller: Caller,
        scope: Scope,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Standing, Failure> {
        let read = Command::GetPolicy(scope.clone());
        match self
            .change(caller.clone(), Command::Reset(scope), idempotency)
            .await?
        {
            Answer::Done => self.standing(caller, read, None).await,
            answer => Standing::of(answer),
        }
    }

    /// Does something to its end, also when whoever asked for it is gone meanwhile.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Failure> {
        match tokio::spawn(work).await {
            Ok(done) => Ok(done?),
            Err(error) => Err(Failure::bug(&error.to_string())),
        }
    }

    /// Waits until the token that let a caller in is revoked; for ever where there is none.
    pub(crate) async fn until_revoked(&self, pass: Option<Pass>) {
        match pass {
            Some(pass) => self.directory.until_revoked(pass).await,
            None => std::future::pending().await,
        }
    }

    /// One task as it is stored.
    pub(crate) async fn stored_task(&self, id: TaskId) -> Result<StoredTask, Failure> {
        let asked = id.clone();
        let found = self.handle.query(move |reader| reader.task(&asked)).await?;
        found.ok_or_else(|| {
            Failure(Rejection::new(
                Slug::TaskNotFound,
                format!("there is no task `{id}`"),
            ))
        })
    }

    /// Tasks as a client sees them, from what the core says of them.
    ///
    /// Their bodies and results are read from the store, unless the command brought the body and there is nothing
    /// else to tell.
    pub(crate) async fn present(&self, views: Vec<TaskView>) -> Result<Vec<wire::Task>, Failure> {
        let missing: Vec<_> = views
            .iter()
            .filter(|view| needs_details(view))
            .map(|view| Arc::clone(&view.task))
            .collect();
        if missing.is_empty() {
            return Ok(views.iter().map(view::task::brief).collect());
        }
        let details = self.handle.query(move |reader| reader.details(&missing)).await?;
        let mut details = details.into_iter();
        views
            .iter()
            .map(|view| {
                if !needs_details(view) {
                    return Ok(view::task::brief(view));
                }
                let details = details
                    .next()
                    .ok_or_else(|| Failure::bug("the store gave fewer details than it was asked for"))?;
                Ok(view::task::full(view, details))
            })
            .collect()
    }

    /// The first of these tasks as a client sees them: as many as fit into so many bytes, and at least one.
    pub(crate) async fn present_within(
        &self,
        views: Vec<TaskView>,
        most_bytes: usize,
    ) -> Result<Vec<wire::Task>, Failure> {
        let mut views = views.into_iter();
        let (mut shown, mut bytes) = (Vec::with_capacity(views.len()), 0);
        loop {
            // Few at a time, so that what is read beyond the bound is little.
            let some: Vec<_> = views.by_ref().take(PRESENTED_AT_A_TIME).collect();
            if some.is_empty() {
                return Ok(shown);
            }
            for task in self.present(some).await? {
                bytes += page::weight_shown(&task);
                if bytes > most_bytes && !shown.is_empty() {
                    return Ok(shown);
                }
                shown.push(task);
            }
        }
    }

    /// One task as a client sees it.
    pub(crate) async fn present_one(&self, view: TaskView) -> Result<wire::Task, Failure> {
        only(self.present(vec![view]).await?)
    }

    /// One stored task as a client sees it.
    pub(crate) async fn present_stored_one(
        &self,
        actor: &Actor,
        stored: StoredTask,
    ) -> Result<wire::Task, Failure> {
        only(self.present_stored(actor, vec![stored]).await?)
    }

    /// The items of a batch: each with the status that it would have got alone. Once their tasks have taken as many
    /// bytes as a batch may send, the others have their status alone.
    pub(crate) async fn present_items(
        &self,
        items: Vec<Result<TaskView, Rejection>>,
        good: StatusCode,
    ) -> Result<Vec<wire::BatchItem>, Failure> {
        let mut views = Vec::with_capacity(items.len());
        let mut refusals = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Ok(view) => {
                    views.push(view);
                    refusals.push(None);
                }
                Err(rejection) => refusals.push(Some(rejection)),
            }
        }
        let most_bytes = self.config.max_batch_body_bytes;
        let mut tasks = self.present_within(views, most_bytes).await?.into_iter();
        let shown = refusals.into_iter().map(|refusal| match refusal {
            Some(rejection) => wire::BatchItem {
                status: rejection.slug.code(),
                task: None,
                error: Some(error_body(rejection)),
            },
            None => wire::BatchItem {
                status: good.as_u16(),
                task: tasks.next(),
                error: None,
            },
        });
        Ok(shown.collect())
    }

    /// Stored tasks as a client sees them. The core says why they wait and until when leases last; of those that
    /// ended there is nothing to say.
    pub(crate) async fn present_stored(
        &self,
        actor: &Actor,
        stored: Vec<StoredTask>,
    ) -> Result<Vec<wire::Task>, Failure> {
        let live: Vec<_> = stored
            .iter()
            .filter(|stored| !stored.task.status.is_terminal())
            .map(|stored| Arc::clone(&stored.task))
            .collect();
        let views = if live.is_empty() {
            Vec::new()
        } else {
            match self.handle.call(actor.clone(), Command::View(live), None).await? {
                Answer::Views(views) => views,
                other => return Err(unexpected(&other)),
            }
        };
        let mut views = views.into_iter();
        stored
            .into_iter()
            .map(|StoredTask { task, details }| {
                if task.status.is_terminal() {
                    return Ok(view::task::full(&ended(task), details));
                }
                let view = views
                    .next()
                    .ok_or_else(|| Failure::bug("the core gave fewer views than it was asked for"))?;
                Ok(view::task::full(&view, details))
            })
            .collect()
    }
}

fn only(tasks: Vec<wire::Task>) -> Result<wire::Task, Failure> {
    tasks
        .into_iter()
        .next()
        .ok_or_else(|| Failure::bug("a task was lost on its way out"))
}

/// Whether browsers reach the server by TLS alone, as far as that was told.
fn is_on_tls(config: &Config) -> bool {
    let public = config.public_url.as_ref();
    public.map_or(config.tls.is_some(), |url| url.starts_with("https://"))
}

/// What is set and used for a scope.
pub(crate) struct Standing {
    /// Whose.
    pub(crate) scope: Scope,
    /// What is set.
    pub(crate) policy: Arc<Policy>,
    /// What is used.
    pub(crate) counter: Arc<Counter>,
    /// When.
    pub(crate) now: Timestamp,
}

impl Standing {
    fn of(answer: Answer) -> Result<Self, Failure> {
        match answer {
            Answer::Policy {
                scope,
                policy,
                counter,
                now,
            } => Ok(Self {
                scope,
                policy,
                counter,
                now,
            }),
            other => Err(unexpected(&other)),
        }
    }
}

fn ended(task: Arc<Task>) -> TaskView {
    TaskView {
        task,
        body: None,
        ending: None,
        lease_expires_at: None,
        waiting: None,
    }
}

/// Whether there is more to tell of a task than what came along with it.
fn needs_details(view: &TaskView) -> bool {
    let task = &view.task;
    let has_ended = task.has_result || task.retry_count > 0 || task.status.is_terminal();
    let may_block = task.dependents > 0 && (task.status != Status::Completed || task.fanout.is_some());
    view.body.is_none() || task.notes > 0 || may_block || (has_ended && view.ending.is_none())
}

/// The core answered something else than what was asked.
pub(crate) fn unexpected(answer: &Answer) -> Failure {
    let mut what = format!("{answer:?}");
    what.truncate(what.floor_char_boundary(200));
    Failure::bug(&format!("an answer of another kind than the question: {what}"))
}

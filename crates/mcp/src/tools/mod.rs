//! The tools: one table, in the order in which models see them.
//!
//! # Not here
//! What they do: [`agent`] for those who work, [`planner`] for those who plan.

mod agent;
mod planner;

use std::sync::LazyLock;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rmcp::model::{Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::ApiError;
use crate::arguments;
use crate::audience::Role::{self, Agent, Attempt, Read, Submit};
use crate::handler::Visitor;
use crate::outcome::Outcome;

/// What calling a tool does to the world.
#[derive(Clone, Copy)]
enum Effect {
    /// Nothing.
    Reads,
    /// It adds something, each time.
    Adds,
    /// It sets something: doing it twice is doing it once.
    Sets,
    /// The same, and something is over then.
    Ends,
}

type Run = Box<dyn Fn(Visitor, Map<String, Value>) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// A tool.
pub(crate) struct Entry {
    /// What models see of it.
    pub(crate) tool: Tool,
    /// Whom it is for, beside administrators.
    pub(crate) roles: &'static [Role],
    run: Run,
}

impl Entry {
    fn new<A, F, R>(
        name: &'static str,
        title: &'static str,
        effect: Effect,
        roles: &'static [Role],
        description: &'static str,
        run: F,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + 'static,
        F: Fn(Visitor, A) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Outcome, ApiError>> + Send + 'static,
    {
        let tool = Tool::new(name, description, Map::new())
            .with_input_schema::<A>()
            .with_title(title)
            .with_annotations(annotations(title, effect));
        let run: Run = Box::new(move |visitor, arguments| match arguments::read::<A>(arguments) {
            Ok(arguments) => {
                let running = run(visitor, arguments);
                async move { running.await.unwrap_or_else(Outcome::from) }.boxed()
            }
            Err(refusal) => std::future::ready(refusal.into()).boxed(),
        });
        Self { tool, roles, run }
    }

    /// Calls it.
    pub(crate) async fn call(&self, visitor: Visitor, arguments: Map<String, Value>) -> Outcome {
        if !visitor.audience.is_among(self.roles) {
            let roles: Vec<_> = self.roles.iter().map(|role| role.words()).collect();
            return ApiError::forbidden(format!(
                "the tool `{}` is not for the roles of this token: it needs `admin` or {}",
                self.tool.name,
                roles.join(" or ")
            ))
            .into();
        }
        (self.run)(visitor, arguments).await
    }
}

fn annotations(title: &str, effect: Effect) -> ToolAnnotations {
    let (reads, ends, repeats) = match effect {
        Effect::Reads => (true, false, true),
        Effect::Adds => (false, false, false),
        Effect::Sets => (false, false, true),
        Effect::Ends => (false, true, true),
    };
    ToolAnnotations::with_title(title)
        .read_only(reads)
        .destructive(ends)
        .idempotent(repeats)
        .open_world(false)
}

/// All tools.
pub(crate) fn all() -> &'static [Entry] {
    &TOOLS
}

/// The tool of this name.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    all().iter().find(|entry| entry.tool.name == name)
}

static TOOLS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let mut tools = for_agents();
    tools.extend(for_planners());
    tools
});

fn for_agents() -> Vec<Entry> {
    vec![
        Entry::new(
            "register",
            "Register as an agent",
            Effect::Sets,
            &[Agent],
            "Say who you are and what you can do. Do this once, before anything else; doing it again changes what is \
             registered. Then ask for work with next_task.",
            agent::register,
        ),
        Entry::new(
            "next_task",
            "Get the next task",
            Effect::Adds,
            &[Agent],
            "Get work. Answers with tasks that are now yours: each has a task_id and the number of its attempt, which \
             you need for every report about it. A task that you hold already and do not list in `running` is given \
             to you again (marked as resumed), so call this whenever you do not know what you were working on. When \
             there is nothing to do it waits for `wait` seconds; call it again then. Finish each task with \
             complete_task, or give it back with release_task. The server takes you for lost, and gives your tasks to \
             others, when it does not hear from you for the `lease_ttl` of the answer: call update_task meanwhile \
             (`adjutant mcp` does it for you).",
            agent::next_task,
        ),
        Entry::new(
            "update_task",
            "Report progress",
            Effect::Adds,
            &[Agent, Attempt],
            "Say how far you are with a task that you hold, or leave a note for people. Do it now and then: it also \
             shows that you are still there, and the answer says which of your tasks to stop.",
            agent::update_task,
        ),
        Entry::new(
            "report_usage",
            "Report tokens and cost",
            Effect::Adds,
            &[Agent, Attempt],
            "Report tokens and cost that you spent on a task. The answer says which of your tasks to stop, such as one \
             that has used up its limit.",
            agent::report_usage,
        ),
        Entry::new(
            "complete_task",
            "Finish a task",
            Effect::Ends,
            &[Agent, Attempt],
            "Report that you are done with a task that you hold: `success` true with its `output` and `artifacts`, or \
             false with an `error_message`. Saying the same again does no harm. Then call next_task.",
            agent::complete_task,
        ),
        Entry::new(
            "release_task",
            "Give a task back",
            Effect::Ends,
            &[Agent],
            "Give back a task that you hold and will not do. It is no failure, and another agent may take it.",
            agent::release_task,
        ),
        Entry::new(
            "check_allowance",
            "Check what is left",
            Effect::Reads,
            &[Agent, Read],
            "See whether an agent may start another task, and how many tokens and tasks it has left today. -1 is \
             unlimited.",
            agent::check_allowance,
        ),
    ]
}

fn for_planners() -> Vec<Entry> {
    vec![
        Entry::new(
            "create_task",
            "Create a task",
            Effect::Adds,
            &[Submit],
            "Hand the fleet a task. An agent that can do it gets it as soon as one has room. To a client that follows \
             tasks of the protocol this answers with one that ends when the work is done; create_tasks never waits.",
            planner::create_task,
        ),
        Entry::new(
            "create_tasks",
            "Create several tasks",
            Effect::Adds,
            &[Submit],
            "Hand the fleet up to 1000 tasks at once. They may depend on each other: give those an `id` that others name \
             in `dependencies`. A bad one is refused alone, together with what depends on it; the answer says which.",
            planner::create_tasks,
        ),
        Entry::new(
            "list_tasks",
            "List tasks",
            Effect::Reads,
            &[Submit, Read],
            "List tasks without their texts. get_task shows one in full.",
            planner::list_tasks,
        ),
        Entry::new(
            "get_task",
            "Read a task",
            Effect::Reads,
            &[Submit, Read, Agent],
            "Read a task in full: what has to be done, where it stands, notes, and what came out.",
            planner::get_task,
        ),
        Entry::new(
            "explain_task",
            "Explain why a task waits",
            Effect::Reads,
            &[Submit, Read],
            "See why a task does not start, and what each agent lacks for it.",
            planner::explain_task,
        ),
        Entry::new(
            "cancel_task",
            "Cancel a task",
            Effect::Ends,
            &[Submit],
            "Cancel a task. Whoever works on it is told to stop. With `cascade` all that depends on it is cancelled too.",
            planner::cancel_task,
        ),
        Entry::new(
            "fleet_status",
            "See the whole fleet",
            Effect::Reads,
            &[Submit, Read],
            "See all agents with what they do and have left, and how many tasks are in each state.",
            planner::fleet_status,
        ),
    ]
}

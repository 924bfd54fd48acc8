//! What a worker is told before it starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adjutant_core::money::Money;
use adjutant_core::name::check_id;

use crate::adapter::Adapter;
use crate::workspace::Workspaces;
use crate::{AdapterKind, Error, Keeper};

/// How long a command has to end after it was asked to, before it is made to.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long an agent's program may go on after its result, before it is made to end.
pub const RESULT_GRACE: Duration = Duration::from_secs(10);

/// A worker: which agent it is, and what it runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The id of the agent.
    pub id: String,
    /// Its name for people; the id when absent.
    pub name: Option<String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// The models that it can use; empty is any.
    pub models: Vec<String>,
    /// The most attempts at a time; 0 is unlimited.
    pub max_load: u32,
    /// Any JSON, kept for people.
    pub metadata: Option<serde_json::Value>,
    /// The program and its arguments. Placeholders in arguments are replaced for each task: `{title}`,
    /// `{description}`, `{id}`, `{payload}` and `{payload.x}`; `{{title}}` is the text `{title}`.
    pub command: Vec<String>,
    /// How the command is called and what it prints is understood; by the name of its program when absent.
    pub adapter: Option<AdapterKind>,
    /// What a million tokens of output cost of a model, for a budget that a program can be given. The server is asked for
    /// prices that are not here, where it lets the worker know them.
    pub output_prices: BTreeMap<String, Money>,
    /// The longest that one attempt may run; the smaller of this and what the server says holds.
    pub timeout: Option<Duration>,
    /// Added to the environment of the command.
    pub env: Vec<(String, String)>,
    /// Where the command runs; where the worker runs when absent.
    pub cwd: Option<PathBuf>,
    /// A workspace of its own for each attempt; without them all of them work in `cwd`.
    pub workspaces: Option<Workspaces>,
    /// How long a command has to end after it was asked to.
    pub grace: Duration,
    /// How long an agent's program may go on after its result.
    pub result_grace: Duration,
    /// Let commands go on when the server is away for longer than their lease: right where a single server comes
    /// back and gives their tasks to nobody else meanwhile.
    pub outlive_server: bool,
    /// End once the agent was told to drain and nothing is left.
    pub exit_when_drained: bool,
    /// Leave the registry at the end, instead of being seen as offline a while later.
    pub deregister: bool,
    /// Ends what runs when this process is killed; without one it goes on until it ends by itself.
    pub keeper: Option<Keeper>,
}

impl Config {
    /// An agent with this id that runs this command, one task at a time.
    pub fn new(id: impl Into<String>, command: Vec<String>) -> Self {
        Self {
            id: id.into(),
            name: None,
            capabilities: Vec::new(),
            models: Vec::new(),
            max_load: 1,
            metadata: None,
            command,
            adapter: None,
            output_prices: BTreeMap::new(),
            timeout: None,
            env: Vec::new(),
            cwd: None,
            workspaces: None,
            grace: GRACE,
            result_grace: RESULT_GRACE,
            outlive_server: false,
            exit_when_drained: false,
            deregister: true,
            keeper: None,
        }
    }

    /// How the command is run.
    pub(crate) fn adapter(&self) -> Adapter {
        let kind = self
            .adapter
            .unwrap_or_else(|| AdapterKind::of_command(&self.command));
        let mut command = self.command.clone();
        if let (Some(_), Some(program)) = (&self.workspaces, command.first_mut())
            && program.contains('/')
        {
            // The program is the worker's own: it is not looked for in the workspace.
            let path = self.cwd.as_deref().unwrap_or(Path::new("")).join(&*program);
            let path = std::path::absolute(&path).unwrap_or(path);
            *program = path.to_string_lossy().into_owned();
        }
        Adapter::new(kind, &command)
    }

    /// Says what makes no sense, if anything.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check(&self) -> Result<(), Error> {
        check_id(&self.id).map_err(|why| Error::Config(format!("the agent id {why}")))?;
        if self.command.first().is_none_or(String::is_empty) {
            return Err(Error::Config(
                "a worker needs a command: write it after `--`".into(),
            ));
        }
        if self.command.iter().any(|argument| argument.contains('\0')) {
            return Err(Error::Config("the command must not contain NUL".into()));
        }
        if let Some(objection) = self.adapter().objection() {
            return Err(Error::Config(objection));
        }
        let bad_name = |name: &str| name.is_empty() || name.contains(['=', '\0']);
        if let Some((name, _)) = self
            .env
            .iter()
            .find(|(name, value)| bad_name(name) || value.contains('\0'))
        {
            return Err(Error::Config(format!(
                "`{name}` cannot be set in an environment: no empty name, no `=` in it, no NUL"
            )));
        }
        Ok(())
    }
}

//! Fleet files: which agents run, with which commands and which rations.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use adjutant_core::limit::{self, Window};
use adjutant_core::money::Money;
use adjutant_core::name::check_id;
use adjutant_core::time::Span;
use adjutant_wire::{Allowance, LimitSpec, Model, Repo};
use adjutant_worker::AdapterKind;
use adjutant_worker::workspace::{self, Kind};
use serde::Deserialize;
use toml::Spanned;

use crate::failure::{Failure, Outcome};
use crate::text::line_at;
use crate::toml_file;

/// A fleet file.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fleet {
    /// Where the server listens.
    pub(crate) listen: Option<String>,
    /// Where tasks are kept.
    pub(crate) store: Option<String>,
    /// Where commands run, from the fleet file's own directory on; the current directory when absent.
    pub(crate) directory: Option<PathBuf>,
    /// How long an agent may be silent.
    pub(crate) agent_ttl: Option<Span>,
    /// What agents without an allowance of their own may use.
    pub(crate) default_allowance: Option<AllowanceEntry>,
    /// Limits of any scope.
    #[serde(default)]
    pub(crate) limits: Vec<LimitEntry>,
    /// Quotas and prices of models.
    #[serde(default)]
    pub(crate) models: Vec<ModelEntry>,
    /// Limits of repositories.
    #[serde(default)]
    pub(crate) repos: Vec<RepoEntry>,
    /// Allowances of agents, also of such that the file does not start.
    #[serde(default)]
    pub(crate) allowances: BTreeMap<String, AllowanceEntry>,
    /// The agents.
    #[serde(default)]
    agents: Vec<Spanned<AgentEntry>>,
}

/// An agent: a command that is run for each of its tasks.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentEntry {
    /// Its id.
    pub(crate) id: String,
    /// Its name for people.
    pub(crate) name: Option<String>,
    /// What it can do.
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
    /// The models that it can use; none is any.
    #[serde(default)]
    pub(crate) models: Vec<String>,
    /// The most tasks at a time; 0 is unlimited, absent is 1.
    pub(crate) max_load: Option<u32>,
    /// The command and its arguments.
    pub(crate) command: Vec<String>,
    /// How the command is called and what it prints is understood; absent is by the name of its program.
    pub(crate) adapter: Option<String>,
    /// What it may use.
    pub(crate) allowance: Option<AllowanceEntry>,
    /// Further environment variables of the command.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Where the command runs, from the fleet's directory on.
    pub(crate) directory: Option<PathBuf>,
    /// What each attempt gets to work in; absent is that directory.
    pub(crate) workspace: Option<String>,
}

impl AgentEntry {
    /// Its adapter, if the file names one.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(crate) fn adapter(&self) -> Result<Option<AdapterKind>, String> {
        self.adapter.as_deref().map(str::parse).transpose()
    }

    /// What each attempt gets to work in.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(crate) fn workspace(&self) -> Result<Kind, workspace::Error> {
        self.workspace.as_deref().map_or(Ok(Kind::None), str::parse)
    }
}

/// What an agent may use. 0 and empty are unlimited.
#[derive(Deserialize, Debug, Clone, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AllowanceEntry {
    daily_token_limit: u64,
    daily_job_limit: u64,
    concurrent_jobs: u64,
    max_job_duration: Span,
    model_allowlist: Vec<String>,
}

impl AllowanceEntry {
    /// The same as the API takes it.
    pub(crate) fn for_agent(&self, agent_id: &str) -> Allowance {
        Allowance {
            agent_id: agent_id.to_owned(),
            daily_token_limit: self.daily_token_limit,
            daily_job_limit: self.daily_job_limit,
            concurrent_jobs: self.concurrent_jobs,
            max_job_duration: self.max_job_duration,
            model_allowlist: self.model_allowlist.clone(),
        }
    }

    /// The same as the core takes it.
    pub(crate) fn domain(&self) -> limit::Allowance {
        limit::Allowance {
            daily_token_limit: self.daily_token_limit,
            daily_job_limit: self.daily_job_limit,
            concurrent_jobs: self.concurrent_jobs,
            max_job_duration: self.max_job_duration,
            model_allowlist: self
                .model_allowlist
                .iter()
                .map(|model| model.as_str().into())
                .collect(),
        }
    }
}

/// A limit over one window.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitEntry {
    scope: String,
    window: Window,
    tokens: Option<u64>,
    cost: Option<Money>,
    jobs: Option<u64>,
    concurrent: Option<u64>,
    pull_requests: Option<u64>,
    issues: Option<u64>,
    #[serde(default = "hard")]
    hard: bool,
}

const fn hard() -> bool {
    true
}

/// The quota and the prices of a model.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelEntry {
    model: String,
    #[serde(default)]
    daily_token_budget: u64,
    #[serde(default)]
    hourly_rate_limit: u64,
    #[serde(default)]
    cost_ceiling: Money,
    #[serde(default)]
    prices: PricesEntry,
}

/// Cents for a million tokens.
#[derive(Deserialize, Debug, Clone, Default)]
#[serde(deny_unknown_fields, default)]
struct PricesEntry {
    input: Money,
    output: Money,
    cached: Money,
}

/// The limits of a repository.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepoEntry {
    repo: String,
    #[serde(default)]
    max_daily_prs: u64,
    #[serde(default)]
    max_daily_issues: u64,
    #[serde(default)]
    cooldown_after_failure: Span,
}

impl ModelEntry {
    /// The same as the API takes it.
    pub(crate) fn wire(&self) -> Model {
        let mut model = Model {
            model: self.model.clone(),
            daily_token_budget: self.daily_token_budget,
            hourly_rate_limit: self.hourly_rate_limit,
            cost_ceiling: self.cost_ceiling,
            ..Model::default()
        };
        model.prices.input = self.prices.input;
        model.prices.output = self.prices.output;
        model.prices.cached = self.prices.cached;
        model
    }
}

impl RepoEntry {
    /// The same as the API takes it.
    pub(crate) fn wire(&self) -> Repo {
        Repo {
            repo: self.repo.clone(),
            max_daily_prs: self.max_daily_prs,
            max_daily_issues: self.max_daily_issues,
            cooldown_after_failure: self.cooldown_after_failure,
        }
    }
}

impl Fleet {
    /// What a million tokens of output cost, by model.
    pub(crate) fn output_prices(&self) -> BTreeMap<String, Money> {
        let priced = self
            .models
            .iter()
            .filter(|entry| entry.prices.output > Money::ZERO);
        priced
            .map(|entry| (entry.model.clone(), entry.prices.output))
            .collect()
    }

    /// Reads a fleet file.
    pub(crate) fn read(file: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failure::usage(format!("cannot read the fleet file {}: {error}", file.display()))
        })?;
        Self::parse(file, &text)
    }

    pub(crate) fn parse(file: &Path, text: &str) -> Outcome<Self> {
        let mut fleet: Self = toml_file::parse(file, text)?;
        fleet.check(file, text)?;
        let base = file.parent().unwrap_or(Path::new(""));
        fleet.directory = fleet.directory.take().map(|directory| base.join(directory));
        Ok(fleet)
    }

    /// Its agents.
    pub(crate) fn agents(&self) -> impl Iterator<Item = &AgentEntry> {
        self.agents.iter().map(Spanned::get_ref)
    }

    /// Where an agent's command runs; none is the current directory.
    pub(crate) fn directory_of(&self, agent: &AgentEntry) -> Option<PathBuf> {
        match (&self.directory, &agent.directory) {
            (Some(fleet), Some(own)) => Some(fleet.join(own)),
            (fleet, own) => own.clone().or_else(|| fleet.clone()),
        }
    }

    /// The limits, scope by scope: a scope's limits are set all at once.
    pub(crate) fn limits_by_scope(&self) -> BTreeMap<&str, Vec<LimitSpec>> {
        let mut scopes: BTreeMap<&str, Vec<LimitSpec>> = BTreeMap::new();
        for entry in &self.limits {
            let mut limit = LimitSpec::none(entry.window);
            limit.tokens = entry.tokens;
            limit.cost = entry.cost;
            limit.jobs = entry.jobs;
            limit.concurrent = entry.concurrent;
            limit.pull_requests = entry.pull_requests;
            limit.issues = entry.issues;
            limit.hard = entry.hard;
            scopes.entry(&entry.scope).or_default().push(limit);
        }
        scopes
    }

    fn check(&self, file: &Path, text: &str) -> Outcome {
        if self.agents.is_empty() {
            return Err(
                Failure::usage(format!("{}: there are no [[agents]]", file.display()))
                    .hint("an agent has an id, capabilities and a command, see examples/fleet.toml"),
            );
        }
        let mut seen = HashSet::new();
        for agent in &self.agents {
            let line = line_at(text, agent.span().start);
            let agent = agent.get_ref();
            check_id(&agent.id).map_err(|why| Failure::at(file, line, format!("id: {why}")))?;
            if !seen.insert(&agent.id) {
                return Err(Failure::at(
                    file,
                    line,
                    format!("there are two agents `{}`", agent.id),
                ));
            }
            if agent.command.first().is_none_or(String::is_empty) {
                return Err(Failure::at(
                    file,
                    line,
                    format!("command: agent `{}` has none", agent.id),
                ));
            }
            agent
                .adapter()
                .map_err(|why| Failure::at(file, line, format!("adapter: {why}")))?;
            agent
                .workspace()
                .map_err(|why| Failure::at(file, line, format!("workspace: {why}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Outcome<Fleet> {
        Fleet::parse(Path::new("dir/fleet.toml"), text)
    }

    #[test]
    fn a_fleet_has_agents_with_commands_and_rations() {
        let fleet = parse(
            "directory = '..'\n[[limits]]\nscope = 'fleet'\nwindow = 'day'\ncost = 500\n\
             [[limits]]\nscope = 'fleet'\nwindow = 'hour'\njobs = 3\nhard = false\n\
             [[models]]\nmodel = 'sonnet'\nprices = { input = 300, output = 1500.5 }\n\
             [[agents]]\nid = 'a'\ncommand = ['sh', '-c', 'true']\ndirectory = 'sub'\n\
             allowance = { daily_job_limit = 5, max_job_duration = '2m' }\n",
        )
        .unwrap();
        let agent = fleet.agents().next().unwrap();
        assert_eq!(fleet.directory_of(agent).unwrap(), Path::new("dir/../sub"));
        assert_eq!(
            agent
                .allowance
                .clone()
                .unwrap()
                .for_agent("a")
                .max_job_duration
                .as_secs(),
            120
        );
        assert_eq!(fleet.limits_by_scope()["fleet"].len(), 2);
        assert_eq!(
            fleet.models[0].wire().prices.output,
            Money::from_cents(1500.5).unwrap()
        );
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        let agent = "[[agents]]\nid = 'a'\ncommand = ['true']\n";
        for (text, message) in [
            (
                format!("{agent}capabilties = ['x']\n"),
                "dir/fleet.toml:4: unknown key `capabilties`",
            ),
            (
                format!("lisen = ':0'\n{agent}"),
                "dir/fleet.toml:1: unknown key `lisen`",
            ),
            (
                format!("{agent}allowance = {{ jobs = 1 }}\n"),
                "dir/fleet.toml:4: unknown key `jobs`",
            ),
            (
                format!("{agent}{agent}"),
                "dir/fleet.toml:4: there are two agents `a`",
            ),
            (
                "[[agents]]\nid = 'a b'\ncommand = ['x']\n".into(),
                "dir/fleet.toml:1: id: must consist of",
            ),
            (
                "[[agents]]\nid = 'a'\ncommand = []\n".into(),
                "dir/fleet.toml:1: command: agent `a` has none",
            ),
            (
                "[[agents]]\nid = 'a'\ncommand = ['x']\nadapter = 'vim'\n".into(),
                "dir/fleet.toml:1: adapter: there is no adapter `vim`; there are claude, codex",
            ),
            (
                "[[agents]]\nid = 'a'\ncommand = ['x']\nworkspace = 'attic'\n".into(),
                "dir/fleet.toml:1: workspace: ",
            ),
            (
                "[[agents]]\nid = 'a'\n".into(),
                "dir/fleet.toml:1: missing key `command`",
            ),
            (String::new(), "dir/fleet.toml: there are no [[agents]]"),
            (
                "agent_ttl = 'soon'\n".into(),
                "dir/fleet.toml:1: `soon` is not a duration",
            ),
        ] {
            let failure = parse(&text).unwrap_err().to_string();
            assert!(failure.contains(message), "{text}: {failure}");
        }
    }
}

//! Limits: what agents, models, projects, repositories and the fleet may use, and the forms to change it.

use adjutant_core::limit::Window;
use adjutant_core::money::Money;
use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use maud::{Markup, html};

use crate::frame::Place;
use crate::pieces::{self, Action, Bar};
use crate::{Abilities, fleet, format};

/// The list of what has limits, or could have.
#[derive(Clone, Debug)]
pub struct Index {
    /// When.
    pub now: Timestamp,
    /// The fleet.
    pub fleet: wire::ScopeLimits,
    /// The models that are known here.
    pub models: Vec<ModelRow>,
    /// How many more there are.
    pub more_models: usize,
    /// The projects that are known here.
    pub projects: Vec<wire::ScopeLimits>,
    /// A page of agents.
    pub agents: Vec<fleet::Row>,
    /// The address of the first page of agents, where this is another.
    pub first: Option<String>,
    /// The address of the next page of agents.
    pub next: Option<String>,
}

/// A model and what was used of it.
#[derive(Clone, Debug)]
pub struct ModelRow {
    /// Its quota and prices.
    pub model: wire::Model,
    /// What was used.
    pub usage: wire::ScopeLimits,
}

/// The limits of one scope.
#[derive(Clone, Debug)]
pub struct ScopePage {
    /// The limits with what is used of them.
    pub limits: wire::ScopeLimits,
    /// What the scope has beside them.
    pub view: ScopeView,
    /// What the viewer may do.
    pub abilities: Abilities,
}

/// What a scope has beside its limits.
#[derive(Clone, Debug)]
pub enum ScopeView {
    /// An agent has an allowance.
    Agent(wire::Allowance),
    /// A model has a quota and prices.
    Model(wire::Model),
    /// A repository has daily limits.
    Repo(wire::Repo),
    /// Nothing.
    Plain,
}

/// The list's content.
pub fn index(view: &Index) -> Markup {
    html! {
        h1 { "Limits" }
        p.faint { "A limit is a wall: nothing starts that would cross it. Open a scope to see and change what is set; repositories, and what is not listed, by name." }
        form.filter action=(Place::Limits.path()) method="get" {
            label { span { "Scope" } input name="scope" required maxlength="260" placeholder="agent:builder-1, model:opus, project:site, repo:owner/name, fleet"; }
            button type="submit" { "Open" }
        }
        section #fleet data-live aria-labelledby="fleet-title" {
            h2 #fleet-title { a href=(pieces::scope_path("fleet")) { "The fleet" } }
            (use_bars(&view.fleet))
        }
        section #models data-live aria-labelledby="models-title" {
            h2 #models-title { "Models" }
            @if view.models.is_empty() {
                (pieces::empty("No model is known yet.", &html! { "Models appear here once an agent names them or usage is reported. Any other is opened above: " code { "model:NAME" } "." }))
            } @else {
                (models(&view.models))
                @if view.more_models > 0 { p.faint { (view.more_models) " more are not listed. Open any of them above." } }
            }
        }
        @if !view.projects.is_empty() {
            section #projects data-live aria-labelledby="projects-title" {
                h2 #projects-title { "Projects" }
                (scopes("Project", &view.projects))
            }
        }
        section #agents data-live aria-labelledby="agents-title" {
            h2 #agents-title { "Allowances of agents" }
            @if view.agents.is_empty() {
                (pieces::empty("No agent has registered.", &html! { "An allowance may be set before its agent exists: open " code { "agent:ID" } " above." }))
            } @else {
                (agents(&view.agents))
                (pieces::pager(view.first.as_deref(), view.next.as_deref()))
            }
        }
    }
}

fn agents(rows: &[fleet::Row]) -> Markup {
    html! {
        table.stack {
            thead { tr { th scope="col" { "Agent" } th scope="col" { "Used today" } th.number scope="col" { "At a time" } th scope="col" { "Models" } th.number scope="col" { "Cost today" } } }
            tbody {
                @for fleet::Row { agent, allowance, usage } in rows {
                    tr {
                        th scope="row" { a.name href=(pieces::scope_path(&format!("agent:{}", agent.id))) { (agent.id) } }
                        td data-label="Used today" { (fleet::allowance_bars(allowance, usage)) }
                        td.number data-label="At a time" { @if allowance.concurrent_jobs == 0 { span.faint { "no limit" } } @else { (usage.active_jobs) " of " (allowance.concurrent_jobs) } }
                        td data-label="Models" { (pieces::chips(&allowance.model_allowlist, "any")) }
                        td.number data-label="Cost today" { (format::dollars(of_window(usage, "day").map_or(Money::ZERO, |used| used.cost))) }
                    }
                }
            }
        }
    }
}

fn models(rows: &[ModelRow]) -> Markup {
    html! {
        table.stack {
            thead { tr { th scope="col" { "Model" } th scope="col" { "Used" } th.number scope="col" { "Input / output / cached, per million" } th.number scope="col" { "Cost today" } } }
            tbody {
                @for ModelRow { model, usage } in rows {
                    tr {
                        th scope="row" dir="auto" { a.name href=(pieces::scope_path(&format!("model:{}", model.model))) { (model.model) } }
                        td data-label="Used" {
                            (Bar { what: "tokens today", used: of_window(usage, "day").map_or(0, |used| used.tokens), held: usage.held_tokens, of: positive(model.daily_token_budget), write: format::rough }.show())
                            (Bar { what: "starts this hour", used: of_window(usage, "hour").map_or(0, |used| i64::try_from(used.jobs).unwrap_or(i64::MAX)), held: 0, of: positive(model.hourly_rate_limit), write: format::count }.show())
                            (Bar { what: "cost in all", used: of_window(usage, "total").map_or(0, |used| used.cost.as_nanos()), held: 0, of: positive(model.cost_ceiling.as_nanos().max(0).unsigned_abs()), write: nanos }.show())
                        }
                        td.number data-label="Prices" { (format::dollars(model.prices.input)) " / " (format::dollars(model.prices.output)) " / " (format::dollars(model.prices.cached)) }
                        td.number data-label="Cost today" { (format::dollars(of_window(usage, "day").map_or(Money::ZERO, |used| used.cost))) }
                    }
                }
            }
        }
    }
}

/// Scopes of one kind with what was used of them.
pub(crate) fn scopes(kind: &str, rows: &[wire::ScopeLimits]) -> Markup {
    let cost = |row, window| format::dollars(of_window(row, window).map_or(Money::ZERO, |used| used.cost));
    html! {
        table.stack {
            thead { tr { th scope="col" { (kind) } th.number scope="col" { "Tokens today" } th.number scope="col" { "Cost today" } th.number scope="col" { "Cost in all" } } }
            tbody {
                @for row in rows {
                    tr {
                        th scope="row" dir="auto" { a.name href=(pieces::scope_path(&row.scope)) { (row.scope.split_once(':').map_or(row.scope.as_str(), |(_, name)| name)) } }
                        td.number data-label="Tokens today" { (format::signed(of_window(row, "day").map_or(0, |used| used.tokens))) }
                        td.number data-label="Cost today" { (cost(row, "day")) }
                        td.number data-label="Cost in all" { (cost(row, "total")) }
                    }
                }
            }
        }
    }
}

/// What is used in each window, and how much of each limit that is.
pub(crate) fn use_bars(limits: &wire::ScopeLimits) -> Markup {
    html! {
        div.uses {
            @for (window, name) in [(Window::Hour, "This hour"), (Window::Day, "Today"), (Window::Total, "Since the last reset")] {
                @let limit = limits.limits.iter().find(|limit| limit.window == window);
                @if let Some(used) = of_window(limits, window.name()) {
                    div.use {
                        p.use-title { (name) }
                        (Bar { what: "tokens", used: used.tokens, held: limits.held_tokens, of: limit.and_then(|limit| limit.tokens), write: format::rough }.show())
                        (Bar { what: "cost", used: used.cost.as_nanos(), held: limits.held_cost.as_nanos().max(0).unsigned_abs(), of: limit.and_then(|limit| limit.cost).map(|cost| cost.as_nanos().max(0).unsigned_abs()), write: nanos }.show())
                        (Bar { what: "jobs", used: i64::try_from(used.jobs).unwrap_or(i64::MAX), held: 0, of: limit.and_then(|limit| limit.jobs), write: format::count }.show())
                        @if let Some(most) = limit.and_then(|limit| limit.concurrent) {
                            (Bar { what: "at a time", used: i64::from(limits.active_jobs), held: 0, of: Some(most), write: format::count }.show())
                        }
                    }
                }
            }
        }
    }
}

/// A scope's content.
pub fn scope(view: &ScopePage) -> Markup {
    let scope = &view.limits.scope;
    let may_edit = view.abilities.admin;
    html! {
        p.crumbs { a href=(Place::Limits.path()) { "Limits" } " / scope" }
        div.title-line { h1 dir="auto" { (scope) } }
        @if may_edit {
            div.actions {
                (Action::post("Start its periods anew", format!("/api/limits/{}/reset", pieces::encoded(scope)))
                    .confirm("Set what was used to nothing, in every window?").show())
            }
        }
        section #use data-live aria-labelledby="use-title" {
            h2 #use-title { "Used" }
            (use_bars(&view.limits))
        }
        @match &view.view {
            ScopeView::Agent(allowance) => { (allowance_form(allowance, may_edit)) }
            ScopeView::Model(model) => { (model_form(model, may_edit)) }
            ScopeView::Repo(repo) => { (repo_form(repo, may_edit)) }
            ScopeView::Plain => {}
        }
        (limits_form(&view.limits, may_edit))
    }
}

/// A form that sends its fields to the API as JSON.
fn form(id: &str, title: &str, path: &str, may_edit: bool, hint: &Markup, fields: &Markup) -> Markup {
    html! {
        section id=(id) data-live aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (title) }
            p.faint { (hint) }
            form.edit data-action=(path) data-method="PUT" {
                fieldset disabled[!may_edit] {
                    legend.hidden { (title) }
                    div.fields { (fields) }
                }
                @if may_edit { div.actions { button.primary type="submit" { "Save" } span.saved role="status" aria-live="polite" {} } }
                @else { p.faint { "Changing limits needs the role admin." } }
            }
        }
    }
}

fn field(label: &str, name: &str, kind: &str, value: &str) -> Markup {
    let is_number = kind == "count" || kind == "money";
    html! {
        label { span { (label) }
            input name=(name) data-kind=(kind) value=(value) dir="auto" type=(if is_number { "number" } else { "text" })
                min=[is_number.then_some("0")] step=[is_number.then_some(if kind == "money" { "any" } else { "1" })] autocomplete="off";
        }
    }
}

fn number(label: &str, name: &str, value: u64) -> Markup {
    field(label, name, "count", &value.to_string())
}

fn money(label: &str, name: &str, value: Money) -> Markup {
    field(label, name, "money", &value.as_cents().to_string())
}

fn allowance_form(allowance: &wire::Allowance, may_edit: bool) -> Markup {
    let path = format!("/api/allowances/{}", pieces::encoded(&allowance.agent_id));
    form(
        "allowance",
        "Allowance",
        &path,
        may_edit,
        &html! { "0 or empty is no limit. Days are UTC." },
        &html! {
            (number("Tokens a day", "daily_token_limit", allowance.daily_token_limit))
            (number("Jobs a day", "daily_job_limit", allowance.daily_job_limit))
            (number("Jobs at a time", "concurrent_jobs", allowance.concurrent_jobs))
            (field("Longest job, such as 30m", "max_job_duration", "duration", &if allowance.max_job_duration.is_zero() { String::new() } else { allowance.max_job_duration.to_string() }))
            (field("Models, separated by commas", "model_allowlist", "list", &allowance.model_allowlist.join(", ")))
        },
    )
}

fn model_form(model: &wire::Model, may_edit: bool) -> Markup {
    let path = format!("/api/models/{}", pieces::encoded(&model.model));
    form(
        "model",
        "Quota and prices",
        &path,
        may_edit,
        &html! { "0 is no limit. Money is in cents; prices are for a million tokens." },
        &html! {
            (number("Tokens a day", "daily_token_budget", model.daily_token_budget))
            (number("Starts an hour", "hourly_rate_limit", model.hourly_rate_limit))
            (money("Cost ceiling in all, cents", "cost_ceiling", model.cost_ceiling))
            (money("Input, cents", "prices.input", model.prices.input))
            (money("Output, cents", "prices.output", model.prices.output))
            (money("Cached input, cents", "prices.cached", model.prices.cached))
        },
    )
}

fn repo_form(repo: &wire::Repo, may_edit: bool) -> Markup {
    let (owner, name) = repo.repo.split_once('/').unwrap_or((&repo.repo, ""));
    let path = format!("/api/repos/{}/{}", pieces::encoded(owner), pieces::encoded(name));
    form(
        "repo",
        "Repository",
        &path,
        may_edit,
        &html! { "0 or empty is no limit. Days are UTC." },
        &html! {
            (number("Pull requests a day", "max_daily_prs", repo.max_daily_prs))
            (number("Issues a day", "max_daily_issues", repo.max_daily_issues))
            (field("Cooldown after a failure, such as 10m", "cooldown_after_failure", "duration", &if repo.cooldown_after_failure.is_zero() { String::new() } else { repo.cooldown_after_failure.to_string() }))
        },
    )
}

/// All limits of a scope, by window. What stands here and above is the same thing: what is saved last holds.
fn limits_form(limits: &wire::ScopeLimits, may_edit: bool) -> Markup {
    let path = format!("/api/limits/{}", pieces::encoded(&limits.scope));
    let text = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    form(
        "limits",
        "All limits, by window",
        &path,
        may_edit,
        &html! { "Empty is no limit. Cost is in cents. A hard limit stops what runs when it is used up." },
        &html! {
            @for (window, name) in [(Window::Hour, "Each hour"), (Window::Day, "Each day"), (Window::Total, "In all")] {
                @let limit = limits.limits.iter().find(|limit| limit.window == window);
                fieldset.window data-window=(window.name()) {
                    legend { (name) }
                    (field("Tokens", "tokens", "count", &text(limit.and_then(|limit| limit.tokens))))
                    (field("Cost, cents", "cost", "money", &limit.and_then(|limit| limit.cost).map(|cost| cost.as_cents().to_string()).unwrap_or_default()))
                    (field("Jobs", "jobs", "count", &text(limit.and_then(|limit| limit.jobs))))
                    (field("At a time", "concurrent", "count", &text(limit.and_then(|limit| limit.concurrent))))
                    (field("Pull requests", "pull_requests", "count", &text(limit.and_then(|limit| limit.pull_requests))))
                    (field("Issues", "issues", "count", &text(limit.and_then(|limit| limit.issues))))
                    label.check { input type="checkbox" name="hard" checked[limit.is_none_or(|limit| limit.hard)]; span { "Hard" } }
                }
            }
        },
    )
}

/// What was used in a window.
pub(crate) fn of_window<'a>(limits: &'a wire::ScopeLimits, window: &str) -> Option<&'a wire::ScopeUse> {
    limits.used.iter().find(|used| used.window == window)
}

fn positive(limit: u64) -> Option<u64> {
    (limit > 0).then_some(limit)
}

/// Nano-dollars as money.
fn nanos(amount: u64) -> String {
    format::dollars(Money::from_nanos(i64::try_from(amount).unwrap_or(i64::MAX)))
}

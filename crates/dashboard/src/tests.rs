//! What every page must keep to, whatever the texts are that it shows.

use adjutant_core::agent::AgentStatus;
use adjutant_core::money::Money;
use adjutant_core::task::{Priority, Status};
use adjutant_core::time::{Span, Timestamp};
use adjutant_wire as wire;
use maud::Markup;

use crate::frame::{Place, Viewer};
use crate::limits::{ScopePage, ScopeView};
use crate::task::Text;
use crate::{
    Abilities, agent, dead_letters, events, fleet, frame, limits, overview, queue, sign_in, task, trends,
};

const EVERYTHING: Abilities = Abilities {
    read: true,
    submit: true,
    admin: true,
};
const NOTHING: Abilities = Abilities {
    read: false,
    submit: false,
    admin: false,
};

/// Texts that try to be more than that.
fn hostile() -> Vec<String> {
    vec![
        "<script>alert(1)</script>".into(),
        "\"><img src=x onerror=alert(1)>".into(),
        "' onmouseover='alert(1)".into(),
        "</pre></main><iframe srcdoc=\"<b>x</b>\">".into(),
        "javascript:alert(1)".into(),
        "\u{202e}\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{645}\u{631}\u{62d}\u{628}\u{627}".into(),
        "&lt;already&gt; & escaped".into(),
        "x".repeat(5_000),
        "line\nline\u{1b}[31m\u{7}".into(),
    ]
}

fn now() -> Timestamp {
    "2026-11-24T18:30:00Z".parse().unwrap()
}

fn a_task(text: &str, status: Status) -> wire::Task {
    let all = || vec![text.to_owned()];
    let some = || Some(text.to_owned());
    wire::Task {
        id: text.into(),
        title: text.into(),
        description: text.into(),
        priority: Priority::Critical,
        status,
        labels: all(),
        prefers: all(),
        model: some(),
        project: some(),
        repo: some(),
        produces: None,
        files: all(),
        locks: all(),
        payload: None,
        dependencies: all(),
        blockers: all(),
        blockers_count: 1,
        estimated_tokens: 0,
        timeout: Some(Span::from_secs(60)),
        not_before: Some(now()),
        max_retries: 3,
        retry_count: 1,
        last_attempt: None,
        fail_reason: some(),
        attempt: 2,
        claimed_by: some(),
        claimed_at: Some(now()),
        lease_expires_at: Some(now()),
        progress: 40,
        notes: vec![wire::Note {
            at: now(),
            author: text.into(),
            text: text.into(),
        }],
        result: Some(wire::TaskResult {
            success: false,
            output: text.into(),
            artifacts: all(),
            error_message: text.into(),
        }),
        usage: wire::TaskUse {
            models: vec![wire::ModelUse {
                model: some(),
                tokens: adjutant_core::attempt::Tokens::default(),
                cost: Money::ZERO,
            }],
            ..wire::TaskUse::default()
        },
        waiting: Some(wire::Waiting {
            reason: text.into(),
            detail: text.into(),
            since: now(),
        }),
        created_at: now(),
        updated_at: now(),
    }
}

fn an_agent(text: &str) -> fleet::Row {
    let all = || vec![text.to_owned()];
    fleet::Row {
        agent: wire::Agent {
            id: text.into(),
            name: format!("{text} "),
            capabilities: all(),
            models: all(),
            status: AgentStatus::Quarantined,
            last_heartbeat: now(),
            current_load: 1,
            max_load: 2,
            paused_until: Some(now() + Span::HOUR),
            quarantined_until: Some(now() + Span::HOUR),
            metadata: None,
            registered_at: now(),
            protocol: Some(text.into()),
            url: Some(text.into()),
            addresses: Some(all()),
            token_env: Some(text.into()),
        },
        allowance: wire::Allowance {
            agent_id: text.into(),
            daily_token_limit: 10,
            model_allowlist: all(),
            ..wire::Allowance::default()
        },
        usage: usage(&format!("agent:{text}")),
    }
}

fn usage(scope: &str) -> wire::ScopeLimits {
    let used = |window: &str| wire::ScopeUse {
        window: window.into(),
        period_start: None,
        tokens: -5,
        cost: Money::from_nanos(5),
        jobs: 3,
        pull_requests: 0,
        issues: 0,
    };
    wire::ScopeLimits {
        scope: scope.into(),
        limits: Vec::new(),
        used: ["hour", "day", "total"].map(used).to_vec(),
        held_tokens: 4,
        held_cost: Money::ZERO,
        active_jobs: 1,
    }
}

fn an_event(text: &str) -> wire::Event {
    wire::Event {
        seq: 7,
        kind: text.into(),
        task_id: Some(text.into()),
        agent_id: Some(text.into()),
        timestamp: now(),
        payload: None,
    }
}

/// Every content, with the same text wherever there is one.
fn contents(text: &str, abilities: Abilities) -> Vec<(&'static str, Markup)> {
    let mut contents = about_tasks(text, abilities);
    contents.extend(about_agents(text, abilities));
    contents
}

fn an_address(text: &str) -> String {
    format!("/dashboard/queue?after={}", crate::encoded(text))
}

fn about_tasks(text: &str, abilities: Abilities) -> Vec<(&'static str, Markup)> {
    let tasks = || vec![a_task(text, Status::InProgress)];
    let class = queue::Class {
        labels: vec![text.into()],
        prefers: vec![text.into()],
        model: Some(text.into()),
        count: 2,
    };
    let explanation = wire::Explanation {
        task_id: text.into(),
        status: "pending".into(),
        waiting: None,
        considered: 1,
        groups: vec![wire::ExplanationGroup {
            reason: text.into(),
            count: 1,
            agents: vec![text.into()],
        }],
    };
    vec![
        (
            "overview",
            overview::content(&overview::Overview {
                now: now(),
                tasks: [1; 6],
                agents: [1; 5],
                running: tasks(),
                fleet: Some(usage("fleet")),
                plots: Vec::new(),
                events: vec![an_event(text)],
                abilities,
            }),
        ),
        (
            "queue",
            queue::content(&queue::Queue {
                now: now(),
                counts: [1; 6],
                status: Some(Status::Pending),
                first_in_line: tasks(),
                ready_since: [Some(now()); 4],
                classes: Some(queue::Classes {
                    classes: vec![class],
                    looked_at: 2,
                    more: true,
                }),
                tasks: tasks(),
                first: Some(an_address(text)),
                next: Some(an_address(text)),
                abilities,
            }),
        ),
        (
            "task",
            task::content(&task::Task {
                now: now(),
                task: a_task(text, Status::Failed),
                events: vec![an_event(text)],
                first: None,
                next: Some(an_address(text)),
                output: Text::tail(text, task::MOST_TEXT),
                explanation: Some(explanation),
                abilities,
            }),
        ),
        (
            "dead letters",
            dead_letters::content(&dead_letters::DeadLetters {
                now: now(),
                count: 1,
                tasks: tasks(),
                first: None,
                next: Some(an_address(text)),
                abilities,
            }),
        ),
        (
            "events",
            events::content(&events::Events {
                now: now(),
                events: vec![an_event(text)],
                abilities,
            }),
        ),
    ]
}

fn about_agents(text: &str, abilities: Abilities) -> Vec<(&'static str, Markup)> {
    let tasks = || vec![a_task(text, Status::InProgress)];
    let row = an_agent(text);
    let model = wire::Model {
        model: text.into(),
        ..wire::Model::default()
    };
    let repo = wire::Repo {
        repo: format!("{text}/{text}"),
        ..wire::Repo::default()
    };
    let scope = |view| {
        limits::scope(&ScopePage {
            limits: usage(text),
            view,
            abilities,
        })
    };
    vec![
        (
            "fleet",
            fleet::content(&fleet::Fleet {
                now: now(),
                counts: [1; 5],
                status: None,
                search: text.into(),
                found: 1,
                agents: vec![row.clone()],
                first: Some(an_address(text)),
                next: Some(an_address(text)),
            }),
        ),
        (
            "agent",
            agent::content(&agent::Agent {
                now: now(),
                agent: row.agent.clone(),
                allowance: row.allowance.clone(),
                usage: row.usage.clone(),
                tasks: tasks(),
                first: None,
                next: Some(an_address(text)),
                abilities,
            }),
        ),
        (
            "limits",
            limits::index(&limits::Index {
                now: now(),
                fleet: usage("fleet"),
                more_models: 7,
                models: vec![limits::ModelRow {
                    model: model.clone(),
                    usage: usage(text),
                }],
                projects: vec![usage(text)],
                agents: vec![row.clone()],
                first: None,
                next: Some(an_address(text)),
            }),
        ),
        ("agent's limits", scope(ScopeView::Agent(row.allowance))),
        ("model's limits", scope(ScopeView::Model(model))),
        ("repository's limits", scope(ScopeView::Repo(repo))),
        (
            "trends",
            trends::content(&trends::Trends {
                minutes: 60,
                choices: &[60],
                plots: Vec::new(),
                known_since: now(),
                has_gaps: true,
                fleet: usage("fleet"),
                days: vec![(now(), Money::ZERO, false)],
                projects: vec![usage(text)],
                models: vec![usage(text)],
                agents: vec![usage(text)],
            }),
        ),
        ("refusal", sign_in::refusal(404, text, text)),
    ]
}

/// The tags of a page with their attributes, as a browser finds them: every `<` of the markup opens one.
fn tags(markup: &str) -> Vec<&str> {
    markup
        .split('<')
        .skip(1)
        .map(|rest| rest.split('>').next().unwrap())
        .collect()
}

#[test]
fn no_text_becomes_markup_on_any_page() {
    for text in hostile() {
        let plain = contents("plain", EVERYTHING);
        for ((name, markup), (_, expected)) in contents(&text, EVERYTHING).into_iter().zip(plain) {
            let (markup, expected) = (markup.into_string(), expected.into_string());
            let names = |markup: &str| -> Vec<String> {
                tags(markup)
                    .iter()
                    .map(|tag| {
                        tag.split([' ', '/'])
                            .find(|part| !part.is_empty())
                            .unwrap_or_default()
                            .to_owned()
                    })
                    .collect()
            };
            // The same elements, whatever the text is.
            assert_eq!(names(&markup), names(&expected), "{name}: {text:.60}");
            assert!(
                !markup.contains("<script>") && !markup.contains("<img"),
                "{name}: {text:.60}"
            );
            for attribute in [" onerror=", " onmouseover=", " srcdoc="] {
                assert!(
                    !tags(&markup)
                        .iter()
                        .any(|tag| tag.split('"').step_by(2).any(|part| part.contains(attribute))),
                    "{name}: {text:.60}"
                );
            }
        }
    }
}

#[test]
fn texts_are_shown_as_they_are() {
    let shown = contents("a < b & \"c\"", EVERYTHING);
    for (name, markup) in shown
        .iter()
        .filter(|(name, _)| ["task", "dead letters", "agent"].contains(name))
    {
        assert!(markup.0.contains("a &lt; b &amp; &quot;c&quot;"), "{name}");
    }
}

#[test]
fn nothing_in_a_page_needs_more_than_the_policy_of_pages_allows() {
    for (name, markup) in contents("plain", EVERYTHING) {
        for tag in tags(&markup.0) {
            assert!(!tag.contains(" style=") && !tag.contains(" on"), "{name}: {tag}");
            assert!(
                (!tag.starts_with("script") || tag.contains("src=\"/dashboard/"))
                    && !tag.starts_with("style"),
                "{name}: {tag}"
            );
        }
    }
}

#[test]
fn names_with_a_meaning_in_addresses_are_encoded() {
    let evil = "a/../b?c=d&e#f%2F";
    for (name, markup) in contents(evil, EVERYTHING) {
        for tag in tags(&markup.0) {
            for part in tag
                .split('"')
                .filter(|part| part.starts_with("/api/") || part.starts_with("/dashboard/"))
            {
                let part = part.split('?').next().unwrap();
                assert!(!part.contains("..") || part.contains("%2F.."), "{name}: {part}");
                assert!(!part.contains('#'), "{name}: {part}");
            }
        }
    }
}

#[test]
fn who_may_change_nothing_is_offered_nothing() {
    for (name, markup) in contents("plain", NOTHING) {
        assert!(
            !markup.0.contains("data-method=\"POST\"") && !markup.0.contains("data-bulk=\"\""),
            "{name}"
        );
        assert!(!markup.0.contains("class=\"primary\""), "{name}");
        if name != "fleet" && !name.contains("limits") && name != "trends" && name != "agent" {
            assert!(!markup.0.contains("/dashboard/agents/"), "{name}");
        }
    }
}

#[test]
fn a_page_leads_to_what_its_viewer_may_see() {
    let page = |abilities| {
        let viewer = Viewer {
            name: "<me>",
            abilities,
            may_sign_out: true,
        };
        frame::page("<Title>", Place::Queue, viewer, "<h1>x</h1>").into_string()
    };
    let all = page(EVERYTHING);
    for place in Place::ALL {
        assert!(all.contains(&format!("href=\"{}\"", place.path())));
    }
    assert!(
        all.contains("&lt;me&gt;") && all.contains("&lt;Title&gt;") && all.contains("aria-current=\"page\"")
    );
    let few = page(NOTHING);
    assert!(
        !few.contains(Place::Fleet.path())
            && !few.contains(Place::Limits.path())
            && few.contains(Place::Queue.path())
    );
}

#[test]
fn long_texts_are_cut_where_a_character_ends() {
    let text = "äöü".repeat(100);
    for most in 0..20 {
        assert!(Text::tail(&text, most).shown.len() <= most && Text::head(&text, most).shown.len() <= most);
    }
    let whole = Text::tail(&text, 1_000);
    assert_eq!((whole.shown.as_str(), whole.bytes), (text.as_str(), 600));
}

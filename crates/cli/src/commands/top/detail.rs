//! The page of one task or one agent: what is known of it, and which part of it is looked at.

use std::fmt::Write as _;

use adjutant_client::MAX_EVENTS;
use adjutant_core::task::Status;
use adjutant_wire::{Event, Explanation, Task};

use super::ask::{AgentNews, Ask, TaskNews, Trouble};
use super::pace::Pace;
use crate::commands::{agent, events, task};
use crate::table::Table;
use crate::text::{dollars, number, one_line, plain, time};

/// So many events of a task are kept; older ones are left out.
const MOST_EVENTS: usize = 5_000;

/// So many bytes of output are looked at: some screens of it.
const OUTPUT_TAIL: usize = 64 << 10;

/// A part of the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Everything that is set, and where it stands.
    Facts,
    /// Its attempts, and what they used.
    Attempts,
    /// What happened.
    Events,
    /// Why it waits.
    Explain,
    /// What it printed.
    Output,
}

impl Part {
    /// The parts of a task's page.
    pub(super) const OF_TASK: [Self; 5] = [
        Self::Facts,
        Self::Attempts,
        Self::Events,
        Self::Explain,
        Self::Output,
    ];
    /// The part of an agent's page.
    pub(super) const OF_AGENT: [Self; 1] = [Self::Facts];

    /// As it is shown.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Facts => "Facts",
            Self::Attempts => "Attempts",
            Self::Events => "Events",
            Self::Explain => "Explain",
            Self::Output => "Output",
        }
    }
}

/// Whose page it is, and what is known.
#[derive(Debug)]
pub(super) enum Subject {
    /// A task.
    Task {
        id: String,
        task: Option<Box<Task>>,
        events: Vec<Event>,
        explanation: Option<Explanation>,
        output: Option<String>,
    },
    /// An agent.
    Agent {
        id: String,
        news: Option<Box<AgentNews>>,
    },
}

/// The page.
#[derive(Debug)]
pub(super) struct Detail {
    pub(super) subject: Subject,
    pub(super) part: Part,
    /// The first line that is shown; none is the newest, where the end is what matters.
    pub(super) scroll: Option<usize>,
    pub(super) pace: Pace,
    /// What the server said instead of an answer.
    pub(super) refusal: Option<String>,
}

impl Detail {
    /// The page of a task.
    pub(super) fn of_task(id: String) -> Self {
        Self::of(Subject::Task {
            id,
            task: None,
            events: Vec::new(),
            explanation: None,
            output: None,
        })
    }

    /// The page of an agent.
    pub(super) fn of_agent(id: String) -> Self {
        Self::of(Subject::Agent { id, news: None })
    }

    fn of(subject: Subject) -> Self {
        Self {
            subject,
            part: Part::Facts,
            scroll: Some(0),
            pace: Pace::default(),
            refusal: None,
        }
    }

    /// Whose page it is.
    pub(super) fn id(&self) -> &str {
        match &self.subject {
            Subject::Task { id, .. } | Subject::Agent { id, .. } => id,
        }
    }

    /// The parts that it has.
    pub(super) const fn parts(&self) -> &'static [Part] {
        match self.subject {
            Subject::Task { .. } => &Part::OF_TASK,
            Subject::Agent { .. } => &Part::OF_AGENT,
        }
    }

    /// Looks at another part.
    pub(super) fn turn_to(&mut self, part: Part) {
        self.part = part;
        // Of what grows at its end the end is shown.
        self.scroll = (!matches!(part, Part::Events | Part::Output)).then_some(0);
        self.pace.want();
    }

    /// Looks at the part that stands `by` places further.
    pub(super) fn turn(&mut self, by: usize) {
        let parts = self.parts();
        let place = parts.iter().position(|part| *part == self.part).unwrap_or(0);
        self.turn_to(parts[(place + by) % parts.len()]);
    }

    /// Whether something may change that no event tells.
    pub(super) fn changes_silently(&self) -> bool {
        let runs = |task: &Task| task.status == Status::InProgress;
        match &self.subject {
            Subject::Task { task, .. } => self.part == Part::Output && task.as_deref().is_some_and(runs),
            Subject::Agent { .. } => false,
        }
    }

    /// What to ask for.
    pub(super) fn question(&self) -> Ask {
        match &self.subject {
            Subject::Task { id, events, .. } => Ask::Task {
                id: id.clone(),
                since: events.last().map_or(0, |event| event.seq),
                explain: self.part == Part::Explain,
                output: self.part == Part::Output,
            },
            Subject::Agent { id, .. } => Ask::Agent { id: id.clone() },
        }
    }

    /// Takes in what is new about a task.
    pub(super) fn take_task(&mut self, found: Result<Box<TaskNews>, Trouble>) {
        let Subject::Task {
            task,
            events,
            explanation,
            output,
            ..
        } = &mut self.subject
        else {
            return;
        };
        match found {
            Ok(news) => {
                if news.since != events.last().map_or(0, |event| event.seq) {
                    // The answer to a question of this page's life before: events are missing in front of it.
                    return;
                }
                if news.events.len() >= MAX_EVENTS {
                    self.pace.want();
                }
                events.extend(news.events);
                events.drain(..events.len().saturating_sub(MOST_EVENTS));
                *task = Some(Box::new(news.task));
                if news.explanation.is_some() {
                    *explanation = news.explanation;
                }
                if news.output.is_some() {
                    *output = news.output;
                }
                self.refusal = None;
            }
            Err(trouble) => self.refuse(trouble),
        }
    }

    /// Takes in what is known of an agent.
    pub(super) fn take_agent(&mut self, found: Result<Box<AgentNews>, Trouble>) {
        match (&mut self.subject, found) {
            (Subject::Agent { news, .. }, Ok(found)) => {
                *news = Some(found);
                self.refusal = None;
            }
            (Subject::Agent { .. }, Err(trouble)) => self.refuse(trouble),
            (Subject::Task { .. }, _) => {}
        }
    }

    fn refuse(&mut self, trouble: Trouble) {
        // A server that is away is told of elsewhere, and what is known of the subject stays.
        if !trouble.is_away {
            self.refusal = Some(if trouble.is_gone {
                format!("{} is not there any more", self.id())
            } else {
                trouble.why
            });
        }
    }

    /// A part as text, for a pane so many columns wide.
    pub(super) fn text(&self, part: Part, width: usize) -> String {
        if let Some(refusal) = &self.refusal {
            return one_line(refusal);
        }
        match &self.subject {
            Subject::Agent { news: None, .. } | Subject::Task { task: None, .. } => "…".to_owned(),
            Subject::Agent { news: Some(news), .. } => agent_text(news, width),
            Subject::Task {
                task: Some(task),
                events: happened,
                explanation,
                output,
                ..
            } => match part {
                Part::Facts => task::show::text(task, width),
                Part::Attempts => format!("{}\n{:width$}", attempts(happened, task, width), usage(task)),
                Part::Events => {
                    let lines: Vec<String> =
                        happened.iter().map(|event| events::line(event, width)).collect();
                    lines.join("\n")
                }
                Part::Explain if !matches!(task.status, Status::Pending | Status::Blocked) => {
                    format!("It does not wait: it is {}.", task.status.name())
                }
                Part::Explain => explanation.as_ref().map_or("…".to_owned(), |explanation| {
                    task::explain::text(explanation, width)
                }),
                Part::Output => match output.as_deref() {
                    Some("") => "It has printed nothing.".to_owned(),
                    Some(output) => tail(output),
                    None => "…".to_owned(),
                },
            },
        }
    }
}

/// The end of what was printed. `task logs` has more.
fn tail(output: &str) -> String {
    let start = output.ceil_char_boundary(output.len().saturating_sub(OUTPUT_TAIL));
    plain(&output[start..])
}

fn agent_text(news: &AgentNews, width: usize) -> String {
    let mut table = Table::new(&["IN PROGRESS", ">%", "TITLE"]).or_else("nothing in progress");
    for task in &news.held {
        table.row([task.id.clone(), task.progress.to_string(), task.title.clone()]);
    }
    format!(
        "{}\n{table:width$}",
        agent::show::text(&news.agent, &news.standing, width)
    )
}

/// The attempts of a task, as its events tell them.
fn attempts(events: &[Event], task: &Task, width: usize) -> String {
    let mut table = Table::new(&[">ATTEMPT", "AGENT", "STARTED", "ENDED", "HOW"]).or_else("no attempt yet");
    let mut open: Option<[String; 5]> = None;
    let mut started = 0_u32;
    for event in events {
        let how = match event.kind.as_str() {
            "task_dispatched" | "task_claimed" => {
                table_rows(&mut table, open.take());
                started += 1;
                open = Some([
                    attempt_number(event).unwrap_or(started).to_string(),
                    event.agent_id.clone().unwrap_or_default(),
                    time(event.timestamp),
                    "-".to_owned(),
                    "runs".to_owned(),
                ]);
                continue;
            }
            "task_completed" => "completed",
            "task_attempt_failed" => "failed",
            "task_cancelled" => "cancelled",
            "task_released" => "given back",
            _ => continue,
        };
        if let Some([number, agent, start, ..]) = open.take() {
            table_rows(
                &mut table,
                Some([number, agent, start, time(event.timestamp), how.to_owned()]),
            );
        }
    }
    table_rows(&mut table, open);
    let mut text = format!("{table:width$}");
    if let Some(reason) = task.fail_reason.as_deref().filter(|reason| !reason.is_empty()) {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "\nlast failure: {}", one_line(reason));
    }
    text
}

fn table_rows(table: &mut Table, row: Option<[String; 5]>) {
    if let Some(row) = row {
        table.row(row);
    }
}

fn attempt_number(event: &Event) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Payload {
        attempt: u32,
    }
    let payload = event.payload.as_ref()?;
    serde_json::from_str::<Payload>(payload.get())
        .ok()
        .map(|payload| payload.attempt)
}

/// What a task used, by model.
fn usage(task: &Task) -> Table {
    let mut table = Table::new(&["MODEL", ">IN", ">OUT", ">CACHED", ">COST"]).or_else("no usage reported");
    for model in &task.usage.models {
        table.row([
            model.model.clone().unwrap_or_else(|| "unknown".to_owned()),
            number(model.tokens.tokens_in),
            number(model.tokens.tokens_out),
            number(model.tokens.tokens_cached),
            dollars(model.cost),
        ]);
    }
    table
}

//! What events come to: by minute, by day, and by who spends.

use std::collections::{BTreeMap, VecDeque};

use adjutant_core::event::{Event, EventKind};
use adjutant_core::money::Money;
use adjutant_core::name::{AgentId, ModelName, ProjectName};
use adjutant_core::task::TaskKey;
use adjutant_core::time::{Span, Timestamp};
use adjutant_dashboard::plot::{Plot, Series, Unit};
use serde::Deserialize;

use super::histogram::Histogram;
use super::recent::Recent;

/// Minutes that are kept.
const MOST_MINUTES: usize = 180;
/// Days that are kept.
const MOST_DAYS: usize = 31;
/// Projects, models and agents that are remembered of each: those that spent last.
const MOST_SPENDERS: usize = 20;
/// Microseconds of a minute.
const MINUTE: i64 = 60_000_000;

/// Sums over the events that were followed.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// The time of the first event.
    pub(super) known_since: Option<Timestamp>,
    /// The time of the last event.
    known_until: Option<Timestamp>,
    /// Since when nothing was passed over, where something was.
    whole_since: Option<Timestamp>,
    /// Whether events were passed over before the next one.
    skipped: bool,
    minutes: VecDeque<Minute>,
    days: BTreeMap<Timestamp, Money>,
    projects: VecDeque<ProjectName>,
    models: VecDeque<ModelName>,
    agents: VecDeque<AgentId>,
    /// When tasks came that have not started yet.
    arrivals: Recent<TaskKey, Timestamp>,
    /// When the attempts began that have not ended yet.
    starts: Recent<TaskKey, Timestamp>,
    /// Whose tasks are.
    owners: Recent<TaskKey, Option<ProjectName>>,
}

/// What happened in a minute.
#[derive(Debug, Default)]
struct Minute {
    /// Minutes since 1970.
    number: i64,
    /// Whether no event of it was passed over.
    is_known: bool,
    submitted: u32,
    completed: u32,
    failed: u32,
    waits: Histogram,
    runs: Histogram,
    cost: Money,
}

/// What a report of usage says.
#[derive(Deserialize)]
struct Spent {
    #[serde(default)]
    cost: Money,
    model: Option<String>,
}

/// Who has spent, the last first, and how much in a day.
#[derive(Clone, Debug, Default)]
pub(in crate::dashboard) struct Spenders {
    /// The time of the first event that was followed.
    pub(in crate::dashboard) known_since: Option<Timestamp>,
    /// Whether events were passed over.
    pub(in crate::dashboard) has_gaps: bool,
    /// Cost by UTC day, the newest first, and whether all of the day was followed.
    pub(in crate::dashboard) days: Vec<(Timestamp, Money, bool)>,
    /// Projects.
    pub(in crate::dashboard) projects: Vec<ProjectName>,
    /// Models.
    pub(in crate::dashboard) models: Vec<ModelName>,
    /// Agents.
    pub(in crate::dashboard) agents: Vec<AgentId>,
}

impl Sums {
    /// The tasks of these events that spent something, and of which it is not known whose they are.
    pub(super) fn strangers(&self, events: &[Event]) -> Vec<(TaskKey, adjutant_core::name::TaskId)> {
        let mut tasks: Vec<_> = events
            .iter()
            .filter(|event| event.kind == EventKind::UsageRecorded)
            .filter_map(|event| event.task.clone())
            .filter(|(key, _)| self.owners.get(*key).is_none())
            .collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }

    /// Notes whose a task is.
    pub(super) fn owned_by(&mut self, task: TaskKey, project: Option<ProjectName>) {
        self.owners.insert(task, project);
    }

    /// Notes that events are passed over: nothing is said of the minutes between the last one and the next.
    pub(super) fn skip(&mut self) {
        self.skipped = self.known_until.is_some();
    }

    /// Adds an event.
    pub(super) fn add(&mut self, event: &Event) {
        self.known_since.get_or_insert(event.at);
        if std::mem::take(&mut self.skipped) {
            self.whole_since = Some(event.at);
            if let Some(until) = self.known_until {
                self.gap(until, event.at);
            }
        }
        self.known_until = Some(event.at);
        let task = event.task.as_ref().map(|(key, _)| *key);
        match (event.kind, task) {
            (EventKind::TaskCreated, Some(task)) => {
                self.arrivals.insert(task, event.at);
                self.minute(event.at).submitted += 1;
            }
            (EventKind::TaskDispatched | EventKind::TaskClaimed, Some(task)) => {
                if let Some(arrived) = self.arrivals.remove(task) {
                    self.minute(event.at).waits.add(event.at.since(arrived));
                }
                self.starts.insert(task, event.at);
            }
            (EventKind::TaskCompleted, Some(task)) => {
                self.minute(event.at).completed += 1;
                if let Some(started) = self.starts.remove(task) {
                    self.minute(event.at).runs.add(event.at.since(started));
                }
            }
            (EventKind::TaskAttemptFailed, Some(task)) => {
                self.starts.remove(task);
                self.minute(event.at).failed += 1;
            }
            (EventKind::UsageRecorded, _) => self.spend(event, task),
            _ => {}
        }
    }

    /// Marks the minutes between two times, with both ends.
    fn gap(&mut self, from: Timestamp, to: Timestamp) {
        let minutes = |at: Timestamp| at.as_micros().div_euclid(MINUTE);
        let (from, to) = (minutes(from), minutes(to));
        // Of a long one only what is kept.
        for number in from.max(to - i64::try_from(MOST_MINUTES).unwrap_or(0) + 1)..=to {
            self.minute(Timestamp::from_micros(number.saturating_mul(MINUTE)))
                .is_known = false;
        }
    }

    fn spend(&mut self, event: &Event, task: Option<TaskKey>) {
        let payload = event.payload.as_deref().unwrap_or("{}");
        let Ok(Spent { cost, model }) = serde_json::from_str(payload) else {
            tracing::error!(seq = event.seq, "the payload of an event cannot be read");
            return;
        };
        self.minute(event.at).cost += cost;
        if cost != Money::ZERO {
            *self.days.entry(event.at.day()).or_default() += cost;
            while self.days.len() > MOST_DAYS {
                self.days.pop_first();
            }
        }
        if let Some(Some(project)) = task.and_then(|task| self.owners.get(task)).cloned() {
            remember(&mut self.projects, project);
        }
        if let Some(model) = model {
            remember(&mut self.models, ModelName::new(model));
        }
        if let Some(agent) = event.agent.clone() {
            remember(&mut self.agents, agent);
        }
    }

    /// The minute of a time, or the oldest that is kept. Events of another server's clock may lie before the newest one.
    fn minute(&mut self, at: Timestamp) -> &mut Minute {
        let mut number = at.as_micros().div_euclid(MINUTE);
        if self.minutes.len() >= MOST_MINUTES {
            number = number.max(self.minutes[0].number);
        }
        let before = self.minutes.partition_point(|minute| minute.number < number);
        let is_there = self
            .minutes
            .get(before)
            .is_some_and(|minute| minute.number == number);
        if is_there {
            return &mut self.minutes[before];
        }
        self.minutes.insert(
            before,
            Minute {
                number,
                is_known: true,
                ..Minute::default()
            },
        );
        if self.minutes.len() > MOST_MINUTES {
            self.minutes.pop_front();
            return &mut self.minutes[before - 1];
        }
        &mut self.minutes[before]
    }

    /// Who has spent.
    pub(super) fn spenders(&self) -> Spenders {
        Spenders {
            known_since: self.known_since,
            has_gaps: self.whole_since.is_some(),
            days: self
                .days
                .iter()
                .rev()
                .map(|(day, cost)| {
                    let whole_since = self.whole_since.or(self.known_since);
                    (*day, *cost, whole_since.is_some_and(|since| since <= *day))
                })
                .collect(),
            projects: self.projects.iter().cloned().collect(),
            models: self.models.iter().cloned().collect(),
            agents: self.agents.iter().cloned().collect(),
        }
    }

    /// Plots of the last minutes: throughput, waits, runs, cost.
    pub(super) fn plots(&self, now: Timestamp, minutes: u32) -> Vec<Plot> {
        let last = now.as_micros().div_euclid(MINUTE);
        let first = last - i64::from(minutes) + 1;
        let known = self
            .known_since
            .map_or(i64::MAX, |since| since.as_micros().div_euclid(MINUTE));
        let by_number: BTreeMap<_, _> = self
            .minutes
            .iter()
            .map(|minute| (minute.number, minute))
            .collect();
        let series = |name, value: &dyn Fn(&Minute) -> Option<f64>, if_nothing: Option<f64>| Series {
            name,
            values: (first..=last)
                .map(|number| match by_number.get(&number) {
                    Some(minute) => value(minute).filter(|_| minute.is_known),
                    None => if_nothing.filter(|_| number >= known),
                })
                .collect(),
        };
        let count = |name, value: fn(&Minute) -> u32| {
            series(name, &move |minute| Some(f64::from(value(minute))), Some(0.0))
        };
        let times = |name, value: fn(&Minute) -> &Histogram, percent| {
            series(name, &move |minute| value(minute).percentile(percent), None)
        };
        let end = Timestamp::from_micros(last.saturating_mul(MINUTE)) + Span::from_secs(60);
        let plot = |title, unit, series| Plot {
            title,
            unit,
            end,
            series,
        };
        vec![
            plot(
                "Throughput, tasks a minute",
                Unit::Count,
                vec![
                    count("submitted", |minute| minute.submitted),
                    count("completed", |minute| minute.completed),
                    count("failed attempts", |minute| minute.failed),
                ],
            ),
            plot(
                "From submission to start",
                Unit::Millis,
                vec![
                    times("median", |minute| &minute.waits, 50),
                    times("95 of 100 within", |minute| &minute.waits, 95),
                ],
            ),
            plot(
                "From start to success",
                Unit::Millis,
                vec![
                    times("median", |minute| &minute.runs, 50),
                    times("95 of 100 within", |minute| &minute.runs, 95),
                ],
            ),
            plot(
                "Cost a minute",
                Unit::Dollars,
                vec![series("all", &|minute| Some(dollars(minute.cost)), Some(0.0))],
            ),
        ]
    }
}

fn dollars(money: Money) -> f64 {
    money.as_cents() / 100.0
}

/// Puts a name in front, and forgets the last where there are too many.
fn remember<T: PartialEq>(names: &mut VecDeque<T>, name: T) {
    if names.front() == Some(&name) {
        return;
    }
    names.retain(|other| *other != name);
    names.push_front(name);
    names.truncate(MOST_SPENDERS);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 20_000 * 24 * 60 + 12 * 60;

    fn event(kind: EventKind, task: i64, second: i64, payload: &str) -> Event {
        Event {
            seq: 1,
            kind,
            task: Some((TaskKey(task), "t".into())),
            agent: Some("a".into()),
            at: Timestamp::from_micros(NOON * MINUTE + second * 1_000_000),
            payload: Some(payload.into()),
        }
    }

    #[test]
    fn a_life_of_a_task_shows_in_every_plot() {
        let mut sums = Sums::default();
        sums.owned_by(TaskKey(1), Some("site".into()));
        for event in [
            event(EventKind::TaskCreated, 1, 0, "{}"),
            event(EventKind::TaskDispatched, 1, 2, "{}"),
            event(
                EventKind::UsageRecorded,
                1,
                3,
                r#"{"attempt":1,"cost":250,"model":"m"}"#,
            ),
            event(EventKind::TaskCompleted, 1, 130, "{}"),
        ] {
            sums.add(&event);
        }
        let now = Timestamp::from_micros((NOON + 2) * MINUTE);
        let plots = sums.plots(now, 4);
        let values = |plot: usize, series: usize| plots[plot].series[series].values.clone();
        assert_eq!(values(0, 0), [None, Some(1.0), Some(0.0), Some(0.0)]);
        assert_eq!(values(0, 1), [None, Some(0.0), Some(0.0), Some(1.0)]);
        assert!(values(1, 0)[1].is_some_and(|wait| (2_000.0..3_000.0).contains(&wait)));
        assert!(values(2, 0)[3].is_some_and(|run| (128_000.0..192_000.0).contains(&run)));
        assert_eq!(values(3, 0)[1], Some(2.5));
        let spenders = sums.spenders();
        assert_eq!(spenders.projects, ["site".into()]);
        assert_eq!(spenders.models, ["m".into()]);
        assert_eq!(
            spenders.days,
            [(now.day(), Money::from_nanos(2_500_000_000), false)]
        );
    }

    #[test]
    fn minutes_of_which_events_were_passed_over_are_gaps_and_not_zeros() {
        let mut sums = Sums::default();
        sums.skip();
        sums.add(&event(EventKind::TaskCreated, 1, 0, "{}"));
        assert!(!sums.spenders().has_gaps);
        sums.add(&event(EventKind::TaskCreated, 2, 60, "{}"));
        sums.skip();
        sums.add(&event(EventKind::TaskCreated, 3, 200, "{}"));
        sums.add(&event(EventKind::TaskCreated, 4, 240, "{}"));
        let plots = sums.plots(Timestamp::from_micros((NOON + 5) * MINUTE), 6);
        assert_eq!(
            plots[0].series[0].values,
            [Some(1.0), None, None, None, Some(1.0), Some(0.0)]
        );
        assert!(sums.spenders().has_gaps);
    }

    #[test]
    fn a_day_is_whole_when_it_was_followed_from_its_beginning() {
        let mut sums = Sums::default();
        for (day, is_whole) in [(0, false), (1, true)] {
            let second = day * 86_400;
            sums.add(&event(
                EventKind::UsageRecorded,
                1,
                second,
                r#"{"cost":1,"model":"m"}"#,
            ));
            assert_eq!(sums.spenders().days[0].2, is_whole, "{day}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_the_clocks_say() {
        let mut sums = Sums::default();
        for number in 0..2_000 {
            let days = if number % 3 == 0 { -number } else { number };
            let second = days * 86_400;
            let payload = format!(r#"{{"cost":1,"model":"m{number}"}}"#);
            sums.add(&event(EventKind::UsageRecorded, number, second, &payload));
        }
        assert!(sums.minutes.len() <= MOST_MINUTES);
        assert!(sums.days.len() <= MOST_DAYS && sums.models.len() <= MOST_SPENDERS);
    }
}

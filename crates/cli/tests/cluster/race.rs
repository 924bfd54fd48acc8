//! Races: a hundred agents on three servers for the last job of a limit. Exactly one job starts.
//!
//! What was over its limit waits on through all rounds, so that a start too many in any of them is found at the end.
//! A round that happens to run across midnight is no error: starts are counted by day.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use adjutant_postgres_fixture::{Database, shared};
use serde_json::{Value, json};

use crate::books;
use crate::servers::{Start, within};
use crate::support::api::Api;

const AGENTS: usize = 100;
const TASKS: usize = 100;
const ROUNDS: usize = 6;
const PATIENCE: Duration = Duration::from_mins(1);

/// A hundred idle agents, each of which waits at one of the servers, and says whatever it is given.
struct Crew {
    ended: Arc<AtomicBool>,
    started: Arc<Mutex<Vec<(String, String, i64)>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    fn waiting_at(apis: &[Api]) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let started = Arc::new(Mutex::new(Vec::new()));
        let ready = Arc::new(Barrier::new(AGENTS + 1));
        let threads = (0..AGENTS)
            .map(|index| {
                let api = apis[index % apis.len()].clone();
                let (ended, started, ready) = (Arc::clone(&ended), Arc::clone(&started), Arc::clone(&ready));
                thread::spawn(move || {
                    let name = format!("agent{index}");
                    let agent =
                        json!({ "id": name, "session": "s", "max_load": 1, "capabilities": ["work"] });
                    api.done("/api/agents", &agent);
                    api.sync(&name, &json!({ "session": "s", "running": [] }));
                    ready.wait();
                    wait_for_work(&api, &name, &ended, &started);
                })
            })
            .collect();
        ready.wait();
        Self {
            ended,
            started,
            threads,
        }
    }

    fn started(&self) -> Vec<(String, String, i64)> {
        self.started.lock().unwrap().clone()
    }

    fn end(self) {
        self.ended.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Runs what it is given until that is completed by somebody else.
fn wait_for_work(api: &Api, name: &str, ended: &AtomicBool, started: &Mutex<Vec<(String, String, i64)>>) {
    let mut running: Vec<Value> = Vec::new();
    while !ended.load(Ordering::SeqCst) {
        let answer = api.sync(name, &json!({ "session": "s", "running": running, "wait": 2 }));
        running.retain(|one| {
            let is_it = |stop: &Value| stop["id"] == one["id"] && stop["attempt"] == one["attempt"];
            !answer["stop"].as_array().unwrap().iter().any(is_it)
        });
        for start in answer["start"].as_array().unwrap() {
            let one = json!({ "id": start["task"]["id"], "attempt": start["attempt"] });
            if running.contains(&one) {
                continue;
            }
            let id = one["id"].as_str().unwrap().to_owned();
            started
                .lock()
                .unwrap()
                .push((name.to_owned(), id, one["attempt"].as_i64().unwrap()));
            running.push(one);
        }
    }
}

/// The starts that the database knows of.
fn starts(database: &Database) -> usize {
    let sql = "SELECT count(*) FROM event WHERE kind IN ('task_dispatched', 'task_claimed')";
    database.sql(sql).parse().unwrap()
}

fn limit(api: &Api, scope: &str, jobs: usize) {
    let limits = json!({ "limits": [{ "window": "day", "jobs": jobs }] });
    api.put(&format!("/api/limits/{scope}"), &limits);
}

fn submit_all(apis: &[Api], round: usize, project: Option<&str>) {
    thread::scope(|scope| {
        for (place, api) in apis.iter().enumerate() {
            scope.spawn(move || {
                let tasks: Value = (place..TASKS)
                    .step_by(apis.len())
                    .map(|index| {
                        json!({ "id": format!("{round}-{index}"), "title": "x", "project": project, "labels": ["work"] })
                    })
                    .collect();
                api.done("/api/batch/tasks", &tasks);
            });
        }
    });
}

/// Waits until the jobs of the round have started, and completes them: whoever has room again must not take another.
fn complete(database: &Database, crew: &Crew, apis: &[Api], expected: usize) {
    let started = within(PATIENCE, "the job of the round has started", || {
        let started = crew.started();
        (started.len() >= expected).then_some(started)
    });
    assert_eq!(starts(database), expected, "one job started in each round");
    let (agent, id, attempt) = &started[expected - 1];
    let end = json!({ "agent_id": agent, "attempt": attempt, "success": true });
    apis[expected % apis.len()].done(&format!("/api/tasks/{id}/complete"), &end);
}

#[test]
fn the_last_job_of_the_day_starts_once_in_the_fleet() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let (servers, apis) = Start::on(&database, &directory, "60s").three();
    limit(&apis[0], "fleet", 1);
    let crew = Crew::waiting_at(&apis);
    submit_all(&apis, 0, None);
    for round in 1..=ROUNDS {
        complete(&database, &crew, &apis, round);
        if round < ROUNDS {
            // Everybody hears of the new period at once.
            apis[round % 3].done("/api/limits/fleet/reset", &json!({}));
        }
    }
    crew.end();
    drop(servers);
    assert_eq!(starts(&database), ROUNDS);
    assert_eq!(books::most_jobs_in_a_day(&database, "fleet"), 1, "I3");
    books::check(&database);
    books::check_rest(&database);
}

#[test]
fn the_last_job_of_the_day_starts_once_in_a_project() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let (servers, apis) = Start::on(&database, &directory, "60s").three();
    let crew = Crew::waiting_at(&apis);
    for round in 1..=ROUNDS {
        let project = format!("p{round}");
        limit(&apis[round % 3], &format!("project:{project}"), 1);
        submit_all(&apis, round, Some(&project));
        complete(&database, &crew, &apis, round);
    }
    crew.end();
    drop(servers);
    assert_eq!(starts(&database), ROUNDS);
    for round in 1..=ROUNDS {
        assert_eq!(
            books::most_jobs_in_a_day(&database, &format!("project:p{round}")),
            1,
            "I3"
        );
    }
    books::check(&database);
    books::check_rest(&database);
}

/// The limit is raised by one again and again: each time one of many waiting tasks may go.
#[test]
fn one_more_job_is_one_more_start() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let (servers, apis) = Start::on(&database, &directory, "60s").three();
    limit(&apis[0], "project:p", 1);
    let crew = Crew::waiting_at(&apis);
    submit_all(&apis, 0, Some("p"));
    for round in 1..=ROUNDS {
        complete(&database, &crew, &apis, round);
        if round < ROUNDS {
            limit(&apis[round % 3], "project:p", round + 1);
        }
    }
    crew.end();
    drop(servers);
    assert_eq!(starts(&database), ROUNDS);
    books::check(&database);
    books::check_rest(&database);
}

/// A hundred agents that nobody gives anything ask for a task each, at the same moment.
#[test]
fn of_a_hundred_claims_for_the_last_job_one_is_granted() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let (servers, apis) = Start::on(&database, &directory, "60s").three();
    let claims = |round: usize| -> Vec<u16> {
        let moment = Barrier::new(AGENTS);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..AGENTS)
                .map(|index| {
                    let (api, moment) = (&apis[index % 3], &moment);
                    scope.spawn(move || {
                        moment.wait();
                        let path = format!("/api/tasks/{round}-{index}/claim");
                        let claim = json!({ "agent_id": format!("stranger{index}") });
                        api.post(&path, &claim).unwrap().status
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    for index in 0..AGENTS {
        // Strangers with limits of their own are held to all limits, registered or not.
        apis[index % 3].put(
            &format!("/api/allowances/stranger{index}"),
            &json!({ "daily_job_limit": 1_000 }),
        );
    }
    for round in 0..3 {
        let project = format!("p{round}");
        limit(&apis[round], &format!("project:{project}"), 1);
        submit_all(&apis, round, Some(&project));
        let answers = claims(round);
        let granted = answers.iter().filter(|status| **status == 200).count();
        let refused = answers.iter().filter(|status| **status == 429).count();
        assert_eq!((granted, refused), (1, AGENTS - 1), "{answers:?}");
        assert_eq!(
            books::most_jobs_in_a_day(&database, &format!("project:{project}")),
            1,
            "I3"
        );
    }
    drop(servers);
    books::check(&database);
}

/// Servers take the time from their database, and that one has its clock from here: it is ten minutes before midnight,
/// and goes on from there.
fn bring_midnight_near(database: &Database) {
    let ahead = "SELECT date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day' - interval '10 minutes' \
                 - (now() AT TIME ZONE 'UTC')";
    let ahead = database.sql(ahead);
    database.sql(&format!(
        "CREATE SCHEMA clock; CREATE TABLE clock.ahead AS SELECT interval '{ahead}' AS time; \
         CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql \
         AS $$ SELECT pg_catalog.clock_timestamp() + time FROM clock.ahead $$; \
         ALTER DATABASE {} SET search_path = public, clock, pg_catalog",
        database.name()
    ));
}

/// The clock is set forward to five seconds before midnight.
fn bring_midnight_nearer(database: &Database) {
    database.sql(
        "UPDATE clock.ahead SET time = time + date_trunc('day', now() AT TIME ZONE 'UTC' + time) + interval '1 day' \
         - interval '5 seconds' - (now() AT TIME ZONE 'UTC' + time)",
    );
}

/// Days, counted from the first, with the jobs that a scope has started in them.
fn jobs_by_day(database: &Database, scope: &str) -> String {
    database.sql(&format!(
        "SELECT day - min(day) OVER (), jobs FROM (SELECT hour / 86400000000 AS day, sum(jobs) AS jobs FROM line \
         WHERE scope = '{scope}' GROUP BY day) AS days ORDER BY day"
    ))
}

/// However slow the machine is: the first job has its ten minutes, and midnight comes when it is done.
#[test]
fn at_midnight_one_more_job_starts() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    bring_midnight_near(&database);
    let (servers, apis) = Start::on(&database, &directory, "60s").three();
    limit(&apis[0], "fleet", 1);
    limit(&apis[1], "project:p", 1);
    let crew = Crew::waiting_at(&apis);
    submit_all(&apis, 0, Some("p"));
    complete(&database, &crew, &apis, 1);
    assert_eq!(jobs_by_day(&database, "fleet"), "0|1");
    bring_midnight_nearer(&database);
    let is_over = "SELECT extract(epoch FROM clock_timestamp())::bigint % 86400 BETWEEN 1 AND 40000";
    within(PATIENCE, "midnight is over", || {
        (database.sql(is_over) == "t").then_some(())
    });
    // Whoever has room again must not take another on this day either.
    complete(&database, &crew, &apis, 2);
    crew.end();
    drop(servers);
    assert_eq!(starts(&database), 2);
    for scope in ["fleet", "project:p"] {
        assert_eq!(jobs_by_day(&database, scope), "0|1\n1|1", "I3: {scope}");
    }
    books::check(&database);
}

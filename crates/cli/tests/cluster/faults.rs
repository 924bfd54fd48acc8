//! Faults of the database and of one server: told in one clear line, waited out, and nothing is lost or done twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use adjutant_postgres_fixture::{Cluster, Database, shared};
use serde_json::{Value, json};

use crate::books;
use crate::servers::{Start, within};
use crate::support::api::Api;

const PATIENCE: Duration = Duration::from_mins(1);

/// The URL of a database for another user of it.
fn url_of(database: &Database, user: &str) -> String {
    let (_, rest) = database.url().split_once('@').unwrap();
    format!("postgres://{user}@{rest}")
}

#[track_caller]
fn refuses_to_start(store: &str, message: &str) {
    let directory = tempfile::tempdir().unwrap();
    let ran = Start::at(store, &directory, "60s")
        .attempt()
        .err()
        .expect("it must not start");
    ran.fails(1, message);
    println!("faults: {}", ran.stderr.trim_end().replace('\n', " | "));
}

#[test]
fn a_user_that_is_not_let_in_is_told_so() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    database.sql("CREATE ROLE guarded LOGIN PASSWORD 'sesame'; CREATE ROLE barred NOLOGIN");
    // Everybody else is trusted, as before.
    let rules = "SELECT 'local all guarded scram-sha-256' UNION ALL SELECT 'local all all trust'";
    let file = database.sql("SHOW hba_file");
    database.sql(&format!("COPY ({rules}) TO '{file}'"));
    cluster.restart();

    let wrong = url_of(&database, "guarded:wrong-secret");
    refuses_to_start(&wrong, "look at user and password");
    let directory = tempfile::tempdir().unwrap();
    let ran = Start::at(&wrong, &directory, "60s").attempt().err().unwrap();
    assert!(!ran.stderr.contains("wrong-secret"), "{ran:?}");
    refuses_to_start(&url_of(&database, "guarded"), "password");
    refuses_to_start(&url_of(&database, "barred"), "not permitted to log in");
    refuses_to_start(&url_of(&database, "guarded:sesame"), "must own the database");

    database.sql("GRANT CREATE ON SCHEMA public TO guarded");
    let start = Start::at(&url_of(&database, "guarded:sesame"), &directory, "60s");
    let (server, api) = start.one();
    api.submit("t");
    assert_eq!(server.terminate(), 0);
    books::check(&database);
}

#[test]
fn a_database_that_is_not_ours_is_left_alone() {
    let Some(cluster) = shared() else { return };
    let database = cluster.database();
    let missing = database.url().replace(database.name(), "adjutant_test_nowhere");
    refuses_to_start(&missing, "createdb");

    database.sql("CREATE TABLE invoices (number int); CREATE TABLE task (id int)");
    refuses_to_start(database.url(), "has tables of something else");
    let tables = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class \
                  WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
    assert_eq!(database.sql(tables), "invoices task");
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let Some(cluster) = shared() else { return };
    let database = cluster.database();
    let directory = tempfile::tempdir().unwrap();
    let (server, api) = Start::on(&database, &directory, "60s").one();
    api.submit("t");
    assert_eq!(server.terminate(), 0);
    let schema = database.sql("SELECT convert_from(value, 'UTF8') FROM meta WHERE name = 'adjutant schema'");
    database.sql("UPDATE meta SET value = '99' WHERE name = 'adjutant schema'");
    refuses_to_start(database.url(), "was brought to schema 99 by a newer version");
    database.sql(&format!(
        "UPDATE meta SET value = '{schema}' WHERE name = 'adjutant schema'"
    ));
    let (server, api) = Start::on(&database, &directory, "60s").one();
    assert_eq!(api.get("/api/tasks/t")["status"], "pending");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn a_server_that_may_not_connect_is_not_ready_and_says_why() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    database.sql("CREATE ROLE narrow LOGIN; GRANT CREATE ON SCHEMA public TO narrow");
    let url = url_of(&database, "narrow");
    let limit = |connections: i32| database.sql(&format!("ALTER ROLE narrow CONNECTION LIMIT {connections}"));
    for connections in [0, 1, 3] {
        limit(connections);
        refuses_to_start(&url, "too many connections");
    }
    limit(-1);
    let directory = tempfile::tempdir().unwrap();
    let (server, api) = Start::at(&url, &directory, "60s").one();
    api.submit("before");

    limit(0);
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'narrow'");
    let health = not_ready(&api);
    println!("faults: without connections: {health}");
    let task = json!({ "title": "meanwhile" });
    let answer = api.post_once("/api/tasks", &task, "once").unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    limit(-1);
    ready(&api);
    let answer = within(PATIENCE, "a submission is taken again", || {
        let answer = api.post_once("/api/tasks", &task, "once").unwrap();
        (answer.status != 503).then_some(answer)
    });
    answer.good();
    assert_eq!(server.terminate(), 0);
    assert_eq!(books::by_title(&database)["meanwhile"].len(), 1);
    books::check(&database);
}

/// Waits until `/v1/health` says that the server is not ready; gives what it says.
fn not_ready(api: &Api) -> Value {
    within(PATIENCE, "the server is not ready", || {
        let answer = api.ask("GET", "/v1/health", None).unwrap();
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        (answer.status == 503).then_some(answer.body)
    })
}

fn ready(api: &Api) {
    within(PATIENCE, "the server is ready", || {
        let answer = api.ask("GET", "/v1/health", None).unwrap();
        (answer.status == 200).then_some(())
    });
}

/// What came of submissions: their titles, and the status of the answer.
type Answers = BTreeMap<String, u16>;

/// Submits one task after the other until told to stop. There is an answer to each: the server lives.
fn submit_until(stop: &AtomicBool, api: &Api, name: &str) -> Answers {
    let mut answers = Answers::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let title = format!("{name}-{number}");
        // No agent has this capability: they stay where they are.
        let task = json!({ "title": title, "labels": ["nobody"] });
        let answer = api.post("/api/tasks", &task).unwrap();
        assert!(matches!(answer.status, 201 | 503), "{title}: {answer:?}");
        answers.insert(title, answer.status);
        thread::sleep(Duration::from_millis(10));
    }
    answers
}

/// Accepted means there, once; refused means not there.
#[track_caller]
fn check_submissions(database: &Database, answers: &Answers) {
    let stored = books::by_title(database);
    for (title, status) in answers {
        let found = stored.get(title).map_or(0, Vec::len);
        assert_eq!(
            found,
            usize::from(*status == 201),
            "{title} was answered {status}"
        );
    }
}

#[test]
fn an_outage_of_the_database_is_waited_out() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    let directory = tempfile::tempdir().unwrap();
    let (servers, apis) = Start::on(&database, &directory, "60s").three();
    let stop = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|index| {
                let (stop, api) = (&stop, &apis[index % 3]);
                scope.spawn(move || submit_until(stop, api, &format!("client{index}")))
            })
            .collect();
        // One that is waited out, one that takes longer than anybody waits, and a restart.
        for outage in [2, 13] {
            thread::sleep(Duration::from_secs(1));
            cluster.stop_immediately();
            let began = Instant::now();
            let health = not_ready(&apis[0]);
            println!(
                "faults: not ready {:?} after the end of the database: {health}",
                began.elapsed()
            );
            thread::sleep(Duration::from_secs(outage).saturating_sub(began.elapsed()));
            refuses_to_start(database.url(), "cannot be used");
            for api in &apis {
                not_ready(api);
            }
            cluster.start();
            let began = Instant::now();
            apis.iter().for_each(ready);
            println!("faults: ready {:?} after its start", began.elapsed());
        }
        thread::sleep(Duration::from_secs(1));
        cluster.restart();
        apis.iter().for_each(ready);
        thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::SeqCst);
        let all = clients.into_iter().flat_map(|client| client.join().unwrap());
        all.collect::<Answers>()
    });
    let refused = answers.values().filter(|status| **status == 503).count();
    println!("faults: {} submissions, {refused} refused", answers.len());
    let last = apis[0].post("/api/tasks", &json!({ "title": "last" })).unwrap();
    assert_eq!(last.status, 201, "{last:?}");
    for server in servers {
        server.signal("TERM");
        let ran = server.ended();
        assert_eq!(ran.code, 0, "{ran:?}");
        // Servers may differ in what they were doing. Each says what was wrong, and not once for each request.
        let told: Vec<_> = ran
            .stderr
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
            .filter(|line| !line.contains("open files are limited"))
            .collect();
        println!(
            "faults: the log of a server has {} warnings: {told:#?}",
            told.len()
        );
        assert!((1..100).contains(&told.len()), "an outage is told: {told:#?}");
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
    check_submissions(&database, &answers);
    books::check(&database);
}

/// An agent that lists one attempt.
fn runs(id: &str, attempt: i64) -> Value {
    json!({ "session": "s", "running": [{ "id": id, "attempt": attempt }] })
}

/// Registers an agent and gives it a task.
fn employ(api: &Api, agent: &str, id: &str) {
    let body = json!({ "id": agent, "session": "s", "max_load": 1, "capabilities": [agent] });
    api.done("/api/agents", &body);
    api.done(
        "/api/tasks",
        &json!({ "id": id, "title": id, "labels": [agent], "max_retries": 1 }),
    );
    let idle = json!({ "session": "s", "running": [], "wait": 0.5 });
    let answer = within(PATIENCE, "the agent has its task", || {
        let answer = api.sync(agent, &idle);
        (answer["start"] != json!([])).then_some(answer)
    });
    assert_eq!(answer["start"][0]["task"]["id"], id);
    api.sync(agent, &runs(id, 1));
}

#[test]
fn a_server_that_is_cut_off_loses_its_agents_and_does_no_harm_when_it_is_back() {
    let Some(cluster) = shared() else { return };
    let database = cluster.database();
    let directory = tempfile::tempdir().unwrap();
    let start = Start::on(&database, &directory, "8s");
    let ((cut_off, there), (server, here)) = (start.one(), start.one());
    // One stays with its server, one goes to the other.
    employ(&there, "loyal", "of-loyal");
    employ(&there, "mover", "of-mover");
    let moved = json!({ "id": "moves", "title": "moves", "labels": ["nobody"] });

    let stop = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        // It is stopped in the midst of work.
        let clients: Vec<_> = (0..4)
            .map(|index| {
                let (stop, api) = (&stop, &there);
                scope.spawn(move || submit_until(stop, api, &format!("client{index}")))
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        cut_off.signal("STOP");
        let began = Instant::now();
        let accepted = within(PATIENCE, "the other server takes work", || {
            here.sync("mover", &runs("of-mover", 1));
            let answer = here.post_once("/api/tasks", &moved, "moves").unwrap();
            (answer.status != 503).then_some(answer)
        });
        accepted.good();
        println!(
            "faults: the other server took work {:?} after the cut",
            began.elapsed()
        );
        // The mover is heard of here.
        let lost = within(PATIENCE, "the attempt of the silent agent is lost", || {
            let answer = here.sync("mover", &runs("of-mover", 1));
            assert_eq!(answer["stop"], json!([]), "the mover keeps its work");
            thread::sleep(Duration::from_millis(200));
            (here.get("/api/tasks/of-loyal")["status"] == "failed").then(|| began.elapsed())
        });
        println!("faults: what ran at the stopped server was lost after {lost:?}");
        here.done("/api/tasks/of-loyal/retry", &json!({}));
        cut_off.signal("CONT");
        stop.store(true, Ordering::SeqCst);
        let all = clients.into_iter().flat_map(|client| client.join().unwrap());
        all.collect::<Answers>()
    });
    ready(&there);
    // It hears of agents that it thinks of as its own, for longer than it would wait for them.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        assert_eq!(here.sync("mover", &runs("of-mover", 1))["stop"], json!([]));
        there.get("/api/agents");
        thread::sleep(Duration::from_millis(200));
    }
    let answer = there.sync("loyal", &runs("of-loyal", 1));
    assert_eq!(answer["stop"][0]["attempt"], 1, "the attempt is over: {answer}");
    let answer = within(PATIENCE, "the agent that is back has its next attempt", || {
        let answer = there.sync("loyal", &json!({ "session": "s", "running": [], "wait": 0.5 }));
        (answer["start"] != json!([])).then_some(answer)
    });
    assert_eq!(answer["start"][0]["attempt"], 2, "{answer}");
    let end = |attempt: i64, agent: &str| json!({ "agent_id": agent, "attempt": attempt, "success": true });
    let late = there
        .post("/api/tasks/of-loyal/complete", &end(1, "loyal"))
        .unwrap();
    assert_eq!(late.status, 409, "I8: {late:?}");
    here.done("/api/tasks/of-loyal/complete", &end(2, "loyal"));
    there.done("/api/tasks/of-mover/complete", &end(1, "mover"));

    assert_eq!(cut_off.terminate(), 0);
    assert_eq!(server.terminate(), 0);
    check_submissions(&database, &answers);
    let events = |kind: &str| {
        database.sql(&format!(
            "SELECT coalesce(agent, ''), coalesce(task_id, '') FROM event WHERE kind = '{kind}'"
        ))
    };
    assert_eq!(events("task_attempt_failed"), "loyal|of-loyal");
    assert!(
        !events("agent_offline").contains("mover"),
        "{}",
        events("agent_offline")
    );
    books::check(&database);
}

/// A server says now and then that it is there: often enough for the shortest ttl that servers take.
#[test]
fn agents_of_a_server_with_nothing_to_do_are_not_taken_for_silent() {
    let Some(cluster) = shared() else { return };
    let database = cluster.database();
    let directory = tempfile::tempdir().unwrap();
    let start = Start::on(&database, &directory, "3s");
    let ((one, here), (other, _)) = (start.one(), start.one());
    employ(&here, "ann", "of-ann");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        let answer = here.sync("ann", &runs("of-ann", 1));
        let after = began.elapsed();
        assert_eq!(answer["stop"], json!([]), "{after:?}: it syncs all the time");
        thread::sleep(Duration::from_millis(200));
    }
    drop((one, other));
    let offline = "SELECT count(*) FROM event WHERE kind = 'agent_offline'";
    assert_eq!(database.sql(offline), "0");
}

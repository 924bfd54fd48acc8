//! Clusters as tests use them, and what is left of them.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use adjutant_postgres_fixture::{Cluster, Database, shared};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};

/// How long a cluster may outlive its process: an immediate stop, and the removal of some 40 MB.
const MAX_GOODBYE: Duration = Duration::from_secs(20);

/// Set in the processes that these tests start in order to end them: how they go on once they have a cluster.
const CHILD: &str = "ADJUTANT_FIXTURE_CHILD";

/// What such a process says where there is no PostgreSQL.
const NOWHERE: &str = "nowhere";

/// Where a cluster is that was started here.
fn directory(database: &Database) -> PathBuf {
    let after_user = database.url().split_once('@').expect("there is a user").1;
    let host = after_user.split_once('/').expect("there is a path").0;
    host.replace("%2F", "/").into()
}

fn server_process(directory: &Path) -> Pid {
    let text = fs::read_to_string(directory.join("data/postmaster.pid")).expect("the server runs");
    let number = text.lines().next().and_then(|line| line.parse().ok());
    number
        .and_then(Pid::from_raw)
        .expect("the first line is the process")
}

fn is_running(process: Pid) -> bool {
    // Where the first process of a container reaps nobody, who has ended keeps a number, but no command line.
    let command_line = fs::read(format!("/proc/{}/cmdline", process.as_raw_nonzero()));
    test_kill_process(process).is_ok() && command_line.map_or(true, |line| !line.is_empty())
}

#[test]
fn a_database_is_made_and_asked() {
    let Some(cluster) = shared() else { return };
    let database = cluster.database();
    assert_eq!(database.sql("SELECT current_database()"), database.name());
    assert_eq!(
        database.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"),
        "0"
    );
    assert_eq!(
        cluster.sql(database.name(), "SELECT 1, 'a b'; SELECT NULL"),
        "1|a b\n"
    );
}

#[test]
fn a_script_may_be_longer_than_a_pipe() {
    let Some(cluster) = shared() else { return };
    let line = "SELECT repeat('x', 100);\n";
    let printed = cluster.database().sql(&line.repeat(10_000));
    assert_eq!(printed.lines().count(), 10_000);
}

#[test]
#[should_panic(expected = "relation \"nowhere\" does not exist")]
fn sql_that_fails_says_why() {
    let Some(cluster) = shared() else {
        panic!("relation \"nowhere\" does not exist: there is no server either");
    };
    cluster.database().sql("SELECT * FROM nowhere; SELECT 1");
}

#[test]
fn two_databases_are_apart() {
    let Some(cluster) = shared() else { return };
    let (one, other) = (cluster.database(), cluster.database());
    one.sql("CREATE TABLE here ()");
    assert_eq!(one.sql("SELECT to_regclass('here') IS NULL"), "f");
    assert_eq!(other.sql("SELECT to_regclass('here') IS NULL"), "t");
}

#[test]
fn a_database_is_dropped_while_others_are_connected() {
    let Some(cluster) = shared() else { return };
    let database = cluster.database();
    let name = database.name().to_owned();
    thread::scope(|scope| {
        let connected = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'");
        let sleeper = scope.spawn({
            let (cluster, name) = (&cluster, &name);
            move || cluster.sql(name, "SELECT pg_sleep(60)")
        });
        while cluster.sql("postgres", &connected) == "0" {
            assert!(!sleeper.is_finished(), "the sleeper sleeps");
        }
        drop(database);
        assert!(sleeper.join().is_err(), "the sleeper is thrown out");
    });
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(cluster.sql("postgres", &left), "0");
}

#[test]
fn what_is_committed_outlives_restarts_and_crashes() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    assert_eq!(database.sql("SHOW fsync; SHOW full_page_writes"), "on\non");
    database.sql("CREATE TABLE kept (number int); INSERT INTO kept VALUES (1)");
    cluster.restart();
    database.sql("INSERT INTO kept VALUES (2)");
    cluster.stop_immediately();
    cluster.start();
    assert_eq!(database.sql("SELECT sum(number) FROM kept"), "3");
}

#[test]
fn a_cluster_goes_with_its_last_value() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    let directory = directory(&database);
    drop(cluster);
    assert_eq!(database.sql("SELECT 1"), "1");
    drop(database);
    assert!(!directory.exists());
}

#[test]
fn a_cluster_that_is_stopped_goes_as_well() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    let directory = directory(&database);
    cluster.stop_immediately();
    drop((database, cluster));
    assert!(!directory.exists());
}

#[test]
#[should_panic(expected = "only a cluster of a test's own")]
fn a_shared_cluster_is_not_stopped() {
    let Some(cluster) = shared() else {
        panic!("only a cluster of a test's own is stopped, and there is none");
    };
    cluster.stop_immediately();
}

#[test]
fn a_cluster_goes_with_a_process_that_is_killed() {
    assert_gone_after("a_cluster_goes_with_a_process_that_is_killed", |child| {
        child.kill().expect("it is killed");
    });
}

#[test]
fn a_cluster_goes_with_a_process_that_exits() {
    assert_gone_after("a_cluster_goes_with_a_process_that_exits", |child| {
        drop(child.stdin.take());
    });
}

#[test]
fn a_cluster_goes_with_a_process_that_is_interrupted_at_a_terminal() {
    assert_gone_after(
        "a_cluster_goes_with_a_process_that_is_interrupted_at_a_terminal",
        |child| {
            kill_process_group(Pid::from_child(child), Signal::INT).expect("it is interrupted");
        },
    );
}

/// Runs this test alone in a process of its own, which shares a cluster with itself; ends that process; the cluster
/// must go.
fn assert_gone_after(test: &str, end: impl FnOnce(&mut Child)) {
    if env::var_os(CHILD).is_some() {
        live_until_stdin_ends();
    }
    let mut child = Command::new(env::current_exe().expect("there is a test program"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .env_remove("ADJUTANT_TEST_POSTGRES")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test program starts");
    let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let directory = stdout
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("the cluster is in ")?.1.to_owned()))
        .expect("the child says where its cluster is");
    if directory == NOWHERE {
        child.wait().expect("the child ends");
        return;
    }
    let directory = PathBuf::from(directory);
    let server = server_process(&directory);
    assert!(is_running(server));

    end(&mut child);
    child.wait().expect("the child ends");
    let ended = Instant::now();
    // Nobody is told when a process ends that is no child.
    while directory.exists() || is_running(server) {
        assert!(
            ended.elapsed() < MAX_GOODBYE,
            "{} is still there",
            directory.display()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn live_until_stdin_ends() -> ! {
    let database = shared().map(Cluster::database);
    let Some(database) = &database else {
        println!("the cluster is in {NOWHERE}");
        process::exit(0);
    };
    println!("the cluster is in {}", directory(database).display());
    drop(io::stdin().read_to_end(&mut Vec::new()));
    // With the database and the static as they are.
    process::exit(0)
}

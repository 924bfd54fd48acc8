//! A COMMIT to PostgreSQL on its way: when the connection breaks before it arrives, the turn was rolled back, and when
//! it breaks behind it, the turn was committed. The store says which, whatever it was told.

use std::io::{self, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use adjutant_core::agent::Agent;
use adjutant_postgres_fixture::{Cluster, Database};
use adjutant_store::postgres::Postgres;
use adjutant_store::{CommitError, Store as _, StoreError};
use tempfile::TempDir;

use crate::rows::{agent, event};
use crate::sharing::wanted;
use crate::write::write;

/// What servers and clients of PostgreSQL call the socket in a directory.
const SOCKET: &str = ".s.PGSQL.5432";
const ROUNDS: u64 = 5;

/// Where a connection breaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Break {
    /// COMMIT is not passed on.
    Before,
    /// COMMIT is passed on, and its answer waited for, which is not passed back.
    Behind,
    /// COMMIT is passed on, and nothing waited for.
    At,
}

/// Stands between a store and its database, and passes on what each says; but at one COMMIT the connection breaks.
struct Between {
    directory: TempDir,
    next: Arc<Mutex<Option<Break>>>,
}

impl Between {
    fn new(database: &Database) -> Self {
        let directory = tempfile::tempdir().expect("there is room");
        let listener = UnixListener::bind(directory.path().join(SOCKET)).expect("a socket is made");
        let (behind, next) = (socket(database), Arc::new(Mutex::new(None)));
        let breaks = Arc::clone(&next);
        // It ends with the test program.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&behind)) else {
                    return;
                };
                pass(&client, &server, &breaks);
            }
        });
        Self { directory, next }
    }

    /// The URL of the database from this side.
    fn url(&self, database: &Database) -> String {
        let host = self
            .directory
            .path()
            .to_str()
            .expect("a path")
            .replace('/', "%2F");
        format!("postgres://adjutant@{host}/{}?sslmode=disable", database.name())
    }

    fn break_next(&self, at: Break) {
        *self.next.lock().expect("nobody broke") = Some(at);
    }

    fn has_broken(&self) -> bool {
        self.next.lock().expect("nobody broke").is_none()
    }
}

/// The socket of the cluster of a database.
fn socket(database: &Database) -> PathBuf {
    let (_, rest) = database.url().split_once('@').expect("a user");
    let (host, _) = rest.split_once('/').expect("a database");
    Path::new(&host.replace("%2F", "/")).join(SOCKET)
}

/// Passes on what both say, message by message.
fn pass(client: &UnixStream, server: &UnixStream, next: &Arc<Mutex<Option<Break>>>) {
    let both = || {
        let clone = |stream: &UnixStream| stream.try_clone().expect("a socket is cloned");
        (clone(client), clone(server))
    };
    let is_withheld = Arc::new(AtomicBool::new(false));
    let (withholds, next) = (Arc::clone(&is_withheld), Arc::clone(next));
    let (from, to) = both();
    thread::spawn(move || {
        // A connection that breaks is what this is for.
        let _ = pass_on(&from, &to, &withholds, &next);
        hang_up(&from, &to);
    });
    let (to, from) = both();
    thread::spawn(move || {
        let _ = pass_back(&from, &to, &is_withheld);
        hang_up(&from, &to);
    });
}

fn hang_up(one: &UnixStream, other: &UnixStream) {
    for stream in [one, other] {
        // The other end may have been first.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// The next message, with its type and its length.
fn message(mut from: impl Read, has_type: bool) -> io::Result<Vec<u8>> {
    let start = usize::from(has_type);
    let mut message = vec![0; start + 4];
    from.read_exact(&mut message)?;
    let length = message[start..].try_into().expect("four bytes");
    message.resize(start + u32::from_be_bytes(length) as usize, 0);
    from.read_exact(&mut message[start + 4..])?;
    Ok(message)
}

/// What the client says: the first message has no type.
fn pass_on(
    from: &UnixStream,
    mut to: &UnixStream,
    withholds: &AtomicBool,
    next: &Mutex<Option<Break>>,
) -> io::Result<()> {
    to.write_all(&message(from, false)?)?;
    loop {
        let message = message(from, true)?;
        if message[0] == b'Q' && message[5..] == *b"COMMIT\0" {
            match next.lock().expect("nobody broke").take() {
                Some(Break::Before) => return Ok(()),
                Some(Break::At) => return to.write_all(&message),
                Some(Break::Behind) => withholds.store(true, Ordering::SeqCst),
                None => {}
            }
        }
        to.write_all(&message)?;
    }
}

fn pass_back(from: &UnixStream, mut to: &UnixStream, is_withheld: &AtomicBool) -> io::Result<()> {
    loop {
        let message = message(from, true)?;
        let is_committed = message[0] == b'C' && message[5..] == *b"COMMIT\0";
        if is_committed && is_withheld.load(Ordering::SeqCst) {
            return Ok(());
        }
        to.write_all(&message)?;
    }
}

/// A store, and what stands between it and its database.
fn subject() -> Option<(Database, Between, Postgres)> {
    let database = Cluster::own()?.database();
    let between = Between::new(&database);
    let store = Postgres::open(&between.url(&database)).expect("the database is opened");
    Some((database, between, store))
}

fn an_agent(round: u64) -> Agent {
    agent(&format!("agent{round}"))
}

/// A turn that makes an agent, and tells of it.
fn turn(store: &mut Postgres, round: u64) -> Result<u64, CommitError> {
    let agent = an_agent(round);
    let ask = wanted(|wanted| wanted.agents = [agent.id.clone()].into());
    store.load(&ask).expect("rows are given");
    store.commit(&write().agent(None, &agent).event(event(1)).changes())
}

/// How many events there are, and agents of this round.
fn found(database: &Database, round: u64) -> String {
    let sql = format!(
        "SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM agent WHERE id = '{}')",
        an_agent(round).id
    );
    database.sql(&sql)
}

#[test]
fn a_commit_that_did_not_arrive_is_told_as_rolled_back() {
    let Some((database, between, mut store)) = subject() else {
        return;
    };
    for round in 1..=ROUNDS {
        between.break_next(Break::Before);
        let ended = turn(&mut store, round);
        assert!(between.has_broken());
        assert!(
            matches!(ended, Err(CommitError::RolledBack(StoreError::Busy(_)))),
            "{ended:?}"
        );
        assert_eq!(found(&database, round), format!("{}|0", round - 1));
        store.abandon();
        assert_eq!(turn(&mut store, round).expect("it is taken again"), round);
        assert_eq!(found(&database, round), format!("{round}|1"));
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_told_as_committed() {
    let Some((database, between, mut store)) = subject() else {
        return;
    };
    for round in 1..=ROUNDS {
        between.break_next(Break::Behind);
        let seq = turn(&mut store, round).expect("it is found out that it was committed");
        assert!(between.has_broken());
        assert_eq!(seq, round);
        assert_eq!(found(&database, round), format!("{round}|1"));
    }
}

/// Nobody knows which of the two it is until the database is asked.
#[test]
fn of_a_commit_that_was_hardly_sent_it_is_found_out_what_came_of_it() {
    let Some((database, between, mut store)) = subject() else {
        return;
    };
    let mut last = 0;
    for round in 1..=ROUNDS * 4 {
        between.break_next(Break::At);
        let ended = turn(&mut store, round);
        assert!(between.has_broken());
        let agents = match ended {
            Ok(seq) => {
                last += 1;
                assert_eq!(seq, last);
                1
            }
            Err(CommitError::RolledBack(StoreError::Busy(_))) => {
                store.abandon();
                0
            }
            Err(error) => panic!("it can be found out: {error}"),
        };
        assert_eq!(found(&database, round), format!("{last}|{agents}"));
    }
    println!("outcomes: {last} of {} were committed", ROUNDS * 4);
}

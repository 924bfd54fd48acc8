//! Subjects: stores under test, and how a case speaks to them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use adjutant_core::name::TaskId;
use adjutant_core::set::rows::{Changes, Rows, Wanted};
use adjutant_core::task::{Class, Demand, Task, TaskKey};
use adjutant_postgres_fixture::Database;
use adjutant_store::memory::Memory;
use adjutant_store::postgres::Postgres;
use adjutant_store::sqlite::Sqlite;
use adjutant_store::{Reader, Store, StoredTask};
use tempfile::TempDir;

/// A store under test.
pub(crate) trait Subject {
    /// A new, empty store; none where this machine lacks what it needs.
    fn fresh() -> Option<Self>
    where
        Self: Sized;

    /// The server that has the turn.
    fn store(&mut self) -> &mut dyn Store;

    /// The server that has the turn crashes; another one starts on the same data.
    fn reopen(&mut self);

    /// Whether servers vouch for agents: then these were heard of at least when they are stored to have been.
    fn vouches(&self) -> bool {
        false
    }

    /// Where servers share the store, the next turn is another one's.
    fn pass_on(&mut self) {}
}

impl dyn Subject + '_ {
    /// What one turn is given; the turn is then given up.
    pub(crate) fn load(&mut self, ask: impl FnOnce(&mut Wanted)) -> Rows {
        let mut wanted = Wanted::default();
        ask(&mut wanted);
        let rows = self.store().load(&wanted).expect("rows are given");
        self.store().abandon();
        self.pass_on();
        rows
    }

    /// Commits one turn; gives the number of the last event.
    pub(crate) fn commit(&mut self, changes: &Changes) -> u64 {
        let seq = self.store().commit(changes).expect("a turn is committed");
        self.pass_on();
        seq
    }

    /// All that a complete working set starts with.
    pub(crate) fn census(&mut self) -> Rows {
        self.store().census().expect("a census is given")
    }

    /// A reader of what is committed.
    pub(crate) fn reader(&mut self) -> Box<dyn Reader> {
        self.store().reader().expect("a reader is given")
    }

    /// Checks what must hold now, and again after a crash.
    pub(crate) fn now_and_after_a_crash(&mut self, check: impl Fn(&mut dyn Subject)) {
        check(self);
        self.reopen();
        check(self);
    }

    /// The class of a demand.
    pub(crate) fn class_of(&mut self, demand: &Demand) -> Arc<Class> {
        let wanted = Wanted {
            demands: vec![demand.clone()],
            ..Wanted::default()
        };
        let rows = self.store().load(&wanted).expect("a class is given");
        // A class that is new may belong to the turn that asked for it.
        self.commit(&Changes::default());
        let [class] = rows.classes.as_slice() else {
            panic!("one demand has one class: {:?}", rows.classes);
        };
        Arc::clone(class)
    }

    /// The class of tasks that ask for these labels.
    pub(crate) fn class(&mut self, labels: &[&str]) -> Arc<Class> {
        self.class_of(&Demand {
            labels: labels.iter().map(|label| (*label).into()).collect(),
            ..Demand::default()
        })
    }

    /// A task by its key, as a turn is given it.
    pub(crate) fn task(&mut self, key: TaskKey) -> Option<Arc<Task>> {
        let rows = self.load(|wanted| {
            wanted.tasks.insert(key);
        });
        rows.tasks.into_iter().find(|task| task.key == key)
    }

    /// A task with its details, as people read it.
    pub(crate) fn read(&mut self, id: &TaskId) -> Option<StoredTask> {
        self.reader().task(id).expect("a task is read")
    }
}

/// The store in memory, for one server.
pub(crate) struct MemoryAlone(Memory);

impl Subject for MemoryAlone {
    fn fresh() -> Option<Self> {
        Some(Self(Memory::alone()))
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.0
    }

    fn reopen(&mut self) {
        self.0 = self.0.another();
    }
}

/// The store in memory, shared by three servers that take turns: what one writes, the next one reads.
pub(crate) struct MemoryShared {
    servers: [Memory; 3],
    turn: usize,
}

impl Subject for MemoryShared {
    fn fresh() -> Option<Self> {
        let first = Memory::shared();
        let (second, third) = (first.another(), first.another());
        Some(Self {
            servers: [first, second, third],
            turn: 0,
        })
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.servers[self.turn]
    }

    fn reopen(&mut self) {
        self.servers[self.turn] = self.servers[self.turn].another();
    }

    fn pass_on(&mut self) {
        self.turn = (self.turn + 1) % self.servers.len();
    }
}

/// The embedded store, in a directory of its own.
pub(crate) struct SqliteFile {
    store: Sqlite,
    directory: TempDir,
}

impl SqliteFile {
    const NAME: &str = "adjutant.db";

    /// A directory that goes with the test, and the file in it.
    pub(crate) fn place() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory is made");
        let path = directory.path().join(Self::NAME);
        (directory, path)
    }
}

impl Subject for SqliteFile {
    fn fresh() -> Option<Self> {
        let (directory, path) = Self::place();
        let store = Sqlite::open(path).expect("a new file is opened");
        Some(Self { store, directory })
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.store
    }

    /// What a process that dies leaves is the files as they are, with no last word of a connection that is closed.
    fn reopen(&mut self) {
        let (directory, path) = Self::place();
        for suffix in ["", "-wal"] {
            let name = format!("{}{suffix}", Self::NAME);
            fs::copy(self.directory.path().join(&name), directory.path().join(&name))
                .expect("a file is kept");
        }
        self.store = Sqlite::open(path).expect("the file is opened again");
        self.directory = directory;
    }
}

/// A PostgreSQL database that one server uses.
pub(crate) struct PostgresAlone {
    store: Postgres,
    database: Database,
}

impl Subject for PostgresAlone {
    fn fresh() -> Option<Self> {
        let database = adjutant_postgres_fixture::shared()?.database();
        let store = Postgres::open(database.url()).expect("a new database is opened");
        Some(Self { store, database })
    }

    fn vouches(&self) -> bool {
        true
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.store
    }

    /// What a process that dies leaves is what was committed.
    fn reopen(&mut self) {
        self.store = Postgres::open(self.database.url()).expect("the database is opened again");
    }
}

/// A PostgreSQL database, shared by three servers that take turns: what one writes, the next one reads.
pub(crate) struct PostgresShared {
    servers: [Postgres; 3],
    turn: usize,
    database: Database,
}

impl Subject for PostgresShared {
    fn fresh() -> Option<Self> {
        let database = adjutant_postgres_fixture::shared()?.database();
        let open = || Postgres::open(database.url()).expect("a new database is opened");
        let servers = [open(), open(), open()];
        Some(Self {
            servers,
            turn: 0,
            database,
        })
    }

    fn vouches(&self) -> bool {
        true
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.servers[self.turn]
    }

    fn reopen(&mut self) {
        self.servers[self.turn] = Postgres::open(self.database.url()).expect("the database is opened again");
    }

    fn pass_on(&mut self) {
        self.turn = (self.turn + 1) % self.servers.len();
    }
}

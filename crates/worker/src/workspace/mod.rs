//! Workspaces: where the command of an attempt works, so that attempts do not disturb each other.
//!
//! ```text
//!  none       the directory of the worker, shared by all                     nothing to open or close
//!  dir        ROOT/TASK/ATTEMPT, empty                                       success: removed       failure: kept
//!  worktree   ROOT/TASK/ATTEMPT, a git worktree of the repository with       success: what is not committed is
//!             a branch of its own, adjutant/TASK/ATTEMPT, from its HEAD      committed, the worktree is removed, the
//!                                                                            branch stays   failure: both are kept
//! ```
//!
//! # Invariants
//! - Nothing that is there is overwritten: where a crashed worker left a directory or a branch, another name is taken.
//! - A worktree is removed only when all that is in it is in a commit on a branch, ignored files aside. In any doubt (a
//!   detached HEAD, a merge with conflicts, a repository inside of it) it is kept.
//! - A [`Workspace`] that is dropped, or whose worker is killed, stays as it is.
//! - Text of a task names no path and no branch outside of its own, and is never seen by a shell.
//!
//! # Not here
//! What runs in a workspace: the attempt. Merging and pushing of branches: whoever looks at the result.

mod error;
mod git;
mod lock;
mod name;
#[cfg(test)]
mod tests;
mod worktree;

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

pub use error::Error;
use worktree::{Repository, Worktree};

/// So many names are tried where others are taken; a task that left more attempts behind needs a person.
const MAX_NAMES: u32 = 1_000;
/// Variables that tell git which repository it works on. A worker may have been started from a hook of another one.
const REPOSITORY_VARIABLES: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// What kind of workspace each attempt gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// None of its own.
    #[default]
    None,
    /// An empty directory.
    Dir,
    /// A git worktree with a branch of its own.
    Worktree,
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "none" => Ok(Self::None),
            "dir" => Ok(Self::Dir),
            "worktree" => Ok(Self::Worktree),
            _ => Err(Error::UnknownKind(text.to_owned())),
        }
    }
}

/// Which attempt a workspace is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Occupant<'a> {
    /// The id of the task: any text.
    pub task: &'a str,
    /// The number of the attempt.
    pub attempt: u32,
    /// The repository that the task names, `owner/name`.
    pub repo: Option<&'a str>,
}

/// How an attempt ended, as far as its workspace is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Its work is done.
    Success,
    /// Anything else: it failed, was stopped, or ran out of time.
    Failure,
}

/// What became of a workspace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// For the artifacts of the result: `branch: …`, `diff: …`, `worktree: …`, `directory: …`.
    pub artifacts: Vec<String>,
    /// Where the workspace still is.
    pub kept: Option<PathBuf>,
    /// Why it was kept although the attempt succeeded, for people.
    pub note: Option<String>,
}

/// The workspaces of one worker; clones are the same.
#[derive(Clone, Debug)]
pub struct Workspaces {
    kind: Kind,
    root: PathBuf,
    repository: Arc<Repository>,
}

/// The workspace of one attempt. Dropping it leaves it as it is.
#[derive(Debug)]
pub struct Workspace(Place);

#[derive(Debug)]
enum Place {
    Shared,
    Directory(PathBuf),
    Worktree(Box<Worktree>),
}

impl Workspaces {
    /// Workspaces of this kind under `root`, which is made when it is needed; worktrees are of the repository that
    /// `repository` is in.
    ///
    /// # Errors
    /// When a path cannot be made absolute.
    pub fn new(kind: Kind, root: &Path, repository: &Path) -> Result<Self, Error> {
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map_err(|error| Error::io(format!("cannot find {}", path.display()), error))
        };
        Ok(Self {
            kind,
            root: absolute(root)?,
            repository: Arc::new(Repository::new(absolute(repository)?)),
        })
    }

    /// Workspaces of this kind where a person says that they are, or where that is when nothing is said; none where each
    /// attempt has none of its own.
    ///
    /// # Errors
    /// When a path cannot be made absolute.
    pub fn placed(kind: Kind, repository: Option<&Path>, root: Option<&Path>) -> Result<Option<Self>, Error> {
        if kind == Kind::None {
            return Ok(None);
        }
        let repository = repository.unwrap_or(Path::new("."));
        let default = || Self::default_root(repository);
        let root = root.map_or_else(default, Path::to_owned);
        Self::new(kind, &root, repository).map(Some)
    }

    /// Where workspaces are put when nothing is said: beside the repository, since a tool that looks through it should
    /// not find all the others in it.
    pub fn default_root(repository: &Path) -> PathBuf {
        let repository = std::path::absolute(repository).unwrap_or_else(|_| repository.to_owned());
        let mut name = repository
            .file_name()
            .unwrap_or(OsStr::new("adjutant"))
            .to_owned();
        name.push(".workspaces");
        repository.with_file_name(name)
    }

    /// Says what keeps workspaces of this kind from being opened at all, so that a worker need not find out by failing
    /// tasks.
    ///
    /// # Errors
    /// The same as [`Workspaces::open`].
    pub async fn check(&self) -> Result<(), Error> {
        match self.kind {
            Kind::None | Kind::Dir => Ok(()),
            Kind::Worktree => self.repository.base().await.map(drop),
        }
    }

    /// Makes a workspace for an attempt.
    ///
    /// # Errors
    /// Why it cannot be made, in one line that says what to do. Nothing is left behind.
    pub async fn open(&self, occupant: Occupant<'_>) -> Result<Workspace, Error> {
        let place = match self.kind {
            Kind::None => Place::Shared,
            Kind::Dir => Place::Directory(self.open_directory(occupant)?),
            Kind::Worktree => {
                let worktree = Worktree::open(Arc::clone(&self.repository), &self.root, occupant).await?;
                Place::Worktree(Box::new(worktree))
            }
        };
        Ok(Workspace(place))
    }

    fn open_directory(&self, occupant: Occupant<'_>) -> Result<PathBuf, Error> {
        let parent = self.root.join(name::of_task(occupant.task));
        make_parents(&parent)?;
        for name in name::of_attempt(occupant.attempt) {
            let path = parent.join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(format!("cannot make {}", path.display()), error)),
            }
        }
        Err(Error::NoName(parent))
    }
}

impl Workspace {
    /// Where the command works; none where it works in the directory of the worker.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Shared => None,
            Place::Directory(path) => Some(path),
            Place::Worktree(worktree) => Some(worktree.path()),
        }
    }

    /// The branch that was made for it.
    pub fn branch(&self) -> Option<&str> {
        match &self.0 {
            Place::Shared | Place::Directory(_) => None,
            Place::Worktree(worktree) => Some(worktree.branch()),
        }
    }

    /// Whether the command must not inherit this variable: it would lead git away from the workspace.
    pub fn withholds(&self, variable: &OsStr) -> bool {
        matches!(self.0, Place::Worktree(_)) && REPOSITORY_VARIABLES.iter().any(|name| variable == *name)
    }

    /// Closes it once no process of the attempt is left, and says what became of it. Whatever goes wrong here, it is kept,
    /// and the report has the reason.
    pub async fn close(self, outcome: Outcome) -> Report {
        match self.0 {
            Place::Shared => Report::default(),
            Place::Directory(path) => close_directory(path, outcome).await,
            Place::Worktree(worktree) => worktree.close(outcome).await,
        }
    }
}

async fn close_directory(path: PathBuf, outcome: Outcome) -> Report {
    let mut report = Report::default();
    if outcome == Outcome::Success {
        let gone = path.clone();
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(gone)).await;
        match removed.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => {
                remove_if_empty(path.parent());
                return report;
            }
            Err(error) => report.note = Some(format!("{} cannot be removed: {error}", path.display())),
        }
    }
    report.artifacts.push(format!("directory: {}", path.display()));
    report.kept = Some(path);
    report
}

/// Makes the directories that workspaces are in; what agents write is nobody else's to read.
fn make_parents(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io(format!("cannot make {}", path.display()), error))
}

/// Removes the directory of a task once no attempt has anything in it. One that is not empty is not removed.
fn remove_if_empty(path: Option<&Path>) {
    if let Some(path) = path {
        let _ = std::fs::remove_dir(path);
    }
}

//! Why a workspace cannot be had, in one line that says what to do.

use std::path::PathBuf;
use std::time::Duration;

/// Why a workspace cannot be opened or closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No kind has this name.
    #[error("there are no workspaces of the kind `{0}`: worktree, dir or none")]
    UnknownKind(String),
    /// There is no git.
    #[error("git is not installed, or not in PATH: worktrees need it (Debian: apt-get install git)")]
    NoGit,
    /// The repository's directory is not there.
    #[error("there is no directory {}: name a clone with --repository", .0.display())]
    NoDirectory(PathBuf),
    /// It is there, and is no repository.
    #[error("{} is not in a git repository: name a clone with --repository ({said})", path.display())]
    NoRepository {
        /// The directory.
        path: PathBuf,
        /// What git said.
        said: String,
    },
    /// There is nothing to begin from.
    #[error("the repository {} has no commit yet: worktrees begin from its HEAD, so commit something first", .0.display())]
    NoCommit(PathBuf),
    /// The task is for another repository.
    #[error(
        "the task is for `{asked}`, and {} is a clone of {known}: name a clone of it with --repository, \
         and give such tasks a label that only this worker's agent has", path.display()
    )]
    WrongRepository {
        /// What the task names.
        asked: String,
        /// The repository that there is.
        path: PathBuf,
        /// What it is called.
        known: String,
    },
    /// All names are taken.
    #[error("too many attempts of this task were left in {}: look at them, and remove what is not needed", .0.display())]
    NoName(PathBuf),
    /// Other workers do not let go of the repository.
    #[error("another worker has held {} for {} s: is it stuck?", path.display(), limit.as_secs())]
    Locked {
        /// The lock's file.
        path: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Git said no.
    #[error("cannot {doing}: git says: {said}")]
    Git {
        /// What was being done.
        doing: String,
        /// Its stderr, in one line.
        said: String,
    },
    /// Git did not end.
    #[error(
        "cannot {doing}: git did not end within {} s, and was killed; does a filter of the repository wait for something?",
        limit.as_secs()
    )]
    Slow {
        /// What was being done.
        doing: String,
        /// How long it had.
        limit: Duration,
    },
    /// The file system said no.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    pub(super) const fn io(doing: String, source: std::io::Error) -> Self {
        Self::Io { doing, source }
    }
}

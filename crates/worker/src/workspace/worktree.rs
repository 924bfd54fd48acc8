//! A worktree of a repository for one attempt, with a branch of its own.
//!
//! Only the steps that change what all worktrees share are taken one at a time: adding, removing, and deleting a branch.
//! Checking out and committing are not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::git::Git;
use super::{Error, Occupant, Outcome, Report, lock, make_parents, name, remove_if_empty};

/// All branches are below this.
const BRANCHES: &str = "adjutant";
/// The mode that the index gives a repository inside of another.
const GITLINK: &str = "160000 ";

/// A repository, as its directory is named by a person.
#[derive(Debug)]
pub(super) struct Repository {
    path: PathBuf,
    pub(super) git: Git,
    turns: Mutex<()>,
}

/// Where worktrees begin.
pub(super) struct Base {
    /// The directory that all worktrees share.
    common: PathBuf,
    commit: String,
}

/// A worktree that is there.
#[derive(Debug)]
pub(super) struct Worktree {
    repository: Arc<Repository>,
    /// The directory that all worktrees of the repository share.
    common: PathBuf,
    base: String,
    path: PathBuf,
    branch: String,
    /// Whose work it is, for people.
    whose: String,
}

/// Whether all that a worktree has is in commits on a branch.
enum Saved {
    On { branch: String, commit: String },
    Not(String),
}

impl Repository {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            git: Git::new(),
            turns: Mutex::new(()),
        }
    }

    /// Where a worktree would begin now.
    pub(super) async fn base(&self) -> Result<Base, Error> {
        if !self.path.is_dir() {
            return Err(Error::NoDirectory(self.path.clone()));
        }
        let arguments = ["rev-parse", "--path-format=absolute", "--git-common-dir"];
        let common = match self.git.run("find the repository", &self.path, &arguments).await {
            Err(Error::Git { said, .. }) => {
                let path = self.path.clone();
                return Err(Error::NoRepository { path, said });
            }
            common => PathBuf::from(common?),
        };
        let arguments = ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"];
        let commit = self
            .git
            .ask("find where to begin", &self.path, &arguments)
            .await?;
        let commit = commit.ok_or_else(|| Error::NoCommit(self.path.clone()))?;
        Ok(Base { common, commit })
    }

    /// A task that names a repository gets a worktree of no other one.
    async fn check_name(&self, asked: Option<&str>, common: &Path) -> Result<(), Error> {
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
            return Ok(());
        };
        let arguments = ["config", "--get-regexp", r"^remote\..*\.url$"];
        let remotes = self.git.ask("read the remotes", &self.path, &arguments).await?;
        let mut known: Vec<String> = remotes
            .iter()
            .flat_map(|remotes| remotes.lines())
            .filter_map(|line| owner_and_name(line.split_once(' ')?.1))
            .collect();
        known.dedup();
        let is_it = if known.is_empty() {
            // A repository without remotes is known by its directory.
            let name = directory_name(common);
            let is_it = asked
                .rsplit('/')
                .next()
                .is_some_and(|asked| asked.eq_ignore_ascii_case(&name));
            known.push(name);
            is_it
        } else {
            known.iter().any(|known| known.eq_ignore_ascii_case(asked))
        };
        if is_it {
            return Ok(());
        }
        Err(Error::WrongRepository {
            asked: asked.escape_debug().to_string(),
            path: self.path.clone(),
            known: known.join(", "),
        })
    }

    /// Adds a worktree without files under the first name that is free.
    async fn add(
        &self,
        parent: &Path,
        task: &str,
        attempt: u32,
        commit: &str,
    ) -> Result<(PathBuf, String), Error> {
        for name in name::of_attempt(attempt) {
            let path = parent.join(&name);
            if path.symlink_metadata().is_ok() {
                continue;
            }
            let branch = format!("{BRANCHES}/{task}/{name}");
            let arguments = [
                "worktree".as_ref(),
                "add".as_ref(),
                "--quiet".as_ref(),
                "--no-checkout".as_ref(),
                "-b".as_ref(),
                branch.as_ref(),
                "--".as_ref(),
                path.as_os_str(),
                commit.as_ref(),
            ];
            match self.git.run("add a worktree", &self.path, &arguments).await {
                Ok(_) => return Ok((path, branch)),
                // The branch, or by bad luck the directory: whose it is is not known, so it stays.
                Err(Error::Git { said, .. }) if said.contains("already exists") => {}
                Err(error) => {
                    // The branch is made first, and was not there before.
                    self.forget_branch(&branch, commit).await;
                    match error {
                        Error::Git { said, .. } if said.contains("already registered") => {}
                        error => return Err(error),
                    }
                }
            }
        }
        Err(Error::NoName(parent.to_owned()))
    }

    /// Deletes a branch that still is where it began; says whether it was.
    async fn forget_branch(&self, branch: &str, base: &str) -> bool {
        let arguments = ["update-ref", "-d", &format!("refs/heads/{branch}"), base];
        self.git
            .run("delete a branch", &self.path, &arguments)
            .await
            .is_ok()
    }
}

impl Worktree {
    pub(super) async fn open(
        repository: Arc<Repository>,
        root: &Path,
        occupant: Occupant<'_>,
    ) -> Result<Self, Error> {
        let Base { common, commit } = repository.base().await?;
        repository.check_name(occupant.repo, &common).await?;
        let task = name::of_task(occupant.task);
        let parent = root.join(&task);
        make_parents(&parent)?;
        let turn = lock::take(&repository.turns, &common).await?;
        let added = repository.add(&parent, &task, occupant.attempt, &commit).await;
        drop(turn);
        let (path, branch) = added.inspect_err(|_| remove_if_empty(Some(&parent)))?;
        let worktree = Self {
            repository,
            common,
            base: commit,
            path,
            branch,
            whose: format!(
                "task {}, attempt {}",
                occupant.task.escape_debug().take(200).collect::<String>(),
                occupant.attempt
            ),
        };
        if let Err(error) = worktree
            .git("check out a worktree", &["reset", "--hard", "--quiet"])
            .await
        {
            worktree.discard().await;
            return Err(error);
        }
        Ok(worktree)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn branch(&self) -> &str {
        &self.branch
    }

    /// Keeps all that there is, as it is or in commits.
    pub(super) async fn close(self, outcome: Outcome) -> Report {
        if outcome == Outcome::Failure {
            return self.keep(None).await;
        }
        match self.save().await {
            Ok(Saved::On { branch, commit }) => match self.remove().await {
                Ok(()) => self.reported(&branch, &commit).await,
                Err(error) => self.keep(Some(error.to_string())).await,
            },
            Ok(Saved::Not(why)) => self.keep(Some(why)).await,
            Err(error) => self.keep(Some(error.to_string())).await,
        }
    }

    async fn git(&self, doing: &str, arguments: &[&str]) -> Result<String, Error> {
        self.repository.git.run(doing, &self.path, arguments).await
    }

    async fn ask(&self, doing: &str, arguments: &[&str]) -> Result<Option<String>, Error> {
        self.repository.git.ask(doing, &self.path, arguments).await
    }

    /// Whether git, called in the worktree, works on it: where the link to the repository is gone it would find one in
    /// a directory above, and where the attempt made a repository of its own, that one.
    async fn is_itself(&self) -> Result<bool, Error> {
        let arguments = [
            "rev-parse",
            "--path-format=absolute",
            "--git-common-dir",
            "--show-toplevel",
        ];
        let found = self.git("look at the worktree", &arguments).await?;
        let same = |path: &str, own: &Path| {
            let real = |path: &Path| std::fs::canonicalize(path).ok();
            real(Path::new(path)).is_some_and(|path| Some(path) == real(own))
        };
        Ok(found
            .split_once('\n')
            .is_some_and(|(common, top)| same(common, &self.common) && same(top, &self.path)))
    }

    /// Commits what is not committed.
    async fn save(&self) -> Result<Saved, Error> {
        if !self.is_itself().await? {
            return Ok(Saved::Not("it is no longer a worktree of the repository".into()));
        }
        let Some(head) = self
            .ask("find the branch", &["symbolic-ref", "--quiet", "HEAD"])
            .await?
        else {
            return Ok(Saved::Not("its HEAD is on no branch".into()));
        };
        let conflicts = self
            .git("look for conflicts", &["ls-files", "--unmerged"])
            .await?;
        if !conflicts.is_empty() {
            return Ok(Saved::Not("a merge in it has conflicts".into()));
        }
        self.git("add what is new", &["add", "--all"]).await?;
        let staged = ["diff", "--cached", "--quiet", "--no-ext-diff"];
        if self.ask("look for changes", &staged).await?.is_none() {
            let message = format!("Uncommitted work of {}", self.whose);
            let arguments = ["commit", "--quiet", "--no-verify", "-m", &message];
            self.git("commit what was not committed", &arguments).await?;
        }
        // What is in a repository inside of this one is in no commit of this one.
        if let Some(inner) = self.inner_repository().await? {
            return Ok(Saved::Not(format!("it has a repository in it: {inner}")));
        }
        let commit = self
            .git("find the last commit", &["rev-parse", "--verify", "HEAD"])
            .await?;
        let branch = head.strip_prefix("refs/heads/").unwrap_or(&head).to_owned();
        Ok(Saved::On { branch, commit })
    }

    /// A submodule that was filled, or a clone that was added.
    async fn inner_repository(&self) -> Result<Option<String>, Error> {
        let index = self
            .git("look for submodules", &["ls-files", "--stage", "-z"])
            .await?;
        let inner = index
            .split('\0')
            .filter(|entry| entry.starts_with(GITLINK))
            .filter_map(|entry| Some(entry.split_once('\t')?.1))
            .find(|path| self.path.join(path).join(".git").symlink_metadata().is_ok());
        Ok(inner.map(|path| path.escape_debug().to_string()))
    }

    /// Removes the worktree, unless git finds something in it that is in no commit.
    async fn remove(&self) -> Result<(), Error> {
        let path = self.path.to_string_lossy();
        let turn = lock::take(&self.repository.turns, &self.common).await?;
        let arguments = [
            "worktree".as_ref(),
            "remove".as_ref(),
            "--".as_ref(),
            self.path.as_os_str(),
        ];
        let doing = format!("remove the worktree {path}");
        let removed = self
            .repository
            .git
            .run(&doing, &self.repository.path, &arguments)
            .await;
        drop(turn);
        remove_if_empty(self.path.parent());
        removed.map(drop)
    }

    /// What is left once the worktree is gone: the branches that have something on them.
    async fn reported(&self, branch: &str, commit: &str) -> Report {
        let turn = lock::take(&self.repository.turns, &self.common).await;
        let unused = turn.is_ok() && self.repository.forget_branch(&self.branch, &self.base).await;
        drop(turn);
        let mut branches = vec![self.branch.as_str()];
        if unused {
            branches.clear();
        }
        if branch != self.branch {
            branches.push(branch);
        }
        let mut report = Report::default();
        report
            .artifacts
            .extend(branches.iter().map(|branch| format!("branch: {branch}")));
        let arguments = [
            "diff",
            "--shortstat",
            "--no-ext-diff",
            "--no-textconv",
            &self.base,
            commit,
        ];
        let stat = self
            .repository
            .git
            .run("sum up the changes", &self.repository.path, &arguments)
            .await;
        if let Some(stat) = stat.ok().filter(|stat| !stat.is_empty()) {
            report.artifacts.push(format!("diff: {}", stat.trim()));
        }
        report
    }

    /// Leaves everything where it is, and says where.
    async fn keep(&self, note: Option<String>) -> Report {
        let mut report = Report {
            artifacts: vec![format!("branch: {}", self.branch)],
            kept: None,
            note,
        };
        if let Some(stat) = self.stat().await {
            report.artifacts.push(format!("diff: {stat}"));
        }
        if self.path.symlink_metadata().is_ok() {
            report
                .artifacts
                .push(format!("worktree: {}", self.path.display()));
            report.kept = Some(self.path.clone());
        }
        report
    }

    /// What the worktree has beyond where it began. It only informs: nothing depends on it.
    async fn stat(&self) -> Option<String> {
        if !self.is_itself().await.ok()? {
            return None;
        }
        let arguments = [
            "diff",
            "--shortstat",
            "--no-ext-diff",
            "--no-textconv",
            &self.base,
        ];
        let changed = self.git("sum up the changes", &arguments).await.ok()?;
        let arguments = ["ls-files", "--others", "--exclude-standard", "-z"];
        let new = self.git("count what is new", &arguments).await.ok()?;
        let new = new.split('\0').filter(|name| !name.is_empty()).count();
        let mut parts = Vec::new();
        if !changed.is_empty() {
            parts.push(changed.trim().to_owned());
        }
        match new {
            0 => {}
            1 => parts.push("1 file not added".into()),
            _ => parts.push(format!("{new} files not added")),
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Takes back a worktree that was just added and that nobody has worked in.
    async fn discard(&self) {
        let Ok(turn) = lock::take(&self.repository.turns, &self.common).await else {
            return;
        };
        let arguments = [
            "worktree".as_ref(),
            "remove".as_ref(),
            "--force".as_ref(),
            "--".as_ref(),
            self.path.as_os_str(),
        ];
        let removed = self
            .repository
            .git
            .run("take back a worktree", &self.repository.path, &arguments)
            .await;
        match removed {
            Ok(_) => drop(self.repository.forget_branch(&self.branch, &self.base).await),
            Err(error) => tracing::warn!(%error, "a worktree that could not be filled stays"),
        }
        drop(turn);
        remove_if_empty(self.path.parent());
    }
}

/// `owner/name` of an address such as `https://host/owner/name.git` or `git@host:owner/name`.
fn owner_and_name(url: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix(".git").unwrap_or(url);
    let mut parts = url.rsplit(['/', ':']);
    let (name, owner) = (parts.next()?, parts.next()?);
    (!name.is_empty() && !owner.is_empty()).then(|| format!("{owner}/{name}"))
}

/// The name of the directory that a repository is in; of the repository itself, where it is bare.
fn directory_name(common: &Path) -> String {
    let named = match common.file_name() {
        Some(name) if name == ".git" => common.parent().and_then(Path::file_name),
        name => name,
    };
    let name = named.unwrap_or_default().to_string_lossy();
    name.strip_suffix(".git").unwrap_or(&name).to_owned()
}

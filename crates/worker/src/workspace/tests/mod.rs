//! Workspaces of real repositories in temporary directories.

mod hostile;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{Kind, Occupant, Outcome, Workspace, Workspaces};

/// A repository, and a place for the workspaces of it.
struct Scene {
    directory: TempDir,
}

impl Scene {
    fn empty() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// A repository `shop` with one commit.
    fn new() -> Self {
        let scene = Self::empty();
        scene.git(".", &["init", "--quiet", "--initial-branch", "main", "shop"]);
        scene.write("shop/README", "shop\n");
        scene.write("shop/.gitignore", "target/\n");
        scene.commit("shop", "the first");
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).unwrap();
    }

    fn commit(&self, at: &str, message: &str) {
        self.git(at, &["add", "--all"]);
        self.git(at, &["commit", "--quiet", "-m", message]);
    }

    #[track_caller]
    fn git(&self, at: &str, arguments: &[&str]) -> String {
        git(&self.at(at), arguments)
    }

    fn workspaces(&self, kind: Kind) -> Workspaces {
        Workspaces::new(kind, &self.at("work"), &self.at("shop")).unwrap()
    }

    async fn open(&self, task: &str, attempt: u32) -> Workspace {
        self.workspaces(Kind::Worktree)
            .open(occupant(task, attempt))
            .await
            .unwrap()
    }

    /// What keeps a worktree from being opened.
    async fn refused(&self) -> String {
        let error = self.workspaces(Kind::Worktree).open(occupant("t", 1)).await;
        let error = error.unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error:?}");
        assert!(!self.at("work/t").exists(), "nothing is left: {error}");
        error
    }

    fn branches(&self) -> Vec<String> {
        let format = "--format=%(refname:short)";
        let branches = self.git("shop", &["for-each-ref", format, "refs/heads/adjutant"]);
        branches.lines().map(str::to_owned).collect()
    }
}

#[track_caller]
fn git(at: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GIT_")) {
        command.env_remove(name);
    }
    let output = command
        .args(["-c", "user.name=Tess", "-c", "user.email=tess@example.org"])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(at)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn occupant(task: &str, attempt: u32) -> Occupant<'_> {
    Occupant {
        task,
        attempt,
        repo: None,
    }
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.path().unwrap().to_owned()
}

#[tokio::test]
async fn two_tasks_work_in_parallel_and_both_diffs_are_kept() {
    let scene = Scene::new();
    let (one, two) = (scene.open("one", 1).await, scene.open("two", 1).await);
    assert_eq!(
        (one.branch(), two.branch()),
        (Some("adjutant/one/1"), Some("adjutant/two/1"))
    );
    for (workspace, text) in [(&one, "one\n"), (&two, "two\n")] {
        assert_eq!(
            fs::read_to_string(path(workspace).join("README")).unwrap(),
            "shop\n"
        );
        fs::write(path(workspace).join("README"), text).unwrap();
        fs::write(path(workspace).join("new"), text).unwrap();
    }
    // One of them commits by itself, the other one leaves that to the worker.
    git(&path(&one), &["add", "--all"]);
    git(&path(&one), &["commit", "--quiet", "-m", "by the agent"]);
    fs::create_dir(path(&one).join("target")).unwrap();
    fs::write(path(&one).join("target/ignored"), "").unwrap();
    let places = [path(&one), path(&two)];
    let reports = [
        one.close(Outcome::Success).await,
        two.close(Outcome::Success).await,
    ];
    for (report, task) in reports.iter().zip(["one", "two"]) {
        assert_eq!(
            report.artifacts,
            [
                format!("branch: adjutant/{task}/1"),
                "diff: 2 files changed, 2 insertions(+), 1 deletion(-)".to_owned()
            ]
        );
        assert_eq!((&report.kept, &report.note), (&None, &None));
        let shown = scene.git("shop", &["show", &format!("adjutant/{task}/1:new")]);
        assert_eq!(shown, format!("{task}\n"));
    }
    let log = scene.git("shop", &["log", "-1", "--format=%an <%ae> %s", "adjutant/two/1"]);
    assert_eq!(
        log,
        "adjutant <adjutant@localhost> Uncommitted work of task two, attempt 1\n"
    );
    assert!(places.iter().all(|place| !place.exists()));
    assert!(!scene.at("work/one").exists(), "no empty directories are left");
    assert_eq!(scene.git("shop", &["worktree", "list"]).lines().count(), 1);
    assert_eq!(
        scene.git("shop", &["status", "--porcelain"]),
        "",
        "the clone is as it was"
    );
}

#[tokio::test]
async fn what_a_killed_attempt_did_not_commit_is_still_there() {
    let scene = Scene::new();
    let workspace = scene.open("t", 1).await;
    let first = path(&workspace);
    fs::write(first.join("draft"), "hours of work\n").unwrap();
    // The worker is killed: nobody closes it.
    drop(workspace);
    // The task comes back, and so does the worker, which counts from one again.
    for attempt in [2, 1] {
        let next = scene.open("t", attempt).await;
        assert_ne!(next.path(), Some(&*first));
        assert!(!path(&next).join("draft").exists());
        next.close(Outcome::Success).await;
    }
    assert_eq!(
        fs::read_to_string(first.join("draft")).unwrap(),
        "hours of work\n"
    );
    assert_eq!(git(&first, &["status", "--porcelain"]), "?? draft\n");
}

#[tokio::test]
async fn a_failed_attempt_keeps_all_and_says_where() {
    let scene = Scene::new();
    let workspace = scene.open("t", 3).await;
    let place = path(&workspace);
    fs::write(place.join("README"), "half\n").unwrap();
    fs::write(place.join("draft"), "").unwrap();
    let report = workspace.close(Outcome::Failure).await;
    assert_eq!(
        report.artifacts,
        [
            "branch: adjutant/t/3".to_owned(),
            "diff: 1 file changed, 1 insertion(+), 1 deletion(-), 1 file not added".to_owned(),
            format!("worktree: {}", place.display()),
        ]
    );
    assert_eq!(report.kept, Some(place.clone()));
    assert_eq!(report.note, None);
    assert_eq!(fs::read_to_string(place.join("README")).unwrap(), "half\n");
    assert_eq!(scene.branches(), ["adjutant/t/3"]);
}

#[tokio::test]
async fn an_attempt_that_changed_nothing_leaves_nothing() {
    let scene = Scene::new();
    let report = scene.open("t", 1).await.close(Outcome::Success).await;
    assert_eq!(report, super::Report::default());
    assert!(scene.branches().is_empty());
    assert!(!scene.at("work/t").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_are_made_at_once_by_workers_that_know_nothing_of_each_other() {
    let scene = Scene::new();
    let mut opening = tokio::task::JoinSet::new();
    for number in 0..16 {
        // As many processes would: only the file is between them. All believe in the same number of the attempt.
        let workspaces = scene.workspaces(Kind::Worktree);
        opening.spawn(async move {
            let task = format!("t{}", number % 4);
            workspaces.open(occupant(&task, 1)).await.unwrap()
        });
    }
    let all = opening.join_all().await;
    let mut places: Vec<PathBuf> = all.iter().map(path).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 16);
    assert_eq!(scene.branches().len(), 16);
    let mut closing = tokio::task::JoinSet::new();
    for (number, workspace) in all.into_iter().enumerate() {
        fs::write(path(&workspace).join("number"), number.to_string()).unwrap();
        closing.spawn(workspace.close(Outcome::Success));
    }
    for report in closing.join_all().await {
        assert_eq!((&report.kept, &report.note), (&None, &None));
        assert_eq!(report.artifacts.len(), 2, "{report:?}");
    }
    assert_eq!(scene.branches().len(), 16);
    assert_eq!(scene.git("shop", &["worktree", "list"]).lines().count(), 1);
}

#[tokio::test]
async fn a_bare_repository_and_a_detached_head_are_fine_to_begin_from() {
    let scene = Scene::new();
    scene.write("shop/README", "second\n");
    scene.commit("shop", "the second");
    scene.git("shop", &["checkout", "--quiet", "--detach", "HEAD~1"]);
    let workspace = scene.open("t", 1).await;
    assert_eq!(
        fs::read_to_string(path(&workspace).join("README")).unwrap(),
        "shop\n"
    );
    scene.git(".", &["clone", "--quiet", "--bare", "shop", "bare.git"]);
    let workspaces = Workspaces::new(Kind::Worktree, &scene.at("work"), &scene.at("bare.git")).unwrap();
    let workspace = workspaces.open(occupant("bare", 1)).await.unwrap();
    fs::write(path(&workspace).join("new"), "").unwrap();
    let report = workspace.close(Outcome::Success).await;
    assert_eq!(report.artifacts[0], "branch: adjutant/bare/1");
    assert!(
        scene
            .git("bare.git", &["show", "--stat", "adjutant/bare/1"])
            .contains("new")
    );
}

#[tokio::test]
async fn work_on_a_branch_of_the_agents_own_is_reported_there() {
    let scene = Scene::new();
    let workspace = scene.open("t", 1).await;
    git(&path(&workspace), &["checkout", "--quiet", "-b", "fix/it"]);
    fs::write(path(&workspace).join("new"), "").unwrap();
    let report = workspace.close(Outcome::Success).await;
    assert_eq!(report.artifacts[0], "branch: fix/it");
    assert_eq!((report.kept, scene.branches().len()), (None, 0));
    assert!(scene.git("shop", &["show", "--stat", "fix/it"]).contains("new"));
}

#[tokio::test]
async fn a_worker_waits_while_another_changes_the_worktrees_of_the_repository() {
    let scene = Scene::new();
    scene.open("first", 1).await;
    let other = fs::File::open(scene.at("shop/.git/adjutant-worktrees")).unwrap();
    other.lock().unwrap();
    let workspaces = scene.workspaces(Kind::Worktree);
    let mut opening = Box::pin(workspaces.open(occupant("t", 1)));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut opening).await;
    assert!(early.is_err() && !scene.at("work/t/1").exists());
    other.unlock().unwrap();
    assert!(path(&opening.await.unwrap()).ends_with("work/t/1"));
}

#[tokio::test]
async fn a_directory_is_empty_at_first_gone_after_a_success_and_kept_after_a_failure() {
    let scene = Scene::empty();
    let workspaces = scene.workspaces(Kind::Dir);
    workspaces.check().await.unwrap();
    let (good, bad) = (
        workspaces.open(occupant("../t", 1)).await.unwrap(),
        workspaces.open(occupant("../t", 1)).await.unwrap(),
    );
    assert_ne!(good.path(), bad.path());
    let place = path(&bad);
    assert_eq!(place.parent().unwrap().parent(), Some(&*scene.at("work")));
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
    for workspace in [&good, &bad] {
        assert_eq!(fs::read_dir(path(workspace)).unwrap().count(), 0);
        fs::write(path(workspace).join("file"), "").unwrap();
    }
    assert_eq!(good.close(Outcome::Success).await, super::Report::default());
    let report = bad.close(Outcome::Failure).await;
    assert_eq!(report.artifacts, [format!("directory: {}", place.display())]);
    assert_eq!(report.kept, Some(place.clone()));
    assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 1);
}

#[tokio::test]
async fn without_a_workspace_nothing_is_made() {
    let scene = Scene::empty();
    let workspace = scene.workspaces(Kind::None).open(occupant("t", 1)).await.unwrap();
    assert_eq!(workspace.path(), None);
    assert!(!workspace.withholds("GIT_DIR".as_ref()));
    assert_eq!(workspace.close(Outcome::Failure).await, super::Report::default());
    assert!(!scene.at("work").exists());
}

#[tokio::test]
async fn a_command_in_a_worktree_is_not_led_to_another_repository() {
    let scene = Scene::new();
    let workspace = scene.open("t", 1).await;
    assert!(workspace.withholds("GIT_DIR".as_ref()) && workspace.withholds("GIT_INDEX_FILE".as_ref()));
    assert!(!workspace.withholds("GIT_AUTHOR_NAME".as_ref()) && !workspace.withholds("PATH".as_ref()));
}

#[test]
fn kinds_have_names() {
    let kinds = ["none", "dir", "worktree"].map(|name| name.parse::<Kind>().unwrap());
    assert_eq!(kinds, [Kind::None, Kind::Dir, Kind::Worktree]);
    let error = "tree".parse::<Kind>().unwrap_err().to_string();
    assert!(error.contains("`tree`"), "{error}");
    assert_eq!(
        Workspaces::default_root(Path::new("/a/shop")),
        Path::new("/a/shop.workspaces")
    );
}

//! Ids, repositories and attempts that mean no good, or have bad luck.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::git::inherited;
use super::super::worktree::Repository;
use super::super::{Error, Kind, Occupant, Outcome, Workspaces};
use super::{Scene, git, occupant, path};

#[tokio::test]
async fn no_id_leads_out_of_the_root_or_to_a_name_that_git_refuses() {
    let scene = Scene::new();
    let long = "x".repeat(200);
    let ids = [
        "..",
        "../../shop",
        "/etc",
        "-b",
        "--force",
        "a\0b",
        "a\nb",
        "a.lock",
        "a..b",
        "@{-1}",
        "HEAD",
        "",
        "~",
        &long,
    ];
    for id in ids {
        let workspace = scene.open(id, 1).await;
        let place = path(&workspace);
        assert_eq!(
            place.parent().unwrap().parent(),
            Some(&*scene.at("work")),
            "{id:?}"
        );
        let branch = format!("refs/heads/{}", workspace.branch().unwrap());
        scene.git("shop", &["check-ref-format", &branch]);
        fs::write(place.join("new"), "").unwrap();
        let report = workspace.close(Outcome::Success).await;
        assert_eq!(report.note, None, "{id:?}");
        assert_eq!(report.artifacts.len(), 2, "{id:?}: {report:?}");
    }
    assert_eq!(scene.branches().len(), ids.len());
}

#[tokio::test]
async fn leftovers_are_never_overwritten() {
    let scene = Scene::new();
    // A branch without a worktree, a directory without a branch, and a worktree whose directory is gone.
    scene.git("shop", &["branch", "adjutant/t/1"]);
    fs::create_dir_all(scene.at("work/t/1-2")).unwrap();
    let gone = scene.at("work/t/1-3");
    scene.git("shop", &["worktree", "add", "--detach", gone.to_str().unwrap()]);
    fs::remove_dir_all(&gone).unwrap();
    let workspace = scene.open("t", 1).await;
    assert_eq!(workspace.branch(), Some("adjutant/t/1-4"));
    assert_eq!(scene.branches(), ["adjutant/t/1", "adjutant/t/1-4"]);
    assert!(scene.at("work/t/1-2").is_dir());
}

#[tokio::test]
async fn a_task_gets_no_worktree_of_another_repository() {
    let scene = Scene::new();
    let workspaces = scene.workspaces(Kind::Worktree);
    let open = async |repo| {
        let task = occupant("t", 1);
        let opened = workspaces.open(Occupant { repo, ..task }).await;
        opened.map(drop).map_err(|error| error.to_string())
    };
    // Without a remote the directory's name has to do.
    assert_eq!(open(Some("acme/shop")).await, Ok(()));
    assert_eq!(
        open(Some("acme/bank"))
            .await
            .unwrap_err()
            .matches("`acme/bank`")
            .count(),
        1
    );
    for url in [
        "https://example.org/acme/Bank.git",
        "git@example.org:acme/bank",
        "ssh://git@example.org:22/acme/bank/",
        "/srv/git/acme/bank.git",
    ] {
        scene.git("shop", &["config", "remote.origin.url", url]);
        assert_eq!(open(Some("acme/bank")).await, Ok(()), "{url}");
        assert!(open(Some("acme/shop")).await.is_err(), "{url}");
        assert!(open(Some("evil/bank")).await.is_err(), "{url}");
        assert_eq!(open(None).await, Ok(()));
    }
}

#[tokio::test]
async fn what_is_no_repository_is_refused_with_a_hint() {
    let scene = Scene::empty();
    let missing = scene.refused().await;
    assert!(
        missing.contains("there is no directory") && missing.contains("--repository"),
        "{missing}"
    );
    fs::create_dir(scene.at("shop")).unwrap();
    let plain = scene.refused().await;
    assert!(plain.contains("is not in a git repository"), "{plain}");
    scene.git("shop", &["init", "--quiet"]);
    let unborn = scene.refused().await;
    assert!(unborn.contains("commit something first"), "{unborn}");
    let checked = scene.workspaces(Kind::Worktree).check().await;
    assert!(matches!(checked, Err(Error::NoCommit(_))), "{checked:?}");
}

#[tokio::test]
async fn a_machine_without_git_is_told_so() {
    let scene = Scene::new();
    let mut workspaces = scene.workspaces(Kind::Worktree);
    let mut repository = Repository::new(scene.at("shop"));
    repository.git.search = Some(scene.at("empty").into());
    workspaces.repository = Arc::new(repository);
    let error = workspaces.open(occupant("t", 1)).await.unwrap_err();
    assert!(matches!(error, Error::NoGit), "{error}");
}

#[tokio::test]
async fn in_any_doubt_a_worktree_is_kept() {
    type Deed = fn(&Path);
    let deeds: [(&str, Deed); 5] = [
        ("its HEAD is on no branch", |at| {
            git(at, &["checkout", "--quiet", "--detach"]);
            git(at, &["commit", "--quiet", "--allow-empty", "-m", "on no branch"]);
        }),
        ("a merge in it has conflicts", |at| {
            git(at, &["checkout", "--quiet", "-b", "other"]);
            fs::write(at.join("README"), "one\n").unwrap();
            git(at, &["commit", "--quiet", "-am", "one"]);
            git(at, &["checkout", "--quiet", "-"]);
            fs::write(at.join("README"), "two\n").unwrap();
            git(at, &["commit", "--quiet", "-am", "two"]);
            let merge = Command::new("git")
                .args(["-c", "user.name=Tess", "-c", "user.email=tess@example.org"])
                .args(["merge", "other"])
                .current_dir(at)
                .output();
            assert!(!merge.unwrap().status.success());
        }),
        ("it has a repository in it: inner", |at| {
            git(at, &["init", "--quiet", "inner"]);
            git(
                &at.join("inner"),
                &["commit", "--quiet", "--allow-empty", "-m", "inside"],
            );
        }),
        ("add what is new", |at| {
            // A repository without a commit cannot even be added.
            git(at, &["init", "--quiet", "inner"]);
        }),
        ("it is no longer a worktree", |at| {
            fs::remove_file(at.join(".git")).unwrap();
            git(at, &["init", "--quiet"]);
        }),
    ];
    for (why, deed) in deeds {
        let scene = Scene::new();
        let workspace = scene.open("t", 1).await;
        let place = path(&workspace);
        fs::write(place.join("draft"), "work\n").unwrap();
        deed(&place);
        let report = workspace.close(Outcome::Success).await;
        let note = report.note.unwrap_or_default();
        assert!(
            note.contains(why) && !note.contains('\n'),
            "{note:?} instead of {why}"
        );
        assert_eq!(report.kept, Some(place.clone()), "{why}");
        assert_eq!(
            fs::read_to_string(place.join("draft")).unwrap(),
            "work\n",
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_worktree_that_lost_its_link_does_not_touch_a_repository_above_it() {
    let scene = Scene::new();
    // The workspaces are in a directory of the clone itself.
    let workspaces = Workspaces::new(Kind::Worktree, &scene.at("shop/work"), &scene.at("shop")).unwrap();
    for outcome in [Outcome::Success, Outcome::Failure] {
        let workspace = workspaces.open(occupant("t", 1)).await.unwrap();
        let place = path(&workspace);
        fs::write(place.join("draft"), "work\n").unwrap();
        fs::remove_file(place.join(".git")).unwrap();
        let report = workspace.close(outcome).await;
        assert_eq!(report.kept, Some(place.clone()));
        assert!(place.join("draft").exists());
        assert_eq!(scene.git("shop", &["log", "--format=%s", "main"]), "the first\n");
    }
}

#[tokio::test]
async fn an_attempt_that_removes_its_worktree_loses_no_commit() {
    let scene = Scene::new();
    let workspace = scene.open("t", 1).await;
    let place = path(&workspace);
    git(
        &place,
        &["commit", "--quiet", "--allow-empty", "-m", "by the agent"],
    );
    fs::remove_dir_all(&place).unwrap();
    let report = workspace.close(Outcome::Success).await;
    assert_eq!(report.artifacts, ["branch: adjutant/t/1"]);
    assert!(report.kept.is_none() && report.note.is_some(), "{report:?}");
    assert_eq!(scene.branches(), ["adjutant/t/1"]);
}

#[tokio::test]
async fn submodules_are_left_alone_unless_somebody_filled_them() {
    let scene = Scene::new();
    scene.git(".", &["init", "--quiet", "part"]);
    scene.write("part/file", "");
    scene.commit("part", "a part");
    let part = scene.at("part");
    scene.git(
        "shop",
        &["submodule", "--quiet", "add", part.to_str().unwrap(), "part"],
    );
    scene.commit("shop", "with a part");
    let untouched = scene.open("untouched", 1).await;
    fs::write(path(&untouched).join("new"), "").unwrap();
    let report = untouched.close(Outcome::Success).await;
    assert_eq!((report.kept, report.note), (None, None));
    let filled = scene.open("filled", 1).await;
    git(&path(&filled), &["submodule", "--quiet", "update", "--init"]);
    fs::write(path(&filled).join("part/file"), "in no commit of the whole\n").unwrap();
    let place = path(&filled);
    let report = filled.close(Outcome::Success).await;
    assert_eq!(report.kept, Some(place));
    assert_eq!(report.note.as_deref(), Some("it has a repository in it: part"));
}

/// Writes a program.
fn write_script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn hooks_of_the_repository_are_not_run() {
    let scene = Scene::new();
    for hook in [
        "post-checkout",
        "pre-commit",
        "commit-msg",
        "prepare-commit-msg",
        "reference-transaction",
    ] {
        let path = scene.at("shop/.git/hooks").join(hook);
        write_script(&path, "#!/bin/sh\nexec sleep 1000\n");
    }
    // Nor are commits signed, by a program that may ask somebody.
    scene.git("shop", &["config", "commit.gpgSign", "true"]);
    scene.git("shop", &["config", "gpg.program", "/bin/false"]);
    let workspace = scene.open("t", 1).await;
    fs::write(path(&workspace).join("new"), "").unwrap();
    let report = workspace.close(Outcome::Success).await;
    assert_eq!((report.note, report.artifacts.len()), (None, 2));
}

#[tokio::test]
async fn a_filter_that_hangs_is_ended_and_nothing_is_left() {
    let scene = Scene::new();
    write_script(
        &scene.at("hang"),
        "#!/bin/sh\necho $$ >\"$0.pid\"\nexec sleep 1000\n",
    );
    let hang = scene.at("hang").display().to_string();
    scene.write("shop/.gitattributes", "*.big filter=hang\n");
    scene.git("shop", &["config", "filter.hang.clean", "cat"]);
    scene.git("shop", &["config", "filter.hang.smudge", &hang]);
    scene.git("shop", &["config", "filter.hang.required", "true"]);
    scene.write("shop/a.big", "big\n");
    scene.commit("shop", "with a filter");
    let mut repository = Repository::new(scene.at("shop"));
    repository.git.limit = Duration::from_secs(2);
    let mut workspaces = scene.workspaces(Kind::Worktree);
    workspaces.repository = Arc::new(repository);
    let since = Instant::now();
    let error = workspaces.open(occupant("t", 1)).await.unwrap_err();
    assert!(matches!(error, Error::Slow { .. }), "{error}");
    assert!(since.elapsed() < Duration::from_secs(30));
    assert!(scene.branches().is_empty());
    assert!(!scene.at("work/t").exists());
    let filter = fs::read_to_string(scene.at("hang.pid")).unwrap();
    let runs = || {
        let filter = nix::unistd::Pid::from_raw(filter.trim().parse().unwrap());
        let stat = fs::read_to_string(format!("/proc/{filter}/stat")).unwrap_or_default();
        nix::sys::signal::kill(filter, None).is_ok() && !stat.contains(") Z ")
    };
    while runs() {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "what git started ends with it"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn the_environment_of_the_worker_leads_git_nowhere_else() {
    // This program once more, as if it had been started from a hook of another repository.
    let name = "workspace::tests::two_tasks_work_in_parallel_and_both_diffs_are_kept";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env("GIT_DIR", "/nowhere")
        .env("GIT_WORK_TREE", "/nowhere")
        .env("GIT_INDEX_FILE", "/nowhere/index")
        .env("GIT_AUTHOR_NAME", "nobody")
        .env("LC_ALL", "de_DE.UTF-8")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A token as workers have them.
const TOKEN: &str = "adj_of-the-worker-and-nobody-else's";

#[test]
fn git_inherits_what_it_needs_and_no_secret() {
    let header = format!("Authorization: Bearer {TOKEN}");
    let variables = [
        ("PATH", "/bin"),
        ("ADJUTANT_TOKEN", TOKEN),
        ("ADJUTANT_STORE", "postgres://user:password@host"),
        ("HOME", "/home/tess"),
        ("ALIAS", TOKEN),
        ("HEADER", &header),
        ("GIT_DIR", "/nowhere"),
        ("PATHS", "/bin"),
        ("https_proxy", "http://proxy"),
    ];
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let names: Vec<_> = inherited(variables.into_iter()).map(|(name, _)| name).collect();
    assert_eq!(names, ["PATH", "HOME", "https_proxy"]);
}

#[tokio::test]
async fn a_filter_that_an_agent_sets_sees_nothing_of_the_worker() {
    let scene = Scene::new();
    write_script(&scene.at("spy"), "#!/bin/sh\nenv >>\"$0.env\"\nexec cat\n");
    let workspace = scene.open("t", 1).await;
    let place = path(&workspace);
    // The configuration is that of the clone.
    let spy = scene.at("spy").display().to_string();
    git(&place, &["config", "filter.spy.clean", &spy]);
    fs::write(place.join(".gitattributes"), "*.txt filter=spy\n").unwrap();
    fs::write(place.join("a.txt"), "work\n").unwrap();
    let report = workspace.close(Outcome::Success).await;
    assert_eq!((report.note, report.kept), (None, None));
    let seen = fs::read_to_string(scene.at("spy.env")).unwrap();
    assert!(seen.contains("PATH="), "{seen}");
    assert!(!seen.contains("ADJUTANT_") && !seen.contains(TOKEN), "{seen}");
}

#[test]
fn a_filter_sees_nothing_of_a_worker_that_has_secrets_either() {
    // This program once more, with the environment of such a worker.
    let name = "workspace::tests::hostile::a_filter_that_an_agent_sets_sees_nothing_of_the_worker";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env("ADJUTANT_TOKEN", TOKEN)
        .env("ADJUTANT_ADMIN_TOKEN", "the token of the admin")
        .env("ADJUTANT_STORE", "postgres://user:password@host")
        .env("ALIAS", TOKEN)
        .env("HEADER", format!("Authorization: Bearer {TOKEN}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

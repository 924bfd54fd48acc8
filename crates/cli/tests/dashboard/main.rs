//! The dashboard of the real binary, in a real browser: Debian's Chromium, driven by `playwright-core`.
//!
//! `browser.mjs` holds the claims. The browser is found at `ADJUTANT_TEST_CHROMIUM`, or where Debian puts it. What a
//! machine does not have is skipped, loudly; `ADJUTANT_REQUIRE_CHROMIUM=1` makes that a failure.
//! `ADJUTANT_PICTURES=1` takes the pictures of the documents as well, and writes them to `docs/images`.

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Ran, Server, TOKEN, adjutant, ended};
use tempfile::TempDir;

/// Where Debian's package puts the browser.
const CHROMIUM: &str = "/usr/bin/chromium";
/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(10);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
}

fn skip(why: &str) {
    assert!(
        !is_set("ADJUTANT_REQUIRE_CHROMIUM"),
        "the dashboard cannot be tested: {why}"
    );
    // Written to stderr itself: what `eprintln!` prints is kept back where a test passes.
    let _ = writeln!(
        std::io::stderr(),
        "\n*** the dashboard is NOT TESTED in a browser: {why} ***\n"
    );
}

/// What is needed beside the binary: the browser, and a directory with what drives it.
struct Stage {
    chromium: PathBuf,
    driver: TempDir,
}

impl Stage {
    fn set() -> Result<Self, String> {
        let chromium: PathBuf = std::env::var_os("ADJUTANT_TEST_CHROMIUM")
            .filter(|path| !path.is_empty())
            .map_or_else(|| CHROMIUM.into(), Into::into);
        if !chromium.exists() {
            return Err(format!("there is no Chromium at {}", chromium.display()));
        }
        // In a copy: what is installed does not belong into the tree.
        let driver = tempfile::tempdir().unwrap();
        for file in ["package.json", "package-lock.json"] {
            let from = repository().join(".ci/browser").join(file);
            fs::copy(from, driver.path().join(file)).unwrap();
        }
        let installed = Command::new("npm")
            .args([
                "ci",
                "--no-audit",
                "--no-fund",
                "--fetch-retries=1",
                "--fetch-timeout=30000",
            ])
            .current_dir(driver.path())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("there is no npm: {error}"))?;
        if !installed.status.success() {
            let said = [installed.stdout, installed.stderr].concat();
            return Err(format!(
                "playwright-core cannot be installed:\n{}",
                String::from_utf8_lossy(&said)
            ));
        }
        Ok(Self { chromium, driver })
    }

    /// Runs a program of this folder against a server of its own.
    #[track_caller]
    fn passes(&self, program: &str, more: &[(&str, &Path)]) {
        let server = Server::start();
        let link = Ran::of(
            adjutant(&server.directory)
                .args(["token", "link"])
                .env("ADJUTANT_URL", &server.url)
                .env("ADJUTANT_TOKEN", TOKEN)
                .output()
                .unwrap(),
        )
        .ok();
        let said = server.directory.join("said");
        let out = fs::File::create(&said).unwrap();
        let mut child = Command::new("node")
            .arg(
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("tests/dashboard")
                    .join(program),
            )
            .env("ADJUTANT_URL", &server.url)
            .env("ADJUTANT_TOKEN", TOKEN)
            .env("ADJUTANT_LINK", link.trim())
            .env("ADJUTANT_TEST_CHROMIUM", &self.chromium)
            .env("ADJUTANT_TEST_PLAYWRIGHT", self.driver.path())
            // Profiles and caches of the browser go where they are removed.
            .env("HOME", self.driver.path())
            .env("TMPDIR", self.driver.path())
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let status = ended(&mut child, PATIENCE, || {});
        let said = fs::read_to_string(&said).unwrap();
        assert!(
            status.is_some_and(|status| status.success()),
            "{program}: {status:?}\n{said}"
        );
    }
}

#[test]
fn the_dashboard_does_in_a_browser_what_its_program_claims() {
    match Stage::set() {
        Ok(stage) => {
            stage.passes("browser.mjs", &[]);
            if is_set("ADJUTANT_PICTURES") {
                let pictures = repository().join("docs/images");
                stage.passes("pictures.mjs", &[("ADJUTANT_PICTURES_TO", &pictures)]);
            }
        }
        Err(why) => skip(&why),
    }
}

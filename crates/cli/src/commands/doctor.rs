//! `adjutant doctor`.

use std::fmt::Write as _;

use adjutant_store::sqlite::audit::{Report, Severity, audit};
use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::host;
use crate::text::{number, one_line};

/// Check whether the store is sound
///
/// Reads the whole store and changes nothing, also while a server works on it. Each thing that is wrong is a line with
/// its ids. Exit code 0: nothing is wrong; 1: something is.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant doctor
  adjutant doctor --store sqlite:/backup/adjutant.db --json")]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Answer<'a> {
    store: String,
    ok: bool,
    schema: usize,
    tasks: u64,
    attempts: u64,
    ledger_lines: u64,
    events: u64,
    last_seq: u64,
    findings: Vec<One<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    check: &'a str,
    severity: &'a str,
    message: &'a str,
}

/// Checks it.
pub(crate) async fn run(_arguments: &Arguments, context: &Context) -> Outcome {
    let store = context.configuration.store(None)?;
    let path = store
        .file(
            "`pg_amcheck` and data checksums look after a database; what is in it can be checked on a copy: \
             `adjutant migrate-store --from postgres://… --to sqlite:copy.db`, then \
             `adjutant doctor --store sqlite:copy.db`",
        )?
        .to_path_buf();
    let report = match tokio::task::spawn_blocking(move || audit(path)).await {
        Ok(report) => report.map_err(|error| host::refused(&error))?,
        Err(error) => return Err(Failure::new(format!("the checks broke: {error}"))),
    };
    let answer = Answer {
        store: store.to_string(),
        ok: report.is_sound(),
        schema: report.schema,
        tasks: report.tasks,
        attempts: report.attempts,
        ledger_lines: report.lines,
        events: report.events,
        last_seq: report.last_seq,
        findings: report
            .findings
            .iter()
            .map(|finding| One {
                check: finding.check,
                severity: severity(finding.severity),
                message: &finding.message,
            })
            .collect(),
    };
    context.printer.show(&answer, || text(&answer.store, &report))?;
    if report.is_sound() {
        Ok(())
    } else {
        Err(Failure::told())
    }
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Wrong => "wrong",
    }
}

fn text(store: &str, report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        // Writing to a string cannot fail. What a damaged row says is not trusted.
        let _ = writeln!(
            text,
            "{}: {}: {}",
            severity(finding.severity),
            finding.check,
            one_line(&finding.message)
        );
    }
    let wrong = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Wrong)
        .count();
    let verdict = if report.is_sound() {
        "sound".to_owned()
    } else {
        format!("NOT SOUND, {wrong} findings")
    };
    let _ = writeln!(
        text,
        "{store}: {verdict}; {} tasks, {} attempts, {} ledger lines, {} events",
        number(report.tasks),
        number(report.attempts),
        number(report.lines),
        number(report.events)
    );
    text
}

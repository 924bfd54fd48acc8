//! `adjutant backup`.

use std::path::PathBuf;

use adjutant_store::sqlite::backup::{self, Copied, CopyError};
use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::host;
use crate::text::{bytes, number};

/// Copy the store to a file, also while a server works on it
///
/// The copy is of one moment and has everything that was acknowledged before. It is on the disk when the command ends,
/// readable by its user only. Run it on the machine of the server, as its user. `adjutant restore` puts a copy back.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant backup adjutant-2026-11-24.db
  adjutant backup --store sqlite:/var/lib/adjutant/adjutant.db --force /backup/adjutant.db")]
pub(crate) struct Arguments {
    /// The file to write
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// Replace the file when it is there
    #[arg(long)]
    force: bool,
}

/// What is in a copy.
#[derive(Serialize)]
pub(super) struct Copy {
    path: String,
    bytes: u64,
    tasks: u64,
    last_seq: u64,
}

impl Copy {
    pub(super) fn new(path: &std::path::Path, copied: Copied) -> Self {
        Self {
            path: path.display().to_string(),
            bytes: copied.bytes,
            tasks: copied.tasks,
            last_seq: copied.last_seq,
        }
    }

    pub(super) fn line(&self) -> String {
        format!(
            "{}: {}, {} tasks, up to event {}\n",
            self.path,
            bytes(self.bytes),
            number(self.tasks),
            self.last_seq
        )
    }
}

/// Copies it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let store = context.configuration.store(None)?;
    let (target, force) = (arguments.target.clone(), arguments.force);
    let path = store.file("back up a database with pg_dump")?.to_path_buf();
    let copied = blocking(move || backup::backup(&path, &target, force)).await?;
    let copy = Copy::new(&arguments.target, copied);
    context.printer.show(&copy, || copy.line())
}

/// Files are read and written for as long as it takes, beside the runtime.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CopyError> + Send + 'static,
) -> Outcome<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| refused(&error)),
        Err(error) => Err(Failure::new(format!("the copy broke: {error}"))),
    }
}

/// Says why there is no copy, and how to mend it.
fn refused(error: &CopyError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error {
        CopyError::Source(error) => host::refused(error),
        CopyError::Exists { .. } => {
            failure.hint("nothing is overwritten: choose another place, or move it away")
        }
        CopyError::Itself { .. } => failure.hint("choose another file"),
        CopyError::Busy { .. } => failure.hint("wait for the other backup"),
        CopyError::Damaged { .. } => {
            failure.hint("use another backup; `adjutant doctor --store sqlite:FILE` says more")
        }
        CopyError::Unwritable { .. } => {
            failure.hint("its directory must exist and be writable, with space for the whole copy")
        }
    }
}

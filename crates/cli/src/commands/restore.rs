//! `adjutant restore`.

use std::path::PathBuf;

use adjutant_store::sqlite::backup;
use clap::Args;

use super::backup::{Copy, blocking};
use crate::context::Context;
use crate::failure::Outcome;

/// Put a backup in the place of a store that is not there
///
/// Refused when there is a store, or when a server has the place open: move away what is there first. Start workers
/// anew after it, since attempts that began after the backup are not known to the restored server.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant restore adjutant-2026-11-24.db
  adjutant restore /backup/adjutant.db --store sqlite:/var/lib/adjutant/adjutant.db")]
pub(crate) struct Arguments {
    /// The backup
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
}

/// Puts it back.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let store = context.configuration.store(None)?;
    let path = store.file("restore a database with pg_restore")?;
    let (source, target) = (arguments.backup.clone(), path.to_path_buf());
    let copied = blocking(move || backup::restore(source, target)).await?;
    let copy = Copy::new(path, copied);
    context.printer.show(&copy, || copy.line())
}

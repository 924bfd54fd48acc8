//! Signals that ask the program to end.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Outcome};

/// Watches for SIGINT and SIGTERM from now on; the future ends with the name of the first one.
pub(crate) fn stop() -> Outcome<impl Future<Output = &'static str>> {
    let watch =
        |kind| signal(kind).map_err(|error| Failure::new(format!("cannot watch for signals: {error}")));
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut terminate = watch(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

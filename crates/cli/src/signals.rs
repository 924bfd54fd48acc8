//! Signals that ask the program to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Outcome};

/// The same, and SIGHUP: for what has a terminal to give back.
pub(crate) fn stop_or_hangup() -> Outcome<impl Future<Output = &'static str>> {
    let stop = stop()?;
    let mut hangup = watch(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            name = stop => name,
            _ = hangup.recv() => "SIGHUP",
        }
    })
}

fn watch(kind: SignalKind) -> Outcome<Signal> {
    signal(kind).map_err(|error| Failure::new(format!("cannot watch for signals: {error}")))
}

/// Watches for SIGINT and SIGTERM from now on; the future ends with the name of the first one.
pub(crate) fn stop() -> Outcome<impl Future<Output = &'static str>> {
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut terminate = watch(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

//! What a process that runs commands does beforehand: it keeps its secrets to itself, and sees to it that commands do
//! not outlive it.

use std::ffi::OsStr;

use adjutant_worker::{KEEPER_GRACE, Keeper};

/// What this program is called with to be a keeper. That is no command: nobody but a worker has a use for it.
const KEEPER: &str = "--keeper-of-commands";

/// Whether this process is to be a keeper.
pub(crate) fn is_keeper() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().as_deref() == Some(OsStr::new(KEEPER)) && arguments.next().is_none()
}

/// Keeps until the worker is gone, and ends what it left.
pub(crate) fn keep() {
    adjutant_worker::keep(std::io::stdin().lock(), KEEPER_GRACE);
}

/// Starts a keeper for the workers of this process. They work without one too.
pub(crate) fn keeper() -> Option<Keeper> {
    let started = std::env::current_exe().and_then(|program| Keeper::start(program, &[KEEPER]));
    started
        .inspect_err(|error| tracing::warn!(%error, "no keeper: commands go on if this process is killed"))
        .ok()
}

/// Keeps other processes of the same user, such as the commands, from reading this one's environment and memory, where
/// its own token is. Root reads them all the same.
pub(crate) fn keep_secrets() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "commands can read the environment of this process");
        }
    }
}

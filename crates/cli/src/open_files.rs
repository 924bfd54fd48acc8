//! How many files this process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Beyond this more files are of no use to a server, and some systems have no limit at all.
const ENOUGH: u64 = 1 << 20;

/// How many may be open at a time.
pub(crate) fn allowed() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(ENOUGH);
    usize::try_from(limit.min(ENOUGH)).unwrap_or(usize::MAX)
}

/// Raises the limit as far as the system lets anyone do. Systems start programs with a low one (often 1,024), for the
/// sake of old programs that cannot count further; ours can.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the number of open files stays limited");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(
            limit.current.unwrap_or(ENOUGH).min(ENOUGH),
            limit.maximum.unwrap_or(ENOUGH).min(ENOUGH)
        );
        assert!(allowed() > 0);
    }
}

//! Any command: the task on stdin, its output on stdout, with lines of usage among it.

use crate::usage::{self, Totals};

/// What a line that begins with `{` is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Output like any other.
    Output,
    /// What the attempt used so far.
    Usage(Totals),
}

/// What a line of standard output that begins with `{` is.
pub(crate) fn interpret(line: &str) -> Meaning {
    usage::parse(line).map_or(Meaning::Output, Meaning::Usage)
}

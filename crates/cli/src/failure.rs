//! Failures: what a person reads when a command could not do its work.
//!
//! One line says what is wrong, further lines say how to mend it. Exit code 1: the operation failed; 2: the command
//! line, a configuration or an input file is wrong.

use std::fmt;
use std::path::Path;

use crate::text::{one_line, plain};

/// Exit code when the operation failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code when what the user wrote is wrong.
pub(crate) const USAGE: u8 = 2;

/// Why a command ends without having done its work.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hints: Vec<String>,
    code: u8,
}

/// What commands give back.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// The operation failed.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hints: Vec::new(),
            code: FAILED,
        }
    }

    /// What the user wrote is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            ..Self::new(message)
        }
    }

    /// What the user wrote in this line of a file is wrong.
    pub(crate) fn at(file: &Path, line: usize, message: impl fmt::Display) -> Self {
        Self::usage(format!("{}:{line}: {message}", file.display()))
    }

    /// A failure that has been told already: only the exit code is left to give.
    pub(crate) fn told() -> Self {
        Self::new("")
    }

    /// The same with a line that says how to mend it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Prints it to stderr. When nobody reads that any more, only the exit code is left to tell.
    pub(crate) fn tell(&self) {
        use std::io::Write as _;
        let _ = write!(std::io::stderr().lock(), "{self}");
    }

    /// The exit code.
    pub(crate) const fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    /// Lines as they are printed; nothing that a hostile server or file put into them reaches the terminal raw.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return Ok(());
        }
        writeln!(f, "error: {}", one_line(&self.message))?;
        for hint in &self.hints {
            writeln!(f, "hint: {}", plain(hint))?;
        }
        Ok(())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_and_its_hints() {
        let failure = Failure::at(Path::new("a.md"), 3, "no\u{1b}[31m title\nat all").hint("write one");
        assert_eq!(
            failure.to_string(),
            "error: a.md:3: no\u{fffd}[31m title at all\nhint: write one\n"
        );
        assert_eq!(failure.code(), USAGE);
    }
}

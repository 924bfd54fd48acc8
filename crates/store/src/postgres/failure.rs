//! What goes wrong with a database, and what it means for a turn.

use tokio_postgres::error::SqlState;

use crate::StoreError;

/// What went wrong.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database says no, or the connection broke.
    Database(tokio_postgres::Error),
    /// There is no connection.
    Away(String),
    /// There is none, because the database has as many as it takes.
    Crowded {
        /// Where it is.
        database: String,
        /// What it said, and what helps.
        why: String,
    },
    /// There is none, because it would not be as secure as it must be.
    Insecure(String),
    /// What is stored is not what this program writes.
    Broken(String),
    /// What the turn relied on without a lock was changed by another server.
    Changed(String),
    /// Another server has taken the place of this one.
    Replaced,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => {
                if let Some(told) = error.as_db_error() {
                    write!(f, "{} ({})", told.message(), told.code().code())?;
                    return told.detail().map_or(Ok(()), |detail| write!(f, ": {detail}"));
                }
                write!(f, "{error}")?;
                let cause = std::error::Error::source(error);
                cause.map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Self::Away(why) | Self::Insecure(why) | Self::Broken(why) => f.write_str(why),
            Self::Crowded { database, why } => write!(f, "the database {database} cannot be used: {why}"),
            Self::Changed(what) => write!(f, "{what} was changed meanwhile"),
            Self::Replaced => f.write_str(
                "this server was not heard of for so long that another one has taken its place: start it again",
            ),
        }
    }
}

impl Failure {
    /// Says of a connection that was not made where it was to lead, if what helps is a setting of the database: readers
    /// connect when they are asked first, and that may be when the server is up.
    pub(super) fn of_connecting_to(self, database: String) -> Self {
        match &self {
            Self::Database(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => Self::Crowded {
                database,
                why: format!(
                    "{self}; raise max_connections (each server needs eight), or the limit of the user or the database"
                ),
            },
            _ => self,
        }
    }

    /// Whether a condition of a statement did not hold: it divides by zero then, and nothing else does.
    pub(super) fn is_unmet_condition(&self) -> bool {
        matches!(self, Self::Database(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO))
    }

    /// Whether the transaction may or may not have been committed, when this is the answer to COMMIT.
    pub(super) fn leaves_doubt(&self) -> bool {
        match self {
            Self::Database(error) => match error.as_db_error() {
                // The session ends, by the server or by a pooler that lost it; or a disk failed. It may have written before.
                Some(told) => {
                    let code = told.code().code();
                    ["08", "57P", "58", "XX"]
                        .iter()
                        .any(|class| code.starts_with(class))
                }
                None => true,
            },
            Self::Away(_) | Self::Crowded { .. } | Self::Insecure(_) => true,
            Self::Broken(_) | Self::Changed(_) | Self::Replaced => false,
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        let error = match &failure {
            Failure::Changed(_) => return Self::Busy(text),
            Failure::Broken(_) => return Self::Broken(text),
            Failure::Away(_) | Failure::Crowded { .. } | Failure::Insecure(_) | Failure::Replaced => {
                return Self::Unavailable(text);
            }
            Failure::Database(error) => error,
        };
        let Some(code) = error.code() else {
            // Either the connection broke, or a value was not of the type that its column says.
            let of_system =
                std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
            return if error.is_closed() || of_system {
                Self::Unavailable(text)
            } else {
                Self::Broken(text)
            };
        };
        match *code {
            SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::LOCK_NOT_AVAILABLE
            // Another server made first what this turn makes.
            | SqlState::UNIQUE_VIOLATION => Self::Busy(text),
            SqlState::DISK_FULL => Self::Full(text),
            SqlState::QUERY_CANCELED
            | SqlState::TOO_MANY_CONNECTIONS
            | SqlState::CONFIGURATION_LIMIT_EXCEEDED
            | SqlState::READ_ONLY_SQL_TRANSACTION
            | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Self::Unavailable(text),
            ref other => match &other.code()[..2] {
                // The connection; who may connect; resources; the operator; the system.
                "08" | "28" | "53" | "57" | "58" => Self::Unavailable(text),
                _ => Self::Broken(text),
            },
        }
    }
}

//! Logs: to stderr, as text or as JSON lines.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::arguments::Logging;
use crate::configuration::{Configuration, LogFormat};
use crate::failure::{Failure, Outcome};

/// The library of the Model Context Protocol: it tells the beginning and the end of each request as news.
const CHATTY: &str = "rmcp";

/// A filter that leaves out what a library tells of each request, unless somebody asks for that by its name.
fn quiet(level: &str) -> String {
    if level.contains(CHATTY) {
        level.to_owned()
    } else {
        format!("{level},{CHATTY}=error")
    }
}

/// Starts logging to `writer`. What is not configured is logged from `default` on.
pub(crate) fn start<W>(configuration: &Configuration, flags: &Logging, default: &str, writer: W) -> Outcome
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (level, place) = configuration.log_level(flags, default);
    let filter = EnvFilter::builder().parse(quiet(&level)).map_err(|error| {
        Failure::usage(format!("{place}: `{level}` is not a log level: {error}"))
            .hint("write error, warn, info, debug or trace")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(writer);
    let started = match configuration.log_format(flags)? {
        LogFormat::Text => builder.compact().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::new(format!("cannot start logging: {error}")))
}

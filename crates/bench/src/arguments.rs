//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use adjutant_postgres_fixture::Cluster;

use crate::measure::Measure;

/// How it is used.
pub(crate) const USAGE: &str = "\
Measures a server of adjutant over HTTP, on this machine alone.

Usage: adjutant-bench [MEASURE]... [OPTIONS]

Measures (all when none is named):
  latency     submission until it is in the hands of a waiting agent, one at a time
  lifecycles  submit, sync, complete on many connections
  submit      submissions on many connections
  memory      resident memory and CPU: idle, and with agents that wait
  backlog     dispatch with few and with many tasks waiting
  dashboard   pages and metrics with many tasks and agents; a hundred open dashboards
  servers     with --postgres: from one server to an agent on another; two servers beside one
  churn       with --postgres: dead rows and the size of tables after many lives
  flood       syncs of agents while submissions come at, and at five times, what the server can take

Options:
  --binary PATH     the server's program [default: target/release/adjutant]
  --dir DIR         where the temporary directory is made: the disk counts [default: beside the program]
  --seconds N       length of each run of many connections, 1-600 [default: 10]
  --connections N   how many connections, 1-1024 [default: 64]
  --samples N       how many single submissions, 10-100000 [default: 2000]
  --backlog N       the long backlog, 1000-5000000 [default: 1000000]
  --lives N         lives that churn looks back on, 1000-10000000 [default: 1000000]
  --agents N        the most waiting agents, 1-15000 [default: 10000]
  --postgres        on PostgreSQL: a cluster of its own, durable, with the settings that it comes with
  --json            one JSON object at the end instead of lines
  --help            this text

Example: adjutant-bench latency lifecycles --seconds 5";

/// What is to be measured, and how.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) measures: Vec<Measure>,
    pub(crate) binary: PathBuf,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) length: Duration,
    pub(crate) connections: usize,
    pub(crate) samples: usize,
    pub(crate) backlog: usize,
    pub(crate) lives: usize,
    pub(crate) agents: usize,
    pub(crate) json: bool,
    /// The PostgreSQL to measure on; none for the embedded store.
    pub(crate) cluster: Option<Cluster>,
}

impl Arguments {
    /// Reads the command line; nothing when help is asked for.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut arguments = Self {
            measures: Vec::new(),
            binary: "target/release/adjutant".into(),
            dir: None,
            length: Duration::from_secs(10),
            connections: 64,
            samples: 2_000,
            backlog: 1_000_000,
            lives: 1_000_000,
            agents: 10_000,
            json: false,
            cluster: None,
        };
        let mut postgres = false;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word}: a value is missing"));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--json" => arguments.json = true,
                "--postgres" => postgres = true,
                "--binary" => arguments.binary = value()?.into(),
                "--dir" => arguments.dir = Some(value()?.into()),
                "--seconds" => {
                    let seconds = number(&word, &value()?, 1, 600)?;
                    arguments.length = Duration::from_secs(u64::try_from(seconds).unwrap_or(600));
                }
                "--connections" => arguments.connections = number(&word, &value()?, 1, 1_024)?,
                "--samples" => arguments.samples = number(&word, &value()?, 10, 100_000)?,
                "--backlog" => arguments.backlog = number(&word, &value()?, 1_000, 5_000_000)?,
                "--lives" => arguments.lives = number(&word, &value()?, 1_000, 10_000_000)?,
                "--agents" => arguments.agents = number(&word, &value()?, 1, 15_000)?,
                name => match Measure::named(name) {
                    Some(measure) => arguments.measures.push(measure),
                    None => return Err(format!("`{name}` is neither a measure nor an option")),
                },
            }
        }
        if arguments.measures.is_empty() {
            arguments.measures = Measure::ALL.to_vec();
        }
        if postgres {
            let cluster = Cluster::own().ok_or("--postgres: there is no PostgreSQL on this machine")?;
            arguments.cluster = Some(cluster);
        }
        Ok(Some(arguments))
    }
}

fn number(name: &str, text: &str, least: usize, most: usize) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("{name}: `{text}` is not a number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Arguments>, String> {
        Arguments::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn everything_is_measured_when_nothing_is_named() {
        assert_eq!(parse("").unwrap().unwrap().measures, Measure::ALL);
        let some = parse("submit --seconds 3 --json").unwrap().unwrap();
        assert_eq!(
            (some.measures, some.length.as_secs(), some.json),
            (vec![Measure::Submit], 3, true)
        );
        assert!(parse("submit --help").unwrap().is_none());
    }

    #[test]
    fn what_is_unknown_or_out_of_bounds_is_refused_by_name() {
        for (text, name) in [
            ("speed", "speed"),
            ("--seconds", "--seconds"),
            ("--seconds 0", "--seconds"),
            ("--connections many", "--connections"),
            ("--agents 20000", "--agents"),
        ] {
            assert!(parse(text).unwrap_err().contains(name), "{text}");
        }
    }
}

//! The process itself, under the names that all exporters use for it. Only Linux tells all of this.

use std::fmt;
use std::fs;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads what the system knows of this process.
#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

impl Process {
    /// To be made at the start.
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            started: since.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| -> fmt::Result {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "process_start_time_seconds",
            "When the server was started, since 1970",
            Some(self.started),
        )?;
        gauge(
            "process_resident_memory_bytes",
            "Memory that the process occupies",
            resident_bytes(),
        )?;
        gauge("process_open_fds", "Open files and connections", open_files())?;
        gauge(
            "process_max_fds",
            "The most files and connections that may be open",
            most_files(),
        )?;
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            counter.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                "Time on processors",
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

/// A field of a file that has numbers in one line. The name of a program may have spaces and stands in parentheses.
fn field(file: &str, number: usize) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let rest = text.rsplit_once(')').map_or(text.as_str(), |(_, rest)| rest);
    rest.split_whitespace().nth(number)?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "a page more or less does not matter")]
fn resident_bytes() -> Option<f64> {
    let pages = field("/proc/self/statm", 1)?;
    Some(pages as f64 * rustix::param::page_size() as f64)
}

#[expect(clippy::cast_precision_loss, reason = "ticks of centuries fit")]
fn cpu_seconds() -> Option<f64> {
    // Behind the name of the program, time in programs and in the system are the fields 11 and 12.
    let ticks = field("/proc/self/stat", 11)? + field("/proc/self/stat", 12)?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[expect(clippy::cast_precision_loss, reason = "there are not so many files")]
fn open_files() -> Option<f64> {
    // The size of the directory is the number of its entries, and costs nothing; older kernels say 0.
    let told = fs::metadata("/proc/self/fd").ok()?.len();
    if told > 0 {
        return Some(told as f64);
    }
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

#[expect(clippy::cast_precision_loss, reason = "there are not so many files")]
fn most_files() -> Option<f64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map(|most| most as f64)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_of_this_process() {
        assert!(resident_bytes().unwrap() > 1_000_000.0);
        assert!(cpu_seconds().unwrap() >= 0.0);
        assert!(open_files().unwrap() >= 3.0);
        assert!(most_files().unwrap() >= open_files().unwrap());
    }
}

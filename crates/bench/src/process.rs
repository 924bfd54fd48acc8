//! What the kernel tells of a process: memory and CPU.

use std::fs;
use std::io;
use std::time::Duration;

/// The unit of CPU times in `/proc`: a hundredth of a second on every Linux in use.
const TICK: Duration = Duration::from_millis(10);

/// Resident memory of a process in KiB.
pub(crate) fn resident_kib(pid: u32) -> io::Result<u32> {
    fs::read_to_string(format!("/proc/{pid}/status"))?
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok())
        .ok_or_else(|| io::Error::other("the kernel does not tell the resident memory"))
}

/// CPU time that a process has used.
pub(crate) fn cpu(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may contain anything: fields are counted from behind it.
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok(TICK * (user + system)),
        _ => Err(io::Error::other("the kernel does not tell the CPU time")),
    }
}

/// CPU time that the whole machine has used, over all processes and the kernel.
pub(crate) fn machine_cpu() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u32> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, (idle, iowait), irq, softirq, steal
    match ticks.as_slice() {
        [user, nice, system, _, _, irq, softirq, steal, ..] => {
            Ok(TICK * (user + nice + system + irq + softirq + steal))
        }
        _ => Err(io::Error::other(
            "the kernel does not tell the CPU time of the machine",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_cpu() {
        let own = std::process::id();
        assert!(resident_kib(own).unwrap() > 100);
        assert!(cpu(own).unwrap() < Duration::from_hours(1));
        assert!(machine_cpu().unwrap() > cpu(own).unwrap());
    }
}

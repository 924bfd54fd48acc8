//! Process groups: whether anything in one still runs.

use nix::sys::signal::killpg;
use nix::unistd::Pid;

/// Whether something in the group runs. What has ended and was not collected does not: a command's orphans are collected
/// by the first process of the system, and in a container that may be one that never does it.
pub(crate) fn runs(group: Pid) -> bool {
    killpg(group, None).is_ok() && !has_ended(group)
}

/// Whether all that is there of a group has ended, as far as the system tells.
#[cfg(target_os = "linux")]
fn has_ended(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return false;
    };
    let mut states = processes
        .filter_map(|process| std::fs::read_to_string(process.ok()?.path().join("stat")).ok())
        .filter_map(|stat| state_in(&stat, group))
        .peekable();
    // A group that cannot be seen is believed in.
    states.peek().is_some() && states.all(|state| matches!(state, 'Z' | 'X'))
}

#[cfg(not(target_os = "linux"))]
fn has_ended(_: Pid) -> bool {
    false
}

/// The state of a process of this group, from its line in `/proc`; none for one of another group. The name in it may
/// hold anything, also a closing parenthesis.
#[cfg(target_os = "linux")]
fn state_in(stat: &str, group: Pid) -> Option<char> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let of: i32 = fields.nth(1)?.parse().ok()?;
    (of == group.as_raw()).then_some(state)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_mislead() {
        let stat = "12 (a) Z 1 7 (b) S 1 42 42 0 -1 4194560";
        assert_eq!(state_in(stat, Pid::from_raw(42)), Some('S'));
        assert_eq!(state_in(stat, Pid::from_raw(7)), None);
        assert_eq!(state_in("", Pid::from_raw(7)), None);
    }

    #[test]
    fn what_has_ended_and_was_not_collected_does_not_run() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(runs(group));
        drop(child.stdin.take());
        let end = Instant::now() + Duration::from_secs(20);
        while runs(group) {
            assert!(Instant::now() < end, "it is seen to have ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(killpg(group, None).is_ok(), "it is there until it is collected");
        child.wait().unwrap();
        assert!(!runs(group));
    }
}

//! Worker processes: the real ones, killed with -9 at random, and started again at whatever server there is.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crate::crowd::{Crowd, Visitor};
use crate::servers::Start;
use crate::support::Program;

pub(crate) const WORKERS: [&str; 2] = ["wim", "wes"];
pub(crate) const WORKER_LOAD: usize = 2;

/// Those who keep the workers.
pub(crate) struct Processes {
    crowd: Arc<Crowd>,
    is_calm: Arc<AtomicBool>,
    kills: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Processes {
    /// Starts workers that work as long as the crowd does.
    pub(crate) fn start(crowd: &Arc<Crowd>, start: &Start, stream: usize) -> Self {
        let is_calm = Arc::new(AtomicBool::new(false));
        let kills = Arc::new(AtomicU64::new(0));
        let threads = WORKERS
            .into_iter()
            .zip(stream..)
            .map(|(id, stream)| {
                let (visitor, start) = (crowd.visitor(stream), start.clone());
                let (is_calm, kills) = (Arc::clone(&is_calm), Arc::clone(&kills));
                thread::spawn(move || keep(visitor, &start, id, &is_calm, &kills))
            })
            .collect();
        Self {
            crowd: Arc::clone(crowd),
            is_calm,
            kills,
            threads,
        }
    }

    /// From now on they are left alone.
    pub(crate) fn calm(&self) {
        self.is_calm.store(true, Ordering::SeqCst);
    }

    pub(crate) fn have_broken(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Waits until they have ended with the crowd; gives how many were killed.
    pub(crate) fn end(mut self) -> u64 {
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.kills.load(Ordering::Relaxed)
    }
}

impl Drop for Processes {
    /// A test that fails leaves no workers behind.
    fn drop(&mut self) {
        self.crowd.stop_working();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Kills one worker after the other. The last one is started when nobody kills servers any more, and knows where they
/// are.
fn keep(mut visitor: Visitor, start: &Start, id: &str, is_calm: &AtomicBool, kills: &AtomicU64) {
    while visitor.crowd.is_working() {
        let is_last = is_calm.load(Ordering::SeqCst);
        visitor.move_on();
        let mut command = start.command(&visitor.server());
        let load = WORKER_LOAD.to_string();
        command
            .args([
                "worker",
                "--id",
                id,
                "--capabilities",
                "work",
                "--max-load",
                &load,
            ])
            .args(["--", "sh", "-c", "sleep 0.2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut worker = Program::start(&mut command);
        let mut life = visitor.dice.below(100);
        // One that has ended by itself met the server of another test, which has the port of one that was killed.
        while (is_last || life > 0) && visitor.crowd.is_working() && !worker.has_ended() {
            thread::sleep(visitor.dice.millis(45, 55));
            life = life.saturating_sub(1);
        }
        // In the end, when nobody has anything to do, it does not count.
        if visitor.crowd.is_working() && !worker.has_ended() {
            kills.fetch_add(1, Ordering::Relaxed);
        }
        // kill -9.
        drop(worker);
    }
}

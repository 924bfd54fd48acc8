//! A pseudo-terminal with the real binary in it, and what an emulator makes of what it prints.

use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::thread;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::support::{Server, TOKEN, eventually};

/// A terminal; the program in it is killed when it is dropped.
pub(crate) struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn std::io::Write + Send>,
    shown: Arc<Mutex<Shown>>,
}

struct Shown {
    emulator: vt100::Parser,
    raw: Vec<u8>,
}

impl Terminal {
    /// Runs `adjutant top` with these arguments and variables against the server at `url`.
    pub(crate) fn top(
        server: &Server,
        url: &str,
        (columns, rows): (u16, u16),
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_adjutant"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ADJUTANT_")) {
            command.env_remove(name);
        }
        command.env_remove("NO_COLOR");
        command.env("TERM", "xterm-256color");
        command.env("ADJUTANT_URL", url);
        command.env("ADJUTANT_TOKEN", TOKEN);
        for (name, value) in variables {
            command.env(name, value);
        }
        command.cwd(&server.directory);
        command.arg("top");
        command.args(arguments);
        let child = pair.slave.spawn_command(command).unwrap();
        // The end of the program must be the end of what can be read.
        drop(pair.slave);
        let emulator = vt100::Parser::new(
            NonZeroU16::new(rows).unwrap(),
            NonZeroU16::new(columns).unwrap(),
            0,
        );
        let shown = Arc::new(Mutex::new(Shown {
            emulator,
            raw: Vec::new(),
        }));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let written = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            // A pseudo-terminal without a program gives an error on Linux, and an end elsewhere.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                let mut shown = written.lock().unwrap();
                shown.emulator.process(&buffer[..length]);
                shown.raw.extend_from_slice(&buffer[..length]);
            }
        });
        Self {
            writer: pair.master.take_writer().unwrap(),
            child,
            master: pair.master,
            shown,
        }
    }

    /// What is to be seen.
    pub(crate) fn screen(&self) -> String {
        self.shown.lock().unwrap().emulator.screen().contents()
    }

    /// All that was printed, byte by byte.
    pub(crate) fn raw(&self) -> Vec<u8> {
        self.shown.lock().unwrap().raw.clone()
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.writer.write_all(keys.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    /// Waits until the text is to be seen.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        let seen = || self.screen().contains(text).then_some(());
        self.wait(&format!("`{text}`"), seen);
    }

    /// Waits until the text is not to be seen any more.
    #[track_caller]
    pub(crate) fn hides(&self, text: &str) {
        let gone = || (!self.screen().contains(text)).then_some(());
        self.wait(&format!("no `{text}`"), gone);
    }

    #[track_caller]
    fn wait(&self, what: &str, check: impl Fn() -> Option<()>) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while check().is_none() {
            assert!(
                std::time::Instant::now() < end,
                "not in time: {what}\n{}",
                self.screen()
            );
            thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Changes the size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.shown
            .lock()
            .unwrap()
            .emulator
            .screen_mut()
            .set_size(NonZeroU16::new(rows).unwrap(), NonZeroU16::new(columns).unwrap());
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// Sends a signal to the program.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.process_id().unwrap().to_string();
        let status = std::process::Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits until the program has ended; gives its exit code.
    pub(crate) fn ended(&mut self) -> u32 {
        eventually("the end of top", || self.child.try_wait().unwrap()).exit_code()
    }

    /// Asserts that the terminal is as it was before: no other screen, a cursor, echo.
    #[track_caller]
    pub(crate) fn is_restored(&self) {
        eventually("a restored terminal", || {
            let shown = self.shown.lock().unwrap();
            let screen = shown.emulator.screen();
            (!screen.alternate_screen() && !screen.hide_cursor()).then_some(())
        });
        let modes = format!("{:?}", self.master.get_termios().unwrap().local_flags);
        assert!(modes.contains("ECHO") && modes.contains("ICANON"), "{modes}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize {
        rows,
        cols: columns,
        pixel_width: 0,
        pixel_height: 0,
    }
}

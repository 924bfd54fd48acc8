//! Places: directories with the files of a store, as a crash or a careless hand leaves them.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Files that make up a store. The index of the log (`-shm`) is no part of it: SQLite makes it anew after a crash.
const FILES: [&str; 3] = ["adjutant.db", "adjutant.db-wal", "adjutant.db.mark"];

/// The bytes of a store.
#[derive(Clone)]
pub(crate) struct Image(Vec<(&'static str, Vec<u8>)>);

impl Image {
    /// What is there now. Whoever writes must be dead, frozen or idle.
    pub(crate) fn of(directory: &Path) -> Self {
        let read = |name: &'static str| Some((name, fs::read(directory.join(name)).ok()?));
        Self(FILES.into_iter().filter_map(read).collect())
    }

    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        self.0
            .iter()
            .find(|(file, _)| *file == name)
            .map_or(&[], |(_, bytes)| bytes)
    }

    /// The same with another content of one file.
    #[must_use]
    pub(crate) fn with(&self, name: &'static str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut image = self.clone();
        if let Some((_, bytes)) = image.0.iter_mut().find(|(file, _)| *file == name) {
            change(bytes);
        }
        image
    }

    #[must_use]
    pub(crate) fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(file, _)| *file != name).cloned().collect())
    }

    /// A directory of its own with these files.
    pub(crate) fn put(&self) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in &self.0 {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        directory
    }
}

pub(crate) fn store(directory: &Path) -> PathBuf {
    directory.join("adjutant.db")
}

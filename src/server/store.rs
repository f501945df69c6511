//! The file that keeps the tunnels made by administrators.
//!
//! Invariant: a reader finds the whole of one state or of the other, never a part; nobody but the owner
//! can read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the records are kept.
#[derive(Clone, Debug)]
pub(super) struct Store {
    path: PathBuf,
}

impl Store {
    pub(super) fn new(path: PathBuf) -> Store {
        Store { path }
    }

    /// Replaces the file's content. After an error it is what it was, unless only the directory could not be
    /// brought to the disk.
    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = PathBuf::from(name);
        let written = write_new(&temporary, text).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
            return written;
        }
        // The rename itself has to survive a crash as well.
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all())
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // What an earlier process of the same id left behind is nobody's.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_replaced_whole_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tunnels.json");
        fs::write(&path, "old").unwrap();
        Store::new(path.clone()).write("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(Store::new(directory.path().join("none/tunnels.json")).write("x").is_err());
    }
}

//! Profiles on disk: documents of the profile directory, by name.
//!
//! Invariant: a profile is written only after it was validated, with mode 0600, and a failure leaves the
//! stored one as it was.

use crate::order;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::document::MAX_DOCUMENT_BYTES;
use super::samples::{self, SampleInputs};
use super::{
    ConfigErrors, Environment, profile_name, profile_path, reference, split_command, validate_document,
};
use crate::ids::random_hex;

/// A stored profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}

/// Why a profile command failed.
#[derive(Debug)]
pub enum ProfileError {
    /// An argument is wrong; a sentence.
    Invalid(String),
    /// The profile is there, and `--force` was not given; holds its name.
    AlreadyExists(String),
    /// The file system refused.
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The document is wrong.
    Document(ConfigErrors),
    /// What the editor left is wrong; it was kept.
    Edited {
        /// What is wrong.
        errors: ConfigErrors,
        /// Where the edits are.
        kept: PathBuf,
    },
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProfileError::Invalid(sentence) => f.write_str(sentence),
            ProfileError::AlreadyExists(name) => {
                write!(f, "profile \"{name}\" already exists; pass --force to replace it")
            }
            ProfileError::Io { action, path, source } => write!(f, "{action} {}: {source}", path.display()),
            ProfileError::Document(errors) => errors.fmt(f),
            ProfileError::Edited { errors, kept } => {
                write!(
                    f,
                    "profile did not validate; not saving: {errors}; the edits are kept in {}",
                    kept.display()
                )
            }
        }
    }
}

impl std::error::Error for ProfileError {}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProfileError {
    let path = path.to_path_buf();
    move |source| ProfileError::Io { action, path, source }
}

/// The profiles of a directory, sorted by name; a missing directory has none.
///
/// # Errors
///
/// [`ProfileError::Io`] if the directory cannot be read.
pub fn list_profiles(directory: &Path) -> Result<Vec<Profile>, ProfileError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io_error("read profile directory", directory))?,
    };
    let mut profiles = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("read profile directory", directory))?;
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().and_then(|name| name.strip_suffix(".yaml")) else { continue };
        let path = directory.join(&file_name);
        if profile_name(name).is_ok_and(|valid| valid == name) && !path.is_dir() {
            profiles.push(Profile { name: name.to_owned(), path });
        }
    }
    order::sort_by(&mut profiles, |a, b| a.name.cmp(&b.name));
    Ok(profiles)
}

/// Validates and stores a document under a name. `replace` overwrites an existing profile in one step.
///
/// # Errors
///
/// [`ProfileError`]; nothing is written then.
pub fn store_profile(
    directory: &Path,
    name: &str,
    bytes: &[u8],
    replace: bool,
) -> Result<PathBuf, ProfileError> {
    let path = profile_path(directory, name);
    validate_document(&path, bytes).map_err(ProfileError::Document)?;
    create_directory(directory)?;
    if replace && fs::symlink_metadata(&path).is_ok() {
        let draft = write_draft(directory, name, bytes)?;
        put_in_place(&draft, &path).inspect_err(|_| drop(fs::remove_file(&draft)))?;
        return Ok(path);
    }
    match write_new(&path, bytes) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(ProfileError::AlreadyExists(name.to_owned()))
        }
        other => other.map_err(io_error("write profile", &path)).map(|()| path),
    }
}

/// The bytes of a file that is to become a profile.
///
/// # Errors
///
/// [`ProfileError::Io`].
pub fn read_profile_source(path: &Path) -> Result<Vec<u8>, ProfileError> {
    reference::read_bounded(path, MAX_DOCUMENT_BYTES).map_err(io_error("read", path))
}

/// Lets `run_editor` change a draft of the profile, then validates and stores it. A missing profile
/// starts from a sample.
///
/// # Errors
///
/// [`ProfileError`]; the stored profile is untouched then. What does not validate is kept as a draft.
pub fn edit_profile(
    directory: &Path,
    name: &str,
    run_editor: &mut dyn FnMut(&Path) -> Result<(), String>,
) -> Result<PathBuf, ProfileError> {
    create_directory(directory)?;
    let path = profile_path(directory, name);
    let before = match reference::read_bounded(&path, MAX_DOCUMENT_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => skeleton().into_bytes(),
        other => other.map_err(io_error("read profile", &path))?,
    };
    let draft = write_draft(directory, name, &before)?;
    let discard = |error| {
        drop(fs::remove_file(&draft));
        error
    };
    run_editor(&draft).map_err(|reason| discard(ProfileError::Invalid(format!("run editor: {reason}"))))?;
    let after = reference::read_bounded(&draft, MAX_DOCUMENT_BYTES)
        .map_err(|error| discard(io_error("read edited profile", &draft)(error)))?;
    if let Err(errors) = validate_document(&path, &after) {
        return Err(ProfileError::Edited { errors, kept: draft });
    }
    put_in_place(&draft, &path).map_err(discard)?;
    Ok(path)
}

/// The editor's words, from `VISUAL` or else `EDITOR`.
///
/// # Errors
///
/// A sentence.
pub fn editor_command(environment: &Environment) -> Result<Vec<String>, ProfileError> {
    let (name, text) = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| Some((name, environment.non_blank(name)?)))
        .ok_or_else(|| ProfileError::Invalid("no editor is configured: set VISUAL or EDITOR".to_owned()))?;
    split_command(text).map_err(|error| ProfileError::Invalid(format!("{name}: {error}")))
}

fn skeleton() -> String {
    let inputs = SampleInputs {
        server_url: "http://127.0.0.1:3001/mcp".to_owned(),
        ..SampleInputs::new(&format!("tunnel_{}", "0".repeat(32)))
    };
    samples::sample(samples::WITH_DCR).map(|sample| sample.render(&inputs)).unwrap_or_default()
}

fn create_directory(directory: &Path) -> Result<(), ProfileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(io_error("create profile directory", directory))
}

/// Creates a file that must not exist yet; a failed write leaves none.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).inspect_err(|_| drop(fs::remove_file(path)))
}

/// A temporary file beside the profile.
fn write_draft(directory: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, ProfileError> {
    let random = random_hex().map_err(|error| ProfileError::Invalid(error.to_string()))?;
    let draft = directory.join(format!(".{name}.{random}.yaml"));
    write_new(&draft, bytes).map_err(io_error("write profile", &draft))?;
    Ok(draft)
}

/// Renames the draft over the profile; a link keeps pointing to where it did.
fn put_in_place(draft: &Path, path: &Path) -> Result<(), ProfileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(draft, fs::Permissions::from_mode(0o600))
            .map_err(io_error("restrict profile", draft))?;
    }
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let moved = fs::rename(draft, &target).or_else(|error| {
        // A link may lead to another file system.
        if target == path { Err(error) } else { fs::rename(draft, path) }
    });
    moved.map_err(io_error("replace profile", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const GOOD: &[u8] = b"config_version: 1\n";

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(directory: &Path) -> Vec<String> {
        list_profiles(directory).unwrap().into_iter().map(|profile| profile.name).collect()
    }

    #[test]
    fn only_valid_regular_yaml_files_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        assert!(names(&directory.path().join("missing")).is_empty());
        for name in ["b.yaml", "a.yaml", "x.yml", ".t.yaml", "bad name.yaml", "readme"] {
            fs::write(directory.path().join(name), "x: [").unwrap();
        }
        fs::create_dir(directory.path().join("d.yaml")).unwrap();
        assert_eq!(names(directory.path()), ["a", "b"]);
        assert!(list_profiles(&directory.path().join("a.yaml")).is_err());
    }

    #[test]
    fn a_profile_is_stored_privately_and_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("new/dir");
        let path = store_profile(&directory, "lab", GOOD, false).unwrap();
        assert_eq!((mode(&path), mode(&directory), mode(&root.path().join("new"))), (0o600, 0o700, 0o700));
        let error = store_profile(&directory, "lab", b"{}", false).unwrap_err().to_string();
        assert!(error.contains("profile \"lab\" already exists") && error.contains("--force"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), GOOD);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        store_profile(&directory, "lab", b"{}", true).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"{}"[..], 0o600));
        assert!(
            store_profile(&directory, "bad", b"x: 1", false)
                .unwrap_err()
                .to_string()
                .contains("field x not found")
        );
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn replacing_through_a_link_keeps_the_link() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        fs::write(&real, GOOD).unwrap();
        let link = directory.path().join("lab.yaml");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        store_profile(directory.path(), "lab", b"{}", true).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"{}");
    }

    #[test]
    fn an_edit_that_does_not_validate_is_kept_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = store_profile(directory.path(), "lab", GOOD, false).unwrap();
        let error = edit_profile(directory.path(), "lab", &mut |draft| {
            assert_eq!(mode(draft), 0o600);
            fs::write(draft, "config_version: 2").map_err(|error| error.to_string())
        })
        .unwrap_err();
        assert!(error.to_string().contains("profile did not validate; not saving"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), GOOD);
        let ProfileError::Edited { kept, .. } = error else { panic!("{error}") };
        assert_eq!(fs::read(kept).unwrap(), b"config_version: 2");
    }

    #[test]
    fn a_failing_editor_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            edit_profile(directory.path(), "lab", &mut |_| Err("exit status 1".to_owned())).unwrap_err();
        assert!(error.to_string().contains("run editor"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_new_profile_begins_as_a_sample() {
        let directory = tempfile::tempdir().unwrap();
        let path = edit_profile(directory.path(), "new", &mut |draft| {
            fs::set_permissions(draft, fs::Permissions::from_mode(0o644)).map_err(|error| error.to_string())
        })
        .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("tunnel_00000000000000000000000000000000"), "{text}");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(directory.path()), ["new"]);
    }

    #[test]
    fn the_editor_comes_from_visual_or_editor() {
        let words = |pairs: &[(&str, &str)]| editor_command(&pairs.iter().copied().collect());
        assert_eq!(words(&[("VISUAL", " "), ("EDITOR", "vi -u 'a b'")]).unwrap(), ["vi", "-u", "a b"]);
        assert_eq!(words(&[("VISUAL", "code --wait"), ("EDITOR", "vi")]).unwrap(), ["code", "--wait"]);
        assert!(words(&[]).unwrap_err().to_string().contains("VISUAL"));
    }
}

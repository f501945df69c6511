//! Which document a run uses, and where profiles live.

use std::path::{Component, Path, PathBuf};

use super::error::{ConfigError, ErrorKind};
use super::settings::{self, Setting};
use super::{Environment, FlagValues};

const EXTENSION: &str = ".yaml";
const MAX_NAME_CHARS: usize = 128;

/// The document of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// None: flags, environment and defaults only.
    Nothing,
    /// A file.
    Config(PathBuf),
    /// A profile of a directory.
    Profile { name: String, directory: PathBuf, path: PathBuf },
    /// A profile given as a file.
    ProfileFile { name: String, directory: PathBuf, path: PathBuf },
}

impl Selection {
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Selection::Nothing => None,
            Selection::Config(path)
            | Selection::Profile { path, .. }
            | Selection::ProfileFile { path, .. } => Some(path),
        }
    }
}

/// Applies the selectors: flags first, and only without any of them the variables.
pub(crate) fn select(flags: &FlagValues, environment: &Environment) -> Result<Selection, ConfigError> {
    let selectors = [&settings::CONFIG, &settings::PROFILE, &settings::PROFILE_FILE];
    let by_flag: Vec<&Setting> = selectors.into_iter().filter(|s| flags.is_given(s.flag)).collect();
    let flag_value = |setting: &Setting| -> Result<String, ConfigError> {
        match flags.last(setting.flag).map(str::trim) {
            Some("") => Err(error(format!("--{0}: a value is required when the flag is set", setting.flag))),
            value => Ok(value.unwrap_or_default().to_owned()),
        }
    };
    if let [first, second, ..] = by_flag[..] {
        return Err(error(format!("--{} and --{} are mutually exclusive", first.flag, second.flag)));
    }
    // A blank directory is a mistake even where no named profile needs it.
    if flags.is_given(settings::PROFILE_DIR.flag) {
        flag_value(&settings::PROFILE_DIR)?;
    }
    let (setting, value) = if let [only] = by_flag[..] {
        (only, flag_value(only)?)
    } else {
        let by_variable: Vec<(&Setting, &str)> =
            selectors.into_iter().filter_map(|s| Some((s, environment.non_blank(s.variable)?))).collect();
        match by_variable[..] {
            [] => return Ok(Selection::Nothing),
            [(setting, value)] => (setting, value.to_owned()),
            [(first, _), (second, _), ..] => {
                let names = format!("{} and {}", first.variable, second.variable);
                return Err(error(format!("{names} are mutually exclusive")));
            }
        }
    };
    if setting.flag == settings::CONFIG.flag {
        return Ok(Selection::Config(PathBuf::from(value)));
    }
    if setting.flag == settings::PROFILE.flag {
        let name = profile_name(&value).map_err(error)?;
        let directory =
            profile_directory(flags.last(settings::PROFILE_DIR.flag), environment).map_err(error)?;
        let path = profile_path(&directory, &name);
        return Ok(Selection::Profile { name, directory, path });
    }
    let path = clean_path(&expand_home(&value, environment).map_err(error)?);
    let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(stem) = file_name.strip_suffix(EXTENSION) else {
        return Err(error(format!("profile file {} must end with {EXTENSION}", path.display())));
    };
    let name = profile_name(stem).map_err(error)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    Ok(Selection::ProfileFile { name, directory, path })
}

fn error(message: String) -> ConfigError {
    ConfigError::new(ErrorKind::Selection, message)
}

/// Trims and checks a profile's name.
///
/// # Errors
///
/// A sentence saying what is wrong with it.
pub fn profile_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.contains(['/', '\\']) || name == "." || name == ".." {
        return Err(format!("invalid profile name {name:?}: path separators are not allowed in it"));
    }
    let valid = name.len() <= MAX_NAME_CHARS
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if valid {
        return Ok(name.to_owned());
    }
    Err(format!(
        "invalid profile name {name:?}: use 1 to {MAX_NAME_CHARS} letters, digits, '.', '_' and '-', starting with a letter or digit"
    ))
}

/// The file of a profile.
pub fn profile_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}{EXTENSION}"))
}

/// The directory of named profiles: `given` (the flag's text; blank counts as not given), then
/// `TUNNEL_CLIENT_PROFILE_DIR`, `$XDG_CONFIG_HOME/tunnel-client`, `$HOME/.config/tunnel-client`.
///
/// # Errors
///
/// A sentence if there is none, or `~` cannot be expanded.
pub fn profile_directory(given: Option<&str>, environment: &Environment) -> Result<PathBuf, String> {
    let given = given.map(str::trim).filter(|text| !text.is_empty());
    if let Some(text) = given.or_else(|| environment.non_blank(settings::PROFILE_DIR.variable)) {
        return Ok(clean_path(&expand_home(text, environment)?));
    }
    if let Some(base) = environment.non_blank("XDG_CONFIG_HOME") {
        return Ok(clean_path(&expand_home(base, environment)?.join("tunnel-client")));
    }
    if let Some(home) = environment.non_blank("HOME") {
        return Ok(clean_path(&Path::new(home).join(".config").join("tunnel-client")));
    }
    if let Some(data) = environment.non_blank("APPDATA") {
        return Ok(clean_path(&Path::new(data).join("tunnel-client")));
    }
    Err(format!(
        "there is no profile directory: set --{}, {} or HOME",
        settings::PROFILE_DIR.flag,
        settings::PROFILE_DIR.variable
    ))
}

/// Expands a leading `~` alone or `~/`.
fn expand_home(text: &str, environment: &Environment) -> Result<PathBuf, String> {
    let rest = match text {
        "~" => "",
        _ => match text.strip_prefix("~/") {
            Some(rest) => rest,
            None => return Ok(PathBuf::from(text)),
        },
    };
    let home = environment
        .non_blank("HOME")
        .ok_or_else(|| format!("{text}: HOME is not set, so ~ means nothing"))?;
    Ok(Path::new(home).join(rest))
}

/// Resolves `.`, `..` and repeated separators without looking at the disk.
pub(crate) fn clean_path(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match clean.components().next_back() {
                Some(Component::Normal(_)) => {
                    clean.pop();
                }
                Some(Component::RootDir | Component::Prefix(_)) => {}
                _ => clean.push(".."),
            },
            other => clean.push(other),
        }
    }
    if clean.as_os_str().is_empty() { PathBuf::from(".") } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::flags;

    fn pick(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Selection, String> {
        let extracted = flags::extract(arguments.iter().copied(), settings::ALL, &[]).unwrap();
        let environment = variables.iter().copied().collect();
        select(&extracted.flags, &environment).map_err(|error| error.to_string())
    }

    fn path(arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let selection = pick(arguments, variables).unwrap();
        selection.path().map(|path| path.display().to_string()).unwrap_or_default()
    }

    #[test]
    fn at_most_one_selector_counts_and_flags_silence_the_variables() {
        assert_eq!(pick(&[], &[]), Ok(Selection::Nothing));
        let error = pick(&["--config", "a.yaml", "--profile", "b"], &[]).unwrap_err();
        assert!(error.contains("--config and --profile are mutually exclusive"), "{error}");
        assert_eq!(path(&["--config", " a.txt "], &[("TUNNEL_CLIENT_PROFILE", "b")]), "a.txt");
        let error =
            pick(&[], &[("TUNNEL_CLIENT_CONFIG", "a"), ("TUNNEL_CLIENT_PROFILE_FILE", "b")]).unwrap_err();
        assert!(error.contains("TUNNEL_CLIENT_CONFIG and TUNNEL_CLIENT_PROFILE_FILE"), "{error}");
        assert!(error.contains("mutually exclusive"), "{error}");
        assert_eq!(path(&[], &[("TUNNEL_CLIENT_CONFIG", "a"), ("TUNNEL_CLIENT_PROFILE", " ")]), "a");
        for flag in ["--config=", "--profile= ", "--profile-file=", "--profile-dir="] {
            assert!(pick(&[flag], &[]).unwrap_err().contains("required"), "{flag}");
        }
    }

    #[test]
    fn a_profile_file_ends_with_yaml_and_expands_home() {
        let error = pick(&["--profile-file", "p.yml"], &[]).unwrap_err();
        assert!(error.contains("must end with .yaml"), "{error}");
        assert!(pick(&["--profile-file", "p.YAML"], &[]).is_err());
        assert_eq!(path(&["--profile-file", "~/p.yaml"], &[("HOME", "/h")]), "/h/p.yaml");
        assert!(pick(&["--profile-file", "~/p.yaml"], &[]).unwrap_err().contains("HOME"));
        assert_eq!(
            pick(&["--profile-file", "/a/./b/../lab.yaml"], &[]),
            Ok(Selection::ProfileFile {
                name: "lab".into(),
                directory: "/a".into(),
                path: "/a/lab.yaml".into()
            })
        );
        assert!(pick(&["--profile-file", "/a/.yaml"], &[]).is_err());
    }

    #[test]
    fn the_profile_directory_comes_from_flag_variable_xdg_or_home() {
        let mut variables = vec![("HOME", "/h")];
        assert_eq!(path(&["--profile", "lab"], &variables), "/h/.config/tunnel-client/lab.yaml");
        variables.push(("XDG_CONFIG_HOME", "/x"));
        assert_eq!(path(&["--profile", "lab"], &variables), "/x/tunnel-client/lab.yaml");
        variables.push(("TUNNEL_CLIENT_PROFILE_DIR", "~/p"));
        assert_eq!(path(&["--profile", "lab"], &variables), "/h/p/lab.yaml");
        assert_eq!(path(&["--profile", "lab", "--profile-dir", "/q"], &variables), "/q/lab.yaml");
        assert!(pick(&["--profile", "lab"], &[]).is_err());
    }

    #[test]
    fn profile_names_are_checked() {
        for good in ["lab", "a", "A.b_c-d", &"x".repeat(128)] {
            assert!(profile_name(good).is_ok(), "{good}");
        }
        for bad in ["../x", "a/b", "a\\b", ".hidden", "", ".", "..", "a b", &"x".repeat(129)] {
            assert!(profile_name(bad).is_err(), "{bad}");
        }
        assert!(profile_name("a/b").unwrap_err().contains("path separators"));
    }
}

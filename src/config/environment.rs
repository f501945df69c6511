//! A snapshot of the process environment, so that loading is a function of its arguments.

use crate::order;
use std::collections::BTreeMap;

/// The variables of a process, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The variables of this process; a name or value that is no UTF-8 has its bad bytes replaced.
    pub fn of_process() -> Environment {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        Environment { variables: order::gathered(variables) }
    }

    /// The value of a variable that is set, even to nothing.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The trimmed value of a variable that holds more than white space.
    pub fn non_blank(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// Sets a variable of this snapshot; the process is not touched.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.variables.insert(name.into(), value.into());
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Environment {
        Environment {
            variables: order::gathered(pairs.into_iter().map(|(name, value)| (name.into(), value.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_variables_are_set_but_hold_nothing() {
        let environment: Environment = [("A", " x "), ("B", " "), ("C", "")].into_iter().collect();
        assert_eq!(environment.get("A"), Some(" x "));
        assert_eq!(environment.non_blank("A"), Some("x"));
        assert_eq!(environment.get("B"), Some(" "));
        assert_eq!(environment.non_blank("B"), None);
        assert_eq!(environment.get("C"), Some(""));
        assert_eq!(environment.get("D"), None);
    }
}

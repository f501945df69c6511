//! What can be wrong with a configuration.

use std::fmt;

/// What a configuration error is about; commands classify by this, never by the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Which document to use, or the profile's name.
    Selection,
    /// The selected document cannot be read.
    DocumentUnreadable,
    /// The document's content.
    Document,
    /// The tunnel id.
    TunnelId,
    /// The control plane's API key.
    ApiKey,
    /// The control plane's base URL.
    BaseUrl,
    /// An MCP target, or the missing `main` channel.
    McpTarget,
    /// Anything else.
    Other,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What it is about.
    pub kind: ErrorKind,
    message: String,
    guidance: Option<&'static str>,
}

impl ConfigError {
    /// An error that `message` tells in one sentence.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> ConfigError {
        ConfigError { kind, message: message.into(), guidance: None }
    }

    pub(crate) fn with_guidance(mut self, guidance: &'static str) -> ConfigError {
        self.guidance = Some(guidance);
        self
    }

    /// The sentence without the guidance.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.guidance {
            Some(guidance) => write!(f, "; {guidance}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong with a configuration, in the order of evaluation; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The error that stands first.
    pub fn first(&self) -> &ConfigError {
        // Never empty: only built from one error or from a list that was checked.
        &self.0[0]
    }

    /// All errors.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// All errors, each on its own line after `prefix`.
    pub fn with_prefix(&self, prefix: &str) -> String {
        self.0.iter().map(|error| format!("{prefix}{error}")).collect::<Vec<_>>().join("\n")
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_prefix(""))
    }
}

impl std::error::Error for ConfigErrors {}

/// Errors and warnings met while loading.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    errors: Vec<ConfigError>,
    pub(crate) warnings: Vec<String>,
}

impl Findings {
    pub(crate) fn error(&mut self, kind: ErrorKind, message: impl Into<String>) {
        self.errors.push(ConfigError::new(kind, message));
    }

    pub(crate) fn push(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    pub(crate) fn warn(&mut self, message: impl Into<String>) {
        let message = message.into();
        if !self.warnings.contains(&message) {
            self.warnings.push(message);
        }
    }

    /// `None` and a noted error if `result` failed.
    pub(crate) fn check<T>(&mut self, kind: ErrorKind, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.error(kind, message)).ok()
    }

    /// The errors, if there are any.
    pub(crate) fn errors(&mut self) -> Option<ConfigErrors> {
        let errors = std::mem::take(&mut self.errors);
        (!errors.is_empty()).then_some(ConfigErrors(errors))
    }
}

//! Reading the selected document and resolving what it refers to.

use std::path::Path;

use super::error::{ConfigError, ErrorKind};
use super::loader::Loader;
use super::reference::{self, Origin, Resolved};
use super::schema::{self, Entry, Text, Value};
use super::select::Selection;
use super::settings::{self, Setting};
use super::yaml::{self, At, Problem};
use super::{Document, headers, urls};
use crate::secret::Secret;

/// Longest document, in bytes.
pub(crate) const MAX_DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Settings whose document value may be a reference to be resolved at once, even if a higher layer
/// overrides it; in the order of evaluation.
const REFERENCED: &[&Setting] = &[
    &settings::CONTROL_PLANE_BASE_URL,
    &settings::CONTROL_PLANE_URL_PATH,
    &settings::CONTROL_PLANE_API_KEY,
    &settings::HEALTH_LISTEN_ADDR,
    &settings::HEALTH_UNIX_SOCKET,
];
const REFERENCED_ENTRIES: &[&Setting] =
    &[&settings::MCP_SERVER_URL, &settings::MCP_COMMAND, &settings::HARPOON_TARGETS];

impl Loader<'_> {
    /// Reads the selected document.
    ///
    /// # Errors
    ///
    /// An unreadable or malformed document; nothing else can be judged then.
    pub(crate) fn read_document(&mut self, selection: Selection) -> Result<Document, ConfigError> {
        let Some(path) = selection.path().map(Path::to_path_buf) else { return Ok(Document::default()) };
        let bytes = reference::read_bounded(&path, MAX_DOCUMENT_BYTES).map_err(|error| {
            let message =
                format!("read config file {}: {error}{}", path.display(), advice(&selection, &error));
            ConfigError::new(ErrorKind::DocumentUnreadable, message)
        })?;
        let (values, more) = schema::decode(&bytes).map_err(|problems| malformed(&path, &problems))?;
        if more {
            self.findings.warn(format!("{} holds several documents; only the first is used", path.display()));
        }
        self.document.path = path.display().to_string();
        self.document.values = values;
        let document = Document { bytes: Some(Secret::new(bytes)), ..described(selection) };
        self.resolve_document();
        Ok(document)
    }

    fn resolve_document(&mut self) {
        for setting in REFERENCED {
            self.resolve_text(setting);
            if setting.yaml == settings::CONTROL_PLANE_API_KEY.yaml {
                self.document_headers(&settings::CONTROL_PLANE_EXTRA_HEADERS);
            }
        }
        for setting in REFERENCED_ENTRIES {
            self.resolve_entries(setting);
            if setting.yaml == settings::MCP_COMMAND.yaml {
                self.document_headers(&settings::MCP_EXTRA_HEADERS);
                self.document_headers(&settings::MCP_DISCOVERY_EXTRA_HEADERS);
            }
        }
    }

    fn resolve_text(&mut self, setting: &'static Setting) {
        let Some(Value::Text(found)) = self.in_document(setting).cloned() else { return };
        match reference::value(&found.text, self.environment) {
            Ok(resolved) => {
                if setting.secrecy == settings::Secrecy::Secret {
                    self.secret_came_from(&resolved.origin);
                    if resolved.origin == Origin::Literal {
                        self.secret_is_literal_in_document(setting.yaml);
                    }
                }
                if resolved.origin != Origin::Literal {
                    self.document.references.insert(setting.yaml, found.text.trim().to_owned());
                }
                self.document.origins.insert(setting.yaml, resolved.origin);
                let value = Value::Text(Text { text: resolved.text, at: found.at });
                self.document.values.insert(setting.yaml, value);
            }
            Err(reason) => {
                let kind = if setting.yaml == settings::CONTROL_PLANE_API_KEY.yaml {
                    ErrorKind::ApiKey
                } else {
                    ErrorKind::Document
                };
                let message = self.broken_value(setting.yaml, found.at, &reason);
                self.findings.error(kind, message);
                self.document.broken.insert(setting.yaml);
            }
        }
    }

    pub(crate) fn broken_value(&self, key: &str, at: At, reason: &str) -> String {
        // "cannot be empty" reads on from the key; other reasons need a colon.
        let colon = if reason.starts_with("cannot") || reason.starts_with("must") { "" } else { ":" };
        format!("config file {} {at}: {key}{colon} {reason}", self.document.path)
    }

    fn resolve_entries(&mut self, setting: &'static Setting) {
        let Some(Value::Entries(at, entries)) = self.in_document(setting).cloned() else { return };
        let mut good = Vec::with_capacity(entries.len());
        for mut entry in entries {
            match self.resolve_entry(setting, &mut entry) {
                Ok(()) => good.push(entry),
                Err((field, at, reason)) => {
                    let key = format!("{}[{}].{field}", setting.yaml, entry.index);
                    let message = self.broken_value(&key, at, &reason);
                    self.findings.error(ErrorKind::Document, message);
                    self.document.broken.insert(setting.yaml);
                }
            }
        }
        self.document.values.insert(setting.yaml, Value::Entries(at, good));
    }

    fn resolve_entry(
        &mut self,
        setting: &'static Setting,
        entry: &mut Entry,
    ) -> Result<(), (&'static str, At, String)> {
        for field in ["url", "command"] {
            if let Some(found) = entry.fields.get_mut(field) {
                let resolved = reference::value(&found.text, self.environment);
                let Resolved { text, origin } = resolved.map_err(|reason| (field, found.at, reason))?;
                // A command's credentials cannot be told from its other words.
                if field == "url" && url::Url::parse(&text).is_ok_and(|url| urls::has_user_info(&url)) {
                    match &origin {
                        Origin::Literal => self.secret_is_literal_in_document(setting.yaml),
                        referenced => self.secret_came_from(referenced),
                    }
                }
                found.text = text;
            }
        }
        if let Some(found) = entry.fields.get("unix_socket") {
            // Only looked at here: the entry's reader turns the text into a path.
            let reason = match reference::path(&found.text, self.environment) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => "cannot be empty".to_owned(),
                Err(reason) => reason,
            };
            return Err(("unix_socket", found.at, reason));
        }
        Ok(())
    }

    /// Checks the document's header map if no other layer replaces it.
    fn document_headers(&mut self, setting: &'static Setting) {
        if self.document_is_silenced(setting) {
            return;
        }
        let Some(Value::Headers(_, pairs)) = self.in_document(setting).cloned() else { return };
        let mut list = headers::Collector::new(setting);
        for (name, value) in pairs {
            let source = self.document.place(setting.yaml, value.at);
            list.add(&name, &value.text, &source, self);
            if !reference::is_reference(&value.text) {
                self.secret_is_literal_in_document(setting.yaml);
            }
        }
        self.document.headers.insert(setting.yaml, list.finish());
    }
}

/// What to do about a document that cannot be read.
fn advice(selection: &Selection, error: &std::io::Error) -> &'static str {
    match (error.kind(), selection) {
        (std::io::ErrorKind::NotFound, Selection::Profile { .. }) => {
            "; `tunnel-client profiles list` shows the profiles there are, `tunnel-client init` writes one"
        }
        (std::io::ErrorKind::PermissionDenied, _) => "; let the user that runs tunnel-client read it",
        _ => "",
    }
}

/// What is known of a selected document before it is read.
pub(crate) fn described(selection: Selection) -> Document {
    let path = selection.path().map(Path::to_path_buf);
    let from_profile_file = matches!(selection, Selection::ProfileFile { .. });
    let (profile_name, profile_dir) = match selection {
        Selection::Nothing | Selection::Config(_) => (None, None),
        Selection::Profile { name, directory, .. } | Selection::ProfileFile { name, directory, .. } => {
            (Some(name), Some(directory))
        }
    };
    Document { path, profile_name, profile_dir, from_profile_file, bytes: None }
}

/// The first document of a file's bytes as JSON, for showing it; numbers and booleans by YAML's rules.
///
/// # Errors
///
/// A sentence with the place.
pub fn document_as_json(bytes: &[u8]) -> Result<serde_json::Value, String> {
    let parsed = yaml::decode(bytes).and_then(|text| yaml::parse(&text));
    parsed.map(|parsed| yaml::to_json(&parsed.root)).map_err(|problem| problem.to_string())
}

/// All problems of one document, one a line.
pub(crate) fn malformed(path: &Path, problems: &[Problem]) -> ConfigError {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let text = match &lines[..] {
        [only] => only.clone(),
        _ => format!("\n  {}", lines.join("\n  ")),
    };
    ConfigError::new(
        ErrorKind::Document,
        format!("parse config file {}: {}", path.display(), text.trim_end()),
    )
}

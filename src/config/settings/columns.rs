//! What can be said of a setting: the columns of the table.

/// What a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, taken as it is.
    Text,
    /// `true` or `false`.
    Bool,
    /// A signed integer.
    Integer,
    /// A duration such as `1m30s`.
    Duration,
    /// A list of texts.
    List(Separator),
    /// `Name: value` headers; a mapping in the document.
    Headers,
    /// Structured entries; a list of mappings in the document.
    Entries(Separator, &'static [Field]),
}

impl Kind {
    /// The word that help shows for a flag's value; none for switches.
    pub fn value_name(self) -> &'static str {
        match self {
            Kind::Text => "string",
            Kind::Bool => "",
            Kind::Integer => "int",
            Kind::Duration => "duration",
            Kind::List(_) => "value",
            Kind::Headers => "'Name: value'",
            Kind::Entries(..) => "entry",
        }
    }
}

/// What separates the elements of a list in an environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// `,`; elements are not trimmed.
    Comma,
    /// Line feed or carriage return.
    Line,
    /// `;` or line feed.
    SemicolonOrLine,
}

/// One key of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Key in the document.
    pub yaml: &'static str,
    /// Key in the text form of flags and variables.
    pub key: &'static str,
    /// Whether an entry without it is refused.
    pub required: bool,
}

/// How `env:` and `file:` are understood in a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// Not at all: the text is the value.
    None,
    /// In the document only: `env:NAME` or the content of `file:PATH`.
    DocumentValue,
    /// The API key: obligatory in the flag, optional in the document, none in the variables.
    Key,
    /// `env:NAME` holds the path, `file:PATH` is the path.
    Path,
    /// `env:NAME` holds the proxy URL.
    Proxy,
    /// In header values: `env:NAME` or the content of `file:PATH`.
    Header,
    /// The companion's token: obligatory in flag and document, none in the variable.
    Token,
    /// Each key of an entry has its own rule.
    Entry,
}

/// How much of a value must be hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Nothing.
    Public,
    /// It may contain a credential, such as the user info of a URL.
    MayEmbed,
    /// All of it.
    Secret,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Path in the document; empty if it has none.
    pub yaml: &'static str,
    /// Flag without the leading dashes; empty if it has none.
    pub flag: &'static str,
    /// Hidden second spelling of the flag; empty if it has none.
    pub alias: &'static str,
    /// Environment variable; empty if it has none.
    pub variable: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Value when no layer says anything; empty for none.
    pub default: &'static str,
    /// Default as help shows it, where that differs.
    pub shown_default: &'static str,
    /// How references are understood.
    pub reference: Reference,
    /// What must be hidden.
    pub secrecy: Secrecy,
    /// An empty flag is a value (mostly a wrong one) instead of "not given".
    pub empty_flag_counts: bool,
    /// An empty variable or document value is a value instead of "the default".
    pub empty_variable_counts: bool,
    /// One sentence for help and manual.
    pub help: &'static str,
}

impl Setting {
    pub(super) const BLANK: Setting = Setting {
        yaml: "",
        flag: "",
        alias: "",
        variable: "",
        kind: Kind::Text,
        default: "",
        shown_default: "",
        reference: Reference::None,
        secrecy: Secrecy::Public,
        empty_flag_counts: false,
        empty_variable_counts: false,
        help: "",
    };

    /// Whether each occurrence of the flag adds an element.
    pub fn repeatable(&self) -> bool {
        matches!(self.kind, Kind::List(_) | Kind::Headers | Kind::Entries(..))
    }

    /// The default as help shows it.
    pub fn help_default(&self) -> &'static str {
        if self.shown_default.is_empty() { self.default } else { self.shown_default }
    }
}

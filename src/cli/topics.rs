//! The help topics, embedded as they stand in `topics/`.

/// Name and text of every topic, sorted by name.
pub(super) const TOPICS: &[(&str, &str)] = &[
    ("doctor", include_str!("topics/doctor.txt")),
    ("oauth", include_str!("topics/oauth.txt")),
    ("plugin", include_str!("topics/plugin.txt")),
    ("quickstart", include_str!("topics/quickstart.txt")),
    ("samples", include_str!("topics/samples.txt")),
    ("troubleshooting", include_str!("topics/troubleshooting.txt")),
];

/// The text of a topic.
pub(super) fn text(name: &str) -> Option<&'static str> {
    TOPICS.iter().find(|(topic, _)| *topic == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::ROOT;
    use crate::config::{SAMPLES, SETUP_URLS};

    #[test]
    fn topics_name_every_sample_and_setup_url() {
        for sample in SAMPLES {
            assert!(text("samples").unwrap().contains(sample.name), "{}", sample.name);
        }
        for topic in ["quickstart", "doctor"] {
            for (_, _, url) in SETUP_URLS {
                assert!(text(topic).unwrap().contains(url), "{topic}: {url}");
            }
            for page in ["roles", "groups"] {
                let url = format!("https://platform.openai.com/settings/organization/people/{page}");
                assert!(text(topic).unwrap().contains(&url), "{topic}: {url}");
            }
        }
    }

    #[test]
    fn topics_recommend_only_commands_that_exist() {
        for (name, text) in TOPICS {
            for line in text.split("tunnel-client ").skip(1) {
                let word =
                    line.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap_or_default();
                let exists = ROOT.children().iter().any(|child| child.name == word);
                // "connects" begins a sentence about the program.
                assert!(exists || word.is_empty() || word == "connects", "{name}: {word}");
            }
            for line in text.lines() {
                assert!(line.len() <= 100, "{name}: {line}");
            }
        }
    }
}

//! The checks and how they are shown.

use std::fmt::Write as _;

use serde::Serialize;

use super::super::terminal::Paint;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Pass,
    Fail,
    Skip,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Pass => "PASS",
            Status::Fail => "FAIL",
            Status::Skip => "SKIP",
        }
    }

    fn paint(self) -> Paint {
        match self {
            Status::Pass => Paint::Green,
            Status::Fail => Paint::Red,
            Status::Skip => Paint::Yellow,
        }
    }
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    id: &'static str,
    status: Status,
    summary: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidence: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    next: Vec<String>,
    /// There is something to say about it though it passed.
    #[serde(skip)]
    explained: bool,
}

impl Check {
    /// Its identifier.
    #[cfg(test)]
    pub(super) fn id(&self) -> &'static str {
        self.id
    }

    fn new(id: &'static str, status: Status, summary: impl Into<String>) -> Check {
        Check {
            id,
            status,
            summary: one_line(&summary.into()),
            why: "",
            evidence: Vec::new(),
            next: Vec::new(),
            explained: false,
        }
    }

    /// Has it explained even when it passes.
    pub(super) fn always_explained(self) -> Check {
        Check { explained: true, ..self }
    }

    /// What it looks at is fine.
    pub(super) fn pass(id: &'static str, summary: impl Into<String>) -> Check {
        Check::new(id, Status::Pass, summary)
    }

    /// `run` would not work.
    pub(super) fn fail(id: &'static str, summary: impl Into<String>) -> Check {
        Check::new(id, Status::Fail, summary)
    }

    /// It does not apply, or something else has to be fixed first.
    pub(super) fn skip(id: &'static str, summary: impl Into<String>) -> Check {
        Check::new(id, Status::Skip, summary)
    }

    /// Why it matters.
    pub(super) fn why(mut self, why: &'static str) -> Check {
        self.why = why;
        self
    }

    /// What was seen.
    pub(super) fn with_evidence(mut self, evidence: impl IntoIterator<Item = String>) -> Check {
        self.evidence.extend(evidence);
        self
    }

    /// What to do.
    pub(super) fn with_next(mut self, next: impl IntoIterator<Item = String>) -> Check {
        self.next.extend(next);
        self
    }

    /// Says which channel it is about, in front of the summary.
    pub(super) fn of_channel(mut self, channel: &str) -> Check {
        self.summary = format!("channel {channel}: {}", self.summary);
        self
    }

    pub(super) fn is_failed(&self) -> bool {
        self.status == Status::Fail
    }
}

/// Line breaks of decoder errors become spaces.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All checks, in order.
pub(super) struct Report {
    checks: Vec<Check>,
    run_command: String,
}

impl Report {
    /// `run_command` is what to go on with if all is well.
    pub(super) fn new(run_command: String) -> Report {
        Report { checks: Vec::new(), run_command }
    }

    pub(super) fn push(&mut self, check: Check) {
        self.checks.push(check);
    }

    pub(super) fn run_command(&self) -> &str {
        &self.run_command
    }

    pub(super) fn is_ok(&self) -> bool {
        !self.checks.iter().any(Check::is_failed)
    }

    fn failed(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|check| check.is_failed()).map(|check| check.id).collect()
    }

    /// One line for each check, and the result; with colours if `paint`.
    pub(super) fn text(&self, paint: bool) -> String {
        let painted =
            |status: Status, word: &str| if paint { status.paint().on(word) } else { word.to_owned() };
        let mut text = String::new();
        for check in &self.checks {
            let status = painted(check.status, &format!("{:<4}", check.status.word()));
            let _ = writeln!(text, "CHECK {:<24} {status} {}", check.id, check.summary);
        }
        if self.is_ok() {
            let _ = write!(text, "\nRESULT {}\nNEXT   {}\n", painted(Status::Pass, "ok"), self.run_command);
        } else {
            let _ = write!(
                text,
                "\nRESULT {}\nFAILED_CHECKS {}\nEXIT_CODE 2\n",
                painted(Status::Fail, "fail"),
                self.failed().join(",")
            );
        }
        text
    }

    /// What there is to say about each check that did not pass, and about those that are always explained.
    pub(super) fn explanations(&self) -> String {
        let mut text = String::new();
        for check in self.checks.iter().filter(|check| check.status != Status::Pass || check.explained) {
            let _ = write!(text, "\nCHECK {}   {}\n", check.id, check.status.word());
            if !check.why.is_empty() {
                let _ = write!(text, "Why this matters:\n  {}\n", check.why);
            }
            if !check.evidence.is_empty() {
                text.push_str("Evidence:\n");
                for line in &check.evidence {
                    let _ = writeln!(text, "  - {line}");
                }
            }
            if !check.next.is_empty() {
                text.push_str("What to do next:\n");
                for (number, line) in check.next.iter().enumerate() {
                    let _ = writeln!(text, "  {}. {line}", number + 1);
                }
            }
        }
        text
    }

    /// As one JSON document.
    pub(super) fn json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            result: &'static str,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            failed_checks: Vec<&'static str>,
            checks: &'a [Check],
            #[serde(skip_serializing_if = "Option::is_none")]
            next: Option<&'a str>,
        }
        let ok = self.is_ok();
        let document = Document {
            result: if ok { "ok" } else { "fail" },
            failed_checks: self.failed(),
            checks: &self.checks,
            next: ok.then_some(self.run_command.as_str()),
        };
        serde_json::to_string_pretty(&document).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_line_by_line() {
        let mut report = Report::new("tunnel-client run --profile demo".into());
        report.push(Check::pass("tunnel_id", "tunnel_x"));
        assert_eq!(
            report.text(false),
            "CHECK tunnel_id                PASS tunnel_x\n\nRESULT ok\nNEXT   tunnel-client run --profile demo\n"
        );
        report.push(Check::skip("ui", "blocked").why("Because.").with_next(["Do it.".to_owned()]));
        assert!(report.is_ok());
        report.push(Check::fail("health_listener", "two\n lines").with_evidence(["seen".to_owned()]));
        report.push(Check::fail("x", "y"));
        report.push(Check::pass("z", "fine").why("So.").always_explained());
        assert!(report.text(true).contains(" \u{1b}[31mFAIL\u{1b}[0m two lines\n"));
        let text = report.text(false);
        assert!(text.contains("CHECK health_listener          FAIL two lines\n"), "{text}");
        assert!(text.ends_with("\nRESULT fail\nFAILED_CHECKS health_listener,x\nEXIT_CODE 2\n"), "{text}");
        assert_eq!(
            report.explanations(),
            "\nCHECK ui   SKIP\nWhy this matters:\n  Because.\nWhat to do next:\n  1. Do it.\n\
             \nCHECK health_listener   FAIL\nEvidence:\n  - seen\n\nCHECK x   FAIL\n\nCHECK z   PASS\nWhy this matters:\n  So.\n"
        );
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["failed_checks"], serde_json::json!(["health_listener", "x"]));
        assert_eq!(json["checks"][1]["status"], "SKIP");
        assert!(json.get("next").is_none() && json["checks"][0].get("why").is_none());
        assert!(json["checks"][4].get("explained").is_none());
    }
}

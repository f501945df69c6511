//! Finding the protected resource's metadata (RFC 9728 §3 and §5).

use std::time::Duration;

use url::Url;

use super::asking::{Budget, Reply, check_destination, fetch, insist, send};
use super::challenge::resource_metadata;
use super::documents::ResourceMetadata;
use super::places::is_callable;
use super::report::{Attempt, Challenge, Found, Trouble};
use crate::mcp::http::{DiscoveryScope, HttpBinding};
use crate::net::{Cause, Deadline, Error, Method, status_line};

/// Time for both requests for a challenge.
const CHALLENGE_TIME: Duration = Duration::from_secs(1);

/// Asks the endpoint itself: with a POST, or else with a GET.
pub(super) fn challenge(binding: &HttpBinding, budget: Budget) -> Challenge {
    let deadline = Deadline::after(CHALLENGE_TIME).earliest(budget.end());
    let mut challenge = Challenge::default();
    for method in [Method::POST, Method::GET] {
        match ask_for_challenge(binding, &method, deadline, &mut challenge) {
            Ok(url) => {
                challenge.error = None;
                challenge.advertised = Some(url);
                break;
            }
            Err(why) => challenge.error = Some(format!("oauth discovery: WWW-Authenticate {why}")),
        }
    }
    challenge
}

fn ask_for_challenge(
    binding: &HttpBinding,
    method: &Method,
    deadline: Deadline,
    challenge: &mut Challenge,
) -> Result<Url, String> {
    let reply = send(binding, method.clone(), binding.url(), DiscoveryScope::Resource, deadline);
    let reply = reply.map_err(|error| {
        if error.cause != Cause::Cancelled {
            challenge.failures.push((method.clone(), error.message.clone()));
        }
        format!("probe {method} failed: {error}")
    })?;
    let status = reply.head.status;
    if status != 401 {
        return Err(format!("probe {method} got status {status}"));
    }
    let mut lines = reply.head.headers.get_all("WWW-Authenticate").peekable();
    if lines.peek().is_none() {
        return Err(format!("header missing ({method} 401)"));
    }
    let named = resource_metadata(lines)
        .ok_or_else(|| format!("header has no Bearer challenge with resource_metadata ({method} 401)"))?;
    let url = Url::parse(&named).ok().filter(is_callable);
    url.ok_or_else(|| format!("header has a resource_metadata that is no URL ({method} 401)"))
}

/// Asks one place after the other; once more if nothing but time-outs came of it.
pub(super) fn find(binding: &HttpBinding, budget: Budget, attempts: &mut [Attempt]) -> Option<Found> {
    const SCOPE: DiscoveryScope = DiscoveryScope::Resource;
    let places = attempts.len();
    let once = |at: usize, url: &Url| fetch(binding, url, SCOPE, budget.next(at + 1 == places));
    let found = pass(binding.url(), attempts, once);
    let silent = |attempt: &Attempt| attempt.trouble == Some(Trouble::TimedOut);
    if found.is_some() || !attempts.iter().all(silent) || budget.end().is_past() {
        return found;
    }
    pass(binding.url(), attempts, |at, url| insist(binding, url, SCOPE, budget.tries(places - at)))
}

/// Asks every place until one has a good document under a good status. If none has, the document of the
/// first place that answered with it under a status of its own choice will do.
fn pass(
    endpoint: &Url,
    attempts: &mut [Attempt],
    mut ask: impl FnMut(usize, &Url) -> Result<Reply, Error>,
) -> Option<Found> {
    let last = attempts.len().saturating_sub(1);
    let mut second_choice = None;
    for (at, attempt) in attempts.iter_mut().enumerate() {
        if let Err(error) = check_destination(&attempt.url, endpoint) {
            attempt.failed(Trouble::Refused, error.message);
            continue;
        }
        let reply = ask(at, &attempt.url);
        attempt.tried = true;
        attempt.status = 0;
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                attempt.failed(Trouble::of(&error), error.message);
                if error.cause == Cause::Cancelled {
                    break;
                }
                continue;
            }
        };
        attempt.status = reply.status;
        let read = read(&reply, at);
        if !reply.is_success() {
            let error = format!("bad status {}", status_line(reply.status));
            attempt.failed(Trouble::Status(reply.status), error);
            // Where others are left to ask, an error page is not taken at its word.
            if at == last || !reply.is_absent() {
                second_choice = second_choice.or(read.ok());
            }
            continue;
        }
        match read {
            Ok(found) => {
                (attempt.selected, attempt.error, attempt.trouble) = (true, None, None);
                return Some(found);
            }
            Err(why) => {
                attempt.failed(Trouble::Invalid, format!("invalid protected resource metadata: {why}"));
            }
        }
    }
    let found = second_choice?;
    let attempt = attempts.get_mut(found.attempt)?;
    (attempt.selected, attempt.error, attempt.trouble) = (true, None, None);
    Some(found)
}

fn read(reply: &Reply, attempt: usize) -> Result<Found, String> {
    let json = reply.text()?;
    let metadata = ResourceMetadata::parse(json)?;
    Ok(Found { attempt, headers: reply.headers.clone(), json: json.to_owned(), metadata })
}

#[cfg(test)]
mod tests {
    use super::super::places::of_resource;
    use super::*;
    use crate::net::HeaderList;

    const GOOD: &str = r#"{"resource":"https://h/mcp"}"#;

    fn attempts() -> Vec<Attempt> {
        let advertised = Url::parse("https://other/advertised").unwrap();
        let places = of_resource(&Url::parse("https://h/mcp").unwrap(), Some(&advertised));
        places.into_iter().map(Attempt::new).collect()
    }

    fn reply(status: u16, body: &str) -> Result<Reply, Error> {
        Ok(Reply { status, headers: HeaderList::new(), body: Ok(body.into()) })
    }

    fn broken(cause: Cause) -> Result<Reply, Error> {
        Err(Error::before_writing(cause, "broken"))
    }

    fn unreadable(status: u16, cause: Cause) -> Result<Reply, Error> {
        let body = Err(Error::after_writing(cause, "broken"));
        Ok(Reply { status, headers: HeaderList::new(), body })
    }

    #[test]
    fn the_first_good_document_under_a_good_status_wins() {
        type Answer = fn() -> Result<Reply, Error>;
        /// What the places answer, which is selected under which status, and how many are asked.
        type Case<'a> = (&'a str, [Answer; 3], Option<(usize, u16)>, usize);
        let good: Answer = || reply(200, GOOD);
        let missing: Answer = || reply(404, "no");
        let cases: [Case<'_>; 14] = [
            ("the first", [good, good, good], Some((0, 200)), 1),
            ("404 goes on", [missing, good, good], Some((1, 200)), 2),
            ("500 with a document goes on", [|| reply(500, GOOD), good, good], Some((1, 200)), 2),
            ("401 goes on", [|| reply(401, "no"), good, good], Some((1, 200)), 2),
            ("HTML goes on", [|| reply(200, "<html>"), good, good], Some((1, 200)), 2),
            ("an empty body goes on", [|| reply(200, ""), good, good], Some((1, 200)), 2),
            ("a long body goes on", [|| unreadable(404, Cause::TooLarge), good, good], Some((1, 200)), 2),
            ("a broken body goes on", [|| unreadable(200, Cause::Eof), good, good], Some((1, 200)), 2),
            (
                "no reply goes on",
                [|| broken(Cause::Dial), || broken(Cause::Timeout), good],
                Some((2, 200)),
                3,
            ),
            ("a good status is preferred", [|| reply(401, GOOD), missing, good], Some((2, 200)), 3),
            ("but not required", [|| reply(401, GOOD), missing, missing], Some((0, 401)), 3),
            ("the last may say 404", [missing, missing, || reply(404, GOOD)], Some((2, 404)), 3),
            ("only the last", [|| reply(404, GOOD), || reply(503, GOOD), missing], None, 3),
            ("nothing", [missing, missing, || unreadable(200, Cause::TooLarge)], None, 3),
        ];
        for (what, answers, selected, tried) in cases {
            let mut attempts = attempts();
            let endpoint = Url::parse("https://h/mcp").unwrap();
            let found = pass(&endpoint, &mut attempts, |at, _| answers[at]());
            let seen = attempts.iter().position(|attempt| attempt.selected);
            assert_eq!(seen.map(|at| (at, attempts[at].status)), selected, "{what}");
            assert_eq!(found.map(|found| found.attempt), selected.map(|(at, _)| at), "{what}");
            assert_eq!(attempts.iter().filter(|attempt| attempt.tried).count(), tried, "{what}");
            for attempt in &attempts {
                assert_eq!(attempt.error.is_some(), attempt.tried && !attempt.selected, "{what}");
            }
        }
    }

    #[test]
    fn a_refused_destination_is_not_asked() {
        let endpoint = Url::parse("https://h/mcp").unwrap();
        let advertised = Url::parse("http://169.254.169.254/latest").unwrap();
        let mut attempts: Vec<_> =
            of_resource(&endpoint, Some(&advertised)).into_iter().map(Attempt::new).collect();
        let found = pass(&endpoint, &mut attempts, |at, _| {
            assert_ne!(at, 0);
            reply(404, "")
        });
        assert!(found.is_none() && !attempts[0].tried);
        assert!(attempts[0].error.as_deref().unwrap().contains("refused"));
    }
}

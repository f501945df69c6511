//! Finding an authorization server's metadata (RFC 8414 §3, OpenID Connect Discovery §4).

use super::asking::{Budget, Reply, check_destination, fetch, insist};
use super::documents::{Endpoint, ServerMetadata};
use super::places::{Issuer, ServerPlace};
use super::report::{Server, ServerAttempt};
use crate::mcp::http::{DiscoveryScope, HttpBinding};
use crate::net::{Cause, Error, HeaderList, status_line};

const JSON: &str = "application/json";
/// Longest body that is kept for the status, in bytes: of a document, and of anything else.
const KEPT_DOCUMENT_BYTES: usize = 64 * 1024;
const KEPT_BYTES: usize = 1024;

/// Looks for the metadata of `issuer`; `None` if that is no URL that could be asked. Not finding them is
/// no failure of the discovery.
pub(super) fn find(binding: &HttpBinding, budget: Budget, issuer: &str) -> Option<Server> {
    let parsed = Issuer::of(issuer)?;
    if let Err(error) = check_destination(parsed.url(), binding.url()) {
        log::warn!(target: "oauth", error:% = error; "authorization server metadata not fetched");
        return None;
    }
    const SCOPE: DiscoveryScope = DiscoveryScope::AuthorizationServer;
    let places = parsed.places();
    let count = places.len();
    let (mut server, only_timeouts) =
        pass(issuer, &places, |at, place| fetch(binding, &place.url, SCOPE, budget.next(at + 1 == count)));
    if only_timeouts && !budget.end().is_past() {
        let again =
            |at: usize, place: &ServerPlace| insist(binding, &place.url, SCOPE, budget.tries(count - at));
        server = pass(issuer, &places, again).0;
    }
    tell(&server);
    Some(server)
}

/// Asks one place after the other until one has a document that names the issuer. If none does, the
/// first document that names another one will do: identity providers outside are legitimate. Also
/// whether nothing but time-outs came of it.
fn pass(
    issuer: &str,
    places: &[ServerPlace],
    mut ask: impl FnMut(usize, &ServerPlace) -> Result<Reply, Error>,
) -> (Server, bool) {
    let mut server = Server { issuer: issuer.to_owned(), attempts: Vec::new(), metadata: None };
    let mut only_timeouts = true;
    for (at, place) in places.iter().enumerate() {
        let mut attempt = ServerAttempt {
            place: place.clone(),
            status: 0,
            error: None,
            mismatch: None,
            headers: HeaderList::new(),
            body: None,
        };
        let reply = ask(at, place);
        only_timeouts &= matches!(&reply, Err(error) if error.cause == Cause::Timeout);
        let cancelled = matches!(&reply, Err(error) if error.cause == Cause::Cancelled);
        let metadata = reply.map_err(|error| error.message).and_then(|reply| {
            attempt.status = reply.status;
            let usable = usable(&reply);
            attempt.body = kept(&reply, usable.is_ok());
            attempt.headers = reply.headers;
            usable
        });
        let mut exact = false;
        match metadata {
            Ok(metadata) => {
                let named = metadata.get(Endpoint::Issuer).unwrap_or_default();
                exact = named == issuer;
                if !exact {
                    attempt.mismatch = Some(named.to_owned());
                }
                if exact || server.metadata.is_none() {
                    server.metadata = Some((at, metadata));
                }
            }
            Err(error) => attempt.error = Some(error),
        }
        server.attempts.push(attempt);
        if exact || cancelled {
            break;
        }
    }
    (server, only_timeouts)
}

fn usable(reply: &Reply) -> Result<ServerMetadata, String> {
    if reply.status != 200 {
        return Err(format!("bad status {}", status_line(reply.status)));
    }
    let content_type = reply.headers.get("Content-Type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case(JSON) {
        let shown: String = content_type.chars().take(100).collect();
        return Err(format!("bad content type {shown:?}"));
    }
    reply
        .text()
        .and_then(ServerMetadata::parse)
        .map_err(|why| format!("invalid authorization server metadata: {why}"))
}

/// What is kept of a body for the status.
fn kept(reply: &Reply, is_document: bool) -> Option<String> {
    let limit = if is_document { KEPT_DOCUMENT_BYTES } else { KEPT_BYTES };
    reply.text().ok().filter(|text| !text.is_empty() && text.len() <= limit).map(str::to_owned)
}

fn tell(server: &Server) {
    use crate::redact::origin;
    let Some((at, _)) = &server.metadata else {
        let error = server.attempts.last().and_then(|last| last.error.as_deref()).unwrap_or_default();
        log::warn!(target: "oauth", expected_issuer_url = origin(&server.issuer).as_str(), error;
            "no authorization server metadata found");
        return;
    };
    if let Some(attempt) = server.attempts.get(*at)
        && let Some(named) = &attempt.mismatch
    {
        log::warn!(target: "oauth", expected_issuer_url = origin(&server.issuer).as_str(),
            metadata_issuer = origin(named).as_str(),
            selected_metadata_url = origin(&attempt.place.text).as_str(), auth_server_index = 0;
            "the authorization server metadata name another issuer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, content_type: &str, body: &str) -> Result<Reply, Error> {
        let headers = [("Content-Type", content_type)].into_iter().collect();
        Ok(Reply { status, headers, body: Ok(body.into()) })
    }

    const OWN: &str = r#"{"issuer":"https://i/t"}"#;
    const FOREIGN: &str = r#"{"issuer":"https://idp"}"#;

    fn run(answers: [fn() -> Result<Reply, Error>; 4]) -> (Server, bool) {
        pass("https://i/t", &Issuer::of("https://i/t").unwrap().places(), |at, _| answers[at]())
    }

    #[test]
    fn the_document_that_names_the_issuer_wins_and_another_one_will_do() {
        let missing: fn() -> _ = || reply(404, "text/plain", "no");
        let own: fn() -> _ = || reply(200, "application/json; charset=utf-8", OWN);
        let foreign: fn() -> _ = || reply(200, "Application/JSON", FOREIGN);
        for (answers, selected, asked, mismatches) in [
            ([own, own, own, own], Some(0), 1, 0),
            ([missing, missing, own, own], Some(2), 3, 0),
            ([foreign, missing, foreign, own], Some(3), 4, 2),
            ([missing, foreign, missing, foreign], Some(1), 4, 2),
            ([missing, || reply(200, "application/json", "{}"), missing, missing], Some(1), 4, 1),
            ([missing, missing, missing, missing], None, 4, 0),
            (
                [
                    || reply(200, "text/plain", OWN),
                    || reply(201, "application/json", OWN),
                    || reply(200, "application/json", "[]"),
                    || reply(200, "", OWN),
                ],
                None,
                4,
                0,
            ),
        ] {
            let (server, only_timeouts) = run(answers);
            assert_eq!(server.metadata.map(|(at, _)| at), selected);
            assert_eq!(server.attempts.len(), asked);
            assert_eq!(server.attempts.iter().filter(|a| a.mismatch.is_some()).count(), mismatches);
            assert!(!only_timeouts);
        }
    }

    #[test]
    fn errors_say_what_came_instead() {
        let (server, _) = run([
            || reply(404, "text/html", "<html>"),
            || reply(200, "text/html", "<html>"),
            || Err(Error::before_writing(Cause::Timeout, "late")),
            || reply(200, "application/json", "{"),
        ]);
        let errors: Vec<_> = server.attempts.iter().filter_map(|attempt| attempt.error.clone()).collect();
        assert_eq!(errors[..3], ["bad status 404 Not Found", "bad content type \"text/html\"", "late"]);
        assert!(errors[3].starts_with("invalid authorization server metadata"), "{}", errors[3]);
        let late: fn() -> _ = || Err(Error::before_writing(Cause::Timeout, "late"));
        assert!(run([late; 4]).1);
    }
}

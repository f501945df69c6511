//! Requests for metadata: which hosts are asked, for how long, and how much is read.
//!
//! Invariant: the time that is left bounds a document from the look-up of its host's name to the last
//! byte of its body, and no destination is asked that only a hostile document would name.

use std::net::IpAddr;
use std::time::Duration;

use url::{Host, Url};

use crate::mcp::http::{DiscoveryReply, DiscoveryRequest, DiscoveryScope, HttpBinding};
use crate::net::{Cause, Deadline, Error, HeaderList, Method, is_no_server_address};

/// Longest document, in bytes.
pub(super) const DOCUMENT_BYTES: usize = 1024 * 1024;

/// Longest times of the tries that follow when nothing but time-outs came of asking everywhere once.
const TRIES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// How long a discovery may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    overall: Deadline,
    /// For one document.
    request: Duration,
}

impl Budget {
    /// Everything by `overall`, each document within `request`.
    pub fn new(overall: Deadline, request: Duration) -> Budget {
        Budget { overall, request }
    }

    /// The end of everything.
    pub(super) fn end(self) -> Deadline {
        self.overall
    }

    /// The end of the next document's time. Others after it are left their part.
    pub(super) fn next(self, is_last: bool) -> Deadline {
        let left = self.left();
        Deadline::after(self.request.min(if is_last { left } else { left / 2 })).earliest(self.overall)
    }

    /// The ends of the tries for the next of `places` places that all kept silent. What is left is
    /// shared out so that all tries for all of them fit in.
    pub(super) fn tries(self, places: usize) -> impl Iterator<Item = Deadline> {
        let share = self.left() / u32::try_from(places.max(1)).unwrap_or(u32::MAX);
        let whole: Duration = TRIES.iter().sum();
        let scale = (share.as_secs_f64() / whole.as_secs_f64()).min(1.0);
        TRIES.into_iter().map(move |time| Deadline::after(time.mul_f64(scale)).earliest(self.overall))
    }

    fn left(self) -> Duration {
        self.overall.remaining().unwrap_or(Duration::MAX)
    }
}

/// A reply, its body read.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderList,
    pub(super) body: Result<Vec<u8>, Error>,
}

impl Reply {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the document is not there, or the server out of order: other places may have it.
    pub(super) fn is_absent(&self) -> bool {
        self.status == 404 || self.status >= 500
    }

    /// The body as text, or what is wrong with it.
    pub(super) fn text(&self) -> Result<&str, String> {
        match &self.body {
            Ok(body) => std::str::from_utf8(body).map_err(|_| "it is no UTF-8".to_owned()),
            Err(error) if error.cause == Cause::TooLarge => {
                Err(format!("it is longer than {DOCUMENT_BYTES} bytes"))
            }
            Err(error) => Err(format!("reading it failed: {error}")),
        }
    }
}

/// Fetches a document by `deadline`.
pub(super) fn fetch(
    binding: &HttpBinding,
    url: &Url,
    scope: DiscoveryScope,
    deadline: Deadline,
) -> Result<Reply, Error> {
    let mut reply = send(binding, Method::GET, url, scope, deadline)?;
    Ok(Reply {
        status: reply.head.status,
        headers: reply.head.headers,
        body: reply.body.read_to_limit(DOCUMENT_BYTES),
    })
}

/// The same once more and again, with growing patience, until something else than a time-out comes of it.
pub(super) fn insist(
    binding: &HttpBinding,
    url: &Url,
    scope: DiscoveryScope,
    tries: impl Iterator<Item = Deadline>,
) -> Result<Reply, Error> {
    let mut last = Err(Error::before_writing(Cause::Timeout, "there is no time left"));
    for deadline in tries {
        last = fetch(binding, url, scope, deadline);
        if !matches!(&last, Err(error) if error.cause == Cause::Timeout) {
            break;
        }
    }
    last
}

/// Sends a request that carries nothing of a command. A POST has an empty body.
pub(super) fn send(
    binding: &HttpBinding,
    method: Method,
    url: &Url,
    scope: DiscoveryScope,
    deadline: Deadline,
) -> Result<DiscoveryReply, Error> {
    check_destination(url, binding.url())?;
    let headers: HeaderList = [("Accept", "application/json")].into_iter().collect();
    let body = (method == Method::POST).then_some(&b""[..]);
    binding.discovery_request(&DiscoveryRequest { method, url, headers: &headers, body, scope, deadline })
}

/// Refuses destinations that are no servers but reach into the host's own surroundings: cloud metadata
/// services are at link-local addresses. Where the MCP server itself is, the operator wanted to go.
/// Names that resolve to such addresses are refused when they are dialled.
pub(super) fn check_destination(url: &Url, endpoint: &Url) -> Result<(), Error> {
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    if is_no_server_address(address) && url.host() != endpoint.host() {
        let message =
            format!("destination refused: {address} is a link-local, multicast or unspecified address");
        return Err(Error::before_writing(Cause::InvalidRequest, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_takes_the_time_of_those_after_it() {
        let seconds = Duration::from_secs;
        let near = |deadline: Deadline, due: Duration| {
            let left = deadline.remaining().unwrap();
            assert!(left <= due && left + seconds(2) > due, "{left:?} is not {due:?}");
        };
        let budget = Budget::new(Deadline::after(seconds(100)), seconds(60));
        near(budget.next(false), seconds(50));
        near(budget.next(true), seconds(60));
        near(Budget::new(Deadline::after(seconds(100)), seconds(5)).next(false), seconds(5));
        let tries: Vec<Deadline> = budget.tries(2).collect();
        for (deadline, due) in tries.iter().zip(TRIES) {
            near(*deadline, due);
        }
        let scarce: Vec<Deadline> = Budget::new(Deadline::after(seconds(7)), seconds(5)).tries(2).collect();
        for (deadline, due) in scarce.iter().zip([500, 1000, 2000]) {
            near(*deadline, Duration::from_millis(due));
        }
        let past = Budget::new(Deadline::after(Duration::ZERO), seconds(5));
        assert!(past.next(true).is_past() && past.tries(1).all(Deadline::is_past));
    }

    #[test]
    fn the_hosts_surroundings_are_asked_only_where_the_server_is() {
        let refused = |url: &str, endpoint: &str| {
            check_destination(&Url::parse(url).unwrap(), &Url::parse(endpoint).unwrap()).is_err()
        };
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://169.254.169.254.:80/",
            "http://2852039166/",
            "http://0xA9FEA9FE/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://224.0.0.1/",
            "http://[ff02::1]/",
        ] {
            assert!(refused(url, "https://mcp.corp.example/mcp"), "{url}");
            assert!(!refused(url, url), "{url}");
        }
        for url in ["http://127.0.0.1/", "http://10.0.0.5/", "https://[fd00::1]/", "https://as.example/"] {
            assert!(!refused(url, "https://mcp.corp.example/mcp"), "{url}");
        }
    }
}

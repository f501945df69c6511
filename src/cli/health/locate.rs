//! Where the client's listener is.

use std::path::PathBuf;

use crate::net::base64_decoded;

/// Longest URL file that is read, in bytes.
const URL_FILE_BYTES: u64 = 64 * 1024;
/// What a Unix socket's URL begins with; unpadded URL-safe base64 (RFC 4648 §5) of its path follows.
const UNIX_SCHEME: &str = "http+unix://";

/// What the operator gave.
pub(super) enum Locator {
    Url(String),
    UrlFile(PathBuf),
    Port(u16),
}

impl Locator {
    /// The base URL: without path, and without a slash at its end.
    pub(super) fn base_url(&self) -> Result<String, String> {
        match self {
            Locator::Url(url) => base_of(url),
            Locator::Port(port) => Ok(format!("http://127.0.0.1:{port}")),
            Locator::UrlFile(path) => {
                let text = read(path, URL_FILE_BYTES)?;
                base_of(&text).map_err(|_| format!("{} holds no URL", path.display()))
            }
        }
    }
}

fn base_of(url: &str) -> Result<String, String> {
    let mut base = url.trim().trim_end_matches('/');
    for endpoint in ["/healthz", "/readyz"] {
        base = base.strip_suffix(endpoint).unwrap_or(base).trim_end_matches('/');
    }
    if base.is_empty() { Err("the URL is empty".to_owned()) } else { Ok(base.to_owned()) }
}

/// The text of a small file.
pub(super) fn read(path: &std::path::Path, limit: u64) -> Result<String, String> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| format!("read {}: {}", path.display(), crate::ops::reason(&error));
    let mut text = String::new();
    std::fs::File::open(path).map_err(failed)?.take(limit).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The path of the socket that a `http+unix` URL names; `None` for other URLs.
pub(super) fn unix_socket(base: &str) -> Option<Result<PathBuf, String>> {
    let encoded = base.strip_prefix(UNIX_SCHEME)?;
    let path = base64_decoded(encoded).filter(|bytes| !bytes.is_empty() && !bytes.contains(&0));
    Some(
        path.map(path_of).ok_or_else(|| "the part after http+unix:// is not the base64 of a path".to_owned()),
    )
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_reduced_to_its_base() {
        for url in [
            "http://127.0.0.1:8080",
            " http://127.0.0.1:8080/ \n",
            "http://127.0.0.1:8080/healthz",
            "http://127.0.0.1:8080/healthz/",
            "http://127.0.0.1:8080/readyz",
            "http://127.0.0.1:8080//readyz//",
        ] {
            assert_eq!(base_of(url).unwrap(), "http://127.0.0.1:8080", "{url}");
        }
        assert_eq!(base_of("http://h/x/readyz").unwrap(), "http://h/x");
        assert!(base_of(" ").is_err());
    }

    #[test]
    fn the_socket_of_a_url_is_decoded() {
        for (url, path) in [
            ("http+unix://L3RtcC9oLnNvY2s", "/tmp/h.sock"),
            ("http+unix://L3J1bi90Yy9oLnNvY2s", "/run/tc/h.sock"),
            ("http+unix://Lw==", "/"),
        ] {
            assert_eq!(unix_socket(url), Some(Ok(PathBuf::from(path))));
        }
        assert_eq!(unix_socket("http://h"), None);
        for wrong in ["http+unix://", "http+unix://!", "http+unix://A"] {
            assert!(unix_socket(wrong).unwrap().is_err(), "{wrong}");
        }
    }
}

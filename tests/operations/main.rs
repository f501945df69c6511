//! What operators are given: the support bundle, the page, dashboard and alerts; and that no secret is in
//! any of it.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

#[path = "../common/mod.rs"]
mod common;

mod bundle;
mod dashboards;
mod page;
mod secrets;

use std::io::Read;

use common::http::{self, Reply};
use common::process::Client;

pub fn get(client: &Client, path: &str) -> Reply {
    http::get(&format!("{}{path}", client.health_url())).expect("the listener answers")
}

/// Names and texts of the members of a `.tar.gz`.
pub fn unpack(bytes: &[u8]) -> Vec<(String, String)> {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut tar).expect("gzip");
    let mut members = Vec::new();
    let mut rest = &tar[..];
    while rest[0] != 0 {
        let text = |from: usize, to: usize| {
            std::str::from_utf8(&rest[from..to]).unwrap().trim_end_matches(['\0', ' ']).to_owned()
        };
        assert_eq!((text(100, 108).as_str(), text(257, 262).as_str()), ("0000600", "ustar"));
        let size = usize::from_str_radix(&text(124, 136), 8).unwrap();
        members.push((text(0, 100), String::from_utf8(rest[512..512 + size].to_vec()).unwrap()));
        rest = &rest[512 + size.next_multiple_of(512)..];
    }
    members
}

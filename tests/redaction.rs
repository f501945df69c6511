//! Whatever surrounds a secret: it is not shown, and redacting again changes nothing.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

use serde_json::{Value, json};
use tunnel_client::redact::{self, KnownSecrets};

/// A generator with a fixed seed: a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn text(&mut self, alphabet: &str, most: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..self.roll(most + 1)).map(|_| letters[self.roll(letters.len())]).collect()
    }
}

/// What credentials are made of, most of the time.
const TOKEN: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~+/";
/// What stands around them.
const NOISE: &str = "ab Z09 .,;:!?-_=&#/\\\"'{}[]()<>%@\t✓ä🩺";

/// Texts that carry a credential at `@`.
const CARRIERS: &[&str] = &[
    "Authorization: Bearer @\r\n",
    "Authorization: Basic @\n",
    "authorization:Digest @\n",
    "Authorization: @\n",
    "Proxy-Authorization: Basic @\r\n",
    "X-Tunnel-Shard-Token: @\n",
    "X-Api-Key: @\n",
    "Cookie: session=@; b=c\n",
    "Set-Cookie: a=@; HttpOnly\n",
    " sk-@ ",
    "https://h/x?code=@&state=1 ",
    "https://h/x?state=1&access_token=@ ",
    "?api_key=@ ",
    "&client-secret=@ ",
    " password=@ ",
    " refresh_token = @ ",
    " token=@ ",
    " --control-plane.api-key @ ",
    " --token @ ",
    r#"{"api_key":"@"}"#,
    r#"{"password" : "@","x":1}"#,
    r#"{"Authorization":["Bearer @"],"a":1}"#,
    r#"{"headers":{"Cookie":["a=@"]},"shard_token":"@"}"#,
    r#"{"id_token":"@"}"#,
    "http://user:@@h:8080/x ",
];

/// A credential as `carrier` could hold it: user info ends at the first slash, a key consists of word
/// characters.
fn secret(dice: &mut Dice, carrier: &str) -> String {
    let secret = format!("S3cr{}x", dice.text(TOKEN, 40));
    match carrier.contains("sk-") {
        true => secret.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_"),
        false => secret.replace('/', "_"),
    }
}

#[test]
fn a_credential_disappears_from_any_text() {
    let mut dice = Dice(0x5EED_0001);
    for round in 0..20_000 {
        let carrier = CARRIERS[dice.roll(CARRIERS.len())];
        let secret = secret(&mut dice, carrier);
        let carried = if carrier.contains("@@") {
            carrier.replacen('@', &secret, 1)
        } else {
            carrier.replace('@', &format!("{secret}0123456789"))
        };
        let text = format!("{}\n{carried}\n{}", dice.text(NOISE, 20), dice.text(NOISE, 20));
        // Noise may open a string that nothing closes; a credential in there is still hidden.
        let shown = redact::text(&text).into_owned();
        assert!(!shown.contains(&secret), "round {round}: {text:?} became {shown:?}");
        assert_eq!(redact::text(&shown), shown, "round {round}: {text:?}");
    }
}

#[test]
fn a_document_shows_no_credential_and_keeps_its_shape() {
    let mut dice = Dice(0x5EED_0002);
    let keys = [
        "authorization",
        "Set-Cookie",
        "api-key",
        "client_secret",
        "X-Tunnel-Shard-Token",
        "session_token",
        "password",
    ];
    for round in 0..3_000 {
        let key = keys[dice.roll(keys.len())];
        let carrier = CARRIERS[dice.roll(CARRIERS.len())].replacen("@@", "@", 1);
        let secret = secret(&mut dice, &carrier);
        let mut value = json!({
            "plain": "text", "n": 1, "list": [carrier.replace('@', &format!("{secret}0123456789")), true, null],
            key: secret, "nested": {"deep": [{key: {"any": secret}}]},
            "url": format!("https://u:{secret}@h/p?q={secret}#{secret}"),
        });
        redact::admin_json(&mut value);
        let shown = value.to_string();
        // The carrier with user info has lost its host's separator above: only a URL can hide it.
        if !carrier.starts_with("http://user:") {
            assert!(!shown.contains(&secret), "round {round}: {shown}");
        }
        assert_eq!(
            (&value["plain"], &value["n"], &value["list"][1]),
            (&"text".into(), &1.into(), &true.into())
        );
        assert_eq!(value["url"], "https://h/p");
        let again = value.clone();
        redact::admin_json(&mut value);
        assert_eq!(value, again, "round {round}");
    }
}

#[test]
fn a_secret_that_the_process_knows_disappears_without_any_context() {
    let mut dice = Dice(0x5EED_0003);
    for _ in 0..5_000 {
        let secret = format!("{}01234567", dice.text(TOKEN, 20));
        let other = format!("{secret}{}", dice.text(TOKEN, 5));
        let secrets = KnownSecrets::new([secret.clone(), other.clone()]);
        let text = format!("{}{other}{}{secret}", dice.text(NOISE, 10), dice.text(NOISE, 10));
        assert!(!secrets.hide(&text).contains(&secret), "{text}");
        let mut value = json!({"a": [text], "b": secret});
        secrets.hide_in_json(&mut value);
        assert!(!value.to_string().contains(&secret));
        assert_eq!(value["b"], Value::from("[REDACTED]"));
    }
}

#[test]
fn arguments_and_variables_show_no_value_of_a_sensitive_setting() {
    let mut dice = Dice(0x5EED_0004);
    let flags =
        ["control-plane.api-key", "mcp.client-key", "cloudflared.token", "mcp.extra-headers", "admin-key"];
    for round in 0..5_000 {
        let secret = format!("S3cr{}x", dice.text(TOKEN, 30));
        let flag = flags[dice.roll(flags.len())];
        let value =
            if flag.ends_with("headers") { format!("X-A: {secret}, X-B: {secret}") } else { secret.clone() };
        let arguments = match dice.roll(2) {
            0 => vec!["run".to_owned(), format!("--{flag}={value}"), "--log.level".into(), "info".into()],
            _ => vec![
                "run".to_owned(),
                format!("--{flag}"),
                value.clone(),
                "--log.level".into(),
                "info".into(),
            ],
        };
        let shown = redact::arguments(&arguments);
        assert_eq!(shown.len(), arguments.len());
        assert!(!shown.join(" ").contains(&secret), "round {round}: {shown:?}");
        assert_eq!(shown.last().unwrap(), "info");
        let variables =
            [("CONTROL_PLANE_API_KEY", value.as_str()), ("MCP_EXTRA_HEADERS", "X-A: v"), ("MINE", &secret)];
        let shown = redact::environment(variables, &["--control-plane.api-key=env:MINE"], &[]);
        assert_eq!(shown.len(), 3);
        assert!(shown.iter().all(|(_, value)| !value.contains(&secret)), "{shown:?}");
    }
}

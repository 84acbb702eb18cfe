//! What nobody should read over a shoulder, and what is shown in its place.
//!
//! Variables, arguments and values of a configuration are judged by their names and, where a name says
//! nothing, by what they look like. Hiding too much costs a glance into a file; hiding too little costs a
//! password, so in doubt it is hidden. Nothing of a secret remains, not even its length.

use std::borrow::Cow;

use super::mistake::is_secret_name;

/// Stands for a secret.
pub const HIDDEN: &str = "********";

/// Parts of names, beside those of [`is_secret_name`], that are secret in an environment.
const PARTS: [&str; 6] = ["PASS", "APIKEY", "JWT", "BEARER", "ACCESS_KEY", "CONNECTION_STRING"];

/// Names that look secret and are not: the shell's and the agent's own.
const HARMLESS: [&str; 4] = ["PWD", "OLDPWD", "SSH_AUTH_SOCK", "XAUTHORITY"];

/// How well-known keys begin.
const BEGINNINGS: [&str; 18] = [
    "-----BEGIN",
    "AKIA",
    "ASIA",
    "AIza",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "sk_live_",
    "rk_live_",
    "sk-",
    "hvs.",
    "eyJ",
    "Bearer ",
];

/// What stands before the secret within a value: `host=db password=…`, `?access_token=…`.
const WITHIN: [&str; 11] = [
    "authorization",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "accesskey",
    "access_key",
];

/// The value of a variable as it may be shown.
pub fn veiled<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    let upper = name.to_ascii_uppercase();
    let is_named =
        is_secret_name(name) || PARTS.iter().any(|it| upper.contains(it)) || upper.ends_with("KEY");
    if is_named && !HARMLESS.contains(&upper.as_str()) && !value.is_empty() {
        return Cow::Borrowed(HIDDEN);
    }
    veiled_value(value)
}

/// The arguments of a program as they may be shown.
pub fn veiled_arguments(arguments: &[String]) -> Vec<String> {
    let mut is_next_secret = false;
    let veil = |it: &String| {
        if std::mem::take(&mut is_next_secret) {
            return HIDDEN.to_owned();
        }
        // A command line within one argument, as for a shell, or a title that was written whole.
        if it.contains(' ') {
            if veiled_value(it) == HIDDEN {
                return HIDDEN.to_owned();
            }
            let words: Vec<_> = it.split(' ').map(str::to_owned).collect();
            return veiled_arguments(&words).join(" ");
        }
        let option = it.trim_start_matches('-');
        match it.split_once('=') {
            Some((name, value)) => {
                format!("{name}={}", veiled(name.trim_start_matches('-'), value))
            }
            None => {
                is_next_secret = option.len() < it.len() && veiled(option, "x") == HIDDEN;
                veiled_value(it).into_owned()
            }
        }
    };
    arguments.iter().map(veil).collect()
}

/// Hides what is secret by itself, whatever it is called.
fn veiled_value(value: &str) -> Cow<'_, str> {
    let bare = value.trim_start_matches(['"', '\'', ' ']);
    let bears = || value.to_ascii_lowercase().contains("bearer ");
    if bears() || BEGINNINGS.iter().any(|it| bare.starts_with(it)) || has_secret_within(value) {
        return Cow::Borrowed(HIDDEN);
    }
    if value.contains('@') { Cow::Owned(without_userinfo(value)) } else { Cow::Borrowed(value) }
}

fn has_secret_within(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    WITHIN.iter().any(|word| {
        lower.match_indices(word).any(|(at, _)| {
            let rest = lower[at + word.len()..].trim_start_matches(['"', '\'', ' ']);
            rest.starts_with(['=', ':']) && rest.len() > 1
        })
    })
}

/// Takes `user:password` out of URLs (RFC 3986 §3.2.1) and of `user:password@host`, word by word. A
/// password may itself hold a slash or an `@`, so the last `@` of a word counts.
fn without_userinfo(value: &str) -> String {
    let veil = |word: &str| -> String {
        let Some(end) = word.rfind('@') else { return word.to_owned() };
        let start = word.find("://").map(|it| it + 3).filter(|it| *it <= end);
        match start {
            Some(start) => format!("{}{HIDDEN}{}", &word[..start], &word[end..]),
            None if word[..end].contains(':') => format!("{HIDDEN}{}", &word[end..]),
            None => word.to_owned(),
        }
    };
    value.split(' ').map(veil).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        let secret = [
            "DB_PASSWORD",
            "MYSQL_PASS",
            "APP_KEY",
            "ENCRYPTIONKEY",
            "SENTRY_DSN",
            "GITHUB_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "REDIS_URL",
            "SESSION_COOKIE",
            "dbpass",
            "Jwt",
            "PGPASSFILE",
        ];
        for name in secret {
            assert_eq!(veiled(name, "geheim"), HIDDEN, "{name}");
        }
        for name in ["PATH", "PWD", "OLDPWD", "APP_PORT", "LANG", "SSH_AUTH_SOCK", "KEYBOARD"] {
            assert_eq!(veiled(name, "geheim"), "geheim", "{name}");
        }
        assert_eq!(veiled("DB_PASSWORD", ""), "", "that there is none is no secret");
    }

    #[test]
    fn secrets_are_known_by_what_they_look_like() {
        let shown = [
            ("redis://cache:6379/0", "redis://cache:6379/0"),
            ("redis://app:ge/h@im@cache:6379/0", "redis://********@cache:6379/0"),
            ("https://geheim@host/x", "https://********@host/x"),
            ("root:geheim@tcp(db:3306)/shop", "********@tcp(db:3306)/shop"),
            ("a://x:geheim@h b://y:geheim@i", "a://********@h b://********@i"),
            ("host=db user=app password=geheim", HIDDEN),
            ("{\"token\": \"geheim\"}", HIDDEN),
            ("-----BEGIN RSA PRIVATE KEY-----", HIDDEN),
            ("eyJhbGciOi.geheim", HIDDEN),
            ("alice@example.org", "alice@example.org"),
            ("git@github.com:owner/name", "git@github.com:owner/name"),
            ("the token is elsewhere", "the token is elsewhere"),
        ];
        for (value, expected) in shown {
            assert_eq!(veiled("X", value), expected, "{value}");
        }
    }

    #[test]
    fn arguments_lose_their_secrets() {
        let shown = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            veiled_arguments(&words).join(" ")
        };
        assert_eq!(shown("php start --port=9502 -v"), "php start --port=9502 -v");
        assert_eq!(
            shown("x --password=geheim --api-key geheim last"),
            "x --password=******** --api-key ******** last"
        );
        assert_eq!(shown("env TOKEN=geheim x"), "env TOKEN=******** x");
        assert_eq!(shown("x amqp://u:geheim@mq/"), "x amqp://********@mq/");
        let whole = |it: &str| veiled_arguments(&[it.to_owned()]).join(" ");
        assert_eq!(whole("APP=prod DB_PASS=geheim exec x"), "APP=prod DB_PASS=******** exec x");
        assert_eq!(whole("worker --api-key geheim"), "worker --api-key ********");
        for it in ["Authorization: Bearer geheim", "{\"password\": \"geheim\"}"] {
            assert_eq!(whole(it), HIDDEN);
        }
    }
}

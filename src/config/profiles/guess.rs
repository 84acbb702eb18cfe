//! `profile = "auto"`: which server a command starts, as far as its words tell.

/// A guess, and the word it goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guess {
    pub(super) profile: &'static str,
    pub(super) because: String,
}

/// Looks at the words of a command; `None`: they tell nothing.
pub(super) fn guess(command: &[String]) -> Option<Guess> {
    let by_word = command.iter().find_map(|word| {
        let profile = by_name(word)?;
        Some(Guess { profile, because: word.clone() })
    });
    let pairs = command.windows(2).find_map(|pair| {
        let profile = by_pair(&pair[0], &pair[1])?;
        Some(Guess { profile, because: pair.join(" ") })
    });
    // `python -m gunicorn`, `sample --tree fpm`: two words say more than one.
    pairs.or(by_word)
}

/// By the last step of a path: `/usr/sbin/php-fpm8.2`, `vendor/bin/hyperf.php`.
fn by_name(word: &str) -> Option<&'static str> {
    let name = word.rsplit('/').next().unwrap_or(word).to_ascii_lowercase();
    // An argument of some other program may be about one of these.
    if word.starts_with('-') && !name.contains("swoole") {
        return None;
    }
    match name.as_str() {
        "nginx" | "openresty" => Some("nginx"),
        "gunicorn" | "gunicorn3" => Some("gunicorn"),
        "puma" => Some("puma"),
        "hyperf.php" | "swoft" | "laravels" => Some("swoole"),
        it if it.starts_with("php-fpm") => Some("php-fpm"),
        it if it.contains("swoole") => Some("swoole"),
        _ => None,
    }
}

fn by_pair(first: &str, second: &str) -> Option<&'static str> {
    match (first, second) {
        ("-m", "gunicorn") => Some("gunicorn"),
        (_, "server" | "s") if is_rails(first) => Some("puma"),
        ("--tree", "swoole") => Some("swoole"),
        ("--tree", "fpm") => Some("php-fpm"),
        _ => None,
    }
}

fn is_rails(word: &str) -> bool {
    word.rsplit('/').next() == Some("rails")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(line: &str) -> Option<&'static str> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        guess(&words).map(|it| it.profile)
    }

    #[test]
    fn servers_are_known_by_their_commands() {
        for (line, profile) in [
            ("nginx -g daemon_off", "nginx"),
            ("/usr/sbin/php-fpm8.2 --nodaemonize", "php-fpm"),
            ("/srv/venv/bin/gunicorn app:app", "gunicorn"),
            ("python3 -m gunicorn app:app", "gunicorn"),
            ("bundle exec puma -C config/puma.rb", "puma"),
            ("bin/rails server", "puma"),
            ("php bin/hyperf.php start", "swoole"),
            ("php artisan octane:start --server=swoole", "swoole"),
            ("opsdeck sample --tree fpm", "php-fpm"),
        ] {
            assert_eq!(guessed(line), Some(profile), "{line}");
        }
    }

    #[test]
    fn other_commands_tell_nothing() {
        for line in
            ["php bin/worker.php", "sh -c true", "tail -f --name=nginx", "node server.js", ""]
        {
            assert_eq!(guessed(line), None, "{line}");
        }
    }
}

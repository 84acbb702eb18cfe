//! `profile = "auto"`: which server it is, as far as the words of its command tell, or once it runs its tree.

/// A guess, and the word it goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guess {
    pub(super) profile: &'static str,
    pub(super) because: String,
}

/// Looks at the words of a command; `None`: they tell nothing.
pub(super) fn guess(command: &[String]) -> Option<Guess> {
    if leads_another(command) {
        return None;
    }
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

/// Looks at the first process of a tree, and at those below it that are called as it is: by their arguments and
/// by the titles that they have given themselves.
pub(super) fn guess_of_tree(leader: &[String], kin: &[Vec<String>]) -> Option<Guess> {
    let titled = |words: &[String]| {
        let title = words.first()?;
        Some(Guess { profile: by_title(title)?, because: title.clone() })
    };
    if leads_another(leader) {
        return None;
    }
    titled(leader).or_else(|| guess(leader)).or_else(|| kin.iter().find_map(|it| titled(it)))
}

/// Laravel's Octane and Hyperf's watcher lead the server as a child of their own, and catch no signal of Swoole's.
fn leads_another(command: &[String]) -> bool {
    command
        .iter()
        .any(|it| ["octane:start", "octane:swoole", "server:watch"].contains(&it.as_str()))
}

/// setproctitle of nginx, php-fpm and gunicorn, Puma's, Hyperf's InitProcessTitleListener, Tars-PHP.
fn by_title(title: &str) -> Option<&'static str> {
    const STARTS: [(&str, &str); 4] = [
        ("nginx: ", "nginx"),
        ("php-fpm: ", "php-fpm"),
        ("gunicorn: ", "gunicorn"),
        ("puma: cluster worker", "puma"),
    ];
    let by_start = STARTS.iter().find(|it| title.starts_with(it.0)).map(|it| it.1);
    // `puma 6.4.2 (tcp://0.0.0.0:9292) [shop]`
    let version = title.strip_prefix("puma ").and_then(|it| it.chars().next());
    let by_start = by_start.or(version.filter(char::is_ascii_digit).map(|_| "puma"));
    let number = title.rsplit_once('.').filter(|it| it.1.bytes().all(|it| it.is_ascii_digit()));
    let is_hyperf = title.ends_with(".Master")
        || title.ends_with(".Manager")
        || number.is_some_and(|it| it.0.ends_with(".Worker") || it.0.ends_with(".TaskWorker"));
    let is_tars = title.ends_with(": master process") || title.ends_with(": manager process");
    by_start.or((is_hyperf || is_tars).then_some("swoole"))
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
        "swoft" | "laravels" => Some("swoole"),
        it if is_fpm(it) => Some("php-fpm"),
        it if it.contains("swoole") => Some("swoole"),
        _ => None,
    }
}

fn by_pair(first: &str, second: &str) -> Option<&'static str> {
    match (first, second) {
        ("-m", "gunicorn") => Some("gunicorn"),
        (_, "server" | "s") if is_called(first, "rails") => Some("puma"),
        // Its other commands are no servers; `server:watch` starts one again and again, and is none.
        (_, "start") if is_called(first, "hyperf.php") => Some("swoole"),
        ("--tree", "swoole") => Some("swoole"),
        ("--tree", "fpm") => Some("php-fpm"),
        _ => None,
    }
}

/// `php-fpm`, `php-fpm8.2`; not `php-fpm_exporter`.
fn is_fpm(name: &str) -> bool {
    let version = name.strip_prefix("php-fpm");
    version.is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit() || it == b'.'))
}

fn is_called(word: &str, name: &str) -> bool {
    word.rsplit('/').next() == Some(name)
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
            ("opsdeck sample --tree fpm", "php-fpm"),
        ] {
            assert_eq!(guessed(line), Some(profile), "{line}");
        }
    }

    #[test]
    fn a_tree_tells_what_its_command_does_not() {
        let words = |it: &str| -> Vec<String> { it.split('|').map(str::to_owned).collect() };
        let told = |leader: &str, kin: &[&str]| {
            let kin: Vec<_> = kin.iter().map(|it| words(it)).collect();
            guess_of_tree(&words(leader), &kin).map(|it| it.profile)
        };
        for (leader, kin, profile) in [
            ("nginx: master process /usr/sbin/nginx", vec![], Some("nginx")),
            ("php-fpm: master process (/etc/fpm.conf)", vec![], Some("php-fpm")),
            ("gunicorn: master [app:app]", vec![], Some("gunicorn")),
            ("puma 7.0.1 (tcp://0.0.0.0:9292) [shop]", vec![], Some("puma")),
            ("puma-dev", vec![], None),
            ("php|bin/hyperf.php|start", vec![], Some("swoole")),
            ("php|server.php", vec!["shop.Worker.0"], Some("swoole")),
            ("App.Server: master process", vec![], Some("swoole")),
            ("php|server.php", vec!["php|server.php"], None),
            ("php|bin/hyperf.php|server:watch", vec!["shop.Master"], None),
            ("sh|run.sh", vec!["1.2.3"], None),
        ] {
            assert_eq!(told(leader, &kin), profile, "{leader}");
        }
    }

    #[test]
    fn other_commands_tell_nothing() {
        for line in [
            "php bin/worker.php",
            "sh -c true",
            "tail -f --name=nginx",
            "node server.js",
            "",
            "php artisan octane:start --server=swoole",
            "php artisan octane:swoole --port=8000",
            "php bin/hyperf.php queue:work",
            "php bin/hyperf.php server:watch",
            "php bin/hyperf.php migrate",
            "/usr/local/bin/php-fpm_exporter server",
        ] {
            assert_eq!(guessed(line), None, "{line}");
        }
    }
}

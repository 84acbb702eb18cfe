//! Whose a process is, as far as what it says of itself is to be believed.
//!
//! What runs in a container has pids of its own, and what it says is meant for a daemon in there: it is nobody's here.

/// The real and the effective user of a process.
pub type Users = [u32; 2];

/// Of a process that lives among our pids; `None` for one in a container, and one that cannot be read.
pub(super) fn users_of(pid: i32) -> Option<Users> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// Of `/proc/PID/status`, proc_pid_status(5). It has a pid in each namespace, from ours down to its own.
fn parse(status: &str) -> Option<Users> {
    let line = |name| status.lines().find_map(|it| it.strip_prefix(name));
    if line("NSpid:").is_some_and(|it| it.split_whitespace().nth(1).is_some()) {
        return None;
    }
    let mut numbers = line("Uid:")?.split_whitespace();
    Some([numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?])
}

/// Whether a process of these users may say that it belongs to what runs as `user`.
pub fn may_say(users: Users, user: Option<u32>) -> bool {
    let us = nix::unistd::Uid::effective().as_raw();
    users.iter().all(|it| *it == 0 || *it == us || Some(*it) == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_in_a_container_is_nobodys_here() {
        let status = "Name:\tsleep\nUid:\t7\t0\t0\t0\nNSpid:\t4711\nVmPeak:\t1 kB\n";
        assert_eq!(parse(status), Some([7, 0]));
        assert_eq!(parse(&status.replace("4711", "4711\t12")), None);
        assert_eq!(parse("Name:\tsleep\n"), None);
    }

    #[test]
    fn only_its_own_user_and_we_may_say_that_they_belong_to_something() {
        let us = nix::unistd::Uid::effective().as_raw();
        assert_eq!(users_of(std::process::id().cast_signed()), Some([us, us]));
        for users in [[us, us], [0, us], [4321, 4321], [4321, 0]] {
            assert!(may_say(users, Some(4321)), "{users:?}");
        }
        for user in [None, Some(4322)] {
            // Whoever starts a program that becomes root has made its environment.
            assert!(!may_say([4321, 4321], user) && !may_say([4321, 0], user));
        }
    }
}

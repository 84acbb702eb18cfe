//! The helper is this test binary, told to run only [`the_helper`].

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::*;
use crate::process::spawn::{Output, Spawned, spawn};

const MARK: &str = "exec-as";

/// Not a promise of its own: as a helper it must not come back from becoming the program.
#[test]
fn the_helper() {
    let mut arguments = std::env::args_os().skip_while(|it| it != MARK);
    if arguments.next().is_some() {
        let code = main(arguments);
        assert_eq!(code, ExitCode::from(127));
        std::process::exit(127);
    }
}

pub(in crate::process) fn helper() -> Vec<String> {
    let program = std::env::current_exe().unwrap().display().to_string();
    let mut helper = vec![program];
    helper.extend(
        ["--exact", "process::exec_as::tests::the_helper", "--nocapture", "--"].map(str::to_owned),
    );
    helper.push(MARK.to_owned());
    helper
}

fn switch() -> Switch {
    Switch { helper: helper(), ..Switch::default() }
}

/// Runs a program through the helper to its end: its code, its verdict, its last line.
fn run(switch: &Switch, argv: &[&str], directory: Option<&Path>) -> (i32, Verdict, String) {
    let argv: Vec<_> = argv.iter().map(|it| (*it).to_owned()).collect();
    let environment = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let (reader, writer) = io::pipe().unwrap();
    let launch = Launch {
        argv: &argv,
        directory,
        environment: &environment,
        output: Output::Descriptor(writer.as_fd()),
        passed: &[],
        switch: Some(switch),
        cgroup: None,
    };
    let mut spawned = spawn(&launch).unwrap();
    drop(writer);
    let text = read_all(reader);
    let code = wait(&spawned);
    let verdict = spawned.refusal.as_mut().unwrap().verdict();
    (code, verdict, text.lines().last().unwrap_or_default().to_owned())
}

fn read_all(mut pipe: PipeReader) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    text
}

fn wait(spawned: &Spawned) -> i32 {
    let id = WaitId::PidFd(spawned.pidfd.as_fd());
    waitid(id, WaitIdOptions::EXITED).unwrap().unwrap().exit_status().unwrap()
}

fn refused(switch: &Switch, argv: &[&str], directory: Option<&Path>) -> (String, Option<i32>) {
    match run(switch, argv, directory) {
        (127, Verdict::Refused(source), _) => (source.to_string(), source.errno()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_program_has_user_groups_limits_umask_and_no_new_privileges() {
    let limit = |resource: &str, soft, hard| Limit { resource: resource.to_owned(), soft, hard };
    let mut wanted = switch();
    wanted.limits = vec![limit("nofile", 64, 128), limit("core", 0, 0)];
    wanted.umask = Some(0o027);
    wanted.no_new_privileges = true;
    let mut script = "echo $(umask) $(ulimit -Sn) $(ulimit -Hn) $(ulimit -Sc) \
        $(grep NoNewPrivs /proc/self/status)"
        .to_owned();
    let mut expected = "0027 64 128 0 NoNewPrivs: 1".to_owned();
    if Uid::effective().is_root() {
        wanted.user = Some("nobody".to_owned());
        script += " $(id -u) $(id -G) $USER $HOME";
        let account = User::from_name("nobody").unwrap().unwrap();
        let (uid, gid, home) = (account.uid, account.gid, account.dir.display());
        expected = format!("{expected} {uid} {gid} nobody {home}");
    }

    let (code, verdict, line) = run(&wanted, &["sh", "-c", &script], Some(Path::new("/")));

    assert_eq!((code, line), (0, expected));
    assert!(matches!(verdict, Verdict::Executed), "{verdict:?}");
}

#[test]
fn the_program_has_the_capabilities_that_are_kept_and_gets_no_other() {
    let mut wanted = switch();
    wanted.capabilities = Some(vec![("CAP_KILL".to_owned(), 5)]);
    let script = "grep -E 'Cap(Prm|Eff|Bnd|Amb)' /proc/self/status | tr -d '\\n\\t'";
    let argv = ["sh", "-c", script];
    use rustix::thread::CapabilitySet;
    let own = rustix::thread::capabilities(None).unwrap().effective;
    // A container may have root without them.
    if own.contains(CapabilitySet::SETPCAP) && !own.contains(CapabilitySet::KILL) {
        return;
    }
    if !own.contains(CapabilitySet::SETPCAP) {
        let (message, errno) = refused(&wanted, &argv, None);
        assert_eq!(message, "could not take capabilities away: operation not permitted");
        assert_eq!(errno, Some(libc::EPERM));
        return;
    }
    let kept = "0000000000000020";
    let all = format!("CapPrm:{kept}CapEff:{kept}CapBnd:{kept}CapAmb:{kept}");
    assert_eq!(run(&wanted, &argv, None).2, all, "as root");
    wanted.user = Some("nobody".to_owned());
    assert_eq!(run(&wanted, &argv, None).2, all, "as another user");
    wanted.capabilities = Some(vec![]);
    assert_eq!(run(&wanted, &argv, None).2, all.replace('2', "0"), "none at all");
}

#[test]
fn the_program_finds_its_own_pid_in_a_variable() {
    let mut wanted = switch();
    wanted.pid_variable = Some("LISTEN_PID".to_owned());
    let (code, _, line) = run(&wanted, &["sh", "-c", "echo $LISTEN_PID = $$"], None);
    let (named, own) = line.split_once(" = ").unwrap();
    assert_eq!((code, named), (0, own));
}

#[test]
fn a_code_of_the_program_is_its_own_whatever_it_is() {
    for expected in [0, 126, 127] {
        let (code, verdict, _) = run(&switch(), &["sh", "-c", &format!("exit {expected}")], None);
        assert_eq!(code, expected);
        assert!(matches!(verdict, Verdict::Executed), "{verdict:?}");
    }
}

#[test]
fn signals_are_at_their_defaults_in_the_program() {
    let script = "grep SigIgn /proc/self/status";
    let (_, _, line) = run(&switch(), &["sh", "-c", script], None);
    assert_eq!(line, "SigIgn:\t0000000000000000");
}

#[test]
fn what_cannot_be_switched_or_executed_is_told() {
    let nobody = Switch { user: Some("no such user".to_owned()), ..switch() };
    let group = Switch { user: Some("0:no such group".to_owned()), ..switch() };
    let limits = vec![Limit { resource: "colour".to_owned(), soft: 1, hard: 1 }];
    let unknown = Switch { limits, ..switch() };
    let nowhere = Path::new("/nowhere/x");
    let cases = [
        (
            refused(&nobody, &["true"], None),
            "could not run as no such user: there is no such user on this host",
            libc::ENOENT,
        ),
        (
            refused(&group, &["true"], None),
            "could not run as 0:no such group: there is no such group on this host",
            libc::ENOENT,
        ),
        (
            refused(&unknown, &["true"], None),
            "exec-as does not know \"--limit colour\"",
            libc::EINVAL,
        ),
        (
            refused(&switch(), &["true"], Some(nowhere)),
            "could not enter /nowhere/x: no such file or directory",
            libc::ENOENT,
        ),
        (
            refused(&switch(), &["zzz"], None),
            "could not execute zzz: not found in PATH (/usr/bin:/bin)",
            libc::ENOENT,
        ),
        (
            refused(&switch(), &["/dev/null"], None),
            "could not execute /dev/null: permission denied",
            libc::EACCES,
        ),
    ];
    for ((message, errno), expected, number) in cases {
        assert_eq!((message.as_str(), errno), (expected, Some(number)));
    }
}

#[test]
fn only_root_may_switch() {
    if !Uid::effective().is_root() {
        let root = Switch { user: Some("root".to_owned()), ..switch() };
        let (message, errno) = refused(&root, &["true"], None);
        assert_eq!(message, "could not run as root: opsdeck must run as root to switch users");
        assert_eq!(errno, Some(libc::EPERM));
        return;
    }
    // As nobody, through two helpers: the second one may not switch back.
    let nobody = Switch { user: Some("nobody".to_owned()), ..switch() };
    let mut second = helper();
    second.extend(["--user", "root", "--", "true"].map(str::to_owned));
    let second: Vec<_> = second.iter().map(String::as_str).collect();
    let (code, _, line) = run(&nobody, &second, None);
    assert_eq!(code, 127);
    assert_eq!(line, "could not run as root: opsdeck must run as root to switch users");
}

#[test]
fn the_command_line_is_read_back_as_it_was_written() {
    let switch = Switch {
        user: Some("deploy:www".to_owned()),
        limits: vec![Limit { resource: "nofile".to_owned(), soft: 1, hard: u64::MAX }],
        umask: Some(0o22),
        no_new_privileges: true,
        capabilities: Some(vec![("CAP_KILL".to_owned(), 5), ("CAP_BPF".to_owned(), 39)]),
        pid_variable: Some("LISTEN_PID".to_owned()),
        helper: vec!["/proc/self/exe".to_owned(), "exec-as".to_owned()],
    };
    let argv = ["php", "--", "--user"].map(str::to_owned);
    let launch = Launch {
        argv: &argv,
        directory: Some(Path::new("/srv/a b")),
        environment: &[],
        output: Output::Null,
        passed: &[],
        switch: Some(&switch),
        cgroup: None,
    };

    let request = parse(switch.argv(&launch).into_iter().skip(2)).unwrap();

    let expected = Request {
        report: Some(3),
        user: Some("deploy:www".to_owned()),
        limits: vec![("nofile".to_owned(), 1, u64::MAX)],
        umask: Some(0o22),
        no_new_privileges: true,
        capabilities: Some(vec![("CAP_KILL".to_owned(), 5), ("CAP_BPF".to_owned(), 39)]),
        pid_variable: Some("LISTEN_PID".to_owned()),
        directory: Some("/srv/a b".into()),
        argv: argv.to_vec(),
    };
    assert_eq!(request, expected);
}

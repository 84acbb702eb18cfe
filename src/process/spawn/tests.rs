//! Both ways of starting a child are held to the same promises.

use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::*;
use crate::process::alone::alone;
use crate::process::preflight::{Disposition, disposition};

const WAYS: [Way; 2] = [Way::Clone3, Way::PosixSpawn];

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|it| (*it).to_owned()).collect()
}

fn base() -> Vec<(String, String)> {
    vec![("PATH".to_owned(), "/nowhere:/usr/bin:/bin".to_owned())]
}

fn launch<'a>(argv: &'a [String], environment: &'a [(String, String)]) -> Launch<'a> {
    Launch {
        argv,
        directory: None,
        environment,
        output: Output::Null,
        passed: &[],
        switch: None,
        cgroup: None,
    }
}

/// Exit code, or 1000 and the signal.
fn wait(spawned: &Spawned) -> i32 {
    let id = WaitId::PidFd(spawned.pidfd.as_fd());
    let status = waitid(id, WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status().unwrap_or_else(|| 1000 + status.terminating_signal().unwrap())
}

fn read_all(mut pipe: PipeReader) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    text
}

/// Runs a shell script to its end; its exit code and output.
fn shell(way: Way, script: &str, adjust: impl Fn(&mut Launch<'_>)) -> (i32, String) {
    let (argv, environment) = (words(&["sh", "-c", script]), base());
    let (reader, writer) = io::pipe().unwrap();
    let mut launch = launch(&argv, &environment);
    launch.output = Output::Descriptor(writer.as_fd());
    adjust(&mut launch);
    let spawned = spawn_by(way, &launch).unwrap();
    drop(writer);
    let text = read_all(reader);
    (wait(&spawned), text)
}

fn refusal(way: Way, argv: &[&str], adjust: impl Fn(&mut Launch<'_>)) -> SpawnError {
    let (argv, environment) = (words(argv), base());
    let mut launch = launch(&argv, &environment);
    adjust(&mut launch);
    spawn_by(way, &launch).unwrap_err()
}

#[test]
fn this_kernel_knows_the_faster_way() {
    // Else the tests below prove nothing about it.
    assert!(can_enter_cgroups());
}

#[test]
fn a_child_gets_its_arguments_environment_and_directory_and_nothing_else() {
    for way in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let environment = [("PATH", "/usr/bin:/bin"), ("GREETING", "good morning")];
        let environment = environment.map(|(a, b)| (a.to_owned(), b.to_owned()));
        let argv =
            words(&["sh", "-c", "echo \"$0 $1\"; pwd; env | grep -v '^_=\\|^PWD='", "a b", "c"]);
        let (reader, writer) = io::pipe().unwrap();
        let launch = Launch {
            directory: Some(&folder),
            output: Output::Descriptor(writer.as_fd()),
            ..launch(&argv, &environment)
        };

        let spawned = spawn_by(way, &launch).unwrap();
        drop(writer);

        let expected =
            format!("a b c\n{}\nPATH=/usr/bin:/bin\nGREETING=good morning\n", folder.display());
        let (mut seen, mut wanted): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        let text = read_all(reader);
        seen.extend(text.lines());
        wanted.extend(expected.lines());
        seen[2..].sort_unstable();
        wanted[2..].sort_unstable();
        assert_eq!(seen, wanted, "{way:?}");
        assert_eq!(wait(&spawned), 0);
    }
}

#[test]
fn exits_are_told_apart() {
    for way in WAYS {
        for (script, expected) in [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 1009)] {
            assert_eq!(shell(way, script, |_| {}).0, expected, "{way:?}: {script}");
        }
    }
}

#[test]
fn a_child_leads_its_own_session() {
    for way in WAYS {
        // Fields 1, 5 and 6: pid, process group, session.
        let (_, text) = shell(way, "cut -d' ' -f1,5,6 /proc/$$/stat", |_| {});
        let numbers: Vec<_> = text.split_whitespace().collect();
        assert!(numbers[0] == numbers[1] && numbers[0] == numbers[2], "{way:?}: {text}");
    }
}

#[test]
fn a_child_inherits_no_descriptor_of_ours() {
    for way in WAYS {
        let leaked = fs::File::open("/").unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();

        assert!(leaked.as_raw_fd() < 100);
        let script = "it=0; while [ $it -lt 100 ]; do
            [ -e /proc/$$/fd/$it ] && echo $it; it=$((it + 1)); done";
        let (_, text) = shell(way, script, |_| {});

        assert_eq!(text, "0\n1\n2\n", "{way:?}");
        let (_, input) = shell(way, "readlink /proc/$$/fd/0", |_| {});
        assert_eq!(input, "/dev/null\n", "{way:?}");
    }
}

#[test]
fn passed_descriptors_become_3_and_4_whatever_their_numbers_are() {
    for way in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let files = ["first", "second"].map(|name| {
            fs::write(folder.path().join(name), name).unwrap();
            fs::File::open(folder.path().join(name)).unwrap()
        });
        // Descending numbers: each target is the source of the other where they are small.
        let mut passed = [files[0].as_fd(), files[1].as_fd()];
        passed.sort_by_key(|it| std::cmp::Reverse(it.as_raw_fd()));

        let argv = words(&["sh", "-c", "cat <&3; cat <&4; test ! -e /proc/$$/fd/5"]);
        let environment = base();
        let (reader, writer) = io::pipe().unwrap();
        let launch = Launch {
            output: Output::Descriptor(writer.as_fd()),
            passed: &passed,
            ..launch(&argv, &environment)
        };
        let spawned = spawn_by(way, &launch).unwrap();
        drop(writer);

        assert_eq!((wait(&spawned), read_all(reader).as_str()), (0, "secondfirst"), "{way:?}");
    }
}

#[test]
fn a_socket_is_passed_through_the_helper_with_the_pid_that_it_is_for() {
    let mut switch =
        Switch { helper: crate::process::exec_as::tests::helper(), ..Switch::default() };
    switch.pid_variable = Some("LISTEN_PID".to_owned());
    for way in WAYS {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (argv, environment) = (
            words(&["sh", "-c", "echo $LISTEN_PID = $$; stat -L -c %F - <&3; ls /proc/$$/fd"]),
            base(),
        );
        let (reader, writer) = io::pipe().unwrap();
        let launch = Launch {
            output: Output::Descriptor(writer.as_fd()),
            passed: &[socket.as_fd()],
            switch: Some(&switch),
            ..launch(&argv, &environment)
        };
        let spawned = spawn_by(way, &launch).unwrap();
        drop(writer);
        let text = read_all(reader);
        let pid = spawned.identity.pid;
        assert!(text.ends_with(&format!("{pid} = {pid}\nsocket\n0\n1\n2\n3\n")), "{way:?}: {text}");
        assert_eq!(wait(&spawned), 0);
    }
}

#[test]
fn output_and_error_are_the_fifo_opened_for_both() {
    for way in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web1");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let ours = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let inode = ours.metadata().unwrap().ino();
        let argv =
            words(&["sh", "-c", "stat -L -c %i /proc/$$/fd/1; grep flags /proc/$$/fdinfo/2 >&2"]);
        let environment = base();
        let launch = Launch { output: Output::Fifo(&path), ..launch(&argv, &environment) };

        let spawned = spawn_by(way, &launch).unwrap();

        assert_eq!(wait(&spawned), 0);
        let mut bytes = [0; 200];
        let length = (&ours).read(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]);
        // O_RDWR is 2; O_LARGEFILE may be beside it.
        assert!(text.starts_with(&format!("{inode}\nflags:")), "{way:?}: {text}");
        assert!(text.ends_with("2\n"), "{way:?}: {text}");
    }
}

#[test]
fn a_program_is_looked_up_by_the_path_it_will_see() {
    for way in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("greet");
        fs::write(&program, "#!/bin/sh\necho hello\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("/nowhere:{}:/bin", folder.path().display());
        let environment = [("PATH".to_owned(), path)];
        let argv = words(&["greet"]);

        let spawned = spawn_by(way, &launch(&argv, &environment)).unwrap();

        assert_eq!(wait(&spawned), 0, "{way:?}");
    }
}

#[test]
fn what_cannot_be_executed_is_told_with_its_path_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let plain = place("plain", "#!/bin/sh\n", 0o644);
    let script = place("script", "#!/opt/none -x\n", 0o755);
    let windows = place("windows", "#!/bin/sh\r\n", 0o755);
    let data = place("data", "hello", 0o755);
    let missing = folder.path().join("missing").display().to_string();
    let cases = [
        ("zzz", libc::ENOENT, "could not execute zzz: not found in PATH (/nowhere:/usr/bin:/bin)"),
        (&missing, libc::ENOENT, "could not execute DIR/missing: no such file or directory"),
        (&plain, libc::EACCES, "could not execute DIR/plain: permission denied"),
        (
            &script,
            libc::ENOENT,
            "could not execute DIR/script: its interpreter /opt/none was not found",
        ),
        (
            &windows,
            libc::ENOENT,
            "could not execute DIR/windows: its interpreter /bin/sh\\r was not found",
        ),
        (
            &data,
            libc::ENOEXEC,
            "could not execute DIR/data: it is no program: no binary for this machine, and no #! line",
        ),
        ("/", libc::EACCES, "could not execute /: permission denied"),
    ];
    for way in WAYS {
        for (program, errno, message) in cases {
            let refused = refusal(way, &[program], |_| {});
            let text = refused.to_string().replace(&folder.path().display().to_string(), "DIR");
            assert_eq!((text.as_str(), refused.errno()), (message, Some(errno)), "{way:?}");
            assert!(!refused.is_passing());
        }
    }
}

#[test]
fn a_file_in_the_path_that_is_not_executable_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("greet"), "").unwrap();
    let search = folder.path().display().to_string();
    let refused = find_program("greet", Some(&search), None).unwrap_err();
    let expected = format!("could not execute {search}/greet: permission denied");
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn a_directory_that_is_missing_or_none_is_told() {
    for way in WAYS {
        for (path, reason) in
            [("/nowhere/x", "no such file or directory"), ("/dev/null", "not a directory")]
        {
            let refused = refusal(way, &["sh"], |it| it.directory = Some(Path::new(path)));
            assert_eq!(refused.to_string(), format!("could not enter {path}: {reason}"), "{way:?}");
        }
    }
}

#[test]
fn an_output_that_cannot_be_opened_is_told() {
    for way in WAYS {
        let refused =
            refusal(way, &["sh"], |it| it.output = Output::Fifo(Path::new("/nowhere/web1")));
        assert_eq!(
            refused.to_string(),
            "could not open /nowhere/web1 for the output: no such file or directory",
            "{way:?}"
        );
    }
}

#[test]
fn what_no_program_can_be_given_is_told() {
    for way in WAYS {
        assert_eq!(refusal(way, &[], |_| {}).to_string(), "the command is empty");
        assert_eq!(refusal(way, &[""], |_| {}).to_string(), "the command is empty");
        let refused = refusal(way, &["sh", "a\0b"], |_| {});
        assert_eq!(refused.to_string(), r#"a NUL byte cannot be passed to a program: "a\\0b""#);
    }
}

#[test]
fn a_refused_child_leaves_no_zombie() {
    alone("process::spawn::tests::a_refused_child_leaves_no_zombie", || {
        for way in WAYS {
            refusal(way, &["/nowhere/x"], |_| {});
        }
        let answer = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        assert_eq!(answer.unwrap_err(), rustix::io::Errno::CHILD);
    });
}

#[test]
fn signals_that_we_ignore_or_block_are_not_so_in_a_child() {
    alone("process::spawn::tests::signals_that_we_ignore_or_block_are_not_so_in_a_child", || {
        use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
        for ignored in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
            #[expect(unsafe_code, reason = "no handler is installed")]
            // SAFETY: the process of this test ends with it.
            unsafe { signal(ignored, SigHandler::SigIgn) }.unwrap();
        }
        SigSet::all().thread_block().unwrap();
        for way in WAYS {
            let (argv, environment) = (words(&["sleep", "60"]), base());
            let spawned = spawn_by(way, &launch(&argv, &environment)).unwrap();
            // 32 and 33 are the C library's own; its posix_spawn leaves them ignored.
            for number in (1..=64).filter(|it| !matches!(it, 32 | 33)) {
                let seen = disposition(spawned.identity.pid, number).unwrap();
                assert_eq!(seen, Disposition::Default, "{way:?}: {number}");
            }
            crate::process::signal::send(spawned.pidfd.as_fd(), libc::SIGINT).unwrap();
            assert_eq!(wait(&spawned), 1000 + libc::SIGINT, "{way:?}");
        }
        assert!(SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM), "ours is as before");
    });
}

#[test]
fn a_child_gets_the_limit_of_descriptors_that_we_were_given() {
    alone(
        "process::spawn::tests::a_child_gets_the_limit_of_descriptors_that_we_were_given",
        || {
            use nix::sys::resource::{Resource, getrlimit, setrlimit};
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 100, hard).unwrap();
            assert_eq!(raise_descriptor_limit().unwrap(), hard);
            // More than the child may have: it is none of its business.
            let _held: Vec<_> = (0..200).map(|_| fs::File::open("/").unwrap()).collect();

            for way in WAYS {
                let (code, text) = shell(way, "ulimit -Sn; ulimit -Hn", |_| {});
                assert_eq!((code, text), (0, format!("100\n{hard}\n")), "{way:?}");
            }
            assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
        },
    );
}

#[test]
fn no_room_for_another_process_is_passing() {
    let refused = Refused { step: Step::Clone, errno: libc::EAGAIN };
    let tried = error::Tried {
        program: "/bin/sh".into(),
        directory: None,
        output: None,
        cgroup: Some("/cgroup".into()),
    };
    let refused = SpawnError::from_refused(refused, &tried);
    assert!(refused.is_passing());
    assert_eq!(
        refused.to_string(),
        "could not make a process: too many processes (see ulimit -u and pids.max)"
    );
}

#[test]
fn what_is_prepared_is_started_again_and_finds_the_program_that_is_first_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, code: i32| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        let path = path.join("which-one");
        fs::write(&path, format!("#!/bin/sh\nexit {code}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("second", 2);
    let path = ["first", "second"].map(|it| folder.path().join(it).display().to_string());
    let (argv, environment) = (words(&["which-one"]), vec![("PATH".to_owned(), path.join(":"))]);
    let prepared = Prepared::new(&launch(&argv, &environment)).unwrap();
    let code = |way| {
        // A script that was just written may still be open for writing in a child of another test.
        let started =
            std::iter::repeat_with(|| prepared.start_by(way, None, &Given::default())).take(10_000);
        wait(&started.skip_while(|it| it.is_err()).find_map(Result::ok).unwrap())
    };
    for way in WAYS {
        assert_eq!((code(way), code(way)), (2, 2), "{way:?}");
    }
    script("first", 1);
    for way in WAYS {
        assert_eq!(code(way), 1, "{way:?}");
    }
}

#[test]
fn with_an_empty_input_of_our_own_a_child_has_an_empty_one_too() {
    alone(
        "process::spawn::tests::with_an_empty_input_of_our_own_a_child_has_an_empty_one_too",
        || {
            give_up_input().unwrap();
            for way in WAYS {
                let (code, text) = shell(way, "cat; readlink /proc/self/fd/0", |_| {});
                assert_eq!((code, text.as_str()), (0, "/dev/null\n"), "{way:?}");
            }
        },
    );
}

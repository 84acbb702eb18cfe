//! Servers that somebody else starts, and whoever that is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{Deck, OPSDECK, find, output_of};

/// What stands for an init script: `ctl start NAME PORT`.
const CTL: &str = r#"#!/bin/sh
set -e
cd "$(dirname "$0")"
if [ "$1" = stop ]; then
    [ -e "$2.stoppable" ] || { echo "$2 cannot be stopped"; exit 1; }
    kill -KILL "$(cat "$2.pid")"
    exit
fi
setsid OPSDECK sample --port "$3" --work 20ms --app-version "${APP:-42}" >>"$2.out" 2>&1 </dev/null &
echo $! >"$2.new"
mv "$2.new" "$2.pid"
"#;

/// Servers that somebody else starts, and whoever that is.
pub struct Theirs {
    pub dir: TempDir,
}

impl Theirs {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("opsdeck-theirs-").tempdir().unwrap();
        let it = Self { dir };
        it.script("ctl", CTL);
        it
    }

    /// Puts a script beside their servers; `OPSDECK` in it is this program.
    pub fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::write(&path, text.replace("OPSDECK", OPSDECK)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts one as no child of anybody here, and returns its pid.
    pub fn start(&self, name: &str, port: u16) -> i32 {
        let output =
            output_of(Command::new(self.path("ctl")).args(["start", name, &port.to_string()]));
        assert!(output.status.success(), "{output:?}");
        self.pid(name)
    }

    pub fn pid(&self, name: &str) -> i32 {
        std::fs::read_to_string(self.path(&format!("{name}.pid"))).unwrap().trim().parse().unwrap()
    }

    /// One service `web` of these instances and ports.
    pub fn service(&self, instances: &[(&str, u16)], more: &str) -> String {
        let each =
            instances.iter().map(|(name, port)| format!("instance.{name} = {{ port = {port} }}\n"));
        format!(
            "[service.web]\nengine = \"pidfile\"\npidfile = {:?}\nmax_wait_time = \"20s\"\n\
             probe.readiness = {{ http.path = \"/readiness\", period = \"100ms\", timeout = \"20s\" }}\n{}{more}\n",
            self.path("{instance}.pid").display().to_string(),
            each.collect::<String>(),
        )
    }

    /// What starts them, for the configuration.
    pub fn started_by(&self) -> String {
        format!(
            "start = [{:?}, \"start\", \"{{instance}}\", \"{{port}}\"]\n",
            self.path("ctl").display().to_string()
        )
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let entries = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        for path in
            entries.map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "pid"))
        {
            let pid = std::fs::read_to_string(path).ok().and_then(|it| it.trim().parse().ok());
            if let Some(pid) = pid.filter(|it| is_sample(*it)) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// The number is not somebody else's by now.
fn is_sample(pid: i32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pid > 1 && String::from_utf8_lossy(&line).contains("\0sample\0")
}

/// Waits until an instance is this process, and ready.
#[track_caller]
pub fn wait_pid(deck: &mut Deck, name: &str, pid: i32) {
    deck.wait(&format!("{name} is pid {pid}"), |it, _| {
        find(it, name).is_some_and(|it| it.pid == Some(pid) && it.ready == Some(true))
    });
}

/// Writes a pid file as a whole: nobody sees half of it.
pub fn write_pid(path: &Path, text: &str) {
    std::fs::write(path.with_extension("new"), text).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

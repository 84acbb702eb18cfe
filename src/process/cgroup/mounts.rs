//! Where the cgroup of a process is mounted.

use std::fs;
use std::path::{Path, PathBuf};

/// A tree of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) enum Hierarchy {
    /// The one of cgroup v2.
    Unified,
    /// That of the memory controller of cgroup v1.
    Memory,
}

impl Hierarchy {
    /// The path in a line of `/proc/PID/cgroup` (`4:memory:/x`), if it is of this tree.
    fn path(self, line: &str) -> Option<&str> {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let is_ours = match self {
            Self::Unified => line.starts_with("0::"),
            Self::Memory => controllers.split(',').any(|it| it == "memory"),
        };
        is_ours.then_some(path)
    }

    /// Whether this is its mount, by what follows the ` - `: kind, source, options.
    fn is_mounted(self, mount: &str) -> bool {
        let mut fields = mount.split(' ');
        let (kind, options) = (fields.next(), fields.nth(1).unwrap_or_default());
        match self {
            Self::Unified => kind == Some("cgroup2"),
            Self::Memory => kind == Some("cgroup") && options.split(',').any(|it| it == "memory"),
        }
    }
}

/// The directory of the cgroup that a process is in, as it is mounted here.
pub(in crate::process) fn directory_of(process: &str, hierarchy: Hierarchy) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let cgroups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    locate(&mounts, &cgroups, hierarchy)
}

/// Joins `/proc/PID/cgroup` with the mounts of proc_pid_mountinfo(5).
fn locate(mounts: &str, cgroups: &str, hierarchy: Hierarchy) -> Option<PathBuf> {
    let own = cgroups.lines().find_map(|it| hierarchy.path(it))?;
    if own.split('/').any(|it| it == "..") || own.ends_with(" (deleted)") {
        return None;
    }
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let below = Path::new(own).strip_prefix(&root).ok()?;
        hierarchy
            .is_mounted(kind)
            .then(|| Path::new(&point).components().chain(below.components()).collect())
    })
}

/// Mount points have spaces and the like as `\040`.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(mounts: &str, cgroups: &str) -> Option<PathBuf> {
        super::locate(mounts, cgroups, Hierarchy::Unified)
    }

    #[test]
    fn the_memory_of_cgroup_v1_is_found_by_its_controller() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let locate = |own| super::locate(mounts, own, Hierarchy::Memory);
        let own = "9:name=systemd:/\n4:cpuset,memory:/a:b/c\n1:cpu:/x\n0::/\n";
        assert_eq!(locate(own), Some("/sys/fs/cgroup/memory/a:b/c".into()));
        assert_eq!(locate("1:cpu:/x\n0::/y\n"), None);
    }

    #[test]
    fn our_cgroup_is_found_where_it_is_mounted() {
        let hybrid = "37 31 0:38 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:42 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/x\n0::/system.slice/opsdeck.service\n";
        let expected = "/sys/fs/cgroup/unified/system.slice/opsdeck.service";
        assert_eq!(locate(hybrid, own), Some(expected.into()));
        assert_eq!(locate(hybrid, "0::/\n"), Some("/sys/fs/cgroup/unified".into()));

        let contained = "9 1 0:2 /docker/ab /sys/fs/cg\\040roup ro - cgroup2 cgroup rw\n";
        assert_eq!(locate(contained, "0::/docker/ab/x\n"), Some("/sys/fs/cg roup/x".into()));
    }

    #[test]
    fn what_is_not_mounted_or_deleted_is_none() {
        let part = "9 1 0:2 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        for own in
            ["0::/docker/abc\n", "0::/../other\n", "0::/docker/ab/x (deleted)\n", "1:cpu:/\n"]
        {
            assert_eq!(locate(part, own), None, "{own}");
        }
        assert_eq!(locate("9 1 0:2 / /sys/fs/cgroup rw - cgroup c rw\n", "0::/\n"), None);
    }
}

//! Real programs through the process runner, with the real `op-dbusd` as their stub: what they can do,
//! what they cannot, and that nothing is left of them.

mod artifact;
mod confinement;
mod limits;
mod start;
mod streams;
mod stubs;
mod tree;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use op_dbus::process::{Config, Finished, Keep, Profile, Runner, Spec};
use tempfile::TempDir;

use crate::process::PATIENCE;

/// A runner with folders of its own, and a variable by which its programs can be found in /proc.
struct Place {
    folder: TempDir,
    runner: Runner,
}

impl Place {
    fn new() -> Self {
        Self::with_cgroup(None)
    }

    fn with_cgroup(cgroup: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        fs::create_dir(folder.path().join("temporary")).unwrap();
        let runner = Runner::new(Config {
            stub: env!("CARGO_BIN_EXE_op-dbusd").into(),
            temporary: folder.path().join("temporary"),
            cgroup,
        });
        Self { folder, runner }
    }

    /// A place whose stub and programs are not root, as the programs of workers never are: the kernel
    /// does not limit the processes of root.
    fn of_nobody() -> Self {
        let mut place = Self::new();
        if !nix::unistd::getuid().is_root() {
            return place;
        }
        let nobody = nix::unistd::Uid::from_raw(60_000 + std::process::id() % 5000);
        for folder in [place.work(), place.folder.path().join("temporary")] {
            nix::unistd::chown(&folder, Some(nobody), None).unwrap();
        }
        let stub = place.beside(
            "stub",
            &format!(
                "#!/bin/sh\nexec setpriv --reuid {nobody} --regid {nobody} --clear-groups {} \"$@\"\n",
                env!("CARGO_BIN_EXE_op-dbusd")
            ),
        );
        for path in [place.folder.path(), &stub] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let temporary = place.folder.path().join("temporary");
        place.runner = Runner::new(Config { stub, temporary, cgroup: None });
        place
    }

    /// The folder in which programs run.
    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// A file beside that folder.
    fn beside(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn spec<A: Into<OsString>>(&self, argv: impl IntoIterator<Item = A>) -> Spec {
        let mut spec = Spec::new(argv, self.work());
        spec.environment.push(("OPDBUS_TEST_PLACE".into(), self.folder.path().into()));
        spec
    }

    /// A small script; `$1` and so on are `arguments`.
    fn script(&self, script: &str, arguments: &[&str]) -> Spec {
        self.spec(["/bin/sh", "-c", script, "sh"].iter().chain(arguments))
    }

    async fn run(&self, spec: Spec) -> Finished {
        let running = self.runner.start(spec).await.unwrap();
        tokio::time::timeout(PATIENCE, running.finish(Keep::default())).await.unwrap().unwrap()
    }

    /// Runs a script in a profile.
    async fn run_in(&self, profile: Profile, script: &str, arguments: &[&str]) -> Finished {
        let mut spec = self.script(script, arguments);
        spec.profile = profile;
        self.run(spec).await
    }

    /// How many processes of this place there are, without the stubs, which have no environment.
    fn processes(&self) -> usize {
        let mark = format!("OPDBUS_TEST_PLACE={}", self.folder.path().display());
        let is_ours = |environment: Vec<u8>| {
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read(entry.path().join("environ")).ok())
            .filter(|environment| is_ours(environment.clone()))
            .count()
    }

    /// What programs have left in their folders for temporary files. A stub that is ready keeps an empty
    /// folder.
    fn temporary_files(&self) -> Vec<PathBuf> {
        let entries = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        entries(&self.folder.path().join("temporary"))
            .iter()
            .flat_map(|folder| entries(folder))
            .collect()
    }

    /// Nothing is left of any program of this place.
    fn assert_nothing_is_left(&self) {
        assert_eq!(self.processes(), 0, "processes are left");
        let temporary = self.temporary_files();
        assert!(temporary.is_empty(), "{temporary:?}");
    }

    /// As [`Place::assert_nothing_is_left`], for a program that nobody waits for.
    fn wait_until_nothing_is_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.processes() > 0 || !self.temporary_files().is_empty() {
            assert!(Instant::now() < deadline, "something is left");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

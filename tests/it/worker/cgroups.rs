//! The control groups of workers and of programs in them. These tests need root, control groups of version
//! 2 and the exec service, which has no more rights here than its unit gives it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tokio::sync::Mutex;

use super::exec::{Service, call, users, who};
use super::{is_root, runs};
use crate::grpc::eventually;

/// Held by the one test that uses the group.
static GROUP: Mutex<()> = Mutex::const_new(());

/// Where control groups of version 2 are mounted.
fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts.find(|fields| fields[2] == "cgroup2").map(|fields| PathBuf::from(fields[1]))
}

fn path() -> PathBuf {
    mount().unwrap().join(format!("opdbus-{}.service", std::process::id()))
}

/// A control group that looks like a service's own; it is removed when this is dropped.
struct Group;

impl Group {
    /// `None` if control groups of version 2 cannot be made here, or not without root; says so then.
    fn make(test: &str) -> Option<Self> {
        if !is_root(test) {
            return None;
        }
        if mount().is_none_or(|_| fs::create_dir(path()).is_err()) {
            eprintln!("SKIPPED: {test} needs control groups of version 2 that can be written");
            return None;
        }
        Some(Self)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::remove_dir(path().join("exec")).ok();
        fs::remove_dir(path()).ok();
    }
}

/// Runs the exec service in the group, with the capabilities that its unit gives it.
fn in_group() -> Command {
    let unit = include_str!("../../../systemd/op-dbus-exec.service");
    let set = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let names = set.split(' ').map(|name| format!(",+{}", name.strip_prefix("CAP_").unwrap()));
    let bounding = format!("--bounding-set=-all{}", names.collect::<String>().to_lowercase());
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"echo 0 >"$0" && exec "$@""#]).arg(path().join("cgroup.procs"));
    shell.args(["setpriv", &bounding, "--inh-caps=-all", "--", env!("CARGO_BIN_EXE_op-dbusd")]);
    shell
}

/// The control group of version 2 that a process is in.
fn of(cgroup: &str) -> PathBuf {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    mount().unwrap().join(own)
}

fn number(value: &Value, name: &str) -> u32 {
    value[name].as_u64().unwrap().try_into().unwrap()
}

/// What `echo` into a file says to the user.
fn write_as(uid: u32, file: &Path) -> bool {
    let mut shell = Command::new("setpriv");
    shell.args([format!("--reuid={uid}"), "--clear-groups".to_owned()]);
    shell.args(["sh", "-c", r#"echo max >"$0""#]).arg(file).current_dir("/");
    shell.output().unwrap().status.success()
}

#[tokio::test]
async fn a_worker_has_a_control_group_in_which_programs_have_theirs() {
    let _alone = GROUP.lock().await;
    let test = "a_worker_has_a_control_group_in_which_programs_have_theirs";
    let Some(_group) = Group::make(test) else { return };
    let service = Service::start_by(in_group, 0);
    let daemon = service.daemon();
    let uid = users()[0].uid;
    let who = who(uid, &daemon).unwrap_or_else(|error| panic!("{error}\n{}", service.log()));
    let lines = who["cgroups"].as_array().unwrap().iter().filter_map(Value::as_str);
    let own = of(&lines.collect::<Vec<_>>().join("\n"));
    let group = own.parent().unwrap();
    assert_eq!(who["cgroup"], group.display().to_string());
    assert_eq!(own.file_name().unwrap(), "self");
    assert_eq!(group.parent().unwrap(), path());
    let name = group.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!("worker-{uid}-")), "{name}");
    let limits = [("memory.max", "4294967296"), ("pids.max", "1024"), ("cpu.weight", "100")];
    for (file, value) in limits.into_iter().chain([("cpu.max", "150000 100000")]) {
        let limited = fs::read_to_string(group.join(file)).is_ok_and(|held| held.trim() == value);
        let said = service.log().contains(&format!("{file} of workers is not set"));
        assert!(limited != said, "{file}: limited {limited}, said {said}\n{}", service.log());
        assert!(!write_as(uid, &group.join(file)), "the user changed {file}");
    }
    // It is there whichever controllers are.
    assert!(!write_as(uid, &group.join("cgroup.max.depth")));

    let arguments = ["StartProgram", r#"{"argv": ["sleep", "600"]}"#];
    let started = call(uid, &daemon, &arguments).unwrap();
    assert_eq!(started["report"]["cgroup"], "enforced: cgroup.kill", "{started}");
    let (worker, program) = (number(&who, "pid"), number(&started, "pid"));
    let leaf = of(&fs::read_to_string(format!("/proc/{program}/cgroup")).unwrap());
    assert_eq!(leaf.parent().unwrap(), group);
    assert_ne!(leaf, own);
    daemon.stop();
    let gone = async || !runs(worker) && !runs(program) && !group.exists();
    eventually("the worker, its program and their groups are gone", gone).await;
}

#[tokio::test]
async fn what_a_killed_exec_service_leaves_is_removed_by_the_next() {
    let _alone = GROUP.lock().await;
    let test = "what_a_killed_exec_service_leaves_is_removed_by_the_next";
    let Some(_group) = Group::make(test) else { return };
    let mut service = Service::start_by(in_group, 0);
    let daemon = service.daemon();
    let uid = users()[0].uid;
    let before = who(uid, &daemon).unwrap();
    let group = PathBuf::from(before["cgroup"].as_str().unwrap());
    service.kill();
    eventually("the worker ends", async || !runs(number(&before, "pid"))).await;
    assert!(group.exists(), "nobody is there to remove it");
    service.again();
    assert!(!group.exists(), "{}", service.log());
    let after = who(uid, &daemon).unwrap();
    assert_ne!(after["cgroup"], before["cgroup"]);
    daemon.stop();
    drop(service);
}

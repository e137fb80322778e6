//! Makes rules of the files of a profile, and confines this process to them, with Landlock. What the
//! profile is stands elsewhere.

use std::os::fd::BorrowedFd;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, openat, statat};

use crate::process::profile::{Access, Files, SYSTEM_READ, SYSTEM_WRITE, Sockets};
use crate::process::report::{Mechanism, Report, State};

/// The first version that can refuse to cut a file off.
const FILES: ABI = ABI::V3;
/// The first version that confines signals and abstract sockets.
const SCOPE: ABI = ABI::V6;

/// What a program may touch besides what every program may. A relative path is beneath the directory.
pub(super) struct Paths<'a> {
    pub(super) program: &'a Path,
    pub(super) directory: BorrowedFd<'a>,
    pub(super) temporary: &'a Path,
    pub(super) extra: Vec<(&'a Path, Access)>,
}

/// Rules that were made for a program. They are as good for the next one if it may touch the same files:
/// to look whether they are the same takes a fraction of the time that making them does.
#[derive(Default)]
pub(super) struct Rules(Option<(Key, Result<RulesetCreated, String>)>);

/// Everything that the rules depend on. A file that a rule names cannot become another one of the same
/// number, because the rule keeps it.
#[derive(PartialEq, Eq)]
struct Key {
    sockets: Sockets,
    allowed: Vec<(BitFlags<AccessFs>, Option<File>)>,
}

/// The device and the number of a file.
type File = (u64, u64);

impl Rules {
    /// Makes the rules, unless those of the last program do. It confines nothing.
    pub(super) fn prepare(&mut self, files: Files, sockets: Sockets, paths: &Paths<'_>) {
        let key = Key { sockets, allowed: allowed(files, paths) };
        if !self.0.as_ref().is_some_and(|(last, rules)| *last == key && rules.is_ok()) {
            let rules = rules(files, sockets, paths).map_err(|error| error.to_string());
            // What was exchanged between the two looks is looked at again by the next program.
            self.0 = Some((key, rules));
        }
    }

    /// Confines this process to the rules that were prepared, and says in the report how far.
    pub(super) fn confine(&self, report: &mut Report) {
        let outcome = match &self.0 {
            None => Err("no rules were made".to_owned()),
            Some((_, Err(error))) => Err(error.clone()),
            Some((_, Ok(rules))) => rules
                .try_clone()
                .map_err(|error| error.to_string())
                .and_then(|rules| rules.restrict_self().map_err(|error| error.to_string())),
        };
        let (for_files, for_scope) = match outcome {
            Ok(status) => states((status.ruleset, status.landlock)),
            Err(error) => both(&format!("Landlock: {error}")),
        };
        report.set(Mechanism::Files, for_files);
        report.set(Mechanism::Scope, for_scope);
    }
}

fn states((status, landlock): (RulesetStatus, LandlockStatus)) -> (State, State) {
    let abi = match landlock {
        LandlockStatus::Available { effective_abi, .. } if status != RulesetStatus::NotEnforced => {
            effective_abi
        }
        LandlockStatus::Available { .. } => return both("Landlock enforces nothing"),
        LandlockStatus::NotEnabled => {
            return both("the kernel has Landlock, but it is not enabled");
        }
        LandlockStatus::NotImplemented => return both("the kernel has no Landlock"),
    };
    let version = abi as i32;
    let state = |needed: ABI, lacks: &str| match abi >= needed {
        true => State::Enforced(format!("Landlock ABI {version}")),
        false => State::Unavailable(format!("Landlock ABI {version} cannot refuse {lacks}")),
    };
    (state(FILES, "to cut off files"), state(SCOPE, "signals and abstract sockets"))
}

fn both(why: &str) -> (State, State) {
    let state = State::Unavailable(why.to_owned());
    (state.clone(), state)
}

/// Each path with what is allowed beneath it.
fn each<'a>(paths: &Paths<'a>) -> impl Iterator<Item = (&'a Path, BitFlags<AccessFs>)> {
    let read = SYSTEM_READ.iter().map(|path| (Path::new(path), rights(Access::Execute)));
    let write = SYSTEM_WRITE.iter().map(|path| (Path::new(path), device_rights()));
    let own = [(paths.program, rights(Access::Execute)), (paths.temporary, rights(Access::Write))];
    let extra = paths.extra.clone().into_iter().map(|(path, access)| (path, rights(access)));
    read.chain(write).chain(own).chain(extra)
}

fn allowed(files: Files, paths: &Paths<'_>) -> Vec<(BitFlags<AccessFs>, Option<File>)> {
    let file =
        |found: rustix::io::Result<Stat>| found.ok().map(|found| (found.st_dev, found.st_ino));
    let directory = (rights(files.directory), file(fstat(paths.directory)));
    each(paths)
        .map(|(path, rights)| (rights, file(statat(paths.directory, path, AtFlags::empty()))))
        .chain([directory])
        .collect()
}

fn rules(
    files: Files,
    sockets: Sockets,
    paths: &Paths<'_>,
) -> Result<RulesetCreated, RulesetError> {
    // Each right that the kernel does not know is left out; the report goes by its version.
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .scope(Scope::from_all(SCOPE))?;
    if matches!(sockets, Sockets::None | Sockets::Unix) {
        // seccomp refuses to make such sockets; this holds for those that a program is handed.
        ruleset = ruleset.handle_access(AccessNet::from_all(ABI::V4))?;
    }
    let mut created = ruleset.create()?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    for (path, rights) in each(paths) {
        // What is not there cannot be touched either way.
        if let Ok(descriptor) = openat(paths.directory, path, flags, Mode::empty()) {
            created = created.add_rule(PathBeneath::new(descriptor, rights))?;
        }
    }
    created.add_rule(PathBeneath::new(paths.directory, rights(files.directory)))
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    match access {
        Access::Read => make_bitflags!(AccessFs::{ReadFile | ReadDir}),
        Access::Execute => AccessFs::from_read(ABI::V5),
        Access::Write => {
            AccessFs::from_all(ABI::V5) & !make_bitflags!(AccessFs::{MakeChar | MakeBlock})
        }
    }
}

fn device_rights() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | IoctlDev})
}

//! Confines this process to the files of a profile, with Landlock. What the profile is stands
//! elsewhere.

use std::os::fd::BorrowedFd;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};

use crate::process::profile::{Access, Files, SYSTEM_READ, SYSTEM_WRITE, Sockets};
use crate::process::report::{Mechanism, Report, State};

/// The first version that can refuse to cut a file off.
const FILES: ABI = ABI::V3;
/// The first version that confines signals and abstract sockets.
const SCOPE: ABI = ABI::V6;

/// What a program may touch besides what every program may.
pub(super) struct Paths<'a> {
    pub(super) program: &'a Path,
    pub(super) directory: BorrowedFd<'a>,
    pub(super) temporary: &'a Path,
    pub(super) extra: Vec<(&'a Path, Access)>,
}

/// Confines this process, and says in the report how far.
pub(super) fn confine(files: Files, sockets: Sockets, paths: &Paths<'_>, report: &mut Report) {
    let (for_files, for_scope) = match restrict(files, sockets, paths) {
        Ok(status) => states(status),
        Err(error) => {
            let state = State::Unavailable(format!("Landlock: {error}"));
            (state.clone(), state)
        }
    };
    report.set(Mechanism::Files, for_files);
    report.set(Mechanism::Scope, for_scope);
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

fn restrict(
    files: Files,
    sockets: Sockets,
    paths: &Paths<'_>,
) -> Result<(RulesetStatus, LandlockStatus), RulesetError> {
    // Each right that the kernel does not know is left out; the report goes by its version.
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .scope(Scope::from_all(SCOPE))?;
    if matches!(sockets, Sockets::None | Sockets::Unix) {
        // seccomp refuses to make such sockets; this holds for those that a program is handed.
        ruleset = ruleset.handle_access(AccessNet::from_all(ABI::V4))?;
    }
    let mut created = ruleset.create()?;
    for path in SYSTEM_READ {
        created = allow(created, Path::new(path), rights(Access::Execute))?;
    }
    for path in SYSTEM_WRITE {
        created = allow(created, Path::new(path), device_rights())?;
    }
    created = allow(created, paths.program, rights(Access::Execute))?;
    created = allow(created, paths.temporary, rights(Access::Write))?;
    for (path, access) in &paths.extra {
        created = allow(created, path, rights(*access))?;
    }
    let status = created
        .add_rule(PathBeneath::new(paths.directory, rights(files.directory)))?
        .restrict_self()?;
    Ok((status.ruleset, status.landlock))
}

/// Allows `access` beneath `path`. What is not there cannot be touched either way.
fn allow(
    created: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(descriptor) => created.add_rule(PathBeneath::new(descriptor, access)),
        Err(_) => Ok(created),
    }
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

//! One way to start a program for every agent: confined, limited, watched, and killed as a tree. It
//! does not decide who may run what; that is the caller's policy.
//!
//! # How a program starts
//!
//! [`Runner::start`] gives orders and the program's descriptors over a socket to a stub, a small process
//! of this same binary (`op-dbusd exec-stub`). The stub makes a child that limits and confines *itself*
//! and then executes the program. The stub stays: it adopts what the program leaves behind, watches the
//! limits, passes signals on, and tells the end only when nothing of the tree is left. When the socket
//! closes, because the caller dropped [`Running`] or the daemon died, it ends the tree and itself.
//!
//! A stub is started by `posix_spawn`, whose cost does not depend on how much memory the daemon has.
//! After a program that was confined, met no limit and ended by itself, its stub is kept ready for the
//! next one for a while, so that a start costs one execution and not two. System calls are filtered in
//! the stub itself, whose programs inherit the filter.
//!
//! # What holds
//!
//! * A program is an argument vector; nothing here gives a text to a shell.
//! * A program gets the descriptors 0, 1, 2, those that its caller names ([`Spec::descriptors`]) and no
//!   other, and an environment that is built up from
//!   nothing ([`environment`]).
//! * Each mechanism of the confinement is reported as enforced, as missing with the reason, or as off
//!   ([`Report`]); under [`Policy::Require`] nothing runs if one is missing.

mod artifact;
pub mod capabilities;
mod ended;
pub mod environment;
mod life;
mod output;
mod profile;
mod program;
mod readiness;
mod report;
mod runner;
mod running;
mod spec;
mod stub;
mod stubs;
mod terminal;
mod wire;

pub use artifact::{Artifact, ArtifactWriter, Bounds, Full, Space};
pub use ended::{Ended, Exit, Finished, Limit, Usage};
pub use output::{Chunk, Keep, Kept, Stream};
pub use profile::{Access, Files, Profile, Rules, Sockets};
pub use program::{find_program, search_path};
pub use report::{Mechanism, Report, State};
pub use runner::{Config, Runner};
pub use running::{Handle, Input, Mark, Running};
pub use spec::{DESCRIPTORS_MAX, Directory, Extra, Limits, Policy, Spec, Stdio, WindowSize};
pub use stub::{STUB_ARGUMENT, remove_left_over, run_stub};

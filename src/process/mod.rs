//! One way to start a program for every agent: confined, limited, watched, and killed as a tree. It
//! does not decide who may run what; that is the caller's policy.
//!
//! # How a program starts
//!
//! [`Runner::start`] starts a small process of this same binary (`op-dbusd exec-stub`) by
//! `posix_spawn`, whose cost does not depend on how much memory the daemon has, and sends it its orders
//! and the program's descriptors over a socket. The stub makes a child that limits and confines *itself*
//! and then executes the program. The stub stays: it adopts what the program leaves behind, watches the
//! limits, passes signals on, and ends only when nothing of the tree is left. When the socket closes,
//! because the caller dropped [`Running`] or the daemon died, it ends the tree.
//!
//! # What holds
//!
//! * A program is an argument vector; nothing here gives a text to a shell.
//! * A program gets the descriptors 0, 1, 2 and no other, and an environment that is built up from
//!   nothing ([`environment`]).
//! * Each mechanism of the confinement is reported as enforced, as missing with the reason, or as off
//!   ([`Report`]); under [`Policy::Require`] nothing runs if one is missing.

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
mod terminal;
mod wire;

pub use ended::{Ended, Exit, Finished, Limit, Usage};
pub use output::{Chunk, Keep, Kept, Stream};
pub use profile::{Access, Files, Profile, Rules, Sockets};
pub use program::{find_program, search_path};
pub use report::{Mechanism, Report, State};
pub use runner::{Config, Runner};
pub use running::{Handle, Input, Running};
pub use spec::{Directory, Extra, Limits, Policy, Spec, Stdio, WindowSize};
pub use stub::{STUB_ARGUMENT, run_stub};

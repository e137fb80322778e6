//! Who calls: users of this machine, each on connections of his own, for whom the kernel and the bus
//! vouch. What they may do is the policy's to say.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use nix::unistd::{User, geteuid};
use op_dbus::executor::{
    ApprovalConfig, Approver, Config, Decision, Named, Policy, Risks, Rule, ShareConfig, Who,
};
use op_dbus::proto::opdbus::v1::Risk;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The group whose members may do what administrators may.
const GROUP: u32 = 54_399;

/// One who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Root,
    /// Whose things the calls are about.
    Owner,
    /// One of the group.
    Member,
    /// Somebody else.
    Other,
    /// One whom a rule denies everything.
    Denied,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Root, Self::Owner, Self::Member, Self::Other, Self::Denied];

    /// Those who can call on this machine: only root can take the part of another user.
    pub fn here() -> Vec<Self> {
        Self::ALL.into_iter().filter(|role| role.why_not().is_none()).collect()
    }

    /// Who approves his calls.
    pub fn approver(self) -> Self {
        match self {
            Self::Owner if !geteuid().is_root() => Self::Owner,
            Self::Root => Self::Member,
            Self::Owner | Self::Member | Self::Other | Self::Denied => Self::Root,
        }
    }

    /// Why he cannot call here.
    pub fn why_not(self) -> Option<&'static str> {
        let is_self = self == Self::Owner || geteuid().is_root();
        (!is_self).then_some("only root can connect as another user")
    }

    /// The user id.
    pub fn uid(self) -> u32 {
        // The bus lets in only who has an account; every system has these.
        let name = match self {
            Self::Root => "root",
            Self::Owner if !geteuid().is_root() => return geteuid().as_raw(),
            Self::Owner => "daemon",
            Self::Member => "bin",
            Self::Other => "mail",
            Self::Denied => "nobody",
        };
        User::from_name(name).unwrap().expect(name).uid.as_raw()
    }

    /// Connects to a socket as this user.
    pub fn connect(self, socket: &Path) -> UnixStream {
        let (uid, socket) = (self.uid(), socket.to_owned());
        if uid == geteuid().as_raw() {
            return UnixStream::connect(socket).unwrap();
        }
        let is_member = self == Self::Member;
        let groups = is_member.then(|| Gid::from_raw(GROUP));
        // What a thread is, it is alone, and the kernel remembers who connected.
        let connected = thread::spawn(move || {
            let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
            set_thread_groups(groups.as_slice()).unwrap();
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
            UnixStream::connect(socket).unwrap()
        });
        connected.join().unwrap()
    }
}

/// The settings under which everybody calls: the rules of the build, one who is denied, and a group that
/// may what administrators may. Who is alone approves his own calls. No rate is limited, and more may wait
/// for approval than the calls of these tests.
pub fn config() -> Config {
    let alone = || {
        let all = Rule::for_all(Who::everybody(), Decision::Allow);
        vec![Rule { may_approve: Some(Approver::All), ..all }]
    };
    let policy = Policy::new(if geteuid().is_root() { rules() } else { alone() });
    let share = ShareConfig { per_second: [None; 5], ..ShareConfig::default() };
    let approvals = ApprovalConfig { max_per_caller: 500, ..ApprovalConfig::default() };
    Config { policy, share, approvals, ..Config::default() }
}

fn rules() -> Vec<Rule> {
    let named = |name: &str, id| vec![Named { name: name.to_owned(), id }];
    let denied = named("denied", Role::Denied.uid());
    let denied = Who { users: denied, ..Who::default() };
    let group = Who { groups: named("group", GROUP), ..Who::default() };
    let mut graver = Rule::for_all(group, Decision::Allow);
    graver.risks = Risks::AtLeast(Risk::Deploy);
    vec![Rule::for_all(denied, Decision::Deny), graver]
}

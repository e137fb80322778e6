//! Refuses system calls, with seccomp. A refused call fails with EPERM, so that a program can say what
//! it could not do; only a program for another architecture (32 bits) is killed by its first call.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use crate::process::profile::Sockets;
use crate::process::report::{Mechanism, Report, State};

/// What a confined program has no use for: other processes' memory, keys, mounts, namespaces, the
/// kernel itself, and a second way to make calls that no filter sees (`io_uring`).
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Each is a kind of namespace that `clone` could make.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// They write into the input of a terminal, as if its user had typed it.
const TERMINAL_INJECTION: [u64; 2] = [0x5412 /* TIOCSTI */, 0x541C /* TIOCLINUX */];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filter of this process and of all that it starts.
pub(super) struct Filter {
    sockets: Sockets,
    state: State,
}

impl Filter {
    /// Filters the system calls of this process from here on. It keeps what a stub needs.
    pub(super) fn install(sockets: Sockets) -> Self {
        let state = match install(sockets) {
            Ok(()) => State::Enforced("seccomp".to_owned()),
            Err(error) => State::Unavailable(format!("seccomp: {error}")),
        };
        Self { sockets, state }
    }

    pub(super) const fn sockets(&self) -> Sockets {
        self.sockets
    }

    pub(super) const fn holds(&self) -> bool {
        matches!(self.state, State::Enforced(_))
    }

    /// Says in the report what holds.
    pub(super) fn report(&self, report: &mut Report) {
        let any = self.sockets == Sockets::Any;
        let for_sockets = if any { State::Off } else { self.state.clone() };
        report.set(Mechanism::Sockets, for_sockets);
        report.set(Mechanism::SystemCalls, self.state.clone());
    }
}

fn install(sockets: Sockets) -> Result<(), Box<dyn std::error::Error>> {
    let mut refused: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let flags = |flag: libc::c_int| {
        let flag = u64::from(flag.cast_unsigned());
        rule(&[(0, SeccompCmpOp::MaskedEq(flag), flag)])
    };
    refused.insert(libc::SYS_clone, NAMESPACES.into_iter().map(flags).collect::<Result<_, _>>()?);
    let injection = |request| rule(&[(1, SeccompCmpOp::Eq, request)]);
    let injections = TERMINAL_INJECTION.into_iter().map(injection);
    refused.insert(libc::SYS_ioctl, injections.collect::<Result<_, _>>()?);
    add_sockets(&mut refused, sockets)?;
    // The flags of clone3 are in memory, which a filter does not see. Without it libc uses clone.
    let unknown: Rules = [(libc::SYS_clone3, Vec::new())].into();
    apply(refused, libc::EPERM)?;
    apply(unknown, libc::ENOSYS)?;
    #[cfg(target_arch = "x86_64")]
    apply_filter(&without_x32())?;
    Ok(())
}

fn apply(rules: Rules, errno: libc::c_int) -> Result<(), Box<dyn std::error::Error>> {
    let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::Errno(errno.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    Ok(apply_filter(&program)?)
}

/// A rule that holds if each argument (its position, how it is compared, with what) fits.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = |(argument, compare, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, compare.clone(), *value)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}

fn add_sockets(refused: &mut Rules, sockets: Sockets) -> Result<(), seccompiler::BackendError> {
    let family = |family: libc::c_int| u64::from(family.cast_unsigned());
    let other_than = |families: &[libc::c_int]| {
        let other = |of: &libc::c_int| (0, SeccompCmpOp::Ne, family(*of));
        rule(&families.iter().map(other).collect::<Vec<_>>())
    };
    let rules = match sockets {
        Sockets::Any => return Ok(()),
        // No condition: always.
        Sockets::None => Vec::new(),
        Sockets::Unix => vec![other_than(&[libc::AF_UNIX])?],
        Sockets::Internet => vec![
            other_than(&[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK])?,
            // Of netlink, only what looks up routes and addresses.
            rule(&[
                (0, SeccompCmpOp::Eq, family(libc::AF_NETLINK)),
                (2, SeccompCmpOp::Ne, u64::from(libc::NETLINK_ROUTE.cast_unsigned())),
            ])?,
        ],
    };
    refused.insert(libc::SYS_socket, rules);
    refused.insert(libc::SYS_socketpair, vec![other_than(&[libc::AF_UNIX])?]);
    Ok(())
}

/// Refuses the second numbering of all calls (x32), which some kernels know and no rule above does.
#[cfg(target_arch = "x86_64")]
fn without_x32() -> [seccompiler::sock_filter; 4] {
    const X32: u32 = 0x4000_0000;
    let word = |code: u32, jt, jf, k| seccompiler::sock_filter {
        code: code.try_into().unwrap_or_default(),
        jt,
        jf,
        k,
    };
    [
        // The number of the call is the first word of what a filter sees.
        word(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        word(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        word(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
        word(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

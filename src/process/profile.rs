//! What a program may touch, as data. How it is enforced is `stub`'s.

/// A named set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// No rules for files, sockets and system calls: the caller's own rights.
    None,
    /// Looks at a folder and changes nothing in it, nor runs anything from it.
    Read,
    /// Builds: reads a folder, writes only where [`super::Spec::extra`] says.
    Build,
    /// Runs tests: writes in its folder, and may serve on Unix sockets.
    Test,
    /// Runs a command in its folder, without network.
    Exec,
    /// Runs a command in its folder, with network.
    Network,
}

/// The rules of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The name in configurations and reports.
    pub name: &'static str,
    /// Which files; `None` means any that the caller's own rights allow.
    pub files: Option<Files>,
    /// Which sockets it may make.
    pub sockets: Sockets,
    /// Whether the system calls that a confined program has no use for are refused.
    pub filter: bool,
}

/// Which files a program may touch, besides the system's ([`SYSTEM_READ`], [`SYSTEM_WRITE`]) and a
/// folder for temporary files that is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// What it may do in the folder in which it runs.
    pub directory: Access,
}

/// What a program may do with a file or a folder and all that is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Read and execute.
    Execute,
    /// Read, execute, write, make and remove.
    Write,
}

/// Which sockets a program may make. A pair of connected Unix sockets it may always make.
///
/// A Unix socket with a path leads to services that act with the user's rights but without these rules
/// (the user's service manager, a container engine), and before Landlock ABI 9 the kernel does not
/// confine it. So only the profiles that cannot do without may have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// None.
    None,
    /// Unix sockets.
    Unix,
    /// Unix and internet sockets, and netlink for looking up routes and addresses.
    Internet,
    /// Any.
    Any,
}

impl Rules {
    /// The sockets to which the system calls are filtered, if they are filtered.
    pub(super) fn filtered(&self) -> Option<Sockets> {
        (self.filter || self.sockets != Sockets::Any).then_some(self.sockets)
    }
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Read, Self::Build, Self::Test, Self::Exec, Self::Network];

    /// The rules of this profile.
    #[must_use]
    pub const fn rules(self) -> Rules {
        match self {
            Self::None => Rules { name: "none", files: None, sockets: Sockets::Any, filter: false },
            Self::Read => confined("read", Access::Read, Sockets::None),
            Self::Build => confined("build", Access::Execute, Sockets::None),
            Self::Test => confined("test", Access::Write, Sockets::Unix),
            Self::Exec => confined("exec", Access::Write, Sockets::None),
            Self::Network => confined("network", Access::Write, Sockets::Internet),
        }
    }

    /// The profile of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.rules().name == name)
    }
}

const fn confined(name: &'static str, directory: Access, sockets: Sockets) -> Rules {
    Rules { name, files: Some(Files { directory }), sockets, filter: true }
}

/// What every confined program may read and execute. What is not there is left out.
pub(super) const SYSTEM_READ: &[&str] = &[
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/sbin",
    "/usr",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/java",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/python3",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    // What is in another process's folder stays closed by Landlock's rule for tracing.
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
];

/// What every confined program may read and write.
pub(super) const SYSTEM_WRITE: &[&str] = &[
    "/dev/full",
    "/dev/null",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];

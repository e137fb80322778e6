//! What a confined program cannot do, also as root, and what is said where the kernel cannot confine.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nix::libc;
use op_dbus::error::ErrorKind;
use op_dbus::process::{Access, Extra, Keep, Mechanism, Policy, Profile, State};
use seccompiler::{SeccompAction, SeccompFilter, apply_filter};

use super::{Place, text};

const CONFINED: [Profile; 5] =
    [Profile::Read, Profile::Build, Profile::Test, Profile::Exec, Profile::Network];

/// Says so loudly if this kernel lacks what a test is about. A newer kernel must have it.
fn kernel_confines(test: &str) -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 12) {
        eprintln!("SKIPPED: {test}: Linux {release} has no Landlock ABI 6");
    }
    version >= (6, 12)
}

#[tokio::test]
async fn everything_that_is_required_can_be_had() {
    if !kernel_confines("everything_that_is_required_can_be_had") {
        return;
    }
    let place = Place::new();
    for profile in CONFINED {
        let mut spec = place.spec(["true"]);
        (spec.profile, spec.policy) = (profile, Policy::Require);
        let running = place.runner.start(spec).await.unwrap();
        for (mechanism, state) in running.report().iter() {
            let is_enforced = matches!(state, State::Enforced(_));
            assert_eq!(
                is_enforced,
                mechanism.is_required() || mechanism_of_limits(mechanism),
                "{mechanism:?}: {state}"
            );
        }
        assert!(running.finish(Keep::default()).await.unwrap().is_success());
    }
}

fn mechanism_of_limits(mechanism: Mechanism) -> bool {
    let is_root = nix::unistd::getuid().is_root();
    mechanism == Mechanism::Memory || (mechanism == Mechanism::Processes && !is_root)
}

#[tokio::test]
async fn files_outside_are_out_of_reach() {
    if !kernel_confines("files_outside_are_out_of_reach") {
        return;
    }
    let place = Place::new();
    let secret = place.beside("secret", "secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let secret = secret.to_str().unwrap();
    let script = r#"cat "$1"; echo changed > "$1"; : > "$1.new"; rm -f "$1"; mkdir "$1.folder"; ls /root; cat /etc/shadow; true"#;
    for profile in CONFINED {
        let finished = place.run_in(profile, script, &[secret]).await;
        assert_eq!(finished.stdout.total(), 0, "{profile:?}: {}", finished.stdout.text());
        assert!(finished.stderr.text().contains("Permission denied"), "{profile:?}");
        assert_eq!(text(secret.as_ref()), "secret");
    }
    let entries = fs::read_dir(place.folder.path()).unwrap().count();
    assert_eq!(entries, 3, "something was made beside the folder");
    let finished = place.run_in(Profile::None, r#"cat "$1""#, &[secret]).await;
    assert_eq!(finished.stdout.text(), "secret");
}

#[tokio::test]
async fn a_profile_says_where_a_program_may_write() {
    if !kernel_confines("a_profile_says_where_a_program_may_write") {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.work().join("target")).unwrap();
    let script = "echo x > target/file && echo target; echo x > file && echo folder; \
                  echo x > $TMPDIR/file && echo temporary; true";
    for (profile, written) in [
        (Profile::Read, "temporary\n"),
        (Profile::Build, "target\ntemporary\n"),
        (Profile::Test, "target\nfolder\ntemporary\n"),
        (Profile::Exec, "target\nfolder\ntemporary\n"),
        (Profile::Network, "target\nfolder\ntemporary\n"),
    ] {
        let mut spec = place.script(script, &[]);
        spec.profile = profile;
        if profile == Profile::Build {
            spec.extra.push(Extra { path: place.work().join("target"), access: Access::Write });
        }
        assert_eq!(place.run(spec).await.stdout.text(), written, "{profile:?}");
    }
    let mut spec = place.spec(["true"]);
    spec.extra.push(Extra { path: place.work().join("nowhere"), access: Access::Read });
    let error = place.runner.start(spec).await.unwrap_err();
    assert_eq!(error.fact("field"), Some("extra"));
}

#[tokio::test]
async fn the_network_is_closed_but_for_one_profile() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for profile in CONFINED {
        let mut spec = place.spec([
            "bash",
            "-c",
            "exec 3<>/dev/tcp/127.0.0.1/$1 && echo connected",
            "bash",
            &port,
        ]);
        spec.profile = profile;
        let finished = place.run(spec).await;
        let is_open = profile == Profile::Network;
        assert_eq!(finished.stdout.text() == "connected\n", is_open, "{profile:?}");
        assert_eq!(finished.stderr.text().contains("Operation not permitted"), !is_open);
    }
}

#[tokio::test]
async fn sockets_are_those_of_the_profile() {
    let place = Place::new();
    let script = "use Socket; \
        print 'unix ' if socket(A, PF_UNIX, SOCK_STREAM, 0); \
        print 'pair ' if socketpair(B, C, PF_UNIX, SOCK_STREAM, 0); \
        print 'inet ' if socket(D, PF_INET, SOCK_DGRAM, 0); \
        print 'route ' if socket(E, 16, SOCK_RAW, 0); \
        print 'audit ' if socket(F, 16, SOCK_RAW, 9); \
        print 'alg ' if socket(G, 38, SOCK_SEQPACKET, 0);";
    for (profile, sockets) in [
        (Profile::Read, "pair "),
        (Profile::Build, "pair "),
        (Profile::Exec, "pair "),
        (Profile::Test, "unix pair "),
        (Profile::Network, "unix pair inet route "),
    ] {
        let mut spec = place.spec(["perl", "-e", script]);
        spec.profile = profile;
        assert_eq!(place.run(spec).await.stdout.text(), sockets, "{profile:?}");
    }
}

#[tokio::test]
async fn dangerous_system_calls_are_refused() {
    const CALLS: [libc::c_long; 11] = [
        libc::SYS_ptrace,
        libc::SYS_keyctl,
        libc::SYS_bpf,
        libc::SYS_mount,
        libc::SYS_io_uring_setup,
        libc::SYS_kexec_load,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_process_vm_readv,
    ];
    let place = Place::new();
    let script = "print syscall($_, 0, 0, 0, 0, 0, 0) < 0 ? $!{EPERM} ? 'refused ' : 'tried ' : 'done ' for map { 0 + $_ } @ARGV";
    let spec = |profile| {
        let numbers = CALLS.iter().map(ToString::to_string);
        let argv = ["perl", "-MErrno", "-e", script].map(str::to_owned).into_iter().chain(numbers);
        let mut spec = place.spec(argv);
        spec.profile = profile;
        spec
    };
    for profile in CONFINED {
        let finished = place.run(spec(profile)).await;
        assert_eq!(finished.stdout.text(), "refused ".repeat(CALLS.len()), "{finished:?}");
    }
    // Without a profile most of them reach the kernel, so the answer above was the filter's.
    let free = place.run(spec(Profile::None)).await.stdout.text();
    assert!(free.matches("refused").count() < CALLS.len() - 3, "{free}");
}

#[tokio::test]
async fn a_namespace_cannot_be_made_and_threads_can() {
    let place = Place::new();
    let script =
        "syscall($ARGV[0], $ARGV[1], 0, 0, 0, 0) == -1 or exit; print $!{EPERM} ? 'refused' : $!";
    let user_namespace = (libc::CLONE_NEWUSER | libc::SIGCHLD).to_string();
    let clone = libc::SYS_clone.to_string();
    let program = format!("my @a = map {{ 0 + $_ }} @ARGV; @ARGV = @a; {script}");
    let spec = place.spec(["perl", "-MErrno", "-e", &program, &clone, &user_namespace]);
    assert_eq!(place.run(spec).await.stdout.text(), "refused");
    // libc asks for clone3 first, which is not there for it.
    let threads = "import threading\nt = threading.Thread(target=print, args=('thread',))\nt.start()\nt.join()";
    assert_eq!(place.run(place.spec(["python3", "-c", threads])).await.stdout.text(), "thread\n");
}

#[tokio::test]
async fn other_processes_are_out_of_reach() {
    if !kernel_confines("other_processes_are_out_of_reach") {
        return;
    }
    let place = Place::new();
    let mut other = Command::new("sleep").arg("1000").env("PRIVATE", "private").spawn().unwrap();
    let pid = other.id().to_string();
    let script = "cat /proc/$1/environ; cat /proc/$1/mem; kill -9 $1 && echo killed; \
                  kill -9 $PPID && echo killed the stub; true";
    for profile in CONFINED {
        let finished = place.run_in(profile, script, &[&pid]).await;
        assert_eq!(finished.stdout.total(), 0, "{profile:?}: {}", finished.stdout.text());
        assert!(finished.is_success(), "{profile:?}: {finished:?}");
    }
    assert!(other.try_wait().unwrap().is_none(), "it was killed");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[tokio::test]
async fn no_capability_is_left() {
    let place = Place::new();
    let script = "grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs):' /proc/self/status";
    for profile in Profile::ALL {
        let none = "0000000000000000";
        let expected = format!(
            "CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t1\n"
        );
        assert_eq!(place.run_in(profile, script, &[]).await.stdout.text(), expected, "{profile:?}");
    }
}

#[tokio::test]
async fn switched_off_is_reported_as_off() {
    let place = Place::new();
    let secret = place.beside("secret", "secret");
    let mut spec = place.spec(["cat", secret.to_str().unwrap()]);
    spec.policy = Policy::Off;
    let running = place.runner.start(spec).await.unwrap();
    for (mechanism, state) in running.report().iter() {
        let is_limit = matches!(mechanism, Mechanism::Memory | Mechanism::Processes);
        assert_eq!(state == &State::Off, !is_limit, "{mechanism:?}: {state}");
    }
    assert_eq!(running.finish(Keep::default()).await.unwrap().stdout.text(), "secret");
}

/// What is started from this thread meets a kernel without Landlock.
fn without_landlock<T: Send + 'static>(run: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        let rules = [(libc::SYS_landlock_create_ruleset, Vec::new())].into();
        let refuse = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        let architecture = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).unwrap();
        let program: seccompiler::BpfProgram = filter.try_into().unwrap();
        apply_filter(&program).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run())
    });
    thread.join().unwrap()
}

#[test]
fn what_is_required_and_missing_runs_nothing() {
    without_landlock(async || {
        let place = Place::new();
        let mut spec = place.script("echo ran > file", &[]);
        spec.policy = Policy::Require;
        let error = place.runner.start(spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SandboxUnavailable);
        assert!(error.message().contains("files: the kernel has no Landlock"), "{error}");
        assert!(!place.work().join("file").exists());
        place.wait_until_nothing_is_left();
    });
}

#[test]
fn what_is_preferred_and_missing_is_reported() {
    without_landlock(async || {
        let place = Place::new();
        let running = place.runner.start(place.spec(["true"])).await.unwrap();
        let missing: Vec<_> = running.report().missing().into_iter().map(|(of, _)| of).collect();
        assert_eq!(missing, [Mechanism::Files, Mechanism::Scope]);
        let filter = running.report().state(Mechanism::SystemCalls);
        assert!(matches!(filter, State::Enforced(_)), "{filter}");
        assert!(running.finish(Keep::default()).await.unwrap().is_success());
    });
}

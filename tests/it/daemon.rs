//! The daemon as a process: how it starts, what it tells systemd, how it reloads and how it ends.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::process::{Daemon, PATIENCE, Prepared, http};

#[test]
fn it_says_when_it_is_ready_and_when_it_stops() {
    let mut daemon = Daemon::start("");
    daemon.wait_for_log("is ready after");
    daemon.signal(Signal::SIGTERM);
    let stopping = daemon.wait_for("STOPPING=1");
    assert!(stopping.contains("STATUS=stopping"), "{stopping}");
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=15000000"), "{stopping}");
    assert_eq!(daemon.wait().code(), Some(0));
    daemon.wait_for_log("every call ended");
    assert!(!daemon.metrics_socket().exists());
}

#[test]
fn an_interrupt_stops_it_as_well() {
    let mut daemon = Daemon::start("");
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn it_feeds_the_watchdog() {
    let prepared = Prepared::new("").environment("WATCHDOG_USEC", "200000");
    let daemon = prepared.start();
    let begun = Instant::now();
    for _ in 0..4 {
        daemon.wait_for("WATCHDOG=1");
    }
    // Four ticks of 100 ms, the first at once.
    assert!(begun.elapsed() > Duration::from_millis(200));
    daemon.stop();
}

#[test]
fn it_has_no_capability_that_it_does_not_need() {
    let daemon = Daemon::start("");
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // CAP_CHOWN, CAP_DAC_OVERRIDE and CAP_FOWNER, and these only for root.
    let allowed = if nix::unistd::geteuid().is_root() { 0b1011 } else { 0 };
    assert_eq!(field("CapEff:") & !allowed, 0, "{status}");
    assert_eq!(field("CapPrm:") & !allowed, 0, "{status}");
    assert_eq!(field("CapInh:"), 0, "{status}");
    assert_eq!(field("CapAmb:"), 0, "{status}");
    assert_eq!(field("NoNewPrivs:"), 1, "{status}");
}

#[test]
fn a_reload_takes_up_what_it_can_and_names_the_rest() {
    let daemon = Daemon::start("");
    daemon.write_config("[executor]\nqueue = 7\n[storage]\ndurability = \"normal\"\n");
    daemon.signal(Signal::SIGHUP);
    let reloading = daemon.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    let ready = daemon.wait_for("READY=1");
    assert!(ready.contains("warnings: 1"), "{ready}");
    daemon.wait_for_log("the new configuration is in force");
    daemon.wait_for_log("a restart is needed for storage.durability = \"normal\"");
    assert!(!daemon.log().contains("executor.queue"), "{}", daemon.log());

    // Once the key is as it was at the start, no restart is needed.
    daemon.write_config("");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("RELOADING=1");
    let ready = daemon.wait_for("READY=1");
    assert!(!ready.contains("warnings"), "{ready}");
    daemon.stop();
}

#[test]
fn a_wrong_configuration_is_refused_by_a_reload_and_changes_nothing() {
    let daemon = Daemon::start("");
    // The level is right and would silence the log, were it taken up.
    daemon.write_config("[log]\nlevel = \"error\"\n[executor]\nqueue = -7\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("RELOADING=1");
    let ready = daemon.wait_for("READY=1");
    assert!(ready.contains("the last reload was refused"), "{ready}");
    daemon.wait_for_log("50-test.toml:4:9: executor.queue: -7 is out of range");
    let log = daemon.stop();
    assert!(log.contains("has stopped"), "{log}");
}

#[test]
fn a_reload_changes_the_level_of_the_log() {
    let daemon = Daemon::start("");
    daemon.write_config("[log]\nlevel = \"error\"\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("RELOADING=1");
    daemon.wait_for("READY=1");
    let log = daemon.stop();
    assert!(!log.contains("has stopped"), "{log}");
}

#[test]
fn an_agent_that_the_build_lacks_is_a_warning() {
    let published = include_str!("../data/config/valid/published.toml");
    // All but the address, which must be that of this daemon.
    let daemon = Daemon::start(&published.replace("address =", "#address ="));
    daemon.wait_for_log("[agents] names mem0, which this build of op-dbus lacks");
    let log = daemon.stop();
    assert!(!log.contains("names probe"), "{log}");
}

#[test]
fn a_wrong_configuration_ends_with_78_and_names_the_place() {
    let cases = [
        (
            "[grpc]\nunix_mod = \"0660\"\n",
            "50-test.toml:2:1: grpc.unix_mod: there is no such key; did you mean unix_mode?",
        ),
        ("[executor]\nqueue = \"many\"\n", "50-test.toml:2:9: executor.queue: invalid type"),
        ("[dbus]\nenabled = false\n[grpc]\nenabled = false\n", "so nobody could call"),
    ];
    for (config, expected) in cases {
        let (code, _, error) = Prepared::new(config).run();
        assert_eq!(code, 78, "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_configuration_file_that_is_named_must_exist() {
    let missing = "/nonexistent/grpc.toml";
    let by_option = Prepared::new("").arguments(&["--config", missing]);
    let by_environment = Prepared::new("").arguments(&[]).environment("OP_DBUS_CONFIG", missing);
    for prepared in [by_option, by_environment] {
        let (code, _, error) = prepared.run();
        assert_eq!(code, 78, "{error}");
        assert!(error.contains("/nonexistent/grpc.toml: the file cannot be read"), "{error}");
    }
}

#[test]
fn check_config_shows_what_would_hold_and_where_it_is_set() {
    let mut prepared = Prepared::new("[executor]\nqueue = 7\n[agents]\non_demand = [\"mem0\"]\n");
    let config = prepared.folder.path().join("grpc.toml").display().to_string();
    prepared = prepared.arguments(&["--check-config", "--config", &config]);
    let state = prepared.folder.path().join("state");
    let (code, output, error) = prepared.run();
    assert_eq!(code, 0, "{error}");
    assert!(output.contains(&format!("queue = 7 # {config}.d/50-test.toml:2\n")), "{output}");
    assert!(output.contains("max_in_flight = 256 # default\n"), "{output}");
    assert!(output.contains("# Warning: [agents] names mem0"), "{output}");
    toml::from_str::<toml::Table>(&output).unwrap();
    assert!(!state.exists());

    let prepared = Prepared::new("[executor]\nqueue = -7\n");
    let config = prepared.folder.path().join("grpc.toml").display().to_string();
    let (code, output, error) = prepared.arguments(&["--check-config", "--config", &config]).run();
    assert_eq!((code, &*output), (78, ""));
    assert!(error.contains("executor.queue: -7 is out of range"), "{error}");
}

#[test]
fn a_wrong_command_line_ends_with_64() {
    for arguments in [&["--bus", "sytem"][..], &["--nonsense"], &["too", "much"]] {
        let (code, _, error) = Prepared::new("").arguments(arguments).run();
        assert_eq!(code, 64, "{error}");
    }
    let (code, output, _) = Prepared::new("").arguments(&["--version"]).run();
    assert_eq!((code, output), (0, format!("op-dbusd {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, output, _) = Prepared::new("").arguments(&["--help"]).run();
    assert_eq!(code, 0);
    assert!(output.contains("Exit codes:") && output.contains("Examples:"), "{output}");
}

#[test]
fn a_state_folder_that_cannot_be_used_ends_with_73() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below_a_file = file.path().join("state");
    for path in [file.path(), &below_a_file, "/proc/op-dbus".as_ref()] {
        let (code, _, error) = Prepared::new(&format!("[storage]\npath = {path:?}\n")).run();
        assert_eq!(code, 73, "{error}");
        assert!(error.contains(&format!("the state folder {} cannot be used", path.display())));
        assert!(error.contains("set [storage] path"), "{error}");
    }
}

#[test]
fn the_state_folder_is_made_and_private() {
    let daemon = Daemon::start("");
    let state = fs::metadata(daemon.folder.path().join("state")).unwrap();
    assert_eq!(state.permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_metrics_are_served_over_http_and_nothing_else_is() {
    let daemon = Daemon::start("");
    let socket = daemon.metrics_socket();
    let found = http(&socket, "GET", "/metrics");
    assert!(found.starts_with("HTTP/1.1 200 OK\r\n"), "{found}");
    assert!(found.contains("content-type: text/plain; version=0.0.4"), "{found}");
    assert!(found.contains("\nopdbus_calls_queued 0\n"), "{found}");
    assert_eq!(daemon.metric("opdbus_calls_queued"), Some(0.0));

    assert!(http(&socket, "GET", "/").starts_with("HTTP/1.1 404 "));
    let wrong_method = http(&socket, "POST", "/metrics");
    assert!(wrong_method.starts_with("HTTP/1.1 405 "), "{wrong_method}");
    assert!(wrong_method.contains("allow: GET, HEAD\r\n"), "{wrong_method}");
    let head = http(&socket, "HEAD", "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let long = format!("/{}", "x".repeat(64 * 1024));
    assert!(!http(&socket, "GET", &long).contains(" 200 OK"));
    assert!(http(&socket, "GET", "/metrics").starts_with("HTTP/1.1 200 OK"));
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn the_metrics_are_served_on_tcp_if_configured() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = Daemon::start(&format!("[metrics]\ntcp = \"{free}\"\n"));
    let mut stream = std::net::TcpStream::connect(free).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.contains("opdbus_calls_queued 0"), "{response}");
    daemon.stop();
}

#[test]
fn clients_that_never_speak_do_not_keep_others_from_the_metrics() {
    let daemon = Daemon::start("");
    let mut silent: Vec<_> =
        (0..20).map(|_| UnixStream::connect(daemon.metrics_socket()).unwrap()).collect();
    // There is no place until the first of them are cut off.
    let found = http(&daemon.metrics_socket(), "GET", "/metrics");
    assert!(found.starts_with("HTTP/1.1 200 OK\r\n"), "{found}");
    silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = Vec::new();
    silent[0].read_to_end(&mut said).unwrap();
}

#[test]
fn a_socket_of_a_killed_daemon_is_replaced_but_not_that_of_a_running_one() {
    let mut first = Daemon::start("");
    let metrics = first.metrics_socket();
    let same_socket = format!("[metrics]\nunix = {metrics:?}\n");
    let (code, _, error) = Prepared::new(&same_socket).run();
    assert_eq!(code, 75, "{error}");
    assert!(error.contains("another process listens there"), "{error}");
    assert!(http(&metrics, "GET", "/metrics").starts_with("HTTP/1.1 200 "));

    first.signal(Signal::SIGKILL);
    first.wait();
    assert!(metrics.exists());
    let second = Prepared::new(&same_socket).start();
    assert!(http(&metrics, "GET", "/metrics").starts_with("HTTP/1.1 200 "));
    second.stop();
}

#[test]
fn a_file_in_the_place_of_the_metrics_socket_is_left_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "precious").unwrap();
    let (code, _, error) = Prepared::new(&format!("[metrics]\nunix = {:?}\n", file.path())).run();
    assert_eq!(code, 75, "{error}");
    assert!(error.contains("a file that is no socket has this name"), "{error}");
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "precious");
}

#[test]
fn sockets_from_systemd_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.sock");
    let listener = UnixListener::bind(&path).unwrap();
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let again = || listener.try_clone().unwrap();

    Prepared::new("").socket(again(), "op-dbus.socket").start().stop();

    let daemon = Prepared::new("").socket(again(), "stranger").start();
    daemon.wait_for_log("the socket stranger that systemd passed is closed");

    let daemon = Prepared::new("").socket(again(), "grpc").environment("LISTEN_PID", "1").start();
    daemon.wait_for_log("it is meant for process 1");

    let (connected, _other_end) = UnixStream::pair().unwrap();
    let public = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let cases = [
        (Prepared::new("").socket(connected, "grpc"), "it does not listen"),
        (Prepared::new("").socket(UnixDatagram::unbound().unwrap(), "grpc"), "stream socket"),
        (Prepared::new("").socket(fs::File::open("/dev/null").unwrap(), "grpc"), "stream socket"),
        (Prepared::new("").socket(public, "grpc"), "is not a loopback address"),
        (Prepared::new("").socket(again(), "grpc").environment("LISTEN_FDS", "1000"), "at most 16"),
    ];
    for (prepared, expected) in cases {
        let (code, _, error) = prepared.run();
        assert_eq!(code, 78, "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

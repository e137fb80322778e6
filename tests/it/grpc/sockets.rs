//! Binding and giving back: stale sockets, living servers, files in the way, rights, passed sockets,
//! and how a stop goes.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::unistd::Group;
use op_dbus::call::Transport;
use op_dbus::error::ErrorKind;
use op_dbus::executor;
use op_dbus::proto::opdbus::agent::probe::v1::{SleepRequest, SleepResponse};
use op_dbus::transport::grpc::{Config, UnixSocket};

use super::{Client, SLEEP, config, eventually, place, serve, start};
use crate::fixture::Service;

fn service() -> Service {
    Service::new(executor::Config::default())
}

/// Checks that the transport does not start, with this kind of error and this in its text.
async fn check_refused(config: Config, kind: ErrorKind, texts: &[&str]) {
    let Err(error) = serve(config, &service()).await else { panic!("it started") };
    assert_eq!(error.kind(), kind, "{error}");
    for text in texts {
        assert!(error.message().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_second_server_is_refused_and_the_first_goes_on() {
    let first = start().await;
    let client = first.client().await;
    let path = first.path.display().to_string();
    check_refused(config(&first.path), ErrorKind::AlreadyExists, &[&path, "another server"]).await;
    client.ping().await;
    first.client().await.ping().await;
}

#[tokio::test]
async fn a_living_server_of_another_kind_is_not_pushed_aside() {
    let (_folder, path) = place();
    let _living = UnixListener::bind(&path).unwrap();
    check_refused(config(&path), ErrorKind::AlreadyExists, &["another server"]).await;
    let datagrams = path.with_extension("dgram");
    let _living = UnixDatagram::bind(&datagrams).unwrap();
    let text = datagrams.display().to_string();
    check_refused(config(&datagrams), ErrorKind::Unavailable, &[&text]).await;
    assert!(datagrams.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let (_folder, path) = place();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the file outlives its server");
    let service = service();
    let server = serve(config(&path), &service).await.unwrap();
    Client::unix(&path).await.ping().await;
    assert!(server.stop(Duration::from_secs(5)).await);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_no_socket_stays() {
    let (folder, path) = place();
    fs::write(&path, "precious").unwrap();
    let text = path.display().to_string();
    check_refused(config(&path), ErrorKind::AlreadyExists, &[&text, "no socket"]).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    check_refused(config(&link), ErrorKind::AlreadyExists, &["no socket"]).await;
    check_refused(config(folder.path()), ErrorKind::AlreadyExists, &["no socket"]).await;
}

#[tokio::test]
async fn places_that_cannot_be_are_named() {
    let (_folder, path) = place();
    let missing = path.join("deeper/grpc.sock");
    let text = missing.display().to_string();
    check_refused(config(&missing), ErrorKind::Unavailable, &[&text]).await;
    let long = path.with_file_name("x".repeat(120));
    check_refused(config(&long), ErrorKind::InvalidArgument, &["grpc.unix", "too long"]).await;
    let nothing = Config { unix: None, ..config(&path) };
    check_refused(nothing, ErrorKind::InvalidArgument, &["grpc.unix", "grpc.tcp"]).await;
}

#[tokio::test]
async fn mode_and_group_are_as_configured() {
    let root = nix::unistd::getuid().is_root();
    let gid = if root { 1 } else { nix::unistd::getgid().as_raw() };
    let group = Group::from_gid(gid.into()).unwrap().unwrap();
    for mode in [0o660, 0o600, 0o666] {
        let (_folder, path) = place();
        let unix = UnixSocket { path: path.clone(), mode, group: Some(group.name.clone()) };
        let service = service();
        let server = serve(Config { unix: Some(unix), ..config(&path) }, &service).await.unwrap();
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, mode);
        assert_eq!(metadata.gid(), gid);
        drop(server);
    }
    let (_folder, path) = place();
    let unix = UnixSocket { path: path.clone(), mode: 0o660, group: Some("no-such-group".into()) };
    let unknown = Config { unix: Some(unix), ..config(&path) };
    check_refused(unknown, ErrorKind::InvalidArgument, &["grpc.unix_group", "no-such-group"]).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn tcp_is_for_this_machine_only() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "[::ffff:127.0.0.1]:0"] {
        let config =
            Config { unix: None, tcp: Some(address.parse().unwrap()), ..config("unused".as_ref()) };
        check_refused(config, ErrorKind::InvalidArgument, &["grpc.tcp", "loopback"]).await;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = std::net::TcpListener::bind(taken).unwrap();
    let config = Config { unix: None, tcp: Some(taken), ..config("unused".as_ref()) };
    check_refused(config, ErrorKind::AlreadyExists, &[&taken.to_string(), "grpc.tcp"]).await;
    drop(listener);
}

fn with_inherited(inherited: Vec<OwnedFd>) -> Config {
    Config { inherited, ..config(Path::new("/nowhere/grpc.sock")) }
}

#[tokio::test]
async fn passed_sockets_are_served_and_left_in_place() {
    let (_folder, path) = place();
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let service = service();
    let server = serve(with_inherited(vec![unix.into(), tcp.into()]), &service).await.unwrap();
    Client::unix(&path).await.ping().await;
    Client::to(&format!("http://{address}")).await.ping().await;
    let transports = service.status.report().transports;
    assert_eq!(transports[0].name, Transport::Grpc.name());
    assert_eq!(transports[0].addresses, [format!("unix:{}", path.display()), address.to_string()]);
    assert!(server.stop(Duration::from_secs(5)).await);
    assert!(path.exists(), "systemd's socket is not ours to remove");
    assert!(!service.status.report().transports[0].serving);
}

#[tokio::test]
async fn passed_descriptors_that_do_not_fit_are_refused() {
    let file: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let datagram: OwnedFd = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into();
    for descriptor in [file, one.into(), datagram] {
        let config = with_inherited(vec![descriptor]);
        check_refused(config, ErrorKind::InvalidArgument, &["LISTEN_FDS", "no listening"]).await;
    }
    let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let config = with_inherited(vec![open.into()]);
    check_refused(config, ErrorKind::InvalidArgument, &["LISTEN_FDS", "loopback"]).await;
}

fn sleep(time: Duration) -> SleepRequest {
    SleepRequest { duration: Some(time.try_into().unwrap()) }
}

#[tokio::test]
async fn a_stop_lets_calls_end() {
    let running = start().await;
    let client = running.client().await;
    let call = tokio::spawn(async move {
        client.call::<_, SleepResponse>(SLEEP, sleep(Duration::from_millis(300))).await
    });
    eventually("the call runs", async || running.service.executor.metrics().running() == 1).await;
    assert_eq!(running.metric("opdbus_transport_up", "grpc"), 1.0);
    let path = running.path.clone();
    assert!(running.server.stop(Duration::from_secs(10)).await);
    assert_eq!(call.await.unwrap().unwrap().finished, 1);
    assert!(!path.exists());
    assert!(!running.service.status.report().transports[0].serving);
}

#[tokio::test]
async fn a_stop_ends_in_time_whatever_clients_do() {
    let running = start().await;
    let client = running.client().await;
    let call = tokio::spawn(async move {
        client.call::<_, SleepResponse>(SLEEP, sleep(Duration::from_secs(60))).await
    });
    // One that says nothing, and one that said hello and nothing more.
    let _silent = std::os::unix::net::UnixStream::connect(&running.path).unwrap();
    let _idle = running.client().await;
    eventually("the call runs", async || running.service.executor.metrics().running() == 1).await;
    let start = Instant::now();
    assert!(!running.server.stop(Duration::from_millis(200)).await);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    call.await.unwrap().unwrap_err();
    let metrics = running.service.executor.metrics();
    eventually("the work is dropped", async || metrics.running() == 0).await;
}

#[tokio::test]
async fn the_socket_of_a_successor_is_not_removed() {
    let running = start().await;
    fs::remove_file(&running.path).unwrap();
    let _successor = UnixListener::bind(&running.path).unwrap();
    running.server.stop(Duration::from_secs(1)).await;
    assert!(running.path.exists());
}

/// Set in the process that runs one test alone.
const ALONE: &str = "OPDBUS_TEST_ALONE";

/// In a process of its own, because the bound on descriptors is one of the whole process.
#[test]
fn a_server_out_of_descriptors_recovers() {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(run_out_of_descriptors());
    }
    let test = "grpc::sockets::a_server_out_of_descriptors_recovers";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

async fn run_out_of_descriptors() {
    use nix::sys::resource::{Resource, setrlimit};
    let running = start().await;
    let client = running.client().await;
    // Accepted for certain.
    client.ping().await;
    let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, open + 30, open + 30).unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = std::os::unix::net::UnixStream::connect(&running.path) {
        held.push(stream);
    }
    assert!(held.len() > 10);
    // The last of them wait in the kernel; the server has no descriptor for them.
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.ping().await;
    drop(held);
    running.client().await.ping().await;
}

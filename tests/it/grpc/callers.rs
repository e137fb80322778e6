//! The server knows who calls: on the Unix socket and on loopback TCP, IPv4 and IPv6.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use op_dbus::call::{Attested, Identity};
use op_dbus::proto::opdbus::v1::PingRequest;
use op_dbus::transport::grpc::Config;

use super::calls::listening;
use super::{Client, PING, config, eventually, place, raw};

/// A port that is free now.
pub fn free_port(host: &str) -> u16 {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port()
}

pub fn tcp(host: &str) -> Config {
    let address = format!("{host}:{}", free_port(host.trim_matches(['[', ']'])));
    Config { unix: None, tcp: Some(address.parse().unwrap()), ..config("unused".as_ref()) }
}

#[tokio::test]
async fn on_the_unix_socket() {
    let (_folder, path) = place();
    let heard = listening(config(&path)).await;
    Client::unix(&path).await.ping().await;
    let caller = Arc::clone(&heard.contexts.lock().unwrap()[0].caller);
    let user = Identity::User {
        uid: nix::unistd::getuid().as_raw(),
        gid: Some(nix::unistd::getgid().as_raw()),
    };
    assert_eq!(caller.identity, user);
    assert_eq!(caller.pid, Some(std::process::id()));
    assert_eq!(caller.attested, Attested::Kernel);
    assert_eq!(caller.groups.as_deref(), Some(my_groups().as_slice()));
    let process = caller.process.as_ref().unwrap();
    assert_eq!(process.pid(), std::process::id());
    let exe = process.client().unwrap().exe.clone();
    assert_eq!(exe.unwrap(), std::env::current_exe().unwrap());
    assert!(process.pidfd().is_some());
    assert!(caller.address.starts_with("unix:"), "{}", caller.address);
    let addresses = heard.status.report().transports[0].addresses.clone();
    assert_eq!(addresses, [format!("unix:{}", path.display())]);
}

/// The groups of this process, in ascending order.
pub fn my_groups() -> Vec<u32> {
    let mut groups: Vec<u32> =
        nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
    groups.push(nix::unistd::getgid().as_raw());
    groups.sort_unstable();
    groups.dedup();
    groups
}

#[tokio::test]
async fn on_loopback_tcp() {
    for host in ["127.0.0.1", "[::1]"] {
        let config = tcp(host);
        let address = config.tcp.unwrap();
        let heard = listening(config).await;
        Client::to(&format!("http://{address}")).await.ping().await;
        let caller = Arc::clone(&heard.contexts.lock().unwrap()[0].caller);
        let user = Identity::User { uid: nix::unistd::getuid().as_raw(), gid: None };
        assert_eq!(caller.identity, user, "{host}");
        assert_eq!((&caller.attested, &caller.groups), (&Attested::Kernel, &None));
        let ip = host.trim_matches(['[', ']']);
        assert!(caller.address.contains(ip) && *caller.address != *address.to_string());
        assert_eq!(heard.status.report().transports[0].addresses, [address.to_string()]);
    }
}

/// Sends bytes from standard input to a socket and stays until the first bytes of an answer.
const FOREIGN: &str = "
import socket, sys
kind, *where = sys.argv[1:]
s = socket.socket(socket.AF_UNIX if kind == 'unix' else socket.AF_INET)
s.connect(where[0] if kind == 'unix' else (where[0], int(where[1])))
s.sendall(sys.stdin.buffer.read())
while s.recv(4096): pass
";

/// Only root may start a process of another user; elsewhere this checks its own user a second time.
#[tokio::test]
async fn another_user_is_another_caller() {
    let uid = if nix::unistd::getuid().is_root() { 54_321 } else { nix::unistd::getuid().as_raw() };
    let (folder, path) = place();
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(folder.path(), open(0o755)).unwrap();
    let mut both = tcp("127.0.0.1");
    both.unix = config(&path).unix;
    if let Some(unix) = &mut both.unix {
        unix.mode = 0o666;
    }
    let port = both.tcp.unwrap().port().to_string();
    let heard = listening(both).await;
    let path = path.display().to_string();
    for (number, place) in [vec!["unix", &path], vec!["tcp", "127.0.0.1", &port]].iter().enumerate()
    {
        let mut client = Command::new("python3")
            .args(["-c", FOREIGN])
            .args(place)
            .uid(uid)
            .gid(uid)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let bytes = raw::connection_bytes(PING, "localhost", &PingRequest::default());
        client.stdin.take().unwrap().write_all(&bytes).unwrap();
        eventually("the call is heard", async || heard.contexts.lock().unwrap().len() > number)
            .await;
        client.kill().unwrap();
        client.wait().unwrap();
        assert_eq!(heard.contexts.lock().unwrap()[number].caller.uid(), Some(uid), "{place:?}");
    }
}

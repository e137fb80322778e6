//! The kernel's answers for sockets that live, that are closed, and that never were.

use std::net::{TcpListener, TcpStream};

use super::socket_owner;

/// A connection over `host`: the listener, the client's end, the server's end.
fn connection(host: &str) -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, client, server)
}

#[test]
fn a_living_socket_is_its_users() {
    for host in ["127.0.0.1", "::1"] {
        let (_listener, _client, server) = connection(host);
        let owner = socket_owner(server.peer_addr().unwrap(), server.local_addr().unwrap());
        assert_eq!(owner.unwrap(), Some(nix::unistd::getuid().as_raw()), "{host}");
    }
}

#[test]
fn a_closed_socket_is_nobodys() {
    for host in ["127.0.0.1", "::1"] {
        let (_listener, client, server) = connection(host);
        let (peer, local) = (client.local_addr().unwrap(), server.local_addr().unwrap());
        drop(client);
        // The kernel still knows it, as root's.
        assert_eq!(socket_owner(peer, local).unwrap(), None, "{host}");
        drop(server);
        assert_eq!(socket_owner(peer, local).unwrap(), None, "{host}");
    }
}

#[test]
fn a_listening_socket_is_not_taken_for_the_clients() {
    let (listener, client, _server) = connection("127.0.0.1");
    let here = listener.local_addr().unwrap();
    let mut elsewhere = client.local_addr().unwrap();
    elsewhere.set_port(if elsewhere.port() == 1 { 2 } else { 1 });
    assert_eq!(socket_owner(here, elsewhere).unwrap(), None);
    assert_eq!(socket_owner(elsewhere, here).unwrap(), None);
}

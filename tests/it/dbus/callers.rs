//! The service knows who calls on the bus: the user, his groups and his process, as the broker says.

use std::sync::Arc;

use op_dbus::call::{Attested, Identity};

use super::{MANAGER, Options, call, connect, serve};
use crate::fixture::Bus;
use crate::grpc::callers::my_groups;
use crate::grpc::calls::listening;
use crate::grpc::{config, place};

#[tokio::test]
async fn the_bus_says_who_calls() {
    let (_folder, path) = place();
    let heard = listening(config(&path)).await;
    let bus = Bus::start();
    let server = serve(&bus, &heard.executor, &heard.status).await.unwrap();
    let client = connect(&bus).await;
    for _ in 0..2 {
        let body = (vec![1_u8], Options::new());
        call(&client, MANAGER, Some("org.opdbus.Agents1"), "Ping", &body).await.unwrap();
    }
    let callers: Vec<_> =
        heard.contexts.lock().unwrap().iter().map(|context| Arc::clone(&context.caller)).collect();
    let [caller, again] = callers.as_slice() else { panic!("{callers:?}") };
    assert!(Arc::ptr_eq(caller, again), "the bus is asked once");
    let uid = nix::unistd::getuid().as_raw();
    assert_eq!(caller.identity, Identity::User { uid, gid: None });
    assert_eq!(caller.attested, Attested::Bus);
    assert_eq!(caller.groups.as_deref(), Some(my_groups().as_slice()));
    assert_eq!(*caller.address, *client.unique_name().unwrap().as_str());
    let process = caller.process.as_ref().unwrap();
    assert_eq!((caller.pid, process.pid()), (Some(std::process::id()), std::process::id()));
    assert_eq!(process.client().unwrap().exe, std::env::current_exe().ok());
    server.stop().await;
}

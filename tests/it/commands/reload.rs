//! Settings that change while a worker runs.

use nix::sys::signal::Signal;
use op_dbus::proto::opdbus::agent::commands::v1::{ListRequest, Run};
use tonic::Code;

use super::{World, ended, found, runs};
use crate::grpc::{check_error, eventually};

#[tokio::test]
async fn what_a_reload_changes_holds_for_the_next_program_of_the_same_worker() {
    let world = World::new().await;
    let sleeper = world.start_argv(&["sleep", "600"], Run::default()).await.unwrap();
    let done = world.exec(&["uname"]).await.unwrap();
    assert_eq!(ended(&done.command).code, Some(0));

    let reload = |config: &str| {
        world.daemon.write_config(&format!("[worker]\nmin_uid = 0\n{config}"));
        world.daemon.signal(Signal::SIGHUP);
    };
    let uname = found("uname");
    reload(&format!(
        "[commands]\nmax_running = 1\n[[commands.rule]]\ndecision = \"deny\"\n\
         program = {uname:?}\nreason = \"no longer\"\n"
    ));
    let refused = async || world.exec(&["uname"]).await.is_err();
    eventually("the rule is in force", refused).await;
    // The bound is looked at first, and the sleeper counts.
    let full = world.exec(&["true"]).await;
    let details = check_error(full, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    let facts = details.error_info().unwrap().metadata.clone();
    assert_eq!((&*facts["limit"], &*facts["limit_value"]), ("commands.max_running", "1"));

    reload(&format!(
        "[[commands.rule]]\ndecision = \"deny\"\nprogram = {uname:?}\nreason = \"no longer\"\n"
    ));
    eventually("there are places again", async || world.exec(&["true"]).await.is_ok()).await;
    let denied = world.exec(&["uname"]).await;
    let details = check_error(denied, Code::PermissionDenied, "ACCESS_DENIED");
    assert_eq!(details.error_info().unwrap().metadata["rule"], "commands.rule 1");

    reload("");
    eventually("the rule is gone", async || world.exec(&["uname"]).await.is_ok()).await;
    let listed = world.list(ListRequest { running_only: true, ..ListRequest::default() }).await;
    assert_eq!(listed.commands[0].id, sleeper.id, "it is the same worker");
    assert!(runs(sleeper.pid));
}

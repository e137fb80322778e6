//! The signals of tasks on their way: their order, their pace, and clients that do not take them.

use std::time::{Duration, Instant};

use op_dbus::call::Reporter;
use op_dbus::task::State;
use zbus::Variant;

use super::tasks::{MINUTE, TASK, me, task};
use super::watch::{Watch, finished, numbers};
use super::{NAME, Options, PROBE, World, connect, failed, none, with};
use crate::fixture::Bus;
use crate::grpc::eventually;

#[tokio::test]
async fn a_message_that_is_too_large_for_a_signal_says_how_to_get_it() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let size = 2 * 1024 * 1024_u64;
    let path = watch.begin("Fill", &(size, with("detach", true))).await;
    let signals = watch.until_end(&path).await;
    assert_eq!(signals[0].0, "Undelivered");
    let (seq, _, name, text): (u64, u64, String, String) =
        signals[0].1.body().deserialize().unwrap();
    assert_eq!((seq, name.as_str()), (1, "org.opdbus.Error.LimitExceeded"));
    assert!(text.contains("output-fd"), "{text}");
    assert_eq!(finished(&signals).0, "completed");
    drop(watch);
    let reply = world.call(&path, TASK, "ReadMessages", &(0_u64, 0_u32, none())).await;
    let text = failed(reply, "org.opdbus.Error.LimitExceeded");
    assert!(text.contains("output-fd"), "{text}");
}

#[tokio::test]
async fn twenty_tasks_at_once_keep_their_order() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    for task in 0..20 {
        let token = format!("t{task}");
        let call = zbus::message::Message::method_call(PROBE, "Generate")
            .destination(NAME)
            .build(&(500_u32, with("handle-token", token)))
            .unwrap();
        world.client.send(&call).await.unwrap();
    }
    let paths: Vec<String> = (0..20).map(|task| watch.path(&format!("t{task}"))).collect();
    let mut seen = vec![0_u64; 20];
    let mut ended = 0;
    while ended < 20 {
        let message = watch.next().await;
        let header = message.header();
        let Some(path) = header.path() else { continue };
        let task = paths.iter().position(|known| *known == path.as_str()).unwrap();
        let body = message.body();
        match header.member().unwrap().as_str() {
            "Message" => {
                let (seq, ..): (u64, u64, Options<'_>) = body.deserialize().unwrap();
                seen[task] += 1;
                assert_eq!(seq, seen[task]);
            }
            "Finished" => ended += 1,
            name => assert_eq!(name, "PropertiesChanged"),
        }
    }
    assert_eq!(seen, [500; 20]);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_back_its_own_task_only() {
    let world = World::new().await;
    // Its queue is full after a few messages, and then nothing is read from its socket.
    let stalled = connect(&world.bus).await;
    let unread = Watch::new(&stalled);
    let token = with("handle-token", "stalled");
    let call = zbus::message::Message::method_call(PROBE, "Generate")
        .destination(NAME)
        .build(&(1_000_000_u32, token))
        .unwrap();
    stalled.send(&call).await.unwrap();
    let path = unread.path("stalled");
    eventually("the stalled task fills its ring", async || {
        let id = path.rsplit('/').next().unwrap();
        let found = world.service.executor.tasks().find(id, me());
        found.is_ok_and(|task| task.record().last_seq > 1_000)
    })
    .await;

    let mut watch = Watch::new(&world.client);
    let fast = watch.begin("Generate", &(2_000_u32, none())).await;
    let signals = watch.until_end(&fast).await;
    assert_eq!(numbers(&signals).len(), 2_000);
    let stalled_task = task(&world, &path);
    let last = stalled_task.record().last_seq;
    assert!(last < 20_000 && stalled_task.state() == State::Working, "{last}");
    drop(unread);
    stalled.close().await.unwrap();
    // Lossless for who reads, the task goes on for who might come back.
    eventually("it goes on", async || stalled_task.record().last_seq == 1_000_000).await;
}

#[tokio::test]
async fn who_cannot_be_asked_gets_its_messages_more_slowly() {
    // The bus passes no Ping on, as it would without the policy in `dbus/`.
    let deny = "<policy context=\"mandatory\"><deny send_interface=\"org.freedesktop.DBus.Peer\" \
                send_member=\"Ping\" send_type=\"method_call\"/></policy>";
    let world = World::on(Bus::start_with(deny)).await;
    let mut watch = Watch::new(&world.client);
    let path = watch.begin("Generate", &(300_u32, none())).await;
    assert_eq!(numbers(&watch.until_end(&path).await).len(), 300);
    assert_eq!(watch.pings, 0);

    // A client that reads and never answers.
    let world = World::new().await;
    let mut watch = Watch::new(&world.client).mute();
    let start = Instant::now();
    let path = watch.begin("Generate", &(300_u32, none())).await;
    assert_eq!(numbers(&watch.until_end(&path).await).len(), 300);
    assert!(start.elapsed() > Duration::from_secs(1), "it was not awaited");
    assert_eq!(watch.pings, 1, "it is asked once until it answers");
}

#[tokio::test]
async fn the_policy_that_comes_with_the_service_lets_it_ask() {
    // Method calls are denied, as on a system bus, but for what the file allows.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/dbus/org.opdbus.Agents1.conf");
    let file = std::fs::read_to_string(file).unwrap();
    let (_, rules) = file.split_once("<busconfig>").unwrap();
    let (rules, _) = rules.split_once("</busconfig>").unwrap();
    let user = format!("user=\"{}\"", nix::unistd::getuid());
    assert!(rules.contains("user=\"op-dbus\""));
    let policy = format!(
        "<policy context=\"default\"><deny send_type=\"method_call\"/>\
         <allow send_destination=\"org.freedesktop.DBus\"/></policy>{}",
        rules.replace("user=\"op-dbus\"", &user)
    );
    let world = World::on(Bus::start_with(&policy)).await;
    let mut watch = Watch::new(&world.client);
    let path = watch.begin("Generate", &(300_u32, none())).await;
    assert_eq!(numbers(&watch.until_end(&path).await).len(), 300);
    assert_eq!(watch.pings, 4);
}

#[tokio::test]
async fn progress_is_told_at_most_ten_times_a_second() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let path = watch.begin("Sleep", &(MINUTE, with("detach", true))).await;
    let sleeping = task(&world, &path);
    let start = Instant::now();
    let report = async {
        for done in 1..=300 {
            Reporter::progress(&*sleeping, done, 300, "steps");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let listen = async {
        let mut told = Vec::new();
        // The last one is told too, although nothing happens after it.
        while told.last() != Some(&1.0) {
            let (name, message) = watch.signal(&path).await;
            assert_eq!(name, "PropertiesChanged");
            let body = message.body();
            let (_, changed, _): (&str, Options<'_>, Vec<&str>) = body.deserialize().unwrap();
            told.push(f64::try_from(&changed["Progress"]).unwrap());
            if told.len() == 3 {
                assert_eq!(changed["ProgressValid"], Variant::from(true));
                assert_ne!(changed["ExpectedEndTime"], Variant::from(0_u64));
            }
        }
        told
    };
    let ((), told) = tokio::join!(report, listen);
    assert!(told.is_sorted() && told.len() >= 5, "{told:?}");
    let most = start.elapsed().as_millis() / 100 + 2;
    assert!(told.len() as u128 <= most, "{} in the time of {most}", told.len());
}

#[tokio::test]
async fn who_may_miss_messages_is_told_which() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let count = 20_000_u32;
    let path = watch.begin("Drip", &(count, none())).await;
    let signals = watch.until_end(&path).await;
    // Every number comes once, in a message or in a gap.
    let (mut next, mut gaps) = (1, 0);
    for (name, message) in &signals {
        let body = message.body();
        match name.as_str() {
            "Message" => {
                let (seq, _, fields): (u64, u64, Options<'_>) = body.deserialize().unwrap();
                assert_eq!((seq, u32::try_from(&fields["number"]).unwrap().into()), (next, next));
                next += 1;
            }
            "Gap" => {
                let (from, to): (u64, u64) = body.deserialize().unwrap();
                assert!(from == next && to >= from, "from {from} to {to} after {next}");
                (next, gaps) = (to + 1, gaps + 1);
            }
            name => assert_eq!(name, "Finished"),
        }
    }
    assert!(gaps > 0 && next == u64::from(count) + 1, "{gaps} gaps up to {next}");
    assert_eq!(
        finished(&signals),
        ("completed".into(), String::new(), String::new(), count.into())
    );
}

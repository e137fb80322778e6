//! The whole move as an administrator makes it, under steady load: every stage, a broken gRPC path that is
//! taken back by itself, two reloads and a kill. No call is lost, and none is made twice.

mod load;
mod world;

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use op_dbus::client::{AgentClient, CallOptions, Error, GrpcAddress, MemoryClient, Settings, Via};
use op_dbus::proto::opdbus::agent::memory::v1::{RecallRequest, RecallResponse};
use op_dbus::proto::opdbus::v1::{Stage, Way};

use crate::client_resilience::proxy::Answers;
use crate::ctl::{stderr, stdout};
use crate::process::Prepared;
use load::{Seen, number};
use world::{Client, Story, blocking, limited, until};

/// How many calls each client makes at least before the story goes on.
const STEPS: u64 = 20;

impl Story {
    /// Takes the next step as soon as it is safe. It must lead to `expected`.
    async fn advance(&self, expected: &str) {
        until("the next step is safe", async || {
            let said = self.migration(&["advance", "default"]).await;
            if said.status.success() {
                assert_eq!(stdout(&said), format!("rule default is at {expected}\n"));
                return true;
            }
            let why = stderr(&said);
            assert!(why.contains("too few calls over "), "on the way to {expected}: {why}");
            false
        })
        .await;
        self.goes_on().await;
    }

    async fn is_at(&self, stage: Stage, share: u32) {
        let route = self.rule().await.route.unwrap();
        assert_eq!((route.stage(), route.share_per_10000), (stage, share));
    }

    /// Nothing has gone wrong so far.
    fn is_well(&self) {
        for Client { name, seen, .. } in &self.clients {
            assert_eq!(seen.problems.lock().unwrap()[..], [""; 0], "{name}");
        }
        assert_eq!(self.desktop.last("wrong ").1, None);
    }

    /// Each client with the library makes some calls from here on, and all of them well.
    async fn programs_go_on(&self) {
        for Client { name, seen, .. } in &self.clients {
            let before = Seen::of(&seen.counted);
            until(&format!("{name} goes on"), async || {
                self.is_well();
                Seen::of(&seen.counted) > before + STEPS
            })
            .await;
        }
    }

    /// The same, and the desktop script too.
    async fn goes_on(&self) {
        let before = self.desktop.last("done ").0;
        self.programs_go_on().await;
        // One more than what was under way.
        until("the desktop script goes on", async || self.desktop.last("done ").0 > before + 1)
            .await;
        self.is_well();
    }

    /// The clients below `share` take gRPC, the others do not and never did.
    async fn takes_grpc(&self, share: u32) {
        for Client { name, place, .. } in &self.clients {
            if *place < share {
                let what = format!("{name} takes gRPC");
                until(&what, async || self.increments(name, Way::Grpc).await > 0).await;
            } else {
                assert_eq!(self.increments(name, Way::Grpc).await, 0, "{name} is at {place}");
            }
        }
    }

    /// The answers over both ways were compared and are the same.
    async fn is_compared(&self) {
        until("both ways are compared", async || {
            let options = CallOptions::default();
            let found = self.admin.list_differences(Some("memory.Recall"), &options).await.unwrap();
            let found = found.message.comparisons;
            assert!(found.iter().all(|it| it.differed == 0), "{found:?}");
            found.iter().any(|it| it.compared > 0)
        })
        .await;
    }

    /// The daemon takes up its configuration again, with another limit.
    async fn reload(&mut self, limit: u32) {
        let config = limited(&self.config, limit);
        let daemon = self.daemon.take().unwrap();
        let reload = move || {
            daemon.write_config(&config);
            daemon.signal(Signal::SIGHUP);
            daemon.wait_for("RELOADING=1");
            daemon.wait_for("READY=1");
            daemon
        };
        self.daemon = Some(blocking(reload).await);
    }

    /// gRPC loses answers, until the rule is taken back and held by itself; then all is well again. The
    /// share that is lost is the same on a slow machine, and beyond the margin.
    async fn breaks(&self) {
        // Some calls come through between two losses, so that gRPC is not left alone.
        self.proxy.answer(Answers::LoseAfter(6));
        until("the rule is taken back", async || self.rule().await.held).await;
        self.proxy.answer(Answers::Pass);
        self.is_at(Stage::Dbus, 0).await;
        assert_eq!(self.rule().await.route.unwrap().changed_by, "the canary");
        let refused = stderr(&self.migration(&["advance", "default"]).await);
        assert!(refused.contains("it is held by the canary (worse: "), "{refused}");
        self.goes_on().await;
        let lost = |client: &Client| Seen::of(&client.seen.lost) > 0;
        assert!(self.clients.iter().any(lost), "no answer was lost");
        for client @ Client { name, place, seen } in &self.clients {
            assert_eq!(Seen::of(&seen.unknown), 0, "{name} could make each call again");
            assert!(!lost(client) || *place < 2500, "{name} is at {place}");
            until(&format!("{name} has told what it lost"), async || {
                let uses = self.uses(Some(name), Way::Grpc).await;
                uses.iter().map(|it| it.lost).sum::<u64>() == Seen::of(&seen.lost)
            })
            .await;
        }
        assert!(self.migration(&["release", "default"]).await.status.success());
    }

    /// The daemon is killed and started again.
    async fn is_killed(&mut self) {
        assert_eq!(self.desktop.last("again ").1, None);
        let mut daemon = self.daemon.take().unwrap();
        let config = limited(&self.config, 90_000);
        let restart = move || {
            daemon.signal(Signal::SIGKILL);
            daemon.wait();
            Prepared::new(&config).start()
        };
        self.daemon = Some(blocking(restart).await);
        self.goes_on().await;
        for Client { name, seen, .. } in &self.clients {
            assert!(Seen::of(&seen.unknown) <= 1, "{name} had one call under way");
        }
    }

    /// D-Bus has ended: the desktop script is told where its calls went, and the others notice nothing.
    async fn ends_dbus(&mut self) {
        let refused = stderr(&self.migration(&["advance", "default"]).await);
        assert!(refused.contains("calls still came over the older interface"), "{refused}");
        let again = self.desktop.last("again ").0;
        assert!(self.migration(&["advance", "default", "--force"]).await.status.success());
        until("the desktop script is told", async || self.desktop.last("moved ").1.is_some()).await;
        let told = self.desktop.last("moved ").1.unwrap();
        assert!(told.contains(&format!("--address {} call memory", self.socket())), "{told}");
        assert_eq!(self.desktop.last("again ").0, again);
        self.programs_go_on().await;
    }
}

impl Story {
    /// Ends the clients: what was counted is what was answered, but for calls of which nobody knows, and
    /// the ledger has each client over both ways, and the script over the older one alone.
    async fn was_true(mut self) {
        for client in &self.clients {
            client.seen.end();
        }
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap();
        }
        if let Some(python) = self.python.take() {
            // The proxy, which it still needs, is on this thread.
            blocking(|| python.end()).await;
        }
        let socket = GrpcAddress::Unix(self.folder.path().join("grpc.sock"));
        let settings = Settings { via: Via::Grpc, addresses: vec![socket], ..Settings::default() };
        let memory = MemoryClient::new(AgentClient::new(&settings));
        for Client { name, seen, .. } in &self.clients {
            let request = RecallRequest { key: name.clone(), ..RecallRequest::default() };
            let recalled: Result<RecallResponse, Error> = memory.recall(request).await;
            let value = number(recalled.unwrap()).unwrap();
            let (counted, unknown) = (Seen::of(&seen.counted), Seen::of(&seen.unknown));
            assert!(
                (counted..=counted + unknown).contains(&value),
                "{name}: {value} were carried out; {counted} were answered, of {unknown} nobody knows"
            );
            assert!(self.increments(name, Way::Dbus).await > 0, "{name}");
            assert!(self.increments(name, Way::Grpc).await > 0, "{name}");
            assert!(self.uses(Some(name), Way::Legacy).await.is_empty(), "{name}");
        }
        let older = self.uses(None, Way::Legacy).await;
        let operations: BTreeSet<&str> = older.iter().map(|it| &*it.operation).collect();
        assert_eq!(operations, BTreeSet::from(["memory.Recall", "memory.Remember"]));
    }
}

#[tokio::test]
async fn clients_under_load_move_from_dbus_to_grpc_and_no_call_is_lost_or_made_twice() {
    let mut story = Story::begin().await;
    story.goes_on().await;
    story.advance("shadow").await;
    story.is_compared().await;
    story.takes_grpc(0).await;
    story.advance("canary 5 %").await;
    story.takes_grpc(500).await;
    story.reload(90_000).await;
    story.is_at(Stage::Canary, 500).await;
    story.advance("canary 25 %").await;
    story.takes_grpc(2500).await;
    story.breaks().await;
    for stage in ["shadow", "canary 5 %", "canary 25 %"] {
        story.advance(stage).await;
    }
    story.takes_grpc(2500).await;
    story.advance("canary 50 %").await;
    story.takes_grpc(5000).await;
    story.is_killed().await;
    story.is_at(Stage::Canary, 5000).await;
    story.advance("grpc").await;
    story.takes_grpc(10_000).await;
    story.reload(80_000).await;
    story.goes_on().await;
    let memory = MemoryClient::new(story.admin.clone());
    let recall = |key: &str| RecallRequest { key: key.into(), ..RecallRequest::default() };
    let still: Result<RecallResponse, Error> = memory.recall(recall("host")).await;
    still.expect("D-Bus answers at stage grpc");
    story.ends_dbus().await;
    story.was_true().await;
}

//! One user against the others: what he may have over real transports, and what floods of his do to an
//! echo beside them. That each bound counts rightly is the executor's, in `shares.rs`.

mod floods;
mod shares;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::grpc::{Client, raw};

/// Set to have the times checked as well, on a machine that does nothing else.
pub const STRICT: &str = "OPDBUS_HOSTILE";

/// How much slower an echo may be beside a flood than without one, at the 99th percentile.
const SLOWER: u32 = 5;

/// An echo that is answered again and again.
pub struct Echo {
    client: Client,
    idle: Duration,
}

impl Echo {
    /// Measures an echo while nothing else happens.
    pub async fn new(path: &Path) -> Self {
        let client = Client::unix(path).await;
        let idle = p99(&client).await;
        Self { client, idle }
    }

    /// Echoes beside a flood: each is answered, and how long they take is printed.
    pub async fn beside(&self, flood: &str) {
        let (now, idle) = (p99(&self.client).await, self.idle);
        eprintln!("echo beside {flood}: p99 {now:?}, {idle:?} without");
        if std::env::var_os(STRICT).is_some() {
            assert!(now <= idle * SLOWER, "{flood}: {now:?} is more than {SLOWER} times {idle:?}");
        }
    }
}

async fn p99(client: &Client) -> Duration {
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        client.ping().await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// The bytes that open a connection.
pub fn opening() -> Vec<u8> {
    [raw::PREFACE, &raw::frame(4, 0, 0, &[])].concat()
}

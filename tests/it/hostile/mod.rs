//! One user against the others: what he may have over real transports, and what floods of his do to an
//! echo beside them. That each bound counts rightly is the executor's, in `shares.rs`.

mod apart;
mod floods;
mod shares;

use std::path::Path;
use std::time::{Duration, Instant};

use op_dbus::proto::opdbus::v1::{PingRequest, PingResponse};
use op_dbus::transport::grpc::NewToken;

use crate::grpc::tokens::with;
use crate::grpc::{Client, PING, raw};

/// Set to have the times checked as well, on a machine that does nothing else.
pub const STRICT: &str = "OPDBUS_HOSTILE";

/// How much slower an echo may be beside a flood than without one, at the 99th percentile.
const SLOWER: u32 = 5;

/// How many calls an echo beside one flood makes.
pub const CALLS: usize = 200;

/// An echo that is answered again and again.
pub struct Echo {
    client: Client,
    /// The token that it bears, if it is not of the user of this process.
    token: Option<String>,
    /// How many calls are measured at a time.
    calls: usize,
    idle: Duration,
}

impl Echo {
    /// Measures an echo while nothing else happens.
    pub async fn new(path: &Path) -> Self {
        Self::of(path, None, CALLS).await
    }

    /// The same of another user, by a token that stands for him, `calls` at a time.
    pub async fn by_token(path: &Path, token: &NewToken, calls: usize) -> Self {
        Self::of(path, Some(token.text.to_string()), calls).await
    }

    async fn of(path: &Path, token: Option<String>, calls: usize) -> Self {
        let client = Client::unix(path).await;
        let mut echo = Self { client, token, calls, idle: Duration::ZERO };
        // The first calls find nothing that is ready for them.
        echo.p99().await;
        echo.idle = echo.p99().await;
        echo
    }

    /// Echoes beside a flood: each is answered, and how long they take is printed.
    pub async fn beside(&self, flood: &str) {
        let (now, idle) = (self.p99().await, self.idle);
        eprintln!("echo beside {flood}: p99 {now:?}, {idle:?} without");
        if std::env::var_os(STRICT).is_some() {
            assert!(now <= idle * SLOWER, "{flood}: {now:?} is more than {SLOWER} times {idle:?}");
        }
    }

    async fn p99(&self) -> Duration {
        let mut times = Vec::new();
        for _ in 0..self.calls {
            let start = Instant::now();
            match &self.token {
                None => self.client.ping().await,
                Some(token) => {
                    let request = with(token, PingRequest::default());
                    self.client.request::<_, PingResponse>(PING, request).await.unwrap();
                }
            }
            times.push(start.elapsed());
        }
        times.sort_unstable();
        times[times.len() * 99 / 100]
    }
}

/// The bytes that open a connection.
pub fn opening() -> Vec<u8> {
    [raw::PREFACE, &raw::frame(4, 0, 0, &[])].concat()
}

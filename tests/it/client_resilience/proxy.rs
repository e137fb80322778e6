//! Stands between a client and the gRPC socket, and does to their connections what a bad day does.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the service has to carry out a call whose answer is swallowed.
const SWALLOWED_FOR: Duration = Duration::from_millis(300);

/// What becomes of the bytes that the service sends.
#[derive(Clone, Debug)]
pub enum Answers {
    Pass,
    /// They are swallowed, and then the connection is cut; those after it pass.
    LoseNext,
    /// Each connection passes so many pieces; what comes then is swallowed, and the connection cut.
    LoseAfter(usize),
    /// They come so much later.
    Late(Duration),
    /// In each piece, the first text is replaced by the second one, which is as long.
    Change(&'static [u8], &'static [u8]),
}

/// A proxy. Dropped, it closes.
pub struct Proxy {
    pub path: PathBuf,
    behind: PathBuf,
    answers: Arc<Mutex<Answers>>,
    cut: watch::Sender<u64>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens at `path` for the socket `behind`.
    pub fn new(path: PathBuf, behind: &Path) -> Self {
        let mut proxy = Self {
            path,
            behind: behind.to_owned(),
            answers: Arc::new(Mutex::new(Answers::Pass)),
            cut: watch::Sender::new(0),
            accepting: None,
        };
        proxy.listen();
        proxy
    }

    pub fn answer(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts every connection and takes the socket away.
    pub fn vanish(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        fs::remove_file(&self.path).ok();
        self.cut();
    }

    /// Listens, again.
    pub fn listen(&mut self) {
        let listener = UnixListener::bind(&self.path).unwrap();
        let (behind, answers, cut) =
            (self.behind.clone(), Arc::clone(&self.answers), self.cut.clone());
        self.accepting = Some(tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (behind, answers) = (behind.clone(), Arc::clone(&answers));
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    let Ok(service) = UnixStream::connect(behind).await else { return };
                    tokio::select! {
                        _ = cut.changed() => {}
                        () = pass(client, service, answers) => {}
                    }
                });
            }
        }));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.vanish();
    }
}

/// Passes bytes both ways until either side closes.
async fn pass(client: UnixStream, service: UnixStream, answers: Arc<Mutex<Answers>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_service, mut to_service) = service.into_split();
    let there = async { tokio::io::copy(&mut from_client, &mut to_service).await.ok() };
    let back = async {
        let (mut buffer, mut passed) = (vec![0; 65_536], 0);
        while let Ok(count @ 1..) = from_service.read(&mut buffer).await {
            let piece = &mut buffer[..count];
            let how = answers.lock().unwrap().clone();
            match how {
                Answers::Pass => {}
                Answers::LoseAfter(pieces) if passed < pieces => passed += 1,
                Answers::LoseAfter(_) => return swallow(&mut from_service).await,
                Answers::Late(time) => tokio::time::sleep(time).await,
                Answers::Change(from, to) => replace(piece, from, to),
                Answers::LoseNext => {
                    swallow(&mut from_service).await;
                    *answers.lock().unwrap() = Answers::Pass;
                    return;
                }
            }
            if to_client.write_all(piece).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = there => {}
        () = back => {}
    }
}

/// Lets the service go on for a while, and nobody hear of it.
async fn swallow(from_service: &mut OwnedReadHalf) {
    let mut rest = vec![0; 65_536];
    let swallow = async { while let Ok(1..) = from_service.read(&mut rest).await {} };
    tokio::time::timeout(SWALLOWED_FOR, swallow).await.ok();
}

fn replace(piece: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let Some(last) = piece.len().checked_sub(from.len()) else { return };
    for at in 0..=last {
        if piece[at..].starts_with(from) {
            piece[at..at + to.len()].copy_from_slice(to);
        }
    }
}

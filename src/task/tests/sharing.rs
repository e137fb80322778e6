//! Many readers of one task, on many threads, and the memory of all tasks.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::{Place, config, give, replies};
use crate::task::{Config, End, Event, Reading, State, Subscription};

/// Runs `work` on a thread of its own.
fn apart<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(60), work).await.expect("it hangs") })
    })
}

/// Reads to the end: how many messages came and how many were missed, checked for being in order and
/// complete.
async fn read_all(mut reader: Subscription) -> (u64, u64) {
    let (mut next, mut came, mut missed) = (1, 0, 0);
    loop {
        match reader.next().await.expect("an end comes before nothing") {
            Event::Message(message) => {
                assert_eq!(message.seq, next);
                assert_eq!(message.offset, 8 * (message.seq - 1));
                assert_eq!(message.payload, message.seq.to_be_bytes().as_slice());
                (next, came) = (next + 1, came + 1);
            }
            Event::Gap { from, to } => {
                assert_eq!(from, next);
                assert!(to >= from);
                (next, missed) = (to + 1, missed + to - from + 1);
            }
            Event::Changed => {}
            Event::Ended(outcome) => {
                outcome.unwrap();
                assert!(reader.next().await.is_none());
                return (came, missed);
            }
        }
    }
}

/// Reads a little, gives up in the middle, and begins again where it was, over and over.
async fn read_in_pieces(place: Arc<Place>, id: Arc<str>) -> u64 {
    let identity = place.tasks.find(&id, super::Identity::User { uid: 1000, gid: None }).unwrap();
    let (task, mut from) = (identity, 1);
    loop {
        let mut reader = task.read(Reading { from, changes: true, ..Reading::default() }).unwrap();
        for _ in 0..7 {
            // Dropped while it waits, as often as not.
            match reader.next().now_or_never() {
                Some(Some(Event::Message(message))) => {
                    assert_eq!(message.seq, from);
                    from += 1;
                }
                Some(Some(Event::Gap { from: first, to })) => {
                    assert_eq!(first, from);
                    from = to + 1;
                }
                Some(Some(Event::Changed)) | None => {}
                Some(Some(Event::Ended(_)) | None) => return from - 1,
            }
        }
        drop(reader);
        tokio::task::yield_now().await;
    }
}

#[test]
fn one_that_never_reads_and_fifty_that_do() {
    const COUNT: u64 = 2000;
    let place = Arc::new(Place::new(config(64, 1 << 20)));
    let task = place.start();
    let stalled = task.read(Reading::default()).unwrap();
    let as_client = Reading { is_client: true, ..Reading::default() };
    let readers: Vec<_> = (0..50).map(|_| apart(read_all(task.read(as_client).unwrap()))).collect();
    let fickle: Vec<_> =
        (0..3).map(|_| apart(read_in_pieces(Arc::clone(&place), Arc::clone(task.id())))).collect();
    let (sink, ending, tasks) = (replies(&task), Arc::clone(&task), Arc::clone(&place.tasks));
    let producer = apart(async move {
        for number in 1..=COUNT {
            sink.send(Bytes::copy_from_slice(&number.to_be_bytes())).await.unwrap();
        }
        tasks.end(&ending, End::Completed);
    });
    producer.join().unwrap();
    for reader in readers {
        assert_eq!(
            reader.join().unwrap(),
            (COUNT, 0),
            "those that the work waits for miss nothing"
        );
    }
    for reader in fickle {
        assert_eq!(reader.join().unwrap(), COUNT);
    }
    // The one that never read is told what it has missed, once, and gets what is left.
    let (came, missed) = read_all(stalled).now_or_never().unwrap();
    assert_eq!((came, missed), (64, COUNT - 64));
}

#[test]
fn readers_at_their_own_speed_miss_only_what_they_are_told() {
    const COUNT: u64 = 20_000;
    let place = Place::new(config(16, 1 << 20));
    let task = place.start();
    let readers: Vec<_> =
        (0..8).map(|_| apart(read_all(task.read(Reading::default()).unwrap()))).collect();
    let (sink, ending, tasks) = (replies(&task), Arc::clone(&task), Arc::clone(&place.tasks));
    apart(async move {
        for number in 1..=COUNT {
            sink.send(Bytes::copy_from_slice(&number.to_be_bytes())).await.unwrap();
        }
        tasks.end(&ending, End::Completed);
    })
    .join()
    .unwrap();
    for reader in readers {
        let (came, missed) = reader.join().unwrap();
        assert_eq!(came + missed, COUNT);
    }
}

#[test]
fn a_client_that_does_not_read_holds_the_work_until_it_goes() {
    let place = Place::new(config(4, 1 << 20));
    let task = place.start();
    let client = task.read(Reading { is_client: true, ..Reading::default() }).unwrap();
    for _ in 0..4 {
        assert!(give(&task, b"x"));
    }
    assert!(!give(&task, b"x"), "the fifth would push out one that is not read");
    let sink = replies(&task);
    let blocked = apart(async move { sink.send(Bytes::from_static(b"x")).await });
    thread::sleep(Duration::from_millis(20));
    assert!(!blocked.is_finished());
    drop(client);
    blocked.join().unwrap().unwrap();
    assert_eq!(task.state(), State::Working, "the work goes on without its client");
}

#[test]
fn a_message_larger_than_the_ring_comes_through() {
    let place = Place::new(config(4, 3));
    let task = place.start();
    let mut client = task.read(Reading { is_client: true, ..Reading::default() }).unwrap();
    for payload in [&b"ab"[..], b"much larger", b"c"] {
        let sink = replies(&task);
        let payload = Bytes::from_static(payload);
        let sent = sink.send(payload.clone()).now_or_never().expect("there is room").is_ok();
        assert!(sent);
        let Some(Some(Event::Message(message))) = client.next().now_or_never() else { panic!() };
        assert_eq!(message.payload, payload);
    }
}

#[test]
fn a_message_that_alone_takes_its_users_memory_is_refused() {
    let place = Place::new(Config { memory_bytes_per_caller: 1024, ..config(1024, 4096) });
    let task = place.start();
    let sent = replies(&task).send(Bytes::from_static(&[7; 1024])).now_or_never();
    let error = sent.expect("it waits for nothing").unwrap_err();
    assert_eq!(error.fact("limit"), Some("tasks.memory_bytes_per_caller"), "{error}");
    assert!(give(&task, &[7; 900]));
    place.try_start().expect("what was refused takes no room");
}

#[test]
fn when_memory_is_full_what_has_ended_leaves_first() {
    let place = Place::new(Config { memory_bytes: 4096, ..config(1024, 4096) });
    let message: &'static [u8] = &[7; 1000];
    let ended = [place.start(), place.start()];
    for task in &ended {
        assert!(give(task, message));
        place.tasks.end(task, End::Completed);
    }
    let running = place.start();
    let readable =
        |task: &Arc<crate::task::Task>| task.snapshot().next_seq - task.snapshot().first_seq;
    for _ in 0..2 {
        assert!(give(&running, message));
    }
    assert_eq!((readable(&ended[0]), readable(&ended[1])), (1, 1), "there was room until now");
    assert!(give(&running, message));
    assert_eq!((readable(&ended[0]), readable(&ended[1])), (0, 1), "the older one goes first");
    for _ in 0..100 {
        assert!(give(&running, message));
    }
    assert_eq!(readable(&ended[1]), 0);
    assert!(readable(&running) >= 1);
    // The next task is refused as long as that one is in its way; of somebody else's only if the memory
    // of all is full.
    for (config, limit, others) in [
        (Config { memory_bytes: 1024, ..config(1024, 4096) }, "tasks.memory_bytes", false),
        (
            Config { memory_bytes_per_caller: 1024, ..config(1024, 4096) },
            "tasks.memory_bytes_per_caller",
            true,
        ),
    ] {
        let hoarder = Place::new(config);
        let running = hoarder.start();
        assert!(give(&running, &[7; 600]) && give(&running, &[7; 600]));
        let error = hoarder.try_start().unwrap_err();
        assert_eq!(error.fact("limit"), Some(limit));
        assert!(error.retry_after().is_some());
        assert_eq!(hoarder.try_start_for(1001).is_ok(), others, "{limit}");
        hoarder.tasks.end(&running, End::Completed);
        hoarder.try_start().unwrap();
    }
}

//! Messages on the client's own descriptors, both ways.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::Buf as _;
use op_dbus::proto::opdbus::agent::probe::v1::{ChatRequest, GenerateResponse, SumRequest};
use op_dbus::task::State;
use prost::Message as _;
use zbus::{Fd, Variant};

use super::watch::{Watch, finished};
use super::{Options, World, connect, failed, none, with};
use crate::fixture::Bus;
use crate::grpc::eventually;
use crate::process::PATIENCE;

fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    (File::from(reader), writer)
}

/// Options with a descriptor.
fn fd<'a>(name: &'a str, fd: &'a OwnedFd, format: &'a str) -> Options<'a> {
    let of_format = if name == "output-fd" { "output-format" } else { "input-format" };
    HashMap::from([(name, Variant::from(Fd::from(fd.as_fd()))), (of_format, Variant::from(format))])
}

/// Everything that comes until the end.
async fn read_all(mut reader: impl std::io::Read + Send + 'static) -> Vec<u8> {
    tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    })
    .await
    .unwrap()
}

fn numbers(bytes: Vec<u8>) -> Vec<u32> {
    let mut bytes = bytes::Bytes::from(bytes);
    let mut numbers = Vec::new();
    while bytes.has_remaining() {
        let message = GenerateResponse::decode_length_delimited(&mut bytes).unwrap();
        numbers.push(message.number);
    }
    numbers
}

#[tokio::test]
async fn messages_go_to_the_clients_descriptor_in_either_format() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let (reader, writer) = pipe();
    let path = watch.begin("Generate", &(100_000_u32, fd("output-fd", &writer, "proto"))).await;
    drop(writer);
    let all = tokio::spawn(read_all(reader));
    let signals = watch.until_end(&path).await;
    // The end of the messages was there before the end of the task was told.
    assert_eq!(signals.len(), 1, "no message goes as a signal too");
    assert_eq!(finished(&signals).3, 100_000);
    assert_eq!(numbers(all.await.unwrap()), (1..=100_000).collect::<Vec<_>>());

    let (reader, writer) = UnixStream::pair().unwrap();
    let writer = OwnedFd::from(writer);
    let path = watch.begin("Generate", &(3_u32, fd("output-fd", &writer, "json"))).await;
    drop(writer);
    let all = read_all(reader).await;
    assert_eq!(all, b"{\"number\":1}\n{\"number\":2}\n{\"number\":3}\n");
    watch.until_end(&path).await;

    let mut file = tempfile::tempfile().unwrap();
    let copy = OwnedFd::from(file.try_clone().unwrap());
    let path = watch.begin("Generate", &(1_000_u32, fd("output-fd", &copy, "proto"))).await;
    watch.until_end(&path).await;
    std::io::Seek::rewind(&mut file).unwrap();
    assert_eq!(numbers(read_all(file).await).len(), 1_000);
}

#[tokio::test]
async fn a_detached_call_gives_a_message_of_any_size() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let (reader, writer) = pipe();
    let size = 40 * 1024 * 1024_u64;
    let mut options = fd("output-fd", &writer, "proto");
    options.insert("detach", true.into());
    let path = watch.begin("Fill", &(size, options)).await;
    drop(writer);
    let all = read_all(reader).await;
    assert!(all.len() as u64 > size);
    assert_eq!(finished(&watch.until_end(&path).await).0, "completed");
}

#[tokio::test]
async fn a_slow_reader_stops_the_producer_and_nobody_else() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let (reader, writer) = pipe();
    let options = fd("output-fd", &writer, "proto");
    let path = watch.begin("Generate", &(1_000_000_u32, options)).await;
    drop(writer);
    let task = super::tasks::task(&world, &path);
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = task.record().last_seq;
        if now == last {
            break;
        }
        last = now;
    }
    assert!((1_000..100_000).contains(&last), "{last}");
    let other = watch.begin("Generate", &(100_u32, none())).await;
    watch.until_end(&other).await;
    assert_eq!(task.record().last_seq, last);
    let all = tokio::spawn(read_all(reader));
    assert_eq!(finished(&watch.until_end(&path).await).3, 1_000_000);
    assert_eq!(numbers(all.await.unwrap()).len(), 1_000_000);
}

#[tokio::test]
async fn a_reader_that_closes_is_a_client_that_goes() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    for (choice, state) in [("cancel", State::Cancelled), ("continue", State::Completed)] {
        let (reader, writer) = pipe();
        let mut options = fd("output-fd", &writer, "proto");
        options.insert("on-disconnect", choice.into());
        let path = watch.begin("Generate", &(1_000_000_u32, options)).await;
        drop(writer);
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = reader;
            reader.read_exact(&mut [0; 100]).unwrap();
        });
        read.await.unwrap();
        let signals = watch.until_end(&path).await;
        let task = super::tasks::task(&world, &path);
        assert_eq!(task.state(), state);
        assert_eq!(signals.len(), 1);
    }
}

#[tokio::test]
async fn requests_come_from_the_clients_descriptor() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let none: [Options<'_>; 0] = [];
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let path = watch.begin("Sum", &(none.as_slice(), fd("input-fd", &reader, "proto"))).await;
    drop(reader);
    let write = tokio::task::spawn_blocking(move || {
        let mut writer = File::from(writer);
        for number in 1..=10_000 {
            writer.write_all(&SumRequest { number }.encode_length_delimited_to_vec()).unwrap();
        }
    });
    let signals = watch.until_end(&path).await;
    write.await.unwrap();
    let body = signals[0].1.body();
    let (_, _, sum): (u64, u64, Options<'_>) = body.deserialize().unwrap();
    assert_eq!(sum["sum"], Variant::from(50_005_000_i64));

    // Both ways at once, message by message.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let mut options = fd("input-fd", &theirs, "json");
    options.extend(fd("output-fd", &theirs, "json"));
    let path = watch.begin("Chat", &(none.as_slice(), options)).await;
    drop(theirs);
    let talk = tokio::task::spawn_blocking(move || {
        let mut ours = BufReader::new(ours);
        for text in ["a", "b"] {
            ours.get_mut().write_all(format!("{{\"text\":\"{text}\"}}\n\n").as_bytes()).unwrap();
            let mut line = String::new();
            ours.read_line(&mut line).unwrap();
            assert_eq!(line, format!("{{\"text\":\"{text}\"}}\n"));
        }
    });
    assert_eq!(finished(&watch.until_end(&path).await).0, "completed");
    talk.await.unwrap();
}

#[tokio::test]
async fn requests_from_descriptors_are_among_the_bytes_of_their_caller() {
    let mut config = op_dbus::executor::Config::default();
    config.share.request_bytes = 4096;
    let world = World::with(Bus::start(), config).await;
    let mut watch = Watch::new(&world.client);
    let none: [Options<'_>; 0] = [];
    let whole = ChatRequest { text: "a".repeat(3000) }.encode_length_delimited_to_vec();
    let line = format!("{{\"text\":\"{}\"}}\n", "a".repeat(3000)).into_bytes();
    for (format, bytes) in [("proto", whole), ("json", line)] {
        let begun = std::time::Instant::now();
        let (first, mut held, refused) = 'together: loop {
            // A request of which all but the last byte has come.
            let (reader, held) = nix::unistd::pipe().unwrap();
            let options = fd("input-fd", &reader, format);
            let first = watch.begin("Chat", &(none.as_slice(), options)).await;
            drop(reader);
            let mut held = File::from(held);
            held.write_all(&bytes[..bytes.len() - 1]).unwrap();
            let task = super::tasks::task(&world, &first);
            // Until it is read others have room, and it has none while they do.
            while !task.state().is_final() {
                assert!(begun.elapsed() < PATIENCE * 6, "nothing is refused as {format}");
                let (reader, writer) = nix::unistd::pipe().unwrap();
                let options = fd("input-fd", &reader, format);
                let path = watch.begin("Chat", &(none.as_slice(), options)).await;
                drop(reader);
                File::from(writer).write_all(&bytes).unwrap();
                let (state, name, text, _) = finished(&watch.until_end(&path).await);
                if state == "failed" {
                    break 'together (first, held, (name, text));
                }
            }
        };
        assert_eq!(refused.0, "org.opdbus.Error.LimitExceeded", "{format}");
        assert!(refused.1.contains("limits.request_bytes is 4096"), "{}", refused.1);
        assert!(world.metrics().contains("opdbus_rejected_total{reason=\"caller_bytes\"}"));
        held.write_all(&bytes[bytes.len() - 1..]).unwrap();
        drop(held);
        assert_eq!(finished(&watch.until_end(&first).await).0, "completed", "{format}");
    }
}

#[tokio::test]
async fn requests_that_break_off_are_an_error_to_the_agent() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let none: [Options<'_>; 0] = [];
    let whole = ChatRequest { text: "a".into() }.encode_length_delimited_to_vec();
    let long = [vec![0xff; 10], vec![1]].concat();
    for (format, bytes, says) in [
        ("proto", [&whole[..], &whole[..2]].concat(), "middle of message 2"),
        ("proto", long, "no valid length"),
        ("proto", vec![0xff, 0xff, 0xff, 0x7f], "too large"),
        ("json", b"{\"text\":\"a\"}\n{\"te".to_vec(), "middle of message 2"),
        ("json", b"{\"text\":\"a\"}\n{\"no\":1}\n".to_vec(), "line 2"),
    ] {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        File::from(writer).write_all(&bytes).unwrap();
        let path = watch.begin("Chat", &(none.as_slice(), fd("input-fd", &reader, format))).await;
        drop(reader);
        let (state, name, text, _) = finished(&watch.until_end(&path).await);
        assert_eq!(state, "failed", "{text}");
        assert!(text.contains("input-fd") && text.contains(says), "{name} {text}");
    }
}

#[tokio::test]
async fn a_client_that_is_gone_has_not_ended_its_requests() {
    let world = World::new().await;
    // As when a process is killed: its descriptor and its connection close one right after the other.
    for bus_first in [true, false] {
        for _ in 0..10 {
            let other = connect(&world.bus).await;
            let mut watch = Watch::new(&other);
            let none: [Options<'_>; 0] = [];
            let (reader, writer) = nix::unistd::pipe().unwrap();
            let options = fd("input-fd", &reader, "proto");
            let path = watch.begin("Sum", &(none.as_slice(), options)).await;
            drop(reader);
            let mut writer = File::from(writer);
            writer.write_all(&SumRequest { number: 1 }.encode_length_delimited_to_vec()).unwrap();
            let task = super::tasks::task(&world, &path);
            eventually("it waits for more", async || task.state() == State::InputRequired).await;
            drop(watch);
            if bus_first {
                other.close().await.unwrap();
                drop(writer);
            } else {
                drop(writer);
                other.close().await.unwrap();
            }
            eventually("it has ended", async || task.state().is_final()).await;
            assert_eq!(task.record().last_seq, 0, "there is no sum of half a stream");
            assert!(task.record().failure.unwrap().message.contains("went away"));
        }
    }
}

/// Whether or not its library answers the question whether it is still there.
#[tokio::test]
async fn a_client_that_closes_its_descriptor_and_stays_has_ended_its_requests() {
    let world = World::new().await;
    for is_mute in [false, true] {
        let other = connect(&world.bus).await;
        let mut watch = Watch::new(&other);
        if is_mute {
            watch = watch.mute();
        }
        let none: [Options<'_>; 0] = [];
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let path = watch.begin("Sum", &(none.as_slice(), fd("input-fd", &reader, "proto"))).await;
        drop(reader);
        let mut writer = File::from(writer);
        writer.write_all(&SumRequest { number: 1 }.encode_length_delimited_to_vec()).unwrap();
        drop(writer);
        assert_eq!(finished(&watch.until_end(&path).await).0, "completed");
        assert_eq!(watch.pings, 1);
    }
}

#[tokio::test]
async fn descriptors_of_no_use_are_refused() {
    let world = World::new().await;
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let null = OwnedFd::from(File::options().write(true).open("/dev/null").unwrap());
    let folder = OwnedFd::from(File::open("/").unwrap());
    let datagram = OwnedFd::from(std::os::unix::net::UnixDatagram::unbound().unwrap());
    for bad in [&reader, &null, &folder, &datagram] {
        let reply = world.probe("Generate", &(1_u32, fd("output-fd", bad, "proto"))).await;
        let text = failed(reply, "org.opdbus.Error.InvalidArgument");
        assert!(text.starts_with("output-fd"), "{text}");
    }
    let none: [Options<'_>; 0] = [];
    let reply = world.probe("Sum", &(none.as_slice(), fd("input-fd", &writer, "proto"))).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.starts_with("input-fd: is not open for reading"), "{text}");
    let one = [with("number", 1_i64)];
    let reply = world.probe("Sum", &(one.as_slice(), fd("input-fd", &reader, "proto"))).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.starts_with("input-fd: cannot be given together"), "{text}");
    let reply = world.probe("Generate", &(1_u32, with("output-fd", 1))).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.starts_with("output-fd: takes a descriptor"), "{text}");
}

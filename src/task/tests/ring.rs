//! The ring against a plain list of everything that was ever pushed.

use bytes::Bytes;
use proptest::prelude::*;

use crate::task::Message;
use crate::task::ring::{Bounds, Ring};

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Discard(u64),
    Unload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0usize..40).prop_map(Step::Push),
        1 => (0u64..120).prop_map(Step::Discard),
        1 => Just(Step::Unload),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn the_newest_messages_are_kept_and_numbered(
        steps in steps(),
        messages in 1usize..20,
        bytes in 0usize..100,
    ) {
        let bounds = Bounds { messages, bytes };
        let mut ring = Ring::default();
        let mut all: Vec<Message> = Vec::new();
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(length) => {
                    let payload = Bytes::from(vec![u8::try_from(index).unwrap(); length]);
                    let first = ring.first_after(length, bounds);
                    ring.discard_before(first);
                    ring.push(payload.clone());
                    let offset = all.iter().map(|message| message.payload.len() as u64).sum();
                    all.push(Message { seq: all.len() as u64 + 1, offset, payload });
                    let kept: usize = ring.iter().map(|message| message.payload.len()).sum();
                    prop_assert!(ring.iter().count() <= messages);
                    prop_assert!(kept <= bytes || ring.iter().count() == 1);
                    prop_assert!(ring.get(all.len() as u64).is_some(), "the newest is kept");
                }
                Step::Discard(seq) => ring.discard_before(seq),
                Step::Unload => ring.unload(),
            }
            let next = all.len() as u64 + 1;
            prop_assert_eq!(ring.next(), next);
            prop_assert!((1..=next).contains(&ring.first()));
            let loaded: Vec<Message> = ring.iter().cloned().collect();
            prop_assert_eq!(&all[all.len() - loaded.len()..], &loaded[..], "the last ones, in order");
            prop_assert!(loaded.first().is_none_or(|message| message.seq >= ring.first()));
            for seq in 0..=next {
                let expected = loaded.iter().find(|message| message.seq == seq);
                prop_assert_eq!(ring.get(seq), expected);
            }
            let total: usize = all.iter().map(|message| message.payload.len()).sum();
            prop_assert_eq!(ring.total(), total as u64);
            let kept: usize = loaded.iter().map(|message| message.payload.len()).sum();
            prop_assert_eq!(ring.cost(), kept + loaded.len() * size_of::<Message>());
        }
    }

    /// What would be dropped is known before, and nothing else is.
    #[test]
    fn first_after_tells_what_a_push_drops(
        lengths in proptest::collection::vec(0usize..40, 1..60),
        messages in 1usize..10,
        bytes in 0usize..100,
    ) {
        let bounds = Bounds { messages, bytes };
        let mut ring = Ring::default();
        for length in lengths {
            let before = (ring.first(), ring.next());
            let first = ring.first_after(length, bounds);
            prop_assert!((before.0..=before.1).contains(&first));
            // One fewer dropped would be one too many kept.
            let kept = |from: u64| ring.iter().filter(move |message| message.seq >= from);
            let fits = |from: u64| {
                let sum: usize = kept(from).map(|message| message.payload.len()).sum();
                kept(from).count() < messages && sum + length <= bytes
            };
            prop_assert!(fits(first) || kept(first).count() == 0);
            prop_assert!(first == before.0 || !fits(first - 1));
            ring.discard_before(first);
            ring.push(vec![0; length].into());
            prop_assert_eq!(ring.first(), first);
        }
    }
}

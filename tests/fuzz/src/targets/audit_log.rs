//! Any bytes as a file of the audit log, alone and between records that are whole: they are judged
//! without a panic, and a log with something between its records that none of them tells of is never
//! taken for whole.

use op_dbus::audit::{Hash, Record, Verifier};

/// The first byte says whether it is the newest file, the rest is in it.
pub(super) fn run(input: &[u8]) {
    let Some((newest, bytes)) = input.split_first() else { return };
    let newest = newest % 2 == 1;
    drop(Verifier::default().file("alone", bytes, newest));

    let mut lines = Vec::new();
    let first = Record { seq: 1, agent: "memory".into(), ..Record::default() };
    let hash = first.write(&mut lines);
    let before = lines.len();
    lines.extend_from_slice(bytes);
    if !bytes.is_empty() && bytes.last() != Some(&b'\n') {
        lines.push(b'\n');
    }
    let between = lines.len() > before;
    Record { seq: 2, prev: hash, ..Record::default() }.write(&mut lines);
    let judged = Verifier::default().file("between", &lines, newest);
    assert_eq!(judged.is_err(), between);

    // A record that is made of what came: it is read as it was written.
    let text = String::from_utf8_lossy(bytes).into_owned();
    let record = Record { seq: 1, operation: text, prev: Hash::NONE, ..Record::default() };
    let mut line = Vec::new();
    record.write(&mut line);
    assert!(Verifier::default().file("made", &line, newest).is_ok());
}

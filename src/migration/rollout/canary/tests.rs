//! The comparison says what is so: calls that are no worse are let be however long they are watched, and
//! what is worse is found soon.

use super::*;

const NAMES: (&str, &str) = ("memory", "Recall");

fn margins() -> Margins {
    Margins { error: 0.01, latency: 1.5, min_calls: 50 }
}

/// A small generator of its own, so that the runs are the same ones every time.
struct Chance(u64);

impl Chance {
    /// The next number from 0 to 1.
    fn next(&mut self) -> f64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        ((word >> 11) as f64) / ((1_u64 << 53) as f64)
    }

    /// A call that fails with this probability, and takes from one to eleven times `millis`.
    fn call(&mut self, failing: f64, millis: f64) -> Shown {
        let failed = self.next() < failing;
        let time = Duration::from_secs_f64(millis * (1.0 + 10.0 * self.next().powi(8)) / 1000.0);
        Shown { failed, time: Some(time), given_up: false }
    }
}

/// After how many calls over gRPC, of `calls` at most, it is found to be worse; every fourth call of each
/// of three operations takes gRPC.
fn found_worse(
    seed: u64,
    calls: u64,
    (dbus, grpc): ((f64, f64), (f64, f64)),
) -> Option<(u64, String)> {
    let mut chance = Chance(seed);
    let mut comparison = Comparison::new(margins());
    for call in 0..calls {
        let (way, (failing, millis)) = match call % 4 {
            0 => (Transport::Grpc, grpc),
            _ => (Transport::Dbus, dbus),
        };
        let path = ["/a", "/b", "/c"][usize::try_from(call / 4 % 3).unwrap()];
        comparison.add(path, (NAMES.0, &path[1..]), way, chance.call(failing, millis));
        if call % 10 == 0
            && let Verdict::Worse(why) = comparison.verdict()
        {
            return Some((comparison.all[Transport::Grpc.index()].failed.calls, why));
        }
    }
    None
}

#[test]
fn what_is_equal_is_let_be_over_many_runs() {
    let runs = 150;
    for failing in [0.0, 0.02, 0.3] {
        let same = ((failing, 2.0), (failing, 2.0));
        let wrong: Vec<_> = (0..runs).filter_map(|seed| found_worse(seed, 4000, same)).collect();
        let most = (runs as f64 * ERROR_PROBABILITY).floor();
        assert!(wrong.len() as f64 <= most, "{failing}: {wrong:?}");
    }
}

#[test]
fn what_fails_more_often_is_found_and_said() {
    for seed in 0..20 {
        let all = found_worse(seed, 40_000, ((0.0, 2.0), (1.0, 2.0)));
        let (after, why) = all.expect("every call fails");
        assert!(after <= 200 && why.contains(" failed, over D-Bus 0 of "), "{after}: {why}");
        let some = found_worse(seed, 40_000, ((0.01, 2.0), (0.2, 2.0)));
        assert!(some.expect("one of five fails").0 <= 1000, "{seed}");
    }
}

/// One operation whose calls take gRPC and D-Bus in turn, with the same chance to fail over both.
fn healthy(comparison: &mut Comparison, chance: &mut Chance, calls: u64, failing: f64) {
    for call in 0..calls {
        let way = Transport::ALL[usize::from(call % 2 == 0)];
        comparison.add("/a", NAMES, way, chance.call(failing, 2.0));
    }
}

/// A fault does not wait for the good calls before it to be outweighed: it is found when the window in
/// which it begins has ended and the next has enough.
#[test]
fn what_breaks_after_a_long_good_time_is_found_within_two_windows() {
    let fault = |failing, millis| (failing, millis);
    for (seed, grpc) in
        [(1, fault(1.0, 2.0)), (2, fault(0.2, 2.0)), (3, fault(0.1, 2.0)), (4, fault(0.0, 60.0))]
    {
        let mut chance = Chance(seed);
        let mut comparison = Comparison::new(margins());
        healthy(&mut comparison, &mut chance, 1_000_000, 0.001);
        assert!(!matches!(comparison.verdict(), Verdict::Worse(_)), "{:?}", comparison.verdict());
        let found = (0..2 * shares::WINDOW).find(|call| {
            comparison.add("/a", NAMES, Transport::Dbus, chance.call(0.001, 2.0));
            comparison.add("/a", NAMES, Transport::Grpc, chance.call(grpc.0, grpc.1));
            call % 10 == 0 && matches!(comparison.verdict(), Verdict::Worse(_))
        });
        let text = comparison.verdict().text().to_owned();
        assert!(found.is_some() && text.starts_with("worse: of the last "), "{grpc:?}: {text}");
    }
}

/// Even where nothing is allowed for, and every tenth window's worth of calls is looked at.
#[test]
fn what_is_equal_is_let_be_for_as_many_windows_as_there_are() {
    const RUNS: u64 = 100;
    let margins = Margins { error: 0.0, ..margins() };
    for failing in [0.0, 0.02, 0.3] {
        let taken_back = |seed: &u64| {
            let mut chance = Chance(*seed);
            let mut comparison = Comparison::new(margins);
            (0..200).any(|_| {
                healthy(&mut comparison, &mut chance, shares::WINDOW / 5, failing);
                matches!(comparison.verdict(), Verdict::Worse(_))
            })
        };
        let wrong = (0..RUNS).filter(taken_back).count();
        let most = (RUNS as f64 * ERROR_PROBABILITY).floor();
        assert!(wrong as f64 <= most, "{failing}: {wrong} of {RUNS} runs of 20 windows");
    }
}

/// Where hardly any call takes D-Bus, what it has shown before stands for it.
#[test]
fn what_breaks_when_nothing_takes_dbus_is_found_too() {
    let mut chance = Chance(1);
    let mut comparison = Comparison::new(margins());
    healthy(&mut comparison, &mut chance, 20_000, 0.001);
    let mut comparison = comparison.with_dbus_of();
    let mut only_grpc = |comparison: &mut Comparison, calls: u64, failing: f64| {
        (0..calls).any(|call| {
            comparison.add("/a", NAMES, Transport::Grpc, chance.call(failing, 2.0));
            call % 100 == 0 && matches!(comparison.verdict(), Verdict::Worse(_))
        })
    };
    assert!(!only_grpc(&mut comparison, 200_000, 0.001));
    assert!(only_grpc(&mut comparison, 2 * shares::WINDOW, 0.2));
}

/// What breaks behind both ways at once is no fault of gRPC.
#[test]
fn what_breaks_over_both_ways_is_let_be() {
    let mut chance = Chance(1);
    let mut comparison = Comparison::new(margins());
    healthy(&mut comparison, &mut chance, 100_000, 0.001);
    for _ in 0..50 {
        healthy(&mut comparison, &mut chance, 100, 0.5);
        assert!(!matches!(comparison.verdict(), Verdict::Worse(_)), "{:?}", comparison.verdict());
    }
}

#[test]
fn what_is_slower_by_more_than_the_margin_is_found() {
    for seed in 0..20 {
        let (_, why) = found_worse(seed, 40_000, ((0.0, 2.0), (0.0, 60.0))).expect("it is slow");
        assert!(why.contains("took more than"), "{why}");
    }
    // Within the margin, and below what a machine's own noise is.
    assert_eq!(found_worse(1, 8000, ((0.0, 2.0), (0.0, 2.4))), None);
    assert_eq!(found_worse(1, 8000, ((0.0, 0.02), (0.0, 0.08))), None);
}

#[test]
fn nothing_is_said_before_there_are_enough_calls_over_both_ways() {
    let mut comparison = Comparison::new(margins());
    let failed = Shown { failed: true, time: None, given_up: false };
    for call in 0..50 {
        let text = comparison.verdict();
        assert_eq!(text.text(), format!("too few calls over gRPC: {call} of 50"));
        assert!(text.blocks().is_some());
        comparison.add("/a", NAMES, Transport::Grpc, failed);
    }
    assert_eq!(comparison.verdict().text(), "too few calls over D-Bus: 0 of 50");
    comparison.add_lost("/a", NAMES, Transport::Dbus, 50);
    assert!(matches!(comparison.verdict(), Verdict::NoSign(_)), "both ways fail");
    let told = comparison.describe();
    assert_eq!((told.grpc_calls, told.grpc_errors, told.dbus_errors), (50, 50, 50));
}

#[test]
fn lost_calls_are_failed_ones_and_much_that_goes_well_is_no_worse() {
    let mut comparison = Comparison::new(margins());
    let well = Shown { failed: false, time: Some(Duration::from_millis(2)), given_up: false };
    for _ in 0..3000 {
        comparison.add("/a", NAMES, Transport::Dbus, well);
        comparison.add("/a", NAMES, Transport::Grpc, well);
    }
    assert_eq!(comparison.verdict(), Verdict::NoWorse("no worse".to_owned()));
    comparison.add_lost("/a", NAMES, Transport::Grpc, 300);
    assert!(matches!(comparison.verdict(), Verdict::Worse(_)), "{:?}", comparison.verdict());
    let later = comparison.with_dbus_of();
    assert_eq!(later.verdict().text(), "too few calls over gRPC: 0 of 50");
    assert_eq!(later.describe().dbus_calls, 3000);
}

#[test]
fn a_clients_fault_is_no_fault_of_the_way() {
    let time = Duration::from_millis(7);
    let shown = |kind| Shown::of(Some(kind), time, false);
    assert!(shown(ErrorKind::Internal).is_some_and(|it| it.failed && it.time == Some(time)));
    assert!(shown(ErrorKind::Cancelled).is_some_and(|it| !it.failed && it.given_up));
    for kind in [ErrorKind::NotFound, ErrorKind::InvalidArgument, ErrorKind::AccessDenied] {
        assert_eq!(shown(kind), None);
    }
    // What lasts as long as its client likes is not slow.
    assert_eq!(Shown::of(None, time, true).and_then(|it| it.time), None);

    // A call that was given up counts only if it was slow.
    let mut comparison = Comparison::new(Margins { min_calls: 1, ..margins() });
    let well = Shown { failed: false, time: Some(Duration::from_millis(2)), given_up: false };
    comparison.add("/a", NAMES, Transport::Dbus, well);
    let given_up = |millis| {
        let time = Some(Duration::from_millis(millis));
        Shown { failed: false, time, given_up: true }
    };
    comparison.add("/a", NAMES, Transport::Grpc, given_up(1));
    assert_eq!(comparison.describe().grpc_calls, 0);
    comparison.add("/a", NAMES, Transport::Grpc, given_up(100));
    assert_eq!(comparison.describe().grpc_calls, 1);
}

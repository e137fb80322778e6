//! Estimates, ranking, selection, compaction and shares, on items made by hand.

mod properties;

use super::Features;
use super::compact::{Fate, Plan, compact};
use super::rank::rank;
use super::select::select;
use super::share::{Claim, share};
use super::tokens::{estimate, of_message};
use super::units::units;
use crate::agents::context_manager::item::{IMPORTANCE, Item};
use crate::proto::opdbus::agent::context_manager::v1::{Feature, Reason, Role, Strategy};

fn item(id: i64, role: Role, text: &str) -> Item {
    Item {
        id,
        content: id,
        position: id,
        pinned: false,
        role,
        created_at: 0,
        source: String::new(),
        importance: IMPORTANCE,
        tokens: of_message(text),
        shortened: false,
        text: text.to_owned(),
    }
}

/// Items of the user that take 10 tokens each.
fn tens(count: i64) -> Vec<Item> {
    (0..count).map(|id| Item { tokens: 10, ..item(id, Role::User, "x") }).collect()
}

fn taken(items: &[Item], budget: u64, strategy: Strategy, query: &str) -> Vec<i64> {
    let taken = select(items, budget, strategy, query);
    items.iter().zip(taken).filter(|(_, taken)| *taken).map(|(item, _)| item.id).collect()
}

fn plan(target: u64, keep_last: usize) -> Plan {
    Plan { target, keep_last, keep: Features::default() }
}

fn after(items: &[Item], fates: &[Fate]) -> Vec<String> {
    let texts = items.iter().zip(fates).filter_map(|(item, fate)| match fate {
        Fate::Keep => Some(item.text.clone()),
        Fate::Shorten(text, _) => Some(text.clone()),
        Fate::Drop(_) => None,
    });
    texts.collect()
}

fn reason(fate: &Fate) -> Option<Reason> {
    match fate {
        Fate::Keep => None,
        Fate::Shorten(_, loss) | Fate::Drop(loss) => Some(loss.reason),
    }
}

#[test]
fn an_estimate_grows_with_the_text_and_knows_scripts() {
    assert_eq!(estimate(""), 0);
    assert_eq!(estimate("hello"), 1);
    assert_eq!(estimate("hello world"), 2);
    assert_eq!(estimate("internationalization"), 4);
    assert_eq!(estimate("1234567"), 3);
    assert_eq!(estimate("----------------"), 2);
    assert_eq!(estimate("文脈管理"), 4);
    assert_eq!(estimate("привет"), 3);
    // A paragraph of prose has about 1.3 tokens for each word in today's vocabularies.
    let prose = "The daemon answers on the bus and on the socket at the same time, \
                 because both are translations of one executor.";
    let words = u64::try_from(prose.split_whitespace().count()).unwrap();
    assert!((words..=words * 2).contains(&estimate(prose)), "{}", estimate(prose));
}

#[test]
fn rare_words_rank_above_common_ones() {
    let texts = ["the build failed", "the build is fine", "the weather is fine"];
    let scores = rank("failed build", texts.into_iter());
    assert!(scores[0] > scores[1] && scores[1] > scores[2], "{scores:?}");
    assert!(scores[2].abs() < f64::EPSILON);
    assert!(rank("x", std::iter::empty()).is_empty());
}

#[test]
fn the_tail_has_no_gap_and_fits() {
    let items = tens(10);
    assert_eq!(taken(&items, 35, Strategy::Tail, ""), [7, 8, 9]);
    assert_eq!(taken(&items, 9, Strategy::Tail, ""), Vec::<i64>::new());
    assert_eq!(taken(&items, 1000, Strategy::Tail, "").len(), 10);
    let mut items = items;
    items[8].tokens = 100;
    assert_eq!(taken(&items, 35, Strategy::Tail, ""), [9]);
}

#[test]
fn pinned_and_system_items_come_first() {
    let mut items = tens(10);
    items[0].role = Role::System;
    items[4].pinned = true;
    assert_eq!(taken(&items, 30, Strategy::Tail, ""), [0, 4, 9]);
    assert_eq!(taken(&items, 10, Strategy::Tail, ""), [4]);
}

#[test]
fn head_and_tail_take_from_both_ends() {
    assert_eq!(taken(&tens(20), 80, Strategy::HeadTail, ""), [0, 1, 14, 15, 16, 17, 18, 19]);
}

#[test]
fn relevance_takes_what_matches_then_the_newest() {
    let mut items = tens(6);
    items[1].text = "the database needs an index".into();
    items[3].text = "a database".into();
    assert_eq!(taken(&items, 30, Strategy::Relevance, "database index"), [1, 3, 5]);
    assert_eq!(taken(&items, 10, Strategy::Relevance, "database index"), [1]);
}

#[test]
fn units_are_the_text() {
    let text = "First. Second!\n\n```rust\nlet a = 1;\n\nlet b = 2;\n```\n\
        A long line that goes on for more than eighty bytes. It has two sentences, which are cut.\n\
        last";
    let units = units(text);
    assert_eq!(units.iter().map(|unit| unit.text).collect::<String>(), text);
    assert_eq!(units.iter().filter(|unit| unit.is_code).count(), 1);
    assert_eq!(units.len(), 5, "{units:?}");
    for text in ["", "\n\n", "```", "\n\n```\nx", "a.", ". . .", &"word. ".repeat(40)] {
        let joined: String = super::units::units(text).iter().map(|unit| unit.text).collect();
        assert_eq!(joined, text);
    }
}

#[test]
fn features_are_found_as_whole_words() {
    let has = |text: &str, feature| Features::of(text).shares(Features::named(feature).unwrap());
    assert!(has("We will use SQLite.", Feature::Decision));
    assert!(has("it must stay", Feature::Decision));
    assert!(has("don't touch it", Feature::Decision));
    assert!(!has("mustard", Feature::Decision));
    assert!(has("error: no such file", Feature::Error));
    assert!(!has("terrors", Feature::Error));
    assert!(has("see src/main.rs", Feature::Path));
    assert!(has("at https://example.org", Feature::Path));
    assert!(has("std::fs::read", Feature::Path));
    assert!(!has("either/or", Feature::Path));
    assert!(!has("on 1/2/2026", Feature::Path));
    assert!(has("port 50051", Feature::Number));
}

#[test]
fn what_fits_is_left_alone() {
    let items = tens(5);
    assert!(compact(&items, &plan(50, 0)).iter().all(|fate| *fate == Fate::Keep));
}

#[test]
fn duplicates_and_superseded_outputs_go_first() {
    let long = "the same long paragraph, said twice, with more than forty bytes";
    let mut items = vec![
        item(1, Role::User, long),
        item(2, Role::Tool, "old listing of the folder"),
        item(3, Role::User, "yes"),
        item(4, Role::User, &long.replace(' ', "  ")),
        item(5, Role::Tool, "new listing of the folder"),
        item(6, Role::User, "yes"),
    ];
    items[1].source = "ls /srv".into();
    items[4].source = "ls /srv".into();
    let total: u64 = items.iter().map(|item| item.tokens).sum();
    let reasons: Vec<_> = compact(&items, &plan(total - 1, 0)).iter().map(reason).collect();
    let expected = [Some(Reason::Duplicate), Some(Reason::Superseded), None, None, None, None];
    assert_eq!(reasons, expected);
}

#[test]
fn long_outputs_are_cut_to_their_ends() {
    let output: String = (0..1000).map(|line| format!("line {line}\n")).collect();
    let items = vec![item(1, Role::Tool, &output), item(2, Role::User, "and now?")];
    let fates = compact(&items, &plan(1000, 1));
    let texts = after(&items, &fates);
    assert_eq!(reason(&fates[0]), Some(Reason::Cut));
    assert!(texts[0].starts_with("line 0\n") && texts[0].ends_with("line 999\n"));
    assert!(texts[0].contains("bytes left out by compaction"));
    assert!(of_message(&texts[0]) < 400);
}

#[test]
fn decisions_outlive_small_talk_and_the_target_is_met() {
    let mut items = Vec::new();
    for id in 0..40 {
        let talk = format!("Some thoughts on the weather and the coffee, part {id} of many.");
        items.push(item(id, Role::Assistant, &talk.replace(char::is_numeric, "")));
    }
    items[7].text = "We will keep the data in /var/lib/op-dbus/memory.db from now on.".into();
    items[9].pinned = true;
    let fates = compact(&items, &plan(200, 2));
    let texts = after(&items, &fates);
    assert!(texts.contains(&items[7].text), "{texts:?}");
    for kept in [9, 38, 39] {
        assert_eq!(fates[kept], Fate::Keep);
    }
    assert!(texts.iter().map(|text| of_message(text)).sum::<u64>() <= 200);
}

#[test]
fn a_long_item_is_shortened_to_quotes() {
    let mut text = String::new();
    for _ in 0..30 {
        text += "This sentence fills the room and says nothing that anybody would miss at all. ";
    }
    text += "The port must be 50051 because the clients expect it. ";
    text += "This last sentence fills the room and says nothing that anybody would miss either.";
    let items = vec![item(1, Role::Assistant, &text), item(2, Role::User, "go on")];
    let fates = compact(&items, &plan(60, 1));
    let texts = after(&items, &fates);
    assert_eq!(reason(&fates[0]), Some(Reason::Extracted));
    assert!(texts[0].contains("The port must be 50051 because the clients expect it."));
    assert!(texts[0].contains("[…]"));
    assert!(texts.iter().map(|text| of_message(text)).sum::<u64>() <= 60, "{texts:?}");
    for quote in texts[0].split("[…]").map(str::trim) {
        assert!(text.contains(quote), "{quote:?} is no quote");
    }
}

#[test]
fn wanted_features_come_before_all_others() {
    let items: Vec<Item> = (0..20)
        .map(|id| {
            let text = if id == 3 {
                "the quiet number forty-two is 42".to_owned()
            } else {
                "we must decide about the error in src/lib.rs today".to_owned()
            };
            item(id, Role::Assistant, &format!("{text} {}", "and so on ".repeat(2)))
        })
        .collect();
    let target = items[0].tokens * 3;
    let keep = Features::named(Feature::Number).unwrap();
    let fates = compact(&items, &Plan { target, keep_last: 1, keep });
    assert_eq!(fates[3], Fate::Keep);
}

#[test]
fn a_compaction_leaves_something() {
    let items = tens(5);
    let fates = compact(&items, &plan(1, 0));
    assert_eq!(fates[4], Fate::Keep);
    assert!(fates[..4].iter().all(|fate| reason(fate) == Some(Reason::RankedLow)));
    assert!(compact(&[], &plan(1, 0)).is_empty());
}

#[test]
fn a_second_compaction_does_not_pile_up_gaps() {
    let text = "One thing that was said here is of no great use to anybody who reads it later.\n"
        .repeat(30);
    let first = item(1, Role::Assistant, &(text + "We will ship on 2026-03-01."));
    let items = vec![first, item(2, Role::User, "ok")];
    let once = after(&items, &compact(&items, &plan(100, 1)));
    let items = vec![item(1, Role::Assistant, &once[0]), item(2, Role::User, "ok")];
    let twice = after(&items, &compact(&items, &plan(50, 1)));
    assert!(twice[0].contains("We will ship on 2026-03-01."), "{twice:?}");
    assert!(twice[0].matches("[…]").count() <= 2, "{twice:?}");
}

fn claim(needs: u64, min: u64, priority: i32) -> Claim {
    Claim { needs, min, max: u64::MAX, priority }
}

#[test]
fn shares_give_minimums_then_priority_then_evenly() {
    let shared = |budget, claims: &[Claim]| share(budget, claims);
    assert_eq!(shared(100, &[claim(80, 0, 0), claim(80, 0, 0)]), Ok(vec![50, 50]));
    assert_eq!(shared(100, &[claim(20, 0, 0), claim(80, 0, 0)]), Ok(vec![20, 80]));
    assert_eq!(shared(100, &[claim(80, 0, 0), claim(80, 0, 1)]), Ok(vec![20, 80]));
    assert_eq!(shared(100, &[claim(80, 40, 0), claim(80, 0, 1)]), Ok(vec![40, 60]));
    assert_eq!(shared(100, &[claim(10, 40, 0), claim(200, 0, 0)]), Ok(vec![10, 90]));
    assert_eq!(shared(10, &[claim(10, 8, 0), claim(10, 8, 0)]), Err(16));
    assert_eq!(shared(1, &[claim(10, 0, 0), claim(10, 0, 0)]), Ok(vec![1, 0]));
    let capped = Claim { max: 5, ..claim(80, 0, 9) };
    assert_eq!(shared(100, &[capped, claim(80, 0, 0)]), Ok(vec![5, 80]));
}

//! What holds of every list of items, whatever is in it.

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy as Generate, *};

use super::super::compact::{Fate, compact};
use super::super::select::select;
use super::super::share::{Claim, share};
use super::super::tokens::of_message;
use super::super::units::units;
use super::{item, plan, reason};
use crate::agents::context_manager::item::Item;
use crate::proto::opdbus::agent::context_manager::v1::{Reason, Role, Strategy};

fn any_item() -> impl Generate<Value = Item> {
    let text = prop_oneof![
        "[ -~\n]{0,200}",
        "(We must keep /etc/[a-z]{3}\\. |Small talk of no use\\. |```\ncode\n```\n){1,30}",
        "(line [0-9]{1,3}\n){1,300}",
    ];
    let role = prop_oneof![
        8 => Just(Role::Assistant),
        4 => Just(Role::Tool),
        1 => Just(Role::System),
    ];
    (text, role, prop::bool::weighted(0.05), 0.0..=1.0_f64).prop_map(
        |(text, role, pinned, importance)| {
            let text = if text.is_empty() { "x".to_owned() } else { text };
            Item { pinned, importance, ..item(0, role, &text) }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn units_of_any_text_are_the_text(text in "(\\PC|[\n\r `.])*") {
        let joined: String = units(&text).iter().map(|unit| unit.text).collect();
        prop_assert_eq!(joined, text);
    }

    #[test]
    fn a_compaction_keeps_its_promises(
        items in vec(any_item(), 0..30),
        target in 1..2000_u64,
        keep_last in 0..6_usize,
    ) {
        let fates = compact(&items, &plan(target, keep_last));
        prop_assert_eq!(fates.len(), items.len());
        let first_of_last = items.len().saturating_sub(keep_last);
        let mut fixed = 0;
        let mut total = 0;
        for (index, (item, fate)) in items.iter().zip(&fates).enumerate() {
            let is_fixed = item.is_fixed() || index >= first_of_last;
            prop_assert!(!is_fixed || *fate == Fate::Keep);
            fixed += if is_fixed { item.tokens } else { 0 };
            total += match fate {
                Fate::Keep => item.tokens,
                Fate::Shorten(text, _) => of_message(text),
                Fate::Drop(_) => 0,
            };
            prop_assert_ne!(reason(fate), Some(Reason::Unspecified));
        }
        let kept = fates.iter().filter(|fate| !matches!(fate, Fate::Drop(_))).count();
        prop_assert!(items.is_empty() || kept > 0);
        prop_assert!(total <= target || fixed > 0 || kept == 1, "{} > {}", total, target);
        prop_assert!(total <= target.max(fixed) || kept == 1, "{} > {}", total, target);
    }

    #[test]
    fn a_selection_fits_its_budget(
        items in vec(any_item(), 0..30),
        budget in 0..2000_u64,
        number in 1..4_i32,
    ) {
        let strategy = Strategy::try_from(number).unwrap();
        let taken = select(&items, budget, strategy, "talk code");
        let taken = items.iter().zip(taken).filter(|(_, taken)| *taken);
        prop_assert!(taken.map(|(item, _)| item.tokens).sum::<u64>() <= budget);
    }

    #[test]
    fn shares_fit_the_budget(
        budget in 0..1000_u64,
        claims in vec((0..500_u64, 0..100_u64, 0..500_u64, -2..3_i32), 0..10),
    ) {
        let claims: Vec<Claim> = claims
            .into_iter()
            .map(|(needs, min, max, priority)| Claim { needs, min, max: max.max(min), priority })
            .collect();
        let wanted: u64 = claims.iter().map(Claim::most).sum();
        match share(budget, &claims) {
            Ok(shares) => {
                prop_assert_eq!(shares.iter().sum::<u64>(), budget.min(wanted));
                for (share, claim) in shares.iter().zip(&claims) {
                    prop_assert!((claim.min.min(claim.most())..=claim.most()).contains(share));
                }
            }
            Err(minimums) => prop_assert!(minimums > budget),
        }
    }
}

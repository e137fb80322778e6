//! Retries, fallbacks and breakers together, on a clock that does not run by itself.

use std::sync::Mutex;

use super::*;
use crate::error::ErrorKind;

const PLAN: Plan = Plan { way: Way::Grpc, fallback: None, shadow: false };
const FALLING_BACK: Plan = Plan { fallback: Some(Way::Dbus), ..PLAN };
const WRITE: Terms<'_> = Terms {
    agent: "memory",
    operation: "Increment",
    idempotency: Idempotency::Unknown,
    has_request_id: false,
    deadline: None,
    plan: PLAN,
    may_move: true,
};
const NAMED: Terms<'_> = Terms { has_request_id: true, ..WRITE };
const READ: Terms<'_> = Terms { idempotency: Idempotency::NoSideEffects, ..WRITE };

fn retries(max: u32) -> Retries {
    let breakers = Arc::new(Breakers::default());
    Retries::new(max, Arc::new(AgentMetrics::new(Arc::clone(&breakers))), breakers)
}

fn unreachable() -> Error {
    Error::Unreachable(vec![Attempt { target: "there".into(), problem: "refused".into() }])
}

fn said(kind: ErrorKind) -> Error {
    Failure::new(kind, "said").into()
}

fn lost() -> Error {
    Failure::lost("reset").into()
}

/// Makes a call whose tries end so, the last one for ever; gives its outcome and its tries.
async fn made(
    retries: &Retries,
    terms: &Terms<'_>,
    outcomes: &[Option<fn() -> Error>],
) -> (Result<(), Error>, Vec<Try>) {
    let tries = Mutex::new(Vec::new());
    let outcome = retries
        .call(terms, |attempt| {
            let mut tries = tries.lock().unwrap();
            let outcome = outcomes[tries.len().min(outcomes.len() - 1)];
            tries.push(attempt);
            async move { outcome.map_or(Ok(()), |error| Err(error())) }
        })
        .await;
    (outcome, tries.into_inner().unwrap())
}

fn ways(tries: &[Try]) -> Vec<Way> {
    tries.iter().map(|attempt| attempt.way).collect()
}

#[tokio::test(start_paused = true)]
async fn what_cannot_have_begun_is_tried_again_up_to_the_most() {
    let (outcome, tries) =
        made(&retries(3), &WRITE, &[Some(unreachable), Some(unreachable), None]).await;
    assert!(outcome.is_ok());
    assert_eq!(tries.len(), 3);
    assert!(tries.iter().all(|attempt| !attempt.only_same_service));
    let (outcome, tries) = made(&retries(3), &WRITE, &[Some(unreachable)]).await;
    assert!(outcome.is_err());
    assert_eq!(tries.len(), 4);
    let (_, tries) = made(&retries(0), &WRITE, &[Some(unreachable)]).await;
    assert_eq!(tries.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_carried_out_is_tried_again_only_where_that_is_safe() {
    let (outcome, tries) = made(&retries(3), &WRITE, &[Some(lost), None]).await;
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("may or may not have been carried out"), "{message}");
    assert!(message.contains("not tried again"), "{message}");
    assert_eq!(tries.len(), 1);

    let (outcome, tries) = made(&retries(3), &NAMED, &[Some(lost), None]).await;
    assert!(outcome.is_ok());
    assert_eq!(tries.iter().map(|t| t.only_same_service).collect::<Vec<_>>(), [false, true]);

    let (outcome, tries) = made(&retries(3), &READ, &[Some(lost), None]).await;
    assert!(outcome.is_ok());
    assert_eq!(tries.iter().map(|t| t.only_same_service).collect::<Vec<_>>(), [false, false]);
}

#[tokio::test(start_paused = true)]
async fn a_call_falls_back_where_that_is_safe_and_never_on_a_refusal_or_the_end_of_its_time() {
    let unimplemented = || said(ErrorKind::UnknownOperation);
    for error in [unreachable as fn() -> Error, unimplemented] {
        let terms = Terms { plan: FALLING_BACK, ..WRITE };
        let (outcome, tries) = made(&retries(0), &terms, &[Some(error), None]).await;
        assert!(outcome.is_ok());
        assert_eq!(ways(&tries), [Way::Grpc, Way::Dbus]);
    }
    let refused = || said(ErrorKind::AccessDenied);
    let late = || said(ErrorKind::DeadlineExceeded);
    let unanswered = || Failure::no_answer(Duration::from_secs(1)).into();
    for error in [refused as fn() -> Error, late, unanswered] {
        let terms = Terms { plan: FALLING_BACK, ..READ };
        let (_, tries) = made(&retries(3), &terms, &[Some(error)]).await;
        assert_eq!(ways(&tries), [Way::Grpc]);
    }
    // Lost on the way: only what may be made twice.
    let terms = Terms { plan: FALLING_BACK, ..WRITE };
    assert_eq!(ways(&made(&retries(3), &terms, &[Some(lost)]).await.1), [Way::Grpc]);
    let terms = Terms { plan: FALLING_BACK, ..NAMED };
    let (_, tries) = made(&retries(3), &terms, &[Some(lost), None]).await;
    assert_eq!(ways(&tries), [Way::Grpc, Way::Dbus]);
    assert!(tries[1].only_same_service);
}

#[tokio::test(start_paused = true)]
async fn where_no_way_leads_anywhere_the_error_tells_of_each() {
    let no_bus = || Error::unreachable("the bus".into(), "no such file");
    let terms = Terms { plan: FALLING_BACK, ..WRITE };
    let (outcome, tries) = made(
        &retries(1),
        &terms,
        &[Some(unreachable), Some(no_bus), Some(unreachable), Some(no_bus)],
    )
    .await;
    assert_eq!(ways(&tries), [Way::Grpc, Way::Dbus, Way::Grpc, Way::Dbus]);
    let told = outcome.unwrap_err().to_string();
    assert_eq!(told, "the service cannot be reached\n  there: refused\n  the bus: no such file");
}

#[tokio::test(start_paused = true)]
async fn what_dbus_has_given_up_goes_over_grpc() {
    let terms = Terms { plan: Plan { way: Way::Dbus, ..PLAN }, ..WRITE };
    let migrated = || said(ErrorKind::Migrated);
    let (outcome, tries) = made(&retries(3), &terms, &[Some(migrated), None]).await;
    assert!(outcome.is_ok());
    assert_eq!(ways(&tries), [Way::Dbus, Way::Grpc]);
    let pinned = Terms { may_move: false, ..terms };
    let (outcome, tries) = made(&retries(3), &pinned, &[Some(migrated)]).await;
    assert!(outcome.is_err());
    assert_eq!(ways(&tries), [Way::Dbus]);
}

#[tokio::test(start_paused = true)]
async fn the_service_says_how_long_to_wait() {
    let busy = || {
        let mut failure = Failure::new(ErrorKind::LimitExceeded, "busy");
        failure.retry_after = Some(Duration::from_secs(3));
        failure.into()
    };
    let started = Instant::now();
    let (outcome, tries) = made(&retries(3), &WRITE, &[Some(busy), None]).await;
    assert!(outcome.is_ok());
    assert_eq!(tries.len(), 2);
    assert!(started.elapsed() >= Duration::from_secs(3));
    // A limit that does not go away by waiting.
    let full = || said(ErrorKind::LimitExceeded);
    assert_eq!(made(&retries(3), &WRITE, &[Some(full)]).await.1.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_that_of_all_tries_together() {
    let started = Instant::now();
    let deadline = started + Duration::from_millis(300);
    let terms = Terms { deadline: Some(deadline), ..READ };
    let (outcome, tries) = made(&retries(1000), &terms, &[Some(unreachable)]).await;
    assert!(outcome.is_err());
    assert!(Instant::now() < deadline);
    let lefts: Vec<Duration> = tries.iter().map(|attempt| attempt.left.unwrap()).collect();
    assert!(lefts.is_sorted_by(|one, next| one >= next), "{lefts:?}");
    // It is told to wait for longer than there is time: it fails at once.
    let later = || {
        let mut failure = Failure::new(ErrorKind::Unavailable, "later");
        failure.retry_after = Some(Duration::from_secs(1));
        failure.into()
    };
    let started = Instant::now();
    let terms = Terms { deadline: Some(started + Duration::from_millis(300)), ..READ };
    assert_eq!(made(&retries(3), &terms, &[Some(later)]).await.1.len(), 1);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn retries_stop_at_the_budget() {
    let retries = retries(1);
    let unavailable = || said(ErrorKind::Unavailable);
    let mut tries = 0;
    for _ in 0..1000 {
        tries += made(&retries, &READ, &[Some(unavailable)]).await.1.len();
    }
    assert!((1100..=1120).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn a_way_that_is_left_alone_costs_nothing_and_comes_back() {
    let retries = retries(0);
    let terms = Terms { plan: FALLING_BACK, ..WRITE };
    let grpc_is_down = |tries: &[Try]| tries.iter().any(|attempt| attempt.way == Way::Grpc);
    let mut over_grpc = 0;
    for _ in 0..20 {
        let (outcome, tries) = made(&retries, &terms, &[Some(unreachable), None]).await;
        // Without a try over gRPC the first one is over D-Bus, which here fails as well.
        over_grpc += u32::from(grpc_is_down(&tries));
        drop(outcome);
    }
    assert_eq!(over_grpc, BREAKER_FAILURES);
    // It still says why, and with it what to do.
    let alone = made(&retries, &WRITE, &[None]).await.0.unwrap_err().to_string();
    for text in ["there: refused", "5 calls in a row got no answer"] {
        assert!(alone.contains(text), "{alone}");
    }
    assert_eq!(retries.breakers.standing(Way::Grpc), BreakerState::Open);
    tokio::time::advance(BREAKER_FIRST_REST).await;
    let (outcome, tries) = made(&retries, &terms, &[None]).await;
    assert!(outcome.is_ok());
    assert_eq!(ways(&tries), [Way::Grpc]);
    assert_eq!(retries.breakers.standing(Way::Grpc), BreakerState::Closed);
}

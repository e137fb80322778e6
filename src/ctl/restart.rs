//! Waits for a service that is being started anew, as by an upgrade of its package: a call that met it
//! stopping is made once more where that is safe. A service that is not there from the first is told at once.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};

use super::output::clean;
use crate::client::{
    AgentMetrics, Attempt, Call, Carrier, Error, Messages, Payload, Pending, StreamCall, Verdict,
    Way,
};
use crate::error::ErrorKind;

/// How long a call is tried again, at most; its own time may be over before.
const LONGEST: Duration = Duration::from_secs(5);

/// How long nothing is done between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Carries calls as another carrier does, and makes those once more that the service could not take.
#[derive(Debug)]
pub(super) struct Waiting(Arc<dyn Carrier>);

impl Waiting {
    /// Around `carrier`.
    pub(super) fn around(carrier: Arc<dyn Carrier>) -> Arc<dyn Carrier> {
        Arc::new(Self(carrier))
    }

    async fn persist(&self, mut call: Call) -> Result<Payload, Error> {
        let began = Instant::now();
        let time = call.options.timeout;
        let mut until = None;
        loop {
            let error = match self.0.call(call.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let now = Instant::now();
            let left = time.map(|time| time.saturating_sub(now - began));
            let is_late =
                until.is_some_and(|until| now >= until) || left.is_some_and(|left| left <= PAUSE);
            if is_late || !may_repeat(&call, &error, until.is_some()) {
                return Err(error);
            }
            if until.is_none() {
                until = Some(now + LONGEST);
                tell(&call, &error);
            }
            sleep(PAUSE).await;
            call.options.timeout = left.map(|left| left.saturating_sub(PAUSE));
        }
    }
}

/// True if the call is to be made once more. What the service knows of request ids ends with it, so that
/// they make no call safe here that may have been carried out. `was_there`: it has met the service.
fn may_repeat(call: &Call, error: &Error, was_there: bool) -> bool {
    let is_away = match error {
        Error::Unreachable(_) => was_there,
        Error::Failed(failure) => failure.kind == ErrorKind::Unavailable,
    };
    is_away && Verdict::on(error).is_safe(call.rpc.idempotency, false)
}

/// That it cannot be told is no reason not to go on.
fn tell(call: &Call, error: &Error) {
    let problem = match error {
        Error::Failed(failure) => clean(&failure.message),
        Error::Unreachable(_) => clean(&error.to_string()),
    };
    let (name, seconds) = (&call.rpc, LONGEST.as_secs());
    let told = format!("{name}: {problem}; trying again for up to {seconds} s");
    drop(writeln!(io::stderr().lock(), "{told}"));
}

impl Carrier for Waiting {
    fn way(&self) -> Way {
        self.0.way()
    }

    fn target(&self) -> String {
        self.0.target()
    }

    fn ready(&self) -> Pending<'_, ()> {
        self.0.ready()
    }

    fn call(&self, call: Call) -> Pending<'_, Payload> {
        self.persist(call).boxed()
    }

    /// A stream is told to have ended, and its reader knows how far it has come.
    fn stream(&self, call: StreamCall) -> Pending<'_, Messages> {
        self.0.stream(call)
    }

    fn metrics(&self) -> Option<Arc<AgentMetrics>> {
        self.0.metrics()
    }

    fn close(&self) -> Pending<'_, ()> {
        self.0.close()
    }

    fn earlier(&self) -> Vec<Attempt> {
        self.0.earlier()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::client::{CallOptions, Failure, Rpc};
    use crate::contract::Idempotency;

    /// Fails with these, one after the other, and then answers.
    #[derive(Debug)]
    struct Scripted(Mutex<VecDeque<Error>>);

    impl Carrier for Scripted {
        fn way(&self) -> Way {
            Way::Grpc
        }

        fn target(&self) -> String {
            String::new()
        }

        fn ready(&self) -> Pending<'_, ()> {
            async { Ok(()) }.boxed()
        }

        fn call(&self, call: Call) -> Pending<'_, Payload> {
            let error = self.0.lock().unwrap().pop_front();
            async move { error.map_or(Ok(call.request), Err) }.boxed()
        }

        fn stream(&self, _: StreamCall) -> Pending<'_, Messages> {
            async { Err(stopping()) }.boxed()
        }
    }

    fn stopping() -> Error {
        Failure::new(ErrorKind::Unavailable, "the service is stopping").into()
    }

    fn lost() -> Error {
        Failure { lost: true, ..Failure::new(ErrorKind::Unavailable, "lost") }.into()
    }

    fn away() -> Error {
        Error::Unreachable(Vec::new())
    }

    /// What comes of a call, and how many of the errors were met.
    async fn outcome(
        idempotency: Idempotency,
        options: CallOptions,
        errors: Vec<Error>,
    ) -> (Result<Payload, Error>, usize) {
        let count = errors.len();
        let scripted = Arc::new(Scripted(Mutex::new(errors.into())));
        let rpc = Rpc { idempotency, ..Rpc::unknown("memory", "Recall") };
        let request = Payload::Json("{}".to_owned());
        let call = Call { rpc: Cow::Owned(rpc), request, options };
        let outcome = Waiting::around(Arc::clone(&scripted) as _).call(call).await;
        let left = scripted.0.lock().unwrap().len();
        (outcome, count - left)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_met_the_service_stopping_is_made_again() {
        let errors = vec![stopping(), away(), away()];
        let with_id = CallOptions { request_id: Some("a".to_owned()), ..CallOptions::default() };
        for options in [CallOptions::default(), with_id] {
            let made = outcome(Idempotency::Unknown, options, errors.clone()).await;
            assert!(matches!(made, (Ok(_), 3)), "{made:?}");
        }
        let made = outcome(Idempotency::NoSideEffects, CallOptions::default(), vec![lost()]).await;
        assert!(matches!(made, (Ok(_), 1)), "{made:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_act_twice_or_would_fail_again_is_not() {
        let with_id = CallOptions { request_id: Some("a".to_owned()), ..CallOptions::default() };
        let other = Failure::new(ErrorKind::NotFound, "gone").into();
        for (idempotency, options, error) in [
            (Idempotency::Unknown, with_id, lost()),
            (Idempotency::NoSideEffects, CallOptions::default(), other),
            (Idempotency::NoSideEffects, CallOptions::default(), away()),
        ] {
            let made = outcome(idempotency, options, vec![error.clone(), error]).await;
            assert!(matches!(made, (Err(_), 1)), "{made:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_calls_time_and_with_its_own() {
        let many = || vec![stopping(); 1000];
        let timed = CallOptions { timeout: Some(Duration::from_secs(1)), ..CallOptions::default() };
        for (options, most) in [(timed, Duration::from_secs(1)), (CallOptions::default(), LONGEST)]
        {
            let began = Instant::now();
            let (made, _) = outcome(Idempotency::NoSideEffects, options, many()).await;
            let took = began.elapsed();
            assert!(made.is_err() && took <= most + PAUSE && took + PAUSE * 2 >= most, "{took:?}");
        }
    }
}

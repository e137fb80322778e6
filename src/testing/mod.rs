//! The `probe` agent that tests and benchmarks drive, and its sister for workers. Part of a build only
//! with feature `testing`.

mod worker_probe;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::call::Context;
use crate::contract::{Agent, Replies, Requests};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::probe::v1::{
    BlocksRequest, BlocksResponse, ChatRequest, ChatResponse, CountRequest, CountResponse,
    DripRequest, DripResponse, EchoRequest, EchoResponse, FailRequest, FailResponse, FillRequest,
    FillResponse, GenerateRequest, GenerateResponse, GuardedRequest, GuardedResponse,
    LingerRequest, LingerResponse, PaceRequest, PaceResponse, ProbeService, ProbeServiceAgent,
    SleepRequest, SleepResponse, SumRequest, SumResponse,
};

pub use worker_probe::worker_probe;

/// The agent's counters.
#[derive(Debug, Default)]
pub struct Probe {
    counted: AtomicU64,
    started: AtomicU64,
    finished: AtomicU64,
    cancelled: AtomicU64,
}

/// Counts a wait as cancelled unless it was let finish.
struct Wait<'a>(&'a Probe, bool);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let counter = if self.1 { &self.0.finished } else { &self.0.cancelled };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

impl ProbeService for Probe {
    async fn echo(&self, _context: &Context, request: EchoRequest) -> Result<EchoResponse, Error> {
        let EchoRequest { text, data, everything, more, texts, value } = request;
        Ok(EchoResponse { text, data, everything, more, texts, value })
    }

    async fn sleep(
        &self,
        _context: &Context,
        request: SleepRequest,
    ) -> Result<SleepResponse, Error> {
        let duration = request.duration.unwrap_or_default();
        let duration =
            Duration::try_from(duration).map_err(|error| Error::invalid("duration", error))?;
        self.started.fetch_add(1, Ordering::SeqCst);
        let mut wait = Wait(self, false);
        tokio::time::sleep(duration).await;
        wait.1 = true;
        drop(wait);
        Ok(SleepResponse {
            started: self.started.load(Ordering::SeqCst),
            finished: self.finished.load(Ordering::SeqCst),
            cancelled: self.cancelled.load(Ordering::SeqCst),
        })
    }

    async fn fail(&self, _context: &Context, request: FailRequest) -> Result<FailResponse, Error> {
        if request.reason == "PANIC" {
            // Without the report of the panic hook, which would stand before what a test has to say.
            std::panic::resume_unwind(Box::new("asked to panic"));
        }
        let kind = ErrorKind::ALL
            .into_iter()
            .find(|kind| kind.reason() == request.reason)
            .ok_or_else(|| Error::invalid("reason", "is no reason of an error"))?;
        Err(Error::new(kind, request.message).with_fact("origin", "probe"))
    }

    async fn count(
        &self,
        _context: &Context,
        _request: CountRequest,
    ) -> Result<CountResponse, Error> {
        Ok(CountResponse { count: self.counted.fetch_add(1, Ordering::SeqCst) + 1 })
    }

    async fn fill(&self, _context: &Context, request: FillRequest) -> Result<FillResponse, Error> {
        let size = usize::try_from(request.size_bytes)
            .map_err(|error| Error::invalid("size_bytes", error))?;
        let filler = if request.filler.is_empty() { "x" } else { &request.filler };
        Ok(FillResponse { text: filler.repeat(size) })
    }

    async fn nothing(&self, _context: &Context, _request: ()) -> Result<(), Error> {
        Ok(())
    }

    async fn guarded(
        &self,
        context: &Context,
        request: GuardedRequest,
    ) -> Result<GuardedResponse, Error> {
        let Some(approval) = &context.approved else {
            return Err(Error::approval_required(format!("does {}", request.text)));
        };
        let count = self.counted.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(GuardedResponse { approved_by: approval.by, count })
    }

    async fn restart(&self, _context: &Context, _request: ()) -> Result<(), Error> {
        Ok(())
    }

    async fn generate(
        &self,
        _context: &Context,
        request: GenerateRequest,
        replies: Replies<GenerateResponse>,
    ) -> Result<(), Error> {
        for number in 1..=request.count {
            replies.send(GenerateResponse { number }).await?;
        }
        Ok(())
    }

    async fn sum(
        &self,
        _context: &Context,
        mut requests: Requests<SumRequest>,
    ) -> Result<SumResponse, Error> {
        let mut sum = 0;
        while let Some(request) = requests.next().await? {
            sum += request.number;
        }
        Ok(SumResponse { sum })
    }

    async fn chat(
        &self,
        _context: &Context,
        mut requests: Requests<ChatRequest>,
        replies: Replies<ChatResponse>,
    ) -> Result<(), Error> {
        while let Some(request) = requests.next().await? {
            replies.send(ChatResponse { text: request.text }).await?;
        }
        Ok(())
    }

    async fn pace(
        &self,
        context: &Context,
        request: PaceRequest,
        replies: Replies<PaceResponse>,
    ) -> Result<(), Error> {
        let pause = Duration::try_from(request.interval.unwrap_or_default())
            .map_err(|error| Error::invalid("interval", error))?;
        let filler = Bytes::from(vec![0; request.size_bytes as usize]);
        for number in 1..=request.count {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            if number == request.fail_at {
                let text = format!("asked to fail at {number}");
                return Err(Error::new(ErrorKind::BackendFailed, text).with_fact("origin", "probe"));
            }
            replies.send(PaceResponse { number, filler: filler.clone() }).await?;
            context.progress(number.into(), request.count.into(), "messages");
        }
        Ok(())
    }
    async fn blocks(
        &self,
        _context: &Context,
        request: BlocksRequest,
        replies: Replies<BlocksResponse>,
    ) -> Result<(), Error> {
        let size = usize::try_from(request.size_bytes)
            .map_err(|error| Error::invalid("size_bytes", error))?;
        let block = Bytes::from(vec![b'x'; size]);
        for _ in 0..request.count {
            replies.send(BlocksResponse { block: block.clone() }).await?;
        }
        Ok(())
    }

    async fn drip(
        &self,
        _context: &Context,
        request: DripRequest,
        replies: Replies<DripResponse>,
    ) -> Result<(), Error> {
        let filler = Bytes::from(vec![0; request.size_bytes as usize]);
        for number in 1..=request.count {
            replies.send(DripResponse { number, filler: filler.clone() }).await?;
        }
        Ok(())
    }

    async fn linger(
        &self,
        _context: &Context,
        _request: LingerRequest,
        replies: Replies<LingerResponse>,
    ) -> Result<(), Error> {
        replies.send(LingerResponse {}).await?;
        pending().await
    }
}

/// The agent as the registry takes it.
#[must_use]
pub fn probe() -> Arc<dyn Agent> {
    Arc::new(ProbeServiceAgent(Arc::new(Probe::default())))
}

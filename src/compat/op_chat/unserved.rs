//! The services of the contract whose agents op-dbus does not have yet. Each call says so.

use super::OpChat;
use crate::call::Context;
use crate::contract::Replies;
use crate::error::{Error, ErrorKind};
use crate::proto::op_chat::agents::{
    AnalyzeRequest, AnalyzeResponse, BackendArchitectAgent, CargoOutput, CargoRequest,
    CargoResponse, DesignRequest, DesignResponse, DocumentChunk, DocumentRequest, ReviewRequest,
    ReviewResponse, RustProAgent, SuggestRequest, SuggestResponse,
};

fn later(agent: &str) -> Error {
    Error::new(
        ErrorKind::UnknownOperation,
        format!("the agent {agent} is not part of this release; it is planned for release 0.2"),
    )
}

impl RustProAgent for OpChat {
    async fn check(&self, _: &Context, _: CargoRequest) -> Result<CargoResponse, Error> {
        Err(later("rust_pro"))
    }

    async fn fmt(&self, _: &Context, _: CargoRequest) -> Result<CargoResponse, Error> {
        Err(later("rust_pro"))
    }

    async fn build(
        &self,
        _: &Context,
        _: CargoRequest,
        _: Replies<CargoOutput>,
    ) -> Result<(), Error> {
        Err(later("rust_pro"))
    }

    async fn test(
        &self,
        _: &Context,
        _: CargoRequest,
        _: Replies<CargoOutput>,
    ) -> Result<(), Error> {
        Err(later("rust_pro"))
    }

    async fn clippy(
        &self,
        _: &Context,
        _: CargoRequest,
        _: Replies<CargoOutput>,
    ) -> Result<(), Error> {
        Err(later("rust_pro"))
    }

    async fn run(
        &self,
        _: &Context,
        _: CargoRequest,
        _: Replies<CargoOutput>,
    ) -> Result<(), Error> {
        Err(later("rust_pro"))
    }

    async fn doc(
        &self,
        _: &Context,
        _: CargoRequest,
        _: Replies<CargoOutput>,
    ) -> Result<(), Error> {
        Err(later("rust_pro"))
    }
}

impl BackendArchitectAgent for OpChat {
    async fn analyze(&self, _: &Context, _: AnalyzeRequest) -> Result<AnalyzeResponse, Error> {
        Err(later("backend_architect"))
    }

    async fn design(&self, _: &Context, _: DesignRequest) -> Result<DesignResponse, Error> {
        Err(later("backend_architect"))
    }

    async fn review(&self, _: &Context, _: ReviewRequest) -> Result<ReviewResponse, Error> {
        Err(later("backend_architect"))
    }

    async fn suggest(&self, _: &Context, _: SuggestRequest) -> Result<SuggestResponse, Error> {
        Err(later("backend_architect"))
    }

    async fn document(
        &self,
        _: &Context,
        _: DocumentRequest,
        _: Replies<DocumentChunk>,
    ) -> Result<(), Error> {
        Err(later("backend_architect"))
    }
}

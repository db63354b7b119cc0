//! The service for looking into the running controller.

use tieline_proto::federation::v1;
use tieline_proto::federation::v1::federation_server::{Federation, FederationServer};
use tonic::{Request, Response, Status};

use crate::controller::questions::{Asker, Unanswered};

/// The read-only view of a running controller.
#[derive(Debug, Clone)]
pub struct FederationService {
    controller: Asker,
}

impl FederationService {
    /// A view of the controller that this asks.
    pub const fn new(controller: Asker) -> Self {
        Self { controller }
    }

    /// For a listener.
    pub fn into_server(self) -> FederationServer<Self> {
        FederationServer::new(self)
    }
}

impl From<Unanswered> for Status {
    fn from(error: Unanswered) -> Self {
        Self::unavailable(error.to_string())
    }
}

#[tonic::async_trait]
impl Federation for FederationService {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusReply>, Status> {
        Ok(Response::new(self.controller.status().await?))
    }
}

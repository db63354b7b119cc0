//! What a server offers: its services, their health, and their description for
//! clients that ask by reflection.

use tonic::service::{Routes, RoutesBuilder};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
pub use tonic_reflection::server::Error as Senseless;

/// The services, and the switch of their health.
pub struct Services {
    routes: Routes,
    health: HealthReporter,
    names: &'static [&'static str],
}

impl Services {
    /// These services, with health and reflection beside them. `names` are theirs,
    /// and `descriptors` the encoded description of the packages that they are in.
    /// Their health is NOT_SERVING until [`Self::ready`].
    ///
    /// # Errors
    /// When the description makes no sense.
    pub async fn new(
        mut services: RoutesBuilder,
        names: &'static [&'static str],
        descriptors: &'static [u8],
    ) -> Result<Self, Senseless> {
        let (health, health_service) = tonic_health::server::health_reporter();
        for service in names.iter().chain(&[WHOLE]) {
            health.set_service_status(service, ServingStatus::NotServing).await;
        }
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        services.add_service(health_service).add_service(reflection);
        Ok(Self { routes: services.routes().prepare(), health, names })
    }

    /// Says that all services, and the server as a whole, do what they are for.
    pub async fn ready(&self) {
        for service in self.names.iter().chain(&[WHOLE]) {
            self.health.set_service_status(service, ServingStatus::Serving).await;
        }
    }

    /// For one connection.
    pub(crate) fn routes(&self) -> Routes {
        self.routes.clone()
    }
}

/// The name of the server as a whole.
const WHOLE: &str = "";

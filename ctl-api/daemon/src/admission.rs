//! What whoever sends an operation may have carried out.

use tieline_dpdk::DeviceSpec;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::operation::Operation;
use tieline_rib::spec::field;
use tieline_rib::{Key, Refusal};

use crate::device_ports::allowed::AllowedDevices;
use crate::rights::Rights;

/// Who asks, and what the configuration lets be used.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    /// What the sender may declare.
    pub rights: &'a Rights,
    /// Which devices may be used.
    pub devices: &'a AllowedDevices,
}

impl Admission<'_> {
    /// Whether an operation may be carried out. What a controller holds it may
    /// always withdraw.
    ///
    /// # Errors
    /// When it may not, or when nobody could tell.
    pub fn check(&self, operation: &v1::Operation) -> Result<(), Refusal> {
        match &operation.operation {
            Some(Operation::Apply(v1::Object { kind: Some(kind) })) => {
                self.rights.check(&Key::of(kind)?)?;
                if let Kind::Port(port) = kind { self.check_device(port) } else { Ok(()) }
            }
            Some(Operation::ApplyRoutes(set)) => {
                let rd = set.attributes.as_ref().map_or("", |attributes| attributes.rd.as_str());
                self.rights.check_routes(field::parsed(|| "attributes.rd".to_owned(), rd)?)
            }
            // Without an object, or withdrawn.
            Some(Operation::Apply(_) | Operation::Delete(_) | Operation::DeleteRoutes(_)) | None => Ok(()),
        }
    }

    fn check_device(&self, port: &v1::Port) -> Result<(), Refusal> {
        let device = port.device.parse().map_err(|error| format!("{error}"));
        device
            .and_then(|device: DeviceSpec| self.devices.check(&device, self.rights.operator))
            .map_err(|why| Refusal::permission("port.device", why))
    }
}

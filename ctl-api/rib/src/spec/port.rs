//! Ports.

use tieline_engine::tables::port::PortRole;
use tieline_proto::v1;

use crate::limits::RibOptions;
use crate::refusal::Refusal;
use crate::spec::field;
use tieline_names::Name;

/// Longest device text, in bytes.
const MAX_DEVICE: usize = 1024;
/// Most receive queues.
const MAX_RX_QUEUES: u16 = 1024;

/// A DPDK port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Name.
    pub name: Name,
    /// The device, as it was written.
    pub device: String,
    /// What the device takes from the host: no two ports have one of these.
    pub claims: Vec<String>,
    /// What it faces.
    pub role: PortRole,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Receive queues; `None`: one for each worker.
    pub rx_queues: Option<u16>,
}

impl PortSpec {
    /// From its message. Whether there is such a device, and who may use it, is
    /// for whoever opens it.
    pub fn parse(message: &v1::Port, options: &RibOptions) -> Result<Self, Refusal> {
        let name = field::name("port.name", &message.name)?;
        if message.device.is_empty() || message.device.len() > MAX_DEVICE || message.device.contains('\0') {
            let sentence = "not a device: expected a PCI address such as 0000:01:00.0, or a vdev such as net_tap0,iface=tl0";
            return Err(Refusal::invalid("port.device", sentence));
        }
        let role = match message.role() {
            v1::PortRole::Fabric => PortRole::Fabric,
            v1::PortRole::Tenant => PortRole::Tenant,
            v1::PortRole::Host => PortRole::Host,
            v1::PortRole::Unspecified => {
                return Err(Refusal::invalid("port.role", "no role: use FABRIC, TENANT or HOST"));
            }
        };
        let rx_queues = match u16::try_from(message.rx_queues) {
            Ok(0) => None,
            Ok(count) if count <= MAX_RX_QUEUES => Some(count),
            _ => {
                let sentence = format!("{} receive queues are too many: at most 1024", message.rx_queues);
                return Err(Refusal::invalid("port.rx_queues", sentence));
            }
        };
        let mtu = field::mtu("port.mtu", message.mtu)?.unwrap_or(options.default_mtu);
        let claims = (options.device_claims)(&message.device);
        Ok(Self { name, device: message.device.clone(), claims, role, mtu, rx_queues })
    }
}

//! End-to-end tests: the real `tieline` and `tlctl` in network namespaces.
//!
//! Each file in `tests/` builds its networks, starts gateways, programs them
//! through `tlctl`, sends real traffic, and looks at bytes and counters.
//!
//! - [`net`]: namespaces, and the wires between them
//! - [`federation`]: controllers, clusters that they join, and who else speaks BGP
//! - [`gateway`]: a running daemon and its `tlctl`
//! - [`host`]: a workload: pings, connections, floods
//! - [`capture`]: packets on a wire, decoded by tshark
//! - [`sites`]: the topology that most tests share
//! - [`tls`]: certificates for the API over TCP
//! - [`vxlan_peer`]: Linux's own VXLAN device as the far end
//! - [`scenario`]: runs one scenario with one worker and with two
//! - [`command`]: running programs
//!
//! They need root. Without it they print that they are skipped. The binaries
//! must have been built before. `TIELINE_BINARIES` says where they are; without
//! it the tests take those of their own profile:
//!
//! ```text
//! cargo build --release -p tieline-daemon -p tlctl -p tieline-e2e --bins
//! cargo build -p tieline-federation
//! TIELINE_BINARIES=$PWD/target/release cargo test -p tieline-e2e -- --test-threads=1 --nocapture
//! ```

pub mod capture;
pub mod command;
pub mod federation;
pub mod gateway;
pub mod host;
pub mod net;
pub mod scenario;
pub mod sites;
pub mod tls;
pub mod vxlan_peer;

pub use capture::Capture;
pub use gateway::{Gateway, GatewayConfig};
pub use host::Host;
pub use net::{Namespace, Net};
pub use scenario::{Steps, eventually};
pub use sites::{Sites, Tenant};

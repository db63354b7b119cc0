//! An attached device, and how it ends.

use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tieline_dpdk_sys as sys;

use crate::device::DeviceSpec;

/// DPDK wants devices to come and go one at a time.
static CONTROL: Mutex<()> = Mutex::new(());

pub(super) fn control() -> MutexGuard<'static, ()> {
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A device that has a port in DPDK; it is stopped, closed and detached when
/// dropped. Queues share it, so that none of them outlives it.
#[derive(Debug)]
pub(crate) struct Running {
    id: u16,
    bus: &'static str,
    device: String,
}

impl Running {
    /// Takes charge of the port `id` of an attached device.
    pub(super) fn new(id: u16, device: &DeviceSpec) -> Self {
        Self { id, bus: bus(device), device: device.name().to_owned() }
    }

    /// DPDK's number of the port.
    #[inline]
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    /// Stops, closes and detaches the device, and tells what went wrong.
    pub(super) fn close(self) -> Result<(), String> {
        let _one_at_a_time = control();
        ManuallyDrop::new(self).shut()
    }

    /// Detaches the device on behalf of somebody who holds `control`.
    pub(super) fn abandon(self) {
        // Whoever abandons it has a better error to report.
        let _ = ManuallyDrop::new(self).shut();
    }

    fn shut(&mut self) -> Result<(), String> {
        // SAFETY: the port exists, and no queue handle of it.
        let stopped = unsafe { sys::rte_eth_dev_stop(self.id) };
        // SAFETY: as above.
        let closed = unsafe { sys::rte_eth_dev_close(self.id) };
        let detached = detach(self.bus, &self.device);
        let device = std::mem::take(&mut self.device);
        for (status, what) in [(stopped, "stopped"), (closed, "closed"), (detached, "detached")] {
            if status < 0 {
                return Err(format!("{device} could not be {what}: {}", crate::errno_text(-status)));
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _one_at_a_time = control();
        // There is nobody to tell; DPDK has logged it.
        let _ = self.shut();
    }
}

/// DPDK's name of the device's bus.
pub(super) fn bus(device: &DeviceSpec) -> &'static str {
    if device.is_pci() { "pci" } else { "vdev" }
}

/// Makes DPDK forget the device. Zero or a negative error number.
pub(super) fn detach(bus: &str, device: &str) -> i32 {
    let (Ok(bus), Ok(device)) = (CString::new(bus), CString::new(device)) else { return -libc::EINVAL };
    // SAFETY: both are terminated strings.
    unsafe { sys::rte_eal_hotplug_remove(bus.as_ptr(), device.as_ptr()) }
}

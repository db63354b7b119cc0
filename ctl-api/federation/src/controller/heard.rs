//! What gateways say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tieline_proto::federation::v1::EventKind;
use tracing::{debug, error, info, warn};

use super::{Controller, ControllerError};
use crate::gateway::events::Event;
use crate::routes::outward;

impl Controller {
    /// A gateway has said something.
    pub(super) async fn heard(&mut self, gateway: &str, event: Event) -> Result<(), ControllerError> {
        match event {
            Event::Up { hello } => {
                info!(gateway, node = hello.node_id, "connected");
                self.gateways.up(gateway);
                self.note(EventKind::GatewayUp, gateway, format!("connected to {}", hello.software));
            }
            Event::Down { cause, reason, retry_in } => {
                warn!(gateway, %cause, ?retry_in, "not connected, and forwarding on: {reason}");
                // It is tried again and again: that it still fails is no news.
                if self.gateways.down(gateway) {
                    let message = format!("not connected, and forwarding on: {cause}: {reason}");
                    self.note(EventKind::GatewayDown, gateway, message);
                }
            }
            Event::Synced { withdrawn } => {
                info!(gateway, withdrawn, "synchronised");
                let message =
                    format!("synchronised; {withdrawn} objects and routes from before are withdrawn");
                self.note(EventKind::Synchronised, gateway, message);
            }
            Event::SyncHeld { refused } => {
                warn!(gateway, refused, "not synchronised: something was refused");
                let message = format!("not synchronised: it refuses {refused} of what it is told");
                self.note(EventKind::SyncHeld, gateway, message);
            }
            Event::Refused(refusal) => {
                error!(gateway, "refused: {refusal}");
                self.gateways.refused(gateway, refusal.to_string());
                let (time, code) = (self.time(), refusal.refused.code().as_str_name());
                let kind = EventKind::RefusedByGateway;
                self.journal.note_often(time, kind, gateway, code, || refusal.to_string());
            }
            Event::Kept { not_stored: Some(why) } => {
                warn!(gateway, "what it accepts is in force, but a restart may not bring it back: {why}");
            }
            Event::Kept { not_stored: None } => info!(gateway, "what it accepts is stored again"),
            Event::Programmed { revision } => debug!(gateway, ?revision, "programmed"),
            Event::Export(export) => {
                self.endpoints_of(gateway, &export.endpoints).await?;
                let routes =
                    outward::routes(self.identity.asn, self.announced.network(gateway, &export.vrf), &export);
                let (gone, routes) = match routes {
                    Ok(routes) => (self.announced.set(gateway, &export.vrf, &export.prefix, &routes), routes),
                    Err(refused) => {
                        warn!(gateway, "{refused}");
                        let (time, kind) = (self.time(), EventKind::ExportRefused);
                        let cause = "exports that are not announced";
                        self.journal.note_often(time, kind, gateway, cause, || refused.to_string());
                        (self.announced.refuse(gateway, refused), Vec::new())
                    }
                };
                self.speaker
                    .with(move |speaker, _| {
                        speaker.withdraw(&gone);
                        for (attributes, route) in routes {
                            speaker.announce(attributes, [route]);
                        }
                    })
                    .await?;
            }
            Event::ExportGone { vrf, prefix } => {
                let gone = self.announced.set(gateway, &vrf, &prefix, &[]);
                self.speaker.with(move |speaker, _| speaker.withdraw(&gone)).await?;
            }
            Event::ExportsComplete => {
                if let Some(unheard) = &mut self.unheard {
                    unheard.remove(gateway);
                    if unheard.is_empty() {
                        self.all_heard().await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A gateway says where it is: nobody else leads there.
    async fn endpoints_of(&mut self, gateway: &str, endpoints: &[String]) -> Result<(), ControllerError> {
        let Ok(name) = gateway.parse() else { return Ok(()) };
        let said: BTreeSet<IpAddr> = endpoints.iter().filter_map(|text| text.parse().ok()).collect();
        if self.endpoints.get(&name) == Some(&said) {
            return Ok(());
        }
        self.endpoints.insert(name, said);
        self.reconcile_facts().await
    }
}

//! Virtual network routers: a mesh, or hubs and spokes.

use super::Report;
use crate::intent::Intent;
use crate::intent::ObjectKey;
use crate::intent::kinds::VirtualNetworkRouter;
use crate::intent::names::{Operator, Selector};
use crate::intent::problem::Rule;
use crate::intent::topology::selected;

pub(super) fn check(intent: &Intent, report: &mut Report) {
    for (key, router) in intent.all::<VirtualNetworkRouter>() {
        let remedy = "give either mesh or hubAndSpoke";
        match (&router.mesh, &router.hub_and_spoke) {
            (None, None) => {
                report.add(key, "spec", Rule::Router, "does not say how networks are joined", remedy);
            }
            (Some(_), Some(_)) => {
                report.add(key, "spec", Rule::Router, "is a mesh and hub and spoke at once", remedy);
            }
            (Some(mesh), None) => check_selector(key, "spec.mesh.networks", &mesh.networks, report),
            (None, Some(star)) => {
                check_selector(key, "spec.hubAndSpoke.hubs", &star.hubs, report);
                check_selector(key, "spec.hubAndSpoke.spokes", &star.spokes, report);
                let hubs = selected(intent, key, &router.cluster, &star.hubs);
                let spokes = selected(intent, key, &router.cluster, &star.spokes);
                for network in hubs.iter().filter(|network| spokes.contains(network)) {
                    let reason =
                        format!("{network} is selected as hub and as spoke: spokes would reach each other");
                    let remedy = "change its labels or a selector";
                    report.add(key, "spec.hubAndSpoke.spokes", Rule::Router, reason, remedy);
                }
            }
        }
    }
}

fn check_selector(key: &ObjectKey, field: &str, selector: &Selector, report: &mut Report) {
    if selector.is_empty() {
        let reason = "a selector without conditions would join every network";
        report.add(key, field, Rule::Router, reason, "name a label, in matchLabels or matchExpressions");
    }
    for (index, requirement) in selector.match_expressions.iter().enumerate() {
        let takes_values = matches!(requirement.operator, Operator::In | Operator::NotIn);
        if takes_values == requirement.values.is_empty() {
            let (reason, remedy) = if takes_values {
                ("In and NotIn compare with values", "give values")
            } else {
                ("Exists and DoesNotExist take no values", "leave values out")
            };
            let field = format!("{field}.matchExpressions[{index}].values");
            report.add(key, field, Rule::Router, reason, remedy);
        }
    }
}

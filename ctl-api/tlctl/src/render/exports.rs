//! What VRFs originate.

use tieline_proto::v1::watch_exports_reply::What;
use tieline_proto::v1::{Export, ExportOrigin, WatchExportsReply};

use super::Column::{Left, Right};
use super::{dashed, listed, nonzero, printable, table as draw};

/// All exports.
pub fn table(exports: &[Export]) -> String {
    let columns = [
        Left("VRF"),
        Left("PREFIX"),
        Left("ORIGIN"),
        Left("RD"),
        Right("LABEL"),
        Right("VNI"),
        Left("GROUPS"),
        Left("ENDPOINTS"),
        Left("ROUTER MAC"),
        Left("ROUTE TARGETS"),
    ];
    let row = |export: &Export| {
        vec![
            export.vrf.clone(),
            export.prefix.clone(),
            origin(export).to_owned(),
            dashed(&export.rd),
            nonzero(export.label),
            nonzero(export.vni),
            listed(&export.security_groups),
            listed(&export.endpoints),
            dashed(&export.router_mac),
            listed(&export.route_targets),
        ]
    };
    draw(&columns, exports.iter().map(row))
}

/// One change.
pub fn line(reply: &WatchExportsReply) -> String {
    let text = match &reply.what {
        None => "(something that this tlctl does not know)".to_owned(),
        Some(What::Export(export)) => format!("+ {}", self::export(export)),
        Some(What::Withdrawn(key)) => format!("- vrf/{} {}", key.vrf, key.prefix),
        Some(What::CaughtUp(_)) => "(these are all exports; changes follow)".to_owned(),
        Some(What::Lost(lost)) => {
            format!("(changes were missed: {}; all exports follow again)", lost.message.trim_end_matches('.'))
        }
    };
    printable(&text)
}

fn export(export: &Export) -> String {
    let mut text = format!("vrf/{} {} {}", export.vrf, export.prefix, origin(export));
    let parts = [
        ("rd", export.rd.clone()),
        ("label", if export.label == 0 { String::new() } else { export.label.to_string() }),
        ("vni", if export.vni == 0 { String::new() } else { export.vni.to_string() }),
        ("groups", export.security_groups.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        ("to", export.route_targets.join(",")),
    ];
    for (name, value) in parts.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!(" {name} {value}"));
    }
    text
}

fn origin(export: &Export) -> &'static str {
    match export.origin() {
        ExportOrigin::Unspecified => "-",
        ExportOrigin::Connected => "connected",
        ExportOrigin::Workload => "workload",
        ExportOrigin::Static => "static",
    }
}

#[cfg(test)]
mod tests {
    use tieline_proto::v1::{CaughtUp, ExportKey};

    use super::*;

    fn web() -> Export {
        Export {
            vrf: "red".into(),
            prefix: "10.1.0.5/32".into(),
            origin: ExportOrigin::Workload.into(),
            rd: "64512:1".into(),
            route_targets: vec!["64512:8000001".into()],
            label: 1001,
            vni: 0,
            router_mac: "02:00:00:00:00:01".into(),
            security_groups: vec![7, 8],
            endpoints: vec!["198.18.0.1".into()],
        }
    }

    #[test]
    fn exports_have_all_that_an_advertisement_needs() {
        assert_eq!(
            table(&[web()]),
            "VRF  PREFIX       ORIGIN    RD       LABEL  VNI  GROUPS  ENDPOINTS   ROUTER MAC         ROUTE TARGETS\n\
             red  10.1.0.5/32  workload  64512:1   1001    -  7, 8    198.18.0.1  02:00:00:00:00:01  64512:8000001\n"
        );
    }

    #[test]
    fn changes_are_lines() {
        let line = |what| line(&WatchExportsReply { what: Some(what) });
        assert_eq!(
            line(What::Export(web())),
            "+ vrf/red 10.1.0.5/32 workload rd 64512:1 label 1001 groups 7,8 to 64512:8000001"
        );
        let bare = Export { vrf: "red".into(), prefix: "::/0".into(), ..Default::default() };
        assert_eq!(line(What::Export(bare)), "+ vrf/red ::/0 -");
        let key = ExportKey { vrf: "red".into(), prefix: "::/0".into() };
        assert_eq!(line(What::Withdrawn(key)), "- vrf/red ::/0");
        assert!(line(What::CaughtUp(CaughtUp {})).contains("all exports"));
    }
}

//! Which devices ports may have, and what becomes of those that may not.

use std::path::{Path, PathBuf};

use prost::Message as _;
use tieline_proto::v1;
use tieline_proto::v1::object_key;
use tieline_store::{Changes, Options, Store};

use crate::support::{Daemon, Place, apply, port, vrf};

const TENANT: v1::PortRole = v1::PortRole::Tenant;

/// A path that the configuration does not allow.
fn beside(place: &Place) -> PathBuf {
    place.path("").with_extension("marker")
}

/// Makes a controller of the user that the tests run as.
fn as_controller(more: &str) -> String {
    // SAFETY: it reads a number and cannot fail.
    let uid = unsafe { libc::geteuid() };
    format!("[[api.roles]]\nuid = {uid}\nrole = \"controller\"\n{more}\n")
}

/// Devices that would run a program, touch a file or take what nobody gave, if
/// DPDK saw them.
fn hostile(marker: &Path) -> Vec<String> {
    let marker = marker.display();
    vec![
        format!("net_failsafe0,exec(/bin/touch {marker})"),
        format!("net_failsafe0,exec(/bin/touch${{IFS}}{marker})"),
        format!("net_failsafe0,fd({marker})"),
        format!("net_pcap0,tx_pcap={marker}"),
        format!("net_pcap0,rx_pcap=/dev/null,tx_pcap={marker}"),
        format!("net_af_xdp0,iface=lo,xdp_prog={marker}"),
        format!("net_memif0,socket={marker},zero-copy=yes"),
        "net_pcap0,iface=lo".to_owned(),
        "net_bonding0,mode=0".to_owned(),
        "net_tap0,iface=tl-none,remote=lo".to_owned(),
        "net_af_packet0,iface=lo".to_owned(),
        "net_vhost0,iface=/run/x".to_owned(),
        "0000:00:00.0".to_owned(),
        "bus=vdev,net_tap0,iface=x".to_owned(),
    ]
}

#[tokio::test]
async fn s1_hostile_devices_are_refused_and_leave_no_trace() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut program = daemon.program().await;
    let marker = PathBuf::from(format!(
        "{}.marker",
        place.config().display().to_string().replace("/tieline.toml", "")
    ));
    std::fs::write(&marker, "whole").expect("a file");
    for device in hostile(&marker) {
        let refused = program.refused(Some(apply(port("p", &device, TENANT)))).await;
        assert_eq!(refused.code(), v1::ErrorCode::Permission, "{device}: {refused:?}");
        assert_eq!(refused.field, "port.device");
    }
    assert_eq!(std::fs::read_to_string(&marker).expect("it is there"), "whole");
    std::fs::remove_file(&marker).expect("it is there");
    assert!(daemon.get(object_key::Kind::Port("p".into())).await.is_none());
}

#[tokio::test]
async fn s1_controllers_declare_ports_only_where_it_is_granted() {
    let place = Place::new();
    place.configure(&as_controller(""));
    let daemon = Daemon::start(&place);
    let mut program = daemon.program().await;
    let refused = program.refused(Some(apply(port("lab-1", "net_null0", TENANT)))).await;
    assert_eq!((refused.code(), refused.field.as_str()), (v1::ErrorCode::Permission, "port"));
    program.apply(vrf("red", "64512:1")).await;
    drop(daemon);

    let place = Place::new();
    place.configure(&as_controller("objects = [\"port:lab-*\", \"vrf:red\"]"));
    let daemon = Daemon::start(&place);
    let mut program = daemon.program().await;
    program.apply(port("lab-1", "net_null0", TENANT)).await;
    program.apply(vrf("red", "64512:1")).await;
    for kind in [port("other", "net_null1", TENANT), vrf("blue", "64512:1")] {
        let refused = program.refused(Some(apply(kind))).await;
        assert_eq!(refused.code(), v1::ErrorCode::Permission);
    }
    // What may not be declared would be refused in a preview, too.
    let batch = v1::Batch {
        operations: vec![v1::Operation { operation: Some(apply(vrf("blue", "64512:1"))) }],
        ..Default::default()
    };
    let request = v1::PreviewRequest { controller: "x".into(), batch: Some(batch), replaces_all: false };
    let preview = daemon.control().await.preview(request).await.expect("a preview").into_inner();
    assert_eq!(preview.refused.len(), 1, "{preview:?}");
}

#[tokio::test]
async fn s1_a_device_that_a_restart_does_not_allow_any_more_degrades_its_port() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    daemon.program().await.apply(port("quiet", "net_null0", TENANT)).await;
    daemon.kill();
    let before = std::fs::read_to_string(place.config()).expect("a file");
    std::fs::write(place.config(), before.replace("\"net_null\", ", "")).expect("a file");
    let daemon = Daemon::start(&place);
    let status = async |daemon: &Daemon| {
        let item = daemon.get(object_key::Kind::Port("quiet".into())).await.expect("it is declared");
        item.status.expect("a status")
    };
    let now = status(&daemon).await;
    assert_eq!(now.state(), v1::ObjectState::Degraded);
    assert!(now.message.contains("dpdk.test_drivers"), "{now:?}");
    daemon.kill();
    std::fs::write(place.config(), before).expect("a file");
    let daemon = Daemon::start(&place);
    assert_eq!(status(&daemon).await.state(), v1::ObjectState::Ready);
}

#[tokio::test]
async fn s1_hostile_devices_in_a_store_are_degraded_ports_and_no_more() {
    let place = Place::new();
    // A first daemon makes the store, as every release has made it.
    Daemon::start(&place).kill();
    let marker = beside(&place);
    let devices = hostile(&marker);
    {
        let mut path = place.socket().into_os_string();
        path.push(".store");
        let (store, _) = Store::open(Path::new(&path), Options::default()).expect("a store");
        let mut changes = Changes::default();
        let hello = v1::ControllerHello { controller: "old".into(), lasting: true, ..Default::default() };
        changes.put_controller(7, &hello.encode_to_vec());
        for (number, device) in devices.iter().enumerate() {
            let name = format!("p{number}");
            let key = v1::ObjectKey { kind: Some(object_key::Kind::Port(name.clone())) };
            let object = v1::Object { kind: Some(port(&name, device, TENANT)) };
            changes.put_declaration(7, &key.encode_to_vec(), &object.encode_to_vec());
        }
        store.write(&mut changes).expect("room");
    }
    for _ in 0..2 {
        let daemon = Daemon::start(&place);
        for (number, device) in devices.iter().enumerate() {
            let item = daemon.get(object_key::Kind::Port(format!("p{number}"))).await;
            let status = item.expect("no record is lost").status.expect("a status");
            assert_eq!(status.state(), v1::ObjectState::Degraded, "{device}: {status:?}");
        }
        assert!(!marker.exists(), "nothing was run, and nothing written");
        daemon.kill();
    }
}

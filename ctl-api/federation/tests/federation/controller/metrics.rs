//! Metrics, read over HTTP as Prometheus does.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::CLUSTER;
use super::place::Place;

async fn listen(place: &Place) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(tieline_federation::metrics::serve(listener, place.asker()));
    address
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an end").expect("an answer");
    answer
}

#[tokio::test]
async fn metrics_are_read_over_http() {
    let place = Place::start().await;
    let address = listen(&place).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(ask(address, &get("/metrics")).await.starts_with("HTTP/1.1 503 "), "nobody knows who it is");
    place.apply(CLUSTER).await;
    place.status().await;
    let answer = ask(address, &get("/metrics")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n")
    );
    assert!(answer.contains("\ntieline_federation_gateway_up{gateway=\"east-1\"} 0\n"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    assert!(ask(address, &get("/")).await.starts_with("HTTP/1.1 404 "));
    let post = "POST /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    assert!(ask(address, post).await.starts_with("HTTP/1.1 405 "));
    let noise = ask(address, &"x".repeat(100_000)).await;
    assert!(noise.starts_with("HTTP/1.1 4"), "{noise}");
}

#[tokio::test]
async fn who_holds_connections_open_keeps_others_out_only_for_a_while() {
    let place = Place::start().await;
    place.apply(CLUSTER).await;
    place.status().await;
    let address = listen(&place).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(address).await.expect("the kernel takes it"));
    }
    let held = idle.len();
    drop(idle.split_off(held / 2));
    drop(idle);
    let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

//! The listener that metrics are read from: HTTP, `GET /metrics`, nothing else.
//!
//! Connections are few and short, whatever a client does.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::controller::questions::Asker;

/// Most connections; who comes later waits.
const CONNECTIONS: usize = 16;
/// Longest time for the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// Longest time for a connection.
const LIMIT: Duration = Duration::from_secs(30);
/// Most bytes of a request that are kept.
const BUFFER: usize = 16 << 10;
/// The text format of OpenMetrics.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers with the metrics of a controller, for as long as it is polled.
pub async fn serve(listener: TcpListener, controller: Asker) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // It is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let controller = controller.clone();
                tokio::spawn(async move {
                    connection(stream, controller).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: it passes.
                warn!("cannot accept a connection for metrics: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, controller: Asker) {
    let service = service_fn(|request| answer(request, &controller));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(BUFFER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(LIMIT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("a connection for metrics broke: {error}"),
        Err(_) => debug!("a connection for metrics took longer than {} s", LIMIT.as_secs()),
    }
}

async fn answer(request: Request<Incoming>, controller: &Asker) -> Result<Response<String>, Infallible> {
    let say = |status: StatusCode, text: &str| {
        let mut response = Response::new(format!("{text}\n"));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return Ok(say(StatusCode::NOT_FOUND, "metrics are at /metrics"));
    }
    if request.method() != Method::GET {
        let mut response = say(StatusCode::METHOD_NOT_ALLOWED, "metrics are read with GET");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return Ok(response);
    }
    let status = match controller.status().await {
        Ok(status) => status,
        Err(error) => return Ok(say(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())),
    };
    Ok(match super::text(&status) {
        Ok(text) => {
            let mut response = Response::new(text);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
            response
        }
        Err(_) => say(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written"),
    })
}

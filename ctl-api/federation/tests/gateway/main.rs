//! The client of a gateway against a model of one, over real gRPC.

mod exports;
mod fake;
mod life;
mod owner;
#[path = "../store/place.rs"]
mod place;
mod refusals;
mod synchronising;
mod tls;

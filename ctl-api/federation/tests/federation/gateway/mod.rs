//! The client of a gateway against a model of one, over real gRPC.

mod exports;
mod life;
mod owner;
mod refusals;
mod synchronising;
mod tls;

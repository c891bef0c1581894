//! A tiny upstream application behind the gateway: it greets the user whom the gateway has verified.
//!
//! It trusts the identity headers and nothing else, so clients that can reach it directly can claim any identity. That
//! is why it belongs on loopback or on a network that only the gateway can enter.

mod answer;
mod server;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;

/// A tiny upstream for auth-gateway: greets the user named by the identity headers, which it believes.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen: an IP address and a port, which only the gateway should be able to reach.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match server::run(arguments.listen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            server::log(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

//! A program of which one acts at a time: start it twice, with two names, and end one of them.

use std::time::Duration;

use client_failover_client::{Join, Member};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let session = std::env::args().nth(1).ok_or("which session is it?")?;
    let join = Join::group("plant/line1/pump", &session)?.creating(Duration::from_secs(1));
    let member = Member::join(join).await?;
    loop {
        let lease = member.primary().await?;
        while let Ok(_acting) = lease.check() {
            println!("{session} sends, in term {}", lease.term());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

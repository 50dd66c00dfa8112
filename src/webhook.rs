//! Tells a receiver of the operator's what happens: changes of Primary, risks that begin and end,
//! and what else is wanted, each as a signed request.
//!
//! What is told is read from the rows that there are, by one replica at a time, which notes in the
//! database how far it has come: another goes on from there. It owns messages, their signature, and
//! when one is tried again or given up. It never holds a lock or a transaction while the receiver
//! is waited for, and nobody waits for it: see `docs/decisions/0027-the-webhook.md`.

use std::time::Duration;

use client_failover_client::outgoing::{self, NoAuthorities};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

use crate::access::AuthSetupError;
use crate::access::watched_file::WatchedFile;
use crate::failover::Failover;
use crate::store::Store;
pub use options::{Receiver, WebhookEvent, WebhookOptions};
use sender::Sender;
use signature::Secrets;

mod message;
mod options;
mod sender;
mod signature;

/// How long the receiver may take to answer, and of that to be reached.
const TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// What messages are signed with.
    #[error("webhook-secret-file: {0}")]
    Secret(#[from] AuthSetupError),
    /// The receiver's certificate could not be believed.
    #[error("the webhook's receiver cannot be told: {0}")]
    Client(#[from] NoAuthorities),
}

/// The receiver, and what messages to it are signed with.
pub struct Webhook {
    options: WebhookOptions,
    secrets: WatchedFile<Secrets>,
    http: Client,
}

impl Webhook {
    /// Reads the secret. The receiver need not be there yet.
    pub fn open(options: &WebhookOptions) -> Result<Webhook, WebhookError> {
        let secrets = WatchedFile::open(&options.secret_file, Secrets::read)?;
        let http = outgoing::client(options.receiver.url(), configure)?;
        Ok(Webhook { options: options.clone(), secrets, http })
    }

    /// Tells the receiver, for ever, whenever it is this replica's turn.
    pub async fn keep_telling(self, failover: Failover, direct: Store) {
        Sender::new(self, failover, direct.background()).run().await;
    }
}

fn configure() -> ClientBuilder {
    // Whom to tell is the operator's word, and not that of whoever answers.
    Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none())
}

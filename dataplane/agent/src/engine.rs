// SPDX-License-Identifier: Apache-2.0
//! The node's engine, asked from asynchronous code.

use std::path::Path;
use std::time::Duration;

use sluice_api::client::{Client, ClientError};

/// Time limit of one question: the engine answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// Client of the engine for tasks.
#[derive(Debug, Clone)]
pub struct Engine {
    client: Client,
}

impl Engine {
    /// Creates a client of the engine that listens on `socket`; nothing is opened.
    pub fn new(socket: &Path) -> Engine {
        Engine {
            client: Client::new(socket).timeout(PATIENCE),
        }
    }

    /// Asks one question, on a thread that may block.
    ///
    /// # Errors
    /// As the question; [`ClientError::Protocol`] if the thread panicked.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let client = self.client.clone();
        let socket = client.socket().to_owned();
        let asked = tokio::task::spawn_blocking(move || question(&client)).await;
        asked.unwrap_or_else(|error| {
            Err(ClientError::Protocol {
                socket,
                message: error.to_string(),
            })
        })
    }
}

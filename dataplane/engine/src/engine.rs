// SPDX-License-Identifier: Apache-2.0
//! The datapath's engine as the threads of control share it, until it is taken out to be stopped.

use std::sync::{PoisonError, RwLock};

use sluice_api::ApiError;
use sluice_datapath::{Engine, Error};

use crate::refusal;

/// Running engine, shared by control's threads; empty once the engine shuts down.
pub struct SharedEngine(RwLock<Option<Engine>>);

impl SharedEngine {
    /// Shares a running engine.
    pub fn new(engine: Engine) -> SharedEngine {
        SharedEngine(RwLock::new(Some(engine)))
    }

    /// Calls `work`, which cannot fail, with the engine.
    ///
    /// # Errors
    /// The engine is shutting down.
    pub fn with<T>(&self, work: impl FnOnce(&Engine) -> T) -> Result<T, ApiError> {
        // A panic elsewhere does not make the engine unusable: it has locks of its own.
        let engine = self.0.read().unwrap_or_else(PoisonError::into_inner);
        engine
            .as_ref()
            .map(work)
            .ok_or_else(|| refusal::unavailable("the engine is shutting down; retry"))
    }

    /// Calls `work`, which the engine may refuse, with the engine.
    ///
    /// # Errors
    /// The engine refuses, or is shutting down.
    pub fn try_with<T>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, Error>,
    ) -> Result<T, ApiError> {
        self.with(work)?.map_err(|error| refusal::by_engine(&error))
    }

    /// Takes the engine out, for [`Engine::stop`]; `None` if it was taken before.
    pub fn take(&self) -> Option<Engine> {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl std::fmt::Debug for SharedEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedEngine")
    }
}

//! The running engine as many threads of control share it: there until it is taken to be stopped.

use std::sync::{PoisonError, RwLock};

use sluice_api::ApiError;
use sluice_datapath::{Engine, Error};

use crate::refusal;

/// The engine, or its empty place once it is stopping.
pub struct SharedEngine(RwLock<Option<Engine>>);

impl SharedEngine {
    /// Shares a running engine.
    pub fn new(engine: Engine) -> SharedEngine {
        SharedEngine(RwLock::new(Some(engine)))
    }

    /// Asks it something that cannot fail.
    ///
    /// # Errors
    /// It is stopping.
    pub fn ask<T>(&self, question: impl FnOnce(&Engine) -> T) -> Result<T, ApiError> {
        // A panic elsewhere does not make the engine unusable: it has locks of its own.
        let engine = self.0.read().unwrap_or_else(PoisonError::into_inner);
        engine
            .as_ref()
            .map(question)
            .ok_or_else(|| refusal::unavailable("the engine is stopping: ask the next one"))
    }

    /// Has it do something.
    ///
    /// # Errors
    /// It refuses, or it is stopping.
    pub fn order<T>(&self, order: impl FnOnce(&Engine) -> Result<T, Error>) -> Result<T, ApiError> {
        self.ask(order)?.map_err(|error| refusal::by_engine(&error))
    }

    /// Takes it out, for [`Engine::stop`]. Whoever asks from now on is told that it is stopping.
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

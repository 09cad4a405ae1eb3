// SPDX-License-Identifier: Apache-2.0
//! The CNI itself: how a runtime calls a plugin, how a plugin answers, and how a plugin runs others
//! (CNI specification 1.1.0).
//!
//! | module | contents |
//! |---|---|
//! | [`protocol`] | one call from start to exit code, for any plugin |
//! | [`call`], [`conf`], [`fields`] | environment and configuration, checked |
//! | [`result`], [`version`] | results of every CNI version, and their conversion |
//! | [`error`] | error codes and error objects |
//! | [`exec`], [`delegate`] | running other plugins: one, and the chain of a delegate |
//! | [`progress`] | how far a delegate's plugins came, and when a DEL is not repeated |
//! | [`netns`] | what can be asked of a pod's network namespace |
//! | [`budget`], [`log`] | the time a call may take, and what people read |
//! | [`operations`] | the report of a call, for metrics |

pub mod budget;
pub mod call;
pub mod conf;
pub mod delegate;
pub mod error;
pub mod exec;
pub mod fields;
pub mod log;
pub mod netns;
pub mod operations;
pub mod progress;
pub mod protocol;
pub mod result;
pub mod version;

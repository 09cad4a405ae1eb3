// SPDX-License-Identifier: Apache-2.0
//! A worker and a flow cache that the caller's thread steps, and the fakes of the ports' tests.

#[cfg(test)]
pub(crate) mod fake_port_context;
pub(crate) mod stepped_engine;
pub(crate) mod stepped_flows;
pub(crate) mod stepped_worker;

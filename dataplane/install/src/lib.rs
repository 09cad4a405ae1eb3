// SPDX-License-Identifier: Apache-2.0
//! Puts the CNI plugins and their configuration on a node, and takes them off again: what `sluicectl install` and
//! the agent do.
#![forbid(unsafe_code)]

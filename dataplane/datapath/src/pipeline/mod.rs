//! The two flows, and the stages that they are made of.

pub(crate) mod antispoof;
pub(crate) mod attachment;
pub(crate) mod classify;
pub(crate) mod dispatch;
pub(crate) mod egress;
pub(crate) mod ingress;
pub(crate) mod judge;
pub(crate) mod lookup;
pub(crate) mod macs;
pub(crate) mod reject;
pub(crate) mod state;
pub(crate) mod tables;
pub(crate) mod token_bucket;

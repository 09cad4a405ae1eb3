//! The CNI plugins: `sluicegate`, the meta plugin that turns a pod's networks into delegates and
//! runs them, and `sluicegate-vf`, the interface plugin that gives a pod one attachment on the
//! engine. Both are one-shot programs: environment and JSON in, JSON out, state in small files.
//!
//! | module | what it holds |
//! |---|---|
//! | [`protocol`] | the CNI conversation: which call it is, what is answered, error objects |
//! | [`call`], [`conf`], [`fields`] | the environment and the configuration, checked |
//! | [`exec`], [`delegate`] | running other plugins: one, and the chain of a delegate |
//! | [`result`], [`version`] | results of every CNI version, and their conversion |
//! | [`store`], [`lock`], [`budget`] | state files, the lock per container, the time a call may take |
//! | [`netns`] | what can be asked of a network namespace |
//! | [`log`] | what people read |
//! | [`meta`] | `sluicegate`: what a pod asks for, where networks come from, how they are named and run |
//! | [`vf`] | `sluicegate-vf` |
//!
//! Of the crates at hand, `nix` serves for the libc calls that have no system call of their own (names
//! and addresses of interfaces), `rustix` for the rest. `kube` with `k8s-openapi` asks the API server,
//! `tonic` with `prost` the kubelet; both run on an async runtime of one thread, which is made when the
//! first question is asked, so a call that asks nobody has none. The kubelet's messages are five, and
//! are written with prost's derive beside the code that reads them: a build needs no protoc.
#![forbid(unsafe_code)]

pub mod budget;
pub mod call;
pub mod conf;
pub mod delegate;
pub mod error;
pub mod exec;
pub mod fields;
pub mod lock;
pub mod log;
pub mod meta;
pub mod netns;
pub mod protocol;
pub mod result;
pub mod store;
pub mod version;
pub mod vf;

pub use error::{Error, PluginError};

// SPDX-License-Identifier: Apache-2.0
//! [`PluginState`]: how far one plugin of a delegate came, as a pod's record keeps it, and the rule by
//! which a DEL ends.
//!
//! A plugin is owed a DEL from the moment its ADD begins. A DEL that fails is repeated by the next
//! one, unless
//!
//! 1. the plugin's ADD had answered with an error: it promised nothing, and
//!    what its DEL says is logged;
//! 2. the failure is [final](Error::is_final): no retry mends it;
//! 3. the pod's network namespace is gone, and the plugin says that it cannot do without;
//! 4. it is the [`MOST_DELS`]th.
//!
//! So the number of DELs of a container is bounded, whatever its plugins answer.

use serde::{Deserialize, Serialize};

use crate::Error;

/// Number of DELs of one plugin that may fail before it is given up.
pub const MOST_DELS: u32 = 10;

/// Step that a plugin has reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// ADD has not begun.
    NotRun,
    /// ADD has begun and has not answered: it runs, or the call was killed.
    #[default]
    Unknown,
    /// ADD answered with an error.
    Failed,
    /// ADD succeeded.
    Added,
    /// DEL succeeded, or was given up.
    Deleted,
}

impl Progress {
    /// Returns the step in words, for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Progress::NotRun => "not run",
            Progress::Unknown => "unknown",
            Progress::Failed => "failed",
            Progress::Added => "added",
            Progress::Deleted => "deleted",
        }
    }
}

/// State of one plugin of a delegate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginState {
    /// Step that it has reached.
    pub progress: Progress,
    /// Number of its DELs that failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_dels: u32,
    /// Failure of its last ADD or DEL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Reason why a plugin whose DEL failed is not asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GivenUp {
    /// Rule 1.
    #[error("its ADD had failed, so nothing was promised")]
    NeverAdded,
    /// Rule 2.
    #[error("no retry mends this")]
    Final,
    /// Rule 3.
    #[error("it asks for the pod's network namespace, which is gone")]
    NeedsNetns,
    /// Rule 4.
    #[error("{MOST_DELS} DELs of it have failed")]
    TooOften,
}

impl From<Progress> for PluginState {
    fn from(progress: Progress) -> PluginState {
        PluginState {
            progress,
            ..PluginState::default()
        }
    }
}

impl PluginState {
    /// Whether a DEL has to run it.
    pub fn is_owed(&self) -> bool {
        !matches!(self.progress, Progress::NotRun | Progress::Deleted)
    }

    /// Notes that its ADD answered with an error.
    pub fn add_failed(&mut self, error: &Error) {
        self.progress = Progress::Failed;
        self.last_error = Some(error.to_string());
    }

    /// Notes that its DEL failed. The reason why it is not asked again; `None`: it is.
    pub fn del_failed(&mut self, error: &Error, netns_is_gone: bool) -> Option<GivenUp> {
        self.failed_dels += 1;
        self.last_error = Some(error.to_string());
        let given_up = if self.progress == Progress::Failed {
            GivenUp::NeverAdded
        } else if error.is_final() {
            GivenUp::Final
        } else if netns_is_gone && asks_for_netns(error) {
            GivenUp::NeedsNetns
        } else if self.failed_dels >= MOST_DELS {
            GivenUp::TooOften
        } else {
            return None;
        };
        self.progress = Progress::Deleted;
        Some(given_up)
    }
}

/// Whether a plugin's message is about the network namespace, in the words of the library that nearly all of
/// them open it with (`failed to open netns "": failed to Statfs "": no such file or directory`), or in those of
/// `sbr`, which says no more than that there is no such file.
fn asks_for_netns(error: &Error) -> bool {
    let Error::Plugin(failure) = error else {
        return false;
    };
    let msg = failure.msg.to_ascii_lowercase();
    ["netns", "statfs", "namespace"]
        .iter()
        .any(|word| msg.contains(word))
        || msg == "no such file or directory"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Error {
        Error::TryAgain("busy".into())
    }

    #[test]
    fn an_add_that_failed_is_owed_one_del() {
        let mut state = PluginState::default();
        state.add_failed(&busy());
        assert!(state.is_owed());
        assert_eq!(state.del_failed(&busy(), false), Some(GivenUp::NeverAdded));
        assert!(!state.is_owed());
    }

    #[test]
    fn what_no_retry_mends_is_given_up_at_once_and_the_rest_after_ten() {
        for progress in [Progress::Added, Progress::Unknown] {
            let mut state = PluginState::from(progress);
            let refused = Error::Config("no".into());
            assert_eq!(state.del_failed(&refused, false), Some(GivenUp::Final));
            let mut state = PluginState::from(progress);
            for _ in 1..MOST_DELS {
                assert_eq!(state.del_failed(&busy(), true), None);
                assert!(state.is_owed());
            }
            assert_eq!(state.del_failed(&busy(), false), Some(GivenUp::TooOften));
        }
        assert!(!PluginState::from(Progress::NotRun).is_owed());
    }

    #[test]
    fn a_plugin_that_asks_for_a_namespace_that_is_gone_is_given_up() {
        for msg in [
            "failed to open netns \"\": failed to Statfs \"\": no such file",
            "no such file or directory",
        ] {
            let error = Error::Plugin(crate::PluginError {
                plugin: "sbr".into(),
                code: 999,
                msg: msg.into(),
                details: String::new(),
            });
            let mut state = PluginState::from(Progress::Added);
            assert_eq!(state.del_failed(&error, false), None, "it is there");
            assert_eq!(state.del_failed(&error, true), Some(GivenUp::NeedsNetns));
        }
    }
}

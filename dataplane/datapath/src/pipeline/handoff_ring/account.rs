// SPDX-License-Identifier: Apache-2.0
//! Accounts that frames between two workers are charged to: an attachment or an uplink has one.

use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::frame::origin_tag::Origin;
use crate::ids::{AttachmentId, MAX_ATTACHMENTS, MAX_UPLINKS, UplinkId};

/// Number of accounts: attachments by slot, then uplinks by number.
pub(super) const ACCOUNTS: usize = MAX_ATTACHMENTS + MAX_UPLINKS;

/// Account that a frame between two workers is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account(u16);

impl Account {
    /// Returns the account of an attachment.
    #[inline]
    pub(crate) fn of_attachment(id: AttachmentId) -> Account {
        // A slot is below MAX_ATTACHMENTS.
        Account::at(id.slot())
    }

    /// Returns the account of an uplink.
    #[inline]
    pub(crate) fn of_uplink(id: UplinkId) -> Account {
        Account::at(MAX_ATTACHMENTS + id.index())
    }

    #[inline]
    fn at(index: usize) -> Account {
        Account(u16::try_from(index % ACCOUNTS).unwrap_or(0))
    }

    /// Returns the account's number, below [`ACCOUNTS`].
    #[inline]
    pub(super) fn index(self) -> usize {
        usize::from(self.0) % ACCOUNTS
    }
}

/// Ring that a frame goes through, with the account that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charge {
    /// A pod's own frame, which it sent while it had room.
    Pod(Account),
    /// Any other.
    Other(Account),
}

impl Charge {
    /// Returns the charge of a frame whose destination is in its facts.
    #[inline]
    pub(crate) fn of(info: &FrameInfo) -> Charge {
        match (info.origin(), info.destination()) {
            (Origin::Attachment(id), _) if !info.is_exempt() => {
                Charge::Pod(Account::of_attachment(id))
            }
            (_, Destination::Attachment(id)) => Charge::Other(Account::of_attachment(id)),
            (_, Destination::Uplink(id)) | (Origin::Uplink(id), _) => {
                Charge::Other(Account::of_uplink(id))
            }
            (Origin::Attachment(id), _) => Charge::Other(Account::of_attachment(id)),
        }
    }

    /// Returns the account, whichever ring it is of.
    #[inline]
    pub(super) fn account(self) -> Account {
        match self {
            Charge::Pod(account) | Charge::Other(account) => account,
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Error of every parser in this crate.

/// Reason why a frame, or a header in it, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// Header, or length stated by a header, that goes past the end of the bytes.
    #[error("the frame ends before its headers or its stated length do; capture it at its sender")]
    Truncated,
    /// Header that contradicts itself or its specification.
    #[error("a header contradicts itself or its specification; capture the frame at its sender")]
    BadHeader,
    /// Source route, or another header by which the packet's true source or destination is not the one
    /// that its IP header names.
    #[error(
        "the packet's true source or destination is hidden in a source route or a home address option; \
         no rule could mean anything for it"
    )]
    HiddenAddress,
    /// Second tag where none is allowed.
    #[error("the frame has a second VLAN tag; allow it with qinq on the attachment")]
    InnerTag,
    /// Third tag, which is never allowed.
    #[error("the frame has a third VLAN tag; two are the most that any attachment may use")]
    ThirdTag,
}

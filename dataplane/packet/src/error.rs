//! The error of every parser in this crate.

/// Reason why a frame, or a header in it, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// A header, or a length that a header states, goes past the end of the bytes.
    #[error("the frame ends before its headers or its stated length do; capture it at its sender")]
    Truncated,
    /// A header contradicts itself or its specification.
    #[error("a header contradicts itself or its specification; capture the frame at its sender")]
    BadHeader,
    /// A second tag where none is allowed.
    #[error("the frame has a second VLAN tag; allow it with qinq on the attachment")]
    InnerTag,
    /// A third tag, which is never allowed.
    #[error("the frame has a third VLAN tag; two are the most that any attachment may use")]
    ThirdTag,
}

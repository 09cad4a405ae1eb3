// SPDX-License-Identifier: Apache-2.0
//! Fixed-size strings of control messages.

use std::fmt;

/// String of at most `N` bytes, padded with zeros, as messages carry it. What a peer wrote may be
/// anything; `Display` shows it with control characters replaced, so it is safe to log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// Makes one of `text`, cut at a character boundary so that one zero byte is left.
    pub fn new(text: &str) -> Text<N> {
        let mut end = text.len().min(N.saturating_sub(1));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = [0; N];
        for (to, from) in bytes.iter_mut().zip(&text.as_bytes()[..end]) {
            *to = *from;
        }
        Text(bytes)
    }

    pub(crate) fn from_bytes(bytes: [u8; N]) -> Text<N> {
        Text(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(N);
        for character in String::from_utf8_lossy(&self.0[..end]).chars() {
            let shown = if character.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                character
            };
            write!(f, "{shown}")?;
        }
        Ok(())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A shared secret of 1 to 24 bytes. Never printed.
#[derive(Clone, Copy)]
pub struct Secret([u8; Secret::LEN]);

impl Secret {
    /// Bytes of a secret in the INIT message.
    pub const LEN: usize = 24;

    /// `None` if it is empty, longer than [`Secret::LEN`] bytes, or has a zero byte.
    pub fn new(secret: &str) -> Option<Secret> {
        if secret.is_empty() || secret.len() > Secret::LEN || secret.as_bytes().contains(&0) {
            return None;
        }
        let mut bytes = [0; Secret::LEN];
        for (to, from) in bytes.iter_mut().zip(secret.as_bytes()) {
            *to = *from;
        }
        Some(Secret(bytes))
    }

    pub(crate) fn from_bytes(bytes: [u8; Secret::LEN]) -> Option<Secret> {
        // Bytes behind the first zero byte are padding, with any content.
        let end = bytes
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(Secret::LEN);
        let mut clean = [0; Secret::LEN];
        for (to, from) in clean.iter_mut().zip(&bytes[..end]) {
            *to = *from;
        }
        (end > 0).then_some(Secret(clean))
    }

    pub(crate) fn bytes(&self) -> &[u8; Secret::LEN] {
        &self.0
    }
}

impl PartialEq for Secret {
    /// Takes the same time wherever the two differ.
    fn eq(&self, other: &Secret) -> bool {
        let different = self
            .0
            .iter()
            .zip(&other.0)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(different) == 0
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(Text::<8>::new("sluice").to_string(), "sluice");
        assert_eq!(Text::<8>::new("abcdefgh").to_string(), "abcdefg");
        assert_eq!(Text::<4>::new("abé").to_string(), "ab");
        assert_eq!(
            Text::<8>::from_bytes(*b"a\nb\xff\0xyz").to_string(),
            "a\u{fffd}b\u{fffd}"
        );
        assert_eq!(Text::<3>::from_bytes(*b"abc").to_string(), "abc");
    }

    #[test]
    fn secrets_compare_up_to_their_padding() {
        assert_eq!(Secret::new(""), None);
        assert_eq!(Secret::new(&"x".repeat(25)), None);
        let full = "x".repeat(24);
        assert_eq!(Secret::new(&full), Secret::from_bytes([b'x'; 24]));
        let mut dirty = [0xAA; 24];
        dirty[..4].copy_from_slice(b"key\0");
        assert_eq!(Secret::new("key"), Secret::from_bytes(dirty));
        assert_ne!(Secret::new("key"), Secret::new("keys"));
        assert_eq!(Secret::from_bytes([0; 24]), None);
        assert_eq!(format!("{:?}", Secret::new("key")), "Some(Secret(..))");
    }
}

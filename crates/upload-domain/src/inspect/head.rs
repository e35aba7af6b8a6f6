//! A reader that knows "not here" from "not there".

use super::Refusal;

/// What is left of a file's first bytes.
pub(super) struct Head<'a> {
    left: &'a [u8],
    left_in_file: u64,
}

impl<'a> Head<'a> {
    pub(super) fn new(head: &'a [u8], total_bytes: u64) -> Self {
        Self { left: head, left_in_file: total_bytes }
    }

    /// Takes the file for so long at the most, counted from here.
    pub(super) fn end_after(&mut self, bytes: u64) {
        self.left_in_file = self.left_in_file.min(bytes);
    }

    /// The next bytes. A file that ends before them is damaged; a head that does may be too short.
    pub(super) fn take(&mut self, bytes: u64) -> Result<&'a [u8], Refusal> {
        self.left_in_file = self.left_in_file.checked_sub(bytes).ok_or(Refusal::ContentMismatch)?;
        let split = usize::try_from(bytes).ok().and_then(|bytes| self.left.split_at_checked(bytes));
        let (taken, left) = split.ok_or(Refusal::HeaderTooLong)?;
        self.left = left;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        self.take(N as u64)?.first_chunk().copied().ok_or(Refusal::HeaderTooLong)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Refusal> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn expect<const N: usize>(&mut self, expected: &[u8; N]) -> Result<(), Refusal> {
        if self.array()? == *expected { Ok(()) } else { Err(Refusal::ContentMismatch) }
    }
}

//! A form's bytes. The parser gets what stands before and after the file; the file's own bytes pass by it.
//!
//! actix-multipart copies every byte into a buffer of its own, and looks for a delimiter at each `\r`. For a file whose length is predicted
//! that is not needed: exactly so many bytes are taken as they are, and one search over them makes sure that the form does not end earlier.
//! Then the parser proves that the delimiter follows.

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::LocalBoxStream};
use memchr::memmem::Finder;

/// A form's bytes from its beginning, for the parser.
#[derive(Clone)]
pub struct FormInput(Rc<RefCell<Inner>>);

struct Inner {
    /// What was read, but not used yet.
    read: VecDeque<Bytes>,
    body: LocalBoxStream<'static, Result<Bytes, PayloadError>>,
    /// How many bytes the parser may still have.
    for_parser: u64,
}

/// A file's bytes, of a length that is known.
pub struct FileInput {
    input: FormInput,
    left: u64,
    delimiter: Finder<'static>,
    /// The last bytes that were seen, in which a delimiter may begin.
    before: Vec<u8>,
}

impl FormInput {
    /// `read` is the beginning of `body`, which was read before. The parser gets no more than `for_parser` bytes until
    /// [`FormInput::open`].
    pub fn new(
        read: Vec<Bytes>,
        body: impl Stream<Item = Result<Bytes, PayloadError>> + 'static,
        for_parser: u64,
    ) -> Self {
        let (read, body) = (read.into(), body.boxed_local());
        Self(Rc::new(RefCell::new(Inner { read, body, for_parser })))
    }

    /// Lets the parser read to the end.
    pub fn open(&self) {
        self.0.borrow_mut().for_parser = u64::MAX;
    }

    /// The next `length` bytes, past the parser.
    pub fn file(&self, length: u64, boundary: &str) -> FileInput {
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        FileInput { input: self.clone(), left: length, delimiter, before: Vec::new() }
    }
}

impl Inner {
    /// The next bytes, at most so many.
    fn poll_bytes(&mut self, most: u64, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        let mut bytes = match self.read.pop_front() {
            Some(bytes) => bytes,
            None => match ready!(self.body.poll_next_unpin(context)) {
                Some(Ok(bytes)) => bytes,
                end => return Poll::Ready(end),
            },
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if bytes.len() > most {
            self.read.push_front(bytes.split_off(most));
        }
        Poll::Ready(Some(Ok(bytes)))
    }
}

impl Stream for FormInput {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut inner = self.0.borrow_mut();
        if inner.for_parser == 0 {
            // The parser is polled again after `open`.
            return Poll::Pending;
        }
        let most = inner.for_parser;
        let next = ready!(inner.poll_bytes(most, context));
        if let (Some(Ok(bytes)), false) = (&next, most == u64::MAX) {
            inner.for_parser -= bytes.len() as u64;
        }
        Poll::Ready(next)
    }
}

impl FileInput {
    /// How many bytes of the file are left, if none of them is here yet. `None` if the next bytes need no read, or if nothing is left.
    pub fn to_read(&self) -> Option<u64> {
        (self.left > 0 && self.input.0.borrow().read.is_empty()).then_some(self.left)
    }

    /// Where the form's delimiter ends in these bytes, the newest ones.
    fn delimiter_in(&mut self, bytes: &[u8]) -> Option<usize> {
        let delimiter_bytes = self.delimiter.needle().len();
        let overlap = delimiter_bytes - 1;
        let before = self.before.len();
        self.before.extend_from_slice(&bytes[..bytes.len().min(overlap)]);
        let across = self.delimiter.find(&self.before).map(|begin| begin + delimiter_bytes - before);
        let end = across.or_else(|| self.delimiter.find(bytes).map(|begin| begin + delimiter_bytes));
        if bytes.len() >= overlap {
            self.before.clear();
            self.before.extend_from_slice(&bytes[bytes.len() - overlap..]);
        } else {
            self.before.drain(..self.before.len().saturating_sub(overlap));
        }
        end
    }
}

impl Stream for FileInput {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let left = self.left;
        let next = ready!(self.input.0.borrow_mut().poll_bytes(left, context));
        let mut bytes = match next {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(Some(Err(PayloadError::Incomplete(None)))),
        };
        self.left -= bytes.len() as u64;
        if let Some(end) = self.delimiter_in(&bytes) {
            // The file is shorter than predicted. The parser says what follows, so it gets the delimiter.
            self.left = 0;
            let delimiter = Bytes::copy_from_slice(self.delimiter.needle());
            let mut inner = self.input.0.borrow_mut();
            inner.read.push_front(bytes.split_off(end));
            bytes.truncate(end.saturating_sub(delimiter.len()));
            inner.read.push_front(delimiter);
        }
        Poll::Ready(Some(Ok(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, stream};

    use super::*;

    const BOUNDARY: &str = "b0undary";

    /// What comes as the file, and what is left for the parser, if the form comes in pieces of `piece_bytes`.
    fn read(form: &[u8], length: u64, piece_bytes: usize) -> Result<(Vec<u8>, Vec<u8>), PayloadError> {
        let pieces = form.chunks(piece_bytes).map(Bytes::copy_from_slice).collect();
        let input = FormInput::new(pieces, stream::empty(), 0);
        let whole = async |mut bytes: LocalBoxStream<'_, Result<Bytes, PayloadError>>| {
            let mut whole = Vec::new();
            while let Some(piece) = bytes.next().await {
                whole.extend_from_slice(&piece?);
            }
            Ok::<_, PayloadError>(whole)
        };
        block_on(async {
            let file = whole(input.file(length, BOUNDARY).boxed_local()).await?;
            input.open();
            Ok((file, whole(input.boxed_local()).await?))
        })
    }

    #[test]
    fn the_parser_gets_what_the_file_leaves() {
        let input = FormInput::new(vec![Bytes::from_static(b"head|file|tail")], stream::empty(), 5);
        let next = |mut input: FormInput| {
            let next = input.poll_next_unpin(&mut Context::from_waker(std::task::Waker::noop()));
            next.map(|next| next.and_then(Result::ok).unwrap_or_default())
        };
        assert_eq!(next(input.clone()), Poll::Ready(Bytes::from_static(b"head|")));
        assert_eq!(next(input.clone()), Poll::Pending);
        let file: Vec<_> = block_on(input.file(4, BOUNDARY).collect());
        assert!(matches!(&file[..], [Ok(bytes)] if bytes == "file"));
        assert_eq!(next(input.clone()), Poll::Pending);
        input.open();
        assert_eq!(next(input), Poll::Ready(Bytes::from_static(b"|tail")));
    }

    #[test]
    fn a_delimiter_within_the_predicted_length_ends_the_file_however_the_form_is_cut() {
        let good = b"ab\r\n--b0undarX\r\n--b0undar";
        let (file, rest) = (b"ab\r\n--b0undar\r\r\n-".as_slice(), b"\r\n--b0undary\r\nanother part".as_slice());
        let short = [file, rest].concat();
        for piece_bytes in 1..short.len() {
            assert!(
                read(good, good.len() as u64, piece_bytes).is_ok_and(|(bytes, rest)| bytes == good && rest.is_empty())
            );
            let (bytes, left) = read(&short, short.len() as u64, piece_bytes).unwrap_or_default();
            // A part of the delimiter may have gone out before the rest of it came.
            assert!(bytes.starts_with(file) && bytes.len() < short.len(), "{piece_bytes}: {bytes:?}");
            assert_eq!(left, rest, "{piece_bytes}");
        }
        assert!(matches!(read(good, 100, 7), Err(PayloadError::Incomplete(_))));
    }
}

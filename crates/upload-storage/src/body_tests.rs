//! What leaves for the store, frame by frame.

use std::{collections::VecDeque, task::Waker};

use super::*;

/// Frames as the test dictates them; `None` is "not yet".
struct Script(VecDeque<Option<Result<&'static str, &'static str>>>);

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.0.pop_front() {
            Some(Some(Ok(text))) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
            Some(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Some(None) => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

fn script(frames: &[Option<Result<&'static str, &'static str>>], length: u64) -> SdkBody {
    once(Script(frames.iter().copied().collect()), length)
}

/// One poll: a frame's text, an error's, "end" or "pending".
fn poll(body: &mut SdkBody) -> String {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(body).poll_frame(&mut context) {
        Poll::Pending => "pending".to_owned(),
        Poll::Ready(None) => "end".to_owned(),
        Poll::Ready(Some(Ok(frame))) => String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap(),
        Poll::Ready(Some(Err(error))) => error.to_string(),
    }
}

#[test]
fn the_last_frame_leaves_only_when_the_body_has_ended() {
    let mut body = script(&[Some(Ok("ab")), Some(Ok("")), Some(Ok("cd")), None], 4);
    assert_eq!(body.content_length(), Some(4));
    assert_eq!(poll(&mut body), "ab");
    assert_eq!(poll(&mut body), "pending");
    assert_eq!(body.content_length(), Some(2));
    assert_eq!(poll(&mut body), "cd");
    assert_eq!(poll(&mut body), "end");
    assert_eq!(poll(&mut body), "end");
}

#[test]
fn a_body_of_another_length_never_sends_its_last_byte() {
    let mut long = script(&[Some(Ok("ab")), Some(Ok("cd")), Some(Ok("e"))], 4);
    assert_eq!(poll(&mut long), "ab");
    assert_eq!(poll(&mut long), BodyError::TooLong.to_string());
    assert_eq!(poll(&mut long), BodyError::Taken.to_string());
    let mut one_frame = script(&[Some(Ok("abcde"))], 4);
    assert_eq!(poll(&mut one_frame), BodyError::TooLong.to_string());
    let mut short = script(&[Some(Ok("ab"))], 4);
    assert_eq!(poll(&mut short), "ab");
    assert_eq!(poll(&mut short), BodyError::TooShort.to_string());
}

#[test]
fn a_body_that_fails_after_its_last_byte_does_not_send_it() {
    let mut body = script(&[Some(Ok("abcd")), Some(Err("the form went on"))], 4);
    assert_eq!(poll(&mut body), "the form went on");
    assert_eq!(poll(&mut body), BodyError::Taken.to_string());
}

#[test]
fn another_attempt_may_read_until_the_first_byte_is_taken() {
    let mut first = script(&[None, None, Some(Ok("ab"))], 2);
    let mut second = first.try_clone().unwrap();
    let mut never_sent = first.try_clone().unwrap();
    assert_eq!(poll(&mut first), "pending");
    assert_eq!(poll(&mut second), "pending");
    assert_eq!(poll(&mut first), BodyError::Taken.to_string(), "a retry has taken its place");
    assert_eq!(poll(&mut second), "ab");
    assert_eq!(poll(&mut never_sent), BodyError::Taken.to_string());
    assert_eq!(poll(&mut second), "end");
}

#[test]
fn a_rope_is_sent_whole_any_number_of_times() {
    let mut first = rope(vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")]);
    let mut second = first.try_clone().unwrap();
    for body in [&mut first, &mut second] {
        assert_eq!(body.content_length(), Some(3));
        assert_eq!((poll(body), poll(body), poll(body)), ("ab".to_owned(), "c".to_owned(), "end".to_owned()));
    }
}

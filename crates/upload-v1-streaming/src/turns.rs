//! Who may move bytes now.
//!
//! An upload that has begun has a *place*, and a *turn* while it moves bytes. If its client keeps the server waiting, the turn lapses:
//! another upload gets it. The upload keeps its place, and gets the next turn before all uploads that have not begun. So fast uploads
//! go one after another, in the order in which they came, and many slow ones go on side by side.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// The turns and places of one server; all its workers share them.
#[derive(Debug)]
pub struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    free_turns: usize,
    free_places: usize,
    /// Uploads that have begun, whose turn has lapsed, and whose client has sent more.
    returning: VecDeque<oneshot::Sender<Held>>,
    /// Uploads that have not begun.
    arriving: VecDeque<oneshot::Sender<Turn>>,
}

/// An upload's place, and its turn unless that has lapsed. Dropping it gives both back.
#[derive(Debug)]
pub struct Turn {
    held: Option<Held>,
    place: Place,
}

/// One of the turns. Dropping it gives it to the next upload.
#[derive(Debug)]
struct Held(Arc<Turns>);

/// One of the places.
#[derive(Debug)]
struct Place(Arc<Turns>);

enum Next {
    Returning(oneshot::Sender<Held>),
    Arriving(oneshot::Sender<Turn>),
}

impl Turns {
    /// `turns` uploads may move bytes at once, and `places` may have begun.
    pub fn new(turns: usize, places: usize) -> Arc<Self> {
        let (returning, arriving) = (VecDeque::new(), VecDeque::new());
        Arc::new(Self(Mutex::new(State { free_turns: turns, free_places: places, returning, arriving })))
    }

    /// A turn for a new upload, if it need not wait.
    pub fn at_once(self: &Arc<Self>) -> Option<Turn> {
        let mut state = self.state();
        if state.free_turns == 0 || state.free_places == 0 {
            return None;
        }
        // While turns are free, nobody waits for one.
        state.free_turns -= 1;
        state.free_places -= 1;
        Some(self.first_turn())
    }

    /// Puts a new upload at the end of the queue.
    pub fn arrive(self: &Arc<Self>) -> oneshot::Receiver<Turn> {
        let (sender, receiver) = oneshot::channel();
        self.state().arriving.push_back(sender);
        self.hand_out();
        receiver
    }

    /// Gives every free turn to the next upload. If that stops waiting at this moment, the turn is dropped, and so is free again.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let Some(next) = self.state().next() else { return };
            match next {
                Next::Returning(upload) => drop(upload.send(Held(Arc::clone(self)))),
                Next::Arriving(upload) => drop(upload.send(self.first_turn())),
            }
        }
    }

    /// A turn and a place that were taken from the free ones.
    fn first_turn(self: &Arc<Self>) -> Turn {
        Turn { held: Some(Held(Arc::clone(self))), place: Place(Arc::clone(self)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next upload that gets a turn, if one is free.
    fn next(&mut self) -> Option<Next> {
        if self.free_turns == 0 {
            return None;
        }
        if let Some(upload) = first_waiting(&mut self.returning) {
            self.free_turns -= 1;
            return Some(Next::Returning(upload));
        }
        if self.free_places == 0 {
            return None;
        }
        let upload = first_waiting(&mut self.arriving)?;
        self.free_turns -= 1;
        self.free_places -= 1;
        Some(Next::Arriving(upload))
    }
}

/// Takes the first upload that still waits.
fn first_waiting<T>(queue: &mut VecDeque<oneshot::Sender<T>>) -> Option<oneshot::Sender<T>> {
    std::iter::from_fn(|| queue.pop_front()).find(|upload| !upload.is_closed())
}

impl Turn {
    /// Whether the upload may move bytes now.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Lets another upload move its bytes, because this one's client keeps the server waiting.
    pub fn lapse(&mut self) {
        self.held = None;
    }

    /// Waits for the next turn, if the last one has lapsed.
    pub async fn resume(&mut self) {
        if self.held.is_some() {
            return;
        }
        let turns = &self.place.0;
        let (sender, receiver) = oneshot::channel();
        turns.state().returning.push_back(sender);
        turns.hand_out();
        // The queue never drops the sender of an upload that waits.
        self.held = receiver.await.ok();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().free_turns += 1;
        self.0.hand_out();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().free_places += 1;
        self.0.hand_out();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use futures::FutureExt;

    use super::*;

    /// The turn of an upload that need not wait.
    fn first(turns: &Arc<Turns>) -> Turn {
        turns.arrive().try_recv().unwrap()
    }

    #[tokio::test]
    async fn turns_come_in_the_order_of_arrival() {
        let turns = Turns::new(1, 10);
        let turn = first(&turns);
        let (mut second, mut third) = (turns.arrive(), turns.arrive());
        assert!(second.try_recv().is_err());
        drop(turn);
        let turn = second.try_recv().unwrap();
        assert!(third.try_recv().is_err());
        drop(turn);
        assert!(third.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_lapsed_turn_comes_back_before_those_that_have_not_begun() {
        let turns = Turns::new(1, 10);
        let mut slow = first(&turns);
        slow.lapse();
        assert!(!slow.is_held());
        let mut fast = first(&turns);
        let mut third = turns.arrive();
        let mut resumed = Box::pin(slow.resume());
        assert!(resumed.as_mut().now_or_never().is_none(), "the fast one has the turn");
        fast.lapse();
        resumed.await;
        assert!(slow.is_held() && third.try_recv().is_err());
        drop(slow);
        assert!(third.try_recv().is_ok());
    }

    #[tokio::test]
    async fn who_has_begun_keeps_a_place() {
        let turns = Turns::new(2, 1);
        let mut slow = first(&turns);
        slow.lapse();
        let mut second = turns.arrive();
        assert!(second.try_recv().is_err(), "two turns are free, but no place");
        drop(slow);
        assert!(second.try_recv().is_ok());
    }

    #[tokio::test]
    async fn who_no_longer_waits_loses_no_turn() {
        let turns = Turns::new(1, 2);
        let mut slow = first(&turns);
        slow.lapse();
        let turn = first(&turns);
        assert!(slow.resume().now_or_never().is_none(), "its future was dropped");
        let given_up = turns.arrive();
        drop(turn);
        drop(given_up);
        let turn = first(&turns);
        drop(turn);
        slow.resume().now_or_never().unwrap();
        assert!(slow.is_held());
    }
}

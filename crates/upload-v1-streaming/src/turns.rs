//! Who may move bytes now.
//!
//! An upload that has begun has a *place*, and a *turn* while it moves bytes. If its client keeps the server waiting, the turn lapses:
//! another upload gets it. The upload keeps its place, and returns when its client has sent more. So fast uploads go one after another, in
//! the order in which they came, and many slow ones go on side by side.
//!
//! Uploads that return go before those that have not begun, but leave them half of the turns. Otherwise a fast upload that arrives amid a
//! thousand slow ones would wait for all of these again and again. And if the store is slow, some slow uploads would begin only when
//! others end.

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
    turns: usize,
    /// Turns in use that have not lapsed since their uploads began.
    first: usize,
    /// Turns in use whose uploads returned.
    returned: usize,
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
struct Held {
    turns: Arc<Turns>,
    is_first: bool,
}

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
        Arc::new(Self(Mutex::new(State { turns, first: 0, returned: 0, free_places: places, returning, arriving })))
    }

    /// A turn for a new upload, if it need not wait.
    pub fn at_once(self: &Arc<Self>) -> Option<Turn> {
        let mut state = self.state();
        if !state.has_free_turn() || state.free_places == 0 {
            return None;
        }
        // While turns are free, nobody waits for one.
        state.first += 1;
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
                Next::Returning(upload) => drop(upload.send(Held { turns: Arc::clone(self), is_first: false })),
                Next::Arriving(upload) => drop(upload.send(self.first_turn())),
            }
        }
    }

    /// A turn and a place that were taken from the free ones.
    fn first_turn(self: &Arc<Self>) -> Turn {
        Turn { held: Some(Held { turns: Arc::clone(self), is_first: true }), place: Place(Arc::clone(self)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_free_turn(&self) -> bool {
        self.first + self.returned < self.turns
    }

    /// The next upload that gets a turn, if one is free. Uploads that begin go first until they have half of the turns.
    fn next(&mut self) -> Option<Next> {
        if !self.has_free_turn() {
            return None;
        }
        if self.first < self.turns / 2 {
            self.next_arriving().or_else(|| self.next_returning())
        } else {
            self.next_returning().or_else(|| self.next_arriving())
        }
    }

    fn next_returning(&mut self) -> Option<Next> {
        let upload = first_waiting(&mut self.returning)?;
        self.returned += 1;
        Some(Next::Returning(upload))
    }

    fn next_arriving(&mut self) -> Option<Next> {
        if self.free_places == 0 {
            return None;
        }
        let upload = first_waiting(&mut self.arriving)?;
        self.first += 1;
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
        let mut state = self.turns.state();
        if self.is_first {
            state.first -= 1;
        } else {
            state.returned -= 1;
        }
        drop(state);
        self.turns.hand_out();
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
    async fn half_of_the_turns_are_for_those_that_have_not_begun() {
        let turns = Turns::new(2, 10);
        let mut slow = [first(&turns), first(&turns)];
        slow.iter_mut().for_each(Turn::lapse);
        let fast = [first(&turns), first(&turns)];
        let (mut third, mut fourth) = (turns.arrive(), turns.arrive());
        let [one, other] = &mut slow;
        let mut resumed = [Box::pin(one.resume()), Box::pin(other.resume())];
        assert!(resumed.iter_mut().all(|slow| slow.as_mut().now_or_never().is_none()), "the fast ones have the turns");

        let [first, second] = fast;
        drop(first);
        let returned = resumed.iter_mut().filter_map(|slow| slow.as_mut().now_or_never()).count();
        assert_eq!(returned, 1, "a fast one has the other half");
        drop(second);
        let _third = third.try_recv().unwrap();
        assert!(fourth.try_recv().is_err(), "a slow one has the other half");
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

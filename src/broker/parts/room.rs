//! How much may be delivered to a pool just now.

use std::collections::VecDeque;

use crate::job::Work;

/// The room of one pool.
///
/// A demand counts from the last delivery that its pool had taken in, so what is under way is not counted twice, and a
/// demand that is said again adds nothing.
#[derive(Debug, Default)]
pub struct Room {
    credit: u64,
    jobs: u64,
    /// What was delivered to the pool since it began.
    delivered: u64,
    /// The last of these, which the pool had not taken in when it spoke.
    unseen: VecDeque<Work>,
    /// What was asked for while there was room for it, and is on its way: it is delivered, whatever is said meanwhile.
    reserved: usize,
}

impl Room {
    /// The pool has room for so many deliveries after number `seen`, so many jobs among them.
    ///
    /// # Panics
    /// If it has seen more than there was.
    pub fn say(&mut self, seen: u64, credit: u32, jobs: u32) {
        assert!(
            seen <= self.delivered,
            "saw {seen} deliveries of {}",
            self.delivered
        );
        let unseen = self.delivered - seen;
        while self.unseen.len() as u64 > unseen {
            self.unseen.pop_front();
        }
        (self.credit, self.jobs) = (credit.into(), jobs.into());
    }

    /// Deliveries that may be made now.
    pub fn all(&self) -> usize {
        let room = self.credit.saturating_sub(self.unseen.len() as u64);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Jobs that may be delivered now.
    pub fn jobs(&self) -> usize {
        let unseen = self.unseen.iter().filter(|work| **work == Work::Job).count() as u64;
        let room = self.jobs.saturating_sub(unseen);
        usize::try_from(room).unwrap_or(usize::MAX).min(self.all())
    }

    /// So many are asked for. To give back what comes of them, since room fell a little meanwhile, would be churn.
    pub fn reserve(&mut self, count: usize) {
        self.reserved = count;
    }

    /// Nothing is on its way any more.
    pub fn release(&mut self) {
        self.reserved = 0;
    }

    /// Whether there is room for this.
    pub fn has(&self, work: Work) -> bool {
        let room = match work {
            Work::Job => self.jobs(),
            Work::After => self.all(),
        };
        room.max(self.reserved) > 0
    }

    /// One is delivered.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn deliver(&mut self, work: Work) {
        assert!(self.has(work), "a delivery without room for it: {self:?}");
        self.delivered += 1;
        self.reserved = self.reserved.saturating_sub(1);
        self.unseen.push_back(work);
    }

    /// The number of the last delivery.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_said_twice_counts_once_and_what_is_under_way_counts() {
        let mut room = Room::default();
        room.say(0, 3, 3);
        room.say(0, 3, 3);
        assert_eq!(room.all(), 3);
        room.deliver(Work::Job);
        room.deliver(Work::Job);
        assert_eq!(room.all(), 1);
        room.say(0, 3, 3);
        assert_eq!(room.all(), 1, "it had not taken in either");
        room.say(1, 3, 3);
        assert_eq!(room.all(), 2);
        room.say(1, 0, 0);
        assert_eq!(room.all(), 0, "room that falls is no room");
    }

    #[test]
    fn what_is_on_its_way_keeps_its_room() {
        let mut room = Room::default();
        room.say(0, 3, 3);
        room.reserve(2);
        room.say(0, 0, 0);
        room.deliver(Work::Job);
        assert!(room.has(Work::Job));
        room.deliver(Work::Job);
        assert!(!room.has(Work::Job), "no more than was asked for");
        room.reserve(1);
        room.release();
        assert!(!room.has(Work::Job));
    }

    #[test]
    fn after_work_has_room_where_jobs_have_none() {
        let mut room = Room::default();
        room.say(0, 3, 1);
        room.deliver(Work::Job);
        assert!(!room.has(Work::Job) && room.has(Work::After));
        room.deliver(Work::After);
        room.say(1, 2, 1);
        assert_eq!((room.all(), room.jobs()), (1, 1));
    }

    #[test]
    #[should_panic(expected = "without room")]
    fn nothing_is_delivered_without_room() {
        Room::default().deliver(Work::After);
    }
}

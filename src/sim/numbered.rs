//! Things by number, the first of which may be forgotten.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

/// A list that keeps its numbers when its first items are forgotten.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    /// The number of the first item that is kept.
    first: usize,
    items: VecDeque<T>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Numbered {
            first: 0,
            items: VecDeque::new(),
        }
    }
}

impl<T> Numbered<T> {
    /// Adds an item; returns its number.
    pub fn push(&mut self, item: T) -> usize {
        self.items.push_back(item);
        self.next() - 1
    }

    /// The number that the next item gets.
    pub fn next(&self) -> usize {
        self.first + self.items.len()
    }

    /// The item of this number, if there was one and it is kept.
    pub fn get(&self, number: usize) -> Option<&T> {
        self.items.get(number.checked_sub(self.first)?)
    }

    /// All that are kept.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.items.iter()
    }

    /// Forgets the first items for which this holds, up to one for which it does not.
    pub fn forget_while(&mut self, is_over: impl Fn(&T) -> bool) {
        while self.items.front().is_some_and(&is_over) {
            self.items.pop_front();
            self.first += 1;
        }
    }

    /// The number of the first item that is kept.
    pub fn first(&self) -> usize {
        self.first
    }
}

impl<T> Index<usize> for Numbered<T> {
    type Output = T;

    fn index(&self, number: usize) -> &T {
        self.get(number).expect("an item that is kept")
    }
}

impl<T> IndexMut<usize> for Numbered<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        let at = number.checked_sub(self.first);
        at.and_then(|at| self.items.get_mut(at))
            .expect("an item that is kept")
    }
}

//! Events that wait to be sent.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Events that one message carries. Source: `celery/events/dispatcher.py`, `buffer_limit`.
const GROUP_MAX: usize = 24;
/// Bytes that wait at most, while the broker is away or slower than we are.
const LENGTH_MAX: usize = 16 << 20;

/// Encoded events, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<String>,
    length: usize,
    /// How many found no room since it was said last.
    dropped: u64,
}

impl Buffer {
    /// Adds some. Those that find no room are dropped.
    pub fn add(&self, events: impl IntoIterator<Item = String>) {
        let mut waiting = self.waiting();
        for event in events {
            if waiting.length + event.len() > LENGTH_MAX {
                if waiting.dropped == 0 {
                    tracing::warn!(
                        "events wait for the broker; no more of them are kept until some are sent"
                    );
                }
                waiting.dropped += 1;
                continue;
            }
            waiting.length += event.len();
            waiting.events.push_back(event);
        }
        drop(waiting);
        self.came.notify_one();
    }

    /// Returns when there are some.
    pub async fn came(&self) {
        while self.waiting().events.is_empty() {
            self.came.notified().await;
        }
    }

    /// The body of the next message, a list; and how many events it has. They wait until they are [`sent`](Self::sent).
    pub fn next(&self) -> Option<(String, usize)> {
        let waiting = self.waiting();
        let count = waiting.events.len().min(GROUP_MAX);
        if count == 0 {
            return None;
        }
        let length = waiting
            .events
            .iter()
            .take(count)
            .map(|event| event.len() + 1)
            .sum::<usize>();
        let mut body = String::with_capacity(length + 1);
        body.push('[');
        for (at, event) in waiting.events.iter().take(count).enumerate() {
            if at > 0 {
                body.push(',');
            }
            body.push_str(event);
        }
        body.push(']');
        Some((body, count))
    }

    /// So many of the oldest were sent.
    pub fn sent(&self, count: usize) {
        let mut waiting = self.waiting();
        for event in 0..count {
            let Some(event) = waiting.events.pop_front() else {
                unreachable!("event {event} of {count} was sent and does not wait");
            };
            waiting.length -= event.len();
        }
        if waiting.events.is_empty() && waiting.dropped > 0 {
            tracing::warn!(
                dropped = waiting.dropped,
                "events were dropped while the broker took none"
            );
            waiting.dropped = 0;
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_in_groups_in_their_order() {
        let buffer = Buffer::default();
        buffer.add((0..GROUP_MAX + 2).map(|number| number.to_string()));
        let (body, count) = buffer.next().unwrap();
        assert!(body.starts_with("[0,1,2,") && body.ends_with(",23]"), "{body}");
        assert_eq!(buffer.next(), Some((body, count)), "it waits until it is sent");
        buffer.sent(count);
        assert_eq!(buffer.next(), Some(("[24,25]".into(), 2)));
        buffer.sent(2);
        assert_eq!(buffer.next(), None);
        assert_eq!(buffer.waiting().length, 0);
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let buffer = Buffer::default();
        let long = "x".repeat(LENGTH_MAX / 2);
        buffer.add([long.clone(), long.clone(), "y".into()]);
        assert_eq!(buffer.waiting().dropped, 1);
        buffer.sent(2);
        assert_eq!(buffer.waiting().dropped, 0);
        assert_eq!(buffer.waiting().length, 0);
        buffer.add(["z".into()]);
        assert_eq!(buffer.next(), Some(("[z]".into(), 1)));
    }
}

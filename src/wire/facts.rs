//! What an application says about its broker: a text in parts, since it may be longer than a packet.
//!
//! Only the protocol's broker reads it: for all others it is opaque.

/// Longest text in bytes: an application with ten thousand tasks says about 4 MiB.
pub const FACTS_LEN_MAX: usize = 16 << 20;

/// The parts that came so far.
#[derive(Debug, Default)]
pub struct Facts {
    text: String,
    /// Bytes of all parts, those above the limit among them.
    len: usize,
}

/// More than [`FACTS_LEN_MAX`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the application's facts about its broker are longer than {FACTS_LEN_MAX} bytes")]
pub struct TooLong;

impl Facts {
    /// Takes the next part in. What exceeds the limit is not kept.
    pub fn add(&mut self, part: &str) {
        self.len = self.len.saturating_add(part.len());
        if self.len <= FACTS_LEN_MAX {
            self.text.push_str(part);
        } else {
            self.text = String::new();
        }
    }

    /// The whole text; `None`: no part came.
    ///
    /// # Errors
    /// It was too long.
    pub fn finish(self) -> Result<Option<String>, TooLong> {
        match self.len {
            0 => Ok(None),
            len if len <= FACTS_LEN_MAX => Ok(Some(self.text)),
            _ => Err(TooLong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_one_text() {
        let mut facts = Facts::default();
        ["{\"a\":", "1", "}"].iter().for_each(|part| facts.add(part));
        assert_eq!(facts.finish(), Ok(Some("{\"a\":1}".to_owned())));
        assert_eq!(Facts::default().finish(), Ok(None));
    }

    #[test]
    fn a_flood_is_an_error_and_takes_no_memory() {
        let mut facts = Facts::default();
        let part = "x".repeat(1 << 20);
        (0..17).for_each(|_| facts.add(&part));
        assert_eq!(facts.text.capacity(), 0);
        assert_eq!(facts.finish(), Err(TooLong));
    }
}

//! A chain of queues whose times to live are powers of two seconds. A message waits in those that stand for the bits of its
//! delay, and then arrives. Source: `kombu/transport/native_delayed_delivery.py`.

use std::time::Duration;

use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

/// Bits of a delay, in seconds: 8.5 years.
const BITS: u32 = 28;
const LEVEL_MAX: u32 = BITS - 1;
const DELAY_MAX_S: u32 = (1 << BITS) - 1;

/// A chain, by what its names begin with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain(&'static str);

/// The one that Celery's producers use where queues are quorum queues.
pub(super) const OF_KOMBU: Chain = Chain("");
/// Ours.
pub(super) const OF_POOL: Chain = Chain("pool_");

impl Chain {
    /// Where messages go that are to wait.
    pub fn first(self) -> String {
        self.level(LEVEL_MAX)
    }

    /// Whether this exchange is one of it.
    pub fn has(self, exchange: &str) -> bool {
        let rest = exchange.strip_prefix(self.0);
        rest.is_some_and(|rest| rest.starts_with("celery_delayed_"))
    }

    /// Where messages arrive whose delay is over.
    pub fn delivery(self) -> String {
        format!("{}celery_delayed_delivery", self.0)
    }

    fn level(self, level: u32) -> String {
        format!("{}celery_delayed_{level}", self.0)
    }

    /// Where messages go from a level.
    fn after(self, level: u32) -> String {
        level
            .checked_sub(1)
            .map_or_else(|| self.delivery(), |next| self.level(next))
    }

    /// Declares it. `is_quorum`: its queues are replicated. Source: `declare_native_delayed_delivery_exchanges_and_queues`.
    pub async fn declare(self, channel: &Channel, is_quorum: bool) -> Result<(), lapin::Error> {
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let none = FieldTable::default;
        let (bind, bind_exchange) = (QueueBindOptions::default(), ExchangeBindOptions::default());
        let exchange =
            |name: String| channel.exchange_declare(name.into(), ExchangeKind::Topic, durable, none());
        exchange(self.delivery()).await?;
        for level in 0..BITS {
            let name = self.level(level);
            exchange(name.clone()).await?;
            let options = QueueDeclareOptions {
                durable: true,
                ..QueueDeclareOptions::default()
            };
            let arguments = self.queue_arguments(level, is_quorum);
            channel
                .queue_declare(name.as_str().into(), options, arguments)
                .await?;
            let waits = any_above(level) + "1.#";
            channel
                .queue_bind(name.as_str().into(), name.into(), waits.into(), bind, none())
                .await?;
        }
        for level in 0..BITS {
            let (from, to) = (self.level(level), self.after(level));
            let passes = any_above(level) + "0.#";
            let bound = channel.exchange_bind(to.into(), from.into(), passes.into(), bind_exchange, none());
            bound.await?;
        }
        Ok(())
    }

    fn queue_arguments(self, level: u32, is_quorum: bool) -> FieldTable {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut arguments = FieldTable::default();
        let kind = if is_quorum { "quorum" } else { "classic" };
        arguments.insert("x-queue-type".into(), text(kind));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(1000 << level));
        arguments.insert("x-dead-letter-exchange".into(), text(&self.after(level)));
        if is_quorum {
            arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        }
        arguments
    }
}

/// The bits above this level, whatever they are.
fn any_above(level: u32) -> String {
    "*.".repeat((LEVEL_MAX - level) as usize)
}

/// The bits of the delay, highest first, and the key. In whole seconds, so that a message comes early rather than late; at least
/// one. Source: `calculate_routing_key`.
pub(super) fn delayed_key(delay: Duration, key: &str) -> String {
    let seconds = delay.as_secs().clamp(1, u64::from(DELAY_MAX_S));
    let bits = (0..BITS)
        .rev()
        .map(|bit| if seconds >> bit & 1 == 1 { "1." } else { "0." });
    bits.collect::<String>() + key
}

/// The key without the bits of a delay that is over. Source: `_delay_prefix_re`.
pub(super) fn without_delay(key: &str) -> &str {
    let Some((bits, rest)) = key.split_at_checked(2 * BITS as usize) else {
        return key;
    };
    let is_bit = |pair: &[u8]| matches!(pair, [b'0' | b'1', b'.']);
    let all_bits = bits.as_bytes().chunks(2).all(is_bit);
    if all_bits { rest } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_told_by_the_bits_of_its_seconds() {
        // Source: `calculate_routing_key(5, 'mail')`.
        let key = delayed_key(Duration::from_millis(5999), "mail");
        assert_eq!(key, "0.".repeat(25) + "1.0.1.mail");
        assert_eq!(without_delay(&key), "mail");
        assert_eq!(delayed_key(Duration::MAX, "q"), "1.".repeat(28) + "q");
        assert_eq!(delayed_key(Duration::ZERO, "q"), "0.".repeat(27) + "1.q");
        for plain in [
            "mail",
            "0.1.mail",
            "",
            &"ä".repeat(60),
            &("0.".repeat(27) + "2.mail"),
        ] {
            assert_eq!(without_delay(plain), plain);
        }
    }

    #[test]
    fn names_are_those_of_kombu() {
        assert_eq!(
            (OF_KOMBU.first(), OF_KOMBU.delivery()),
            ("celery_delayed_27".into(), "celery_delayed_delivery".into())
        );
        assert_eq!(
            (OF_POOL.after(1), OF_POOL.after(0)),
            (
                "pool_celery_delayed_0".into(),
                "pool_celery_delayed_delivery".into()
            )
        );
        assert_eq!(any_above(25) + "1.#", "*.*.1.#");
    }
}

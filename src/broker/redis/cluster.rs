//! A node of a Redis Cluster: keys are in slots, and each node has some. What scripts touch must be in one slot, and here.

use redis::{ErrorKind, ServerErrorKind};

use super::connection::Link;
use crate::broker::BrokerError;

/// Refuses a node of a cluster that can't serve keys with this prefix. `about` is what the server says of itself; `key` is
/// any key with the prefix; `setting` is what the user can change.
pub(in crate::broker) async fn check_cluster(
    link: &Link,
    about: &str,
    key: &str,
    setting: &str,
) -> Result<(), BrokerError> {
    if !about.lines().any(|line| line.trim() == "redis_mode:cluster") {
        return Ok(());
    }
    let shown = &link.endpoint.shown;
    if tag(key).is_none() {
        return Err(BrokerError::Refused(format!(
            "cannot use {shown}: it is a Redis Cluster, which has its keys in slots on different nodes, and jobs need theirs \
             in one; {setting}"
        )));
    }
    match link.command::<bool>(redis::cmd("EXISTS").arg(key)).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) => {
            let node = error
                .redirect_node()
                .map_or_else(String::new, |(node, _)| format!(": {node}"));
            Err(BrokerError::Refused(format!(
                "cannot use {shown}: the slot of `{key}` is on another node of the cluster{node}; name that one in broker.url"
            )))
        }
        Err(error) => Err(link.endpoint.error(&error)),
    }
}

/// The part of a key that decides its slot, if it has one: two keys with the same tag are in one slot.
/// Source: Redis, `cluster.c`, `keyHashSlot`.
fn tag(key: &str) -> Option<&str> {
    let (_, behind) = key.split_once('{')?;
    let (tag, _) = behind.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_stands_between_the_first_braces() {
        assert_eq!(tag("{app}:rq:queues"), Some("app"));
        assert_eq!(tag("rq{a}{b}:queues"), Some("a"));
        for key in ["rq:queues", "{}rq:queues", "{rq:queues", "{}{rq}:queues"] {
            assert_eq!(tag(key), None, "{key}");
        }
    }
}

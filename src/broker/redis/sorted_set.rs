//! Going through a sorted set from a position, whatever comes and goes meanwhile.

use super::connection::Link;
use crate::broker::BrokerError;

/// Members with their scores.
pub(in crate::broker) type Members = Vec<(Vec<u8>, f64)>;

/// The next `count` members of a set behind one, which is given with its score; `None`: behind none. `rises`: from the
/// lowest score, else from the highest.
pub(in crate::broker) async fn members_behind(
    link: &Link,
    key: &str,
    behind: Option<(&str, &str)>,
    rises: bool,
    count: usize,
) -> Result<Members, BrokerError> {
    let start = match behind {
        Some(behind) => ahead_of(link, key, behind, rises).await?,
        None => 0,
    };
    let mut range = redis::cmd(if rises { "ZRANGE" } else { "ZREVRANGE" });
    range.arg(key).arg(start).arg(start + count as u64 - 1);
    range.arg("WITHSCORES");
    link.run_command(&range).await
}

/// How many members stand ahead of what comes behind this one.
async fn ahead_of(
    link: &Link,
    key: &str,
    (member, score): (&str, &str),
    rises: bool,
) -> Result<u64, BrokerError> {
    let mut rank = redis::cmd(if rises { "ZRANK" } else { "ZREVRANK" });
    rank.arg(key).arg(member);
    if let Some(rank) = link.run_command::<Option<u64>>(&rank).await? {
        return Ok(rank + 1);
    }
    // It has gone: those of its score may come twice.
    let mut ahead = redis::cmd("ZCOUNT");
    let edge = format!("({score}");
    match rises {
        true => ahead.arg(key).arg("-inf").arg(edge),
        false => ahead.arg(key).arg(edge).arg("+inf"),
    };
    link.run_command(&ahead).await
}

/// A pattern that only this text matches. Source: the command `KEYS`.
pub(in crate::broker) fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

//! Which servers will do.

use crate::broker::BrokerError;

/// What a server of this major version takes. Source: Redis, `networking.c`, `processMultibulkBuffer`.
pub(in crate::broker) fn words_max(major: u32) -> usize {
    if major < 7 { 1024 * 1024 } else { i32::MAX as usize }
}

/// The server's major version, if it is new enough: `BLMOVE` and `LPOP` with a count came with 6.2.
pub(in crate::broker) fn check_version(shown: &str, info: &str) -> Result<u32, BrokerError> {
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .unwrap_or_default();
    let mut numbers = version
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if (major, minor) >= (6, 2) {
        return Ok(major);
    }
    Err(BrokerError::Refused(format!(
        "cannot use {shown}: it is Redis {version}; 6.2 or newer is needed (Valkey is fine too)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused() {
        assert!(check_version("redis://h", "redis_version:7.0.15\r\n").is_ok());
        assert!(check_version("redis://h", "redis_version:6.2.0\r\n").is_ok());
        let refusal = check_version("redis://h", "redis_version:5.0.7\r\n").unwrap_err();
        assert!(refusal.to_string().contains("6.2 or newer"), "{refusal}");
    }
}

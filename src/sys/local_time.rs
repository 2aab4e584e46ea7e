//! The local time zone, as the C library reads it.

use crate::time::Unix;

/// Hours by which local time is behind UTC at this moment: -5.5 in Kolkata, 0 where nobody can tell.
pub fn hours_west_of_utc(at: Unix) -> f64 {
    let seconds: libc::time_t = at.0.div_euclid(1000);
    let mut local = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values of ours; the call keeps neither, and writes a whole `tm`, of which all zeroes
    // are a valid one, too.
    let local = unsafe {
        libc::localtime_r(&raw const seconds, local.as_mut_ptr());
        local.assume_init()
    };
    // Before 0, or there would be a negative zero.
    (0 - local.tm_gmtoff) as f64 / 3600.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_less_than_a_day_and_the_same_a_moment_later() {
        let at = Unix(1_795_962_474_983);
        let hours = hours_west_of_utc(at);
        assert!(hours.abs() < 24.0);
        assert_eq!(hours, hours_west_of_utc(Unix(at.0 + 1)));
    }
}

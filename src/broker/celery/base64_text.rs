//! Bodies in base64, as Python reads them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// As Python's `b64decode`, which passes over what is no letter of it.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).or_else(|_| {
        let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
        let letters: Vec<u8> = text.iter().copied().filter(is_letter).collect();
        STANDARD
            .decode(letters)
            .map_err(|why| format!("its body is no base64: {why}"))
    })
}

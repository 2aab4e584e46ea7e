//! What `[metrics]` must be. Pure.

use crate::config::findings::Rules;
use crate::config::values::MetricsConfig;

impl Rules<'_> {
    /// Who can reach the address from elsewhere has to show a token.
    pub(super) fn metrics(&mut self, metrics: &MetricsConfig) {
        let (listen, token) = ("metrics.listen", "metrics.token_file");
        if self.is_bad(listen) || self.is_bad(token) {
            return;
        }
        match (metrics.listen, &metrics.token_file) {
            (Some(address), None) if !address.ip().to_canonical().is_loopback() => {
                let name = self.origin(listen).name(listen);
                let message =
                    format!("`{name}` is {address}, which others can reach, and no token is asked for");
                let hint = "name a file with a token in `metrics.token_file`, or listen on 127.0.0.1";
                self.add(listen, message, hint);
            }
            (None, Some(_)) => {
                let name = self.origin(token).name(token);
                let message = format!("`{name}` is set, and metrics are not served");
                self.add(
                    token,
                    message,
                    "set `metrics.listen`, for example to \"127.0.0.1:9464\"",
                );
            }
            (Some(_) | None, _) => {}
        }
    }
}

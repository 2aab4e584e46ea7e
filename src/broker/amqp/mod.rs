//! Speaking AMQP 0.9.1, the protocol of RabbitMQ. It knows no queue but those it is told.
//!
//! - [`options`]: where servers are; [`link`]: a connection to one of them, made anew when it is lost;
//! - [`tls`]: who the server is, and who we are;
//! - [`tags`]: deliveries of a channel, and how few words acknowledge them.

pub mod link;
pub mod options;
pub mod tags;
mod tls;

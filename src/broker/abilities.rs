//! What a broker can do, and what its users do where it can't.

use super::{Chains, Control, DeadLetters, Groups, Producer, Purge, Reader, Schedules, Search};

/// What users do where a broker lacks an ability, as an error's hint says it. Each has the name of its ability.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // as in `Abilities`
pub struct Instead {
    pub producer: &'static str,
    pub reader: &'static str,
    pub search: &'static str,
    pub dead_letters: &'static str,
    pub control: &'static str,
    pub purge: &'static str,
    pub groups: &'static str,
    pub chains: &'static str,
    pub schedules: &'static str,
}

impl Instead {
    /// What holds for any protocol. A broker that knows better says so.
    pub const DEFAULT: Instead = {
        let tools = "use the tools of its protocol";
        let embedded = "the embedded broker has them (`--broker sqlite:PATH`)";
        Instead {
            producer: "use the producer of its protocol",
            reader: tools,
            search: tools,
            dead_letters: tools,
            control: tools,
            purge: tools,
            groups: embedded,
            chains: embedded,
            schedules: "use the scheduler of its protocol",
        }
    };
}

impl Default for Instead {
    fn default() -> Self {
        Instead::DEFAULT
    }
}

/// What a broker can do besides feeding a supervisor; `None`: it can't.
#[derive(Clone, Copy, Default)]
#[allow(missing_debug_implementations)] // traits
pub struct Abilities<'a> {
    /// See [`super::Broker::producer`].
    pub producer: Option<&'a dyn Producer>,
    /// See [`super::Broker::reader`].
    pub reader: Option<&'a dyn Reader>,
    /// See [`super::Broker::search`].
    pub search: Option<&'a dyn Search>,
    /// See [`super::Broker::dead_letters`].
    pub dead_letters: Option<&'a dyn DeadLetters>,
    /// See [`super::Broker::control`].
    pub control: Option<&'a dyn Control>,
    /// See [`super::Broker::purge`].
    pub purge: Option<&'a dyn Purge>,
    /// See [`super::Broker::groups`].
    pub groups: Option<&'a dyn Groups>,
    /// See [`super::Broker::chains`].
    pub chains: Option<&'a dyn Chains>,
    /// See [`super::Broker::schedules`].
    pub schedules: Option<&'a dyn Schedules>,
    /// What its users do where it can't.
    pub instead: Instead,
}

impl<'a> Abilities<'a> {
    /// All but chains, which not every broker has.
    pub fn of<B: Producer + Reader + DeadLetters + Control + Purge + Groups>(broker: &'a B) -> Self {
        Abilities {
            producer: Some(broker),
            reader: Some(broker),
            dead_letters: Some(broker),
            control: Some(broker),
            purge: Some(broker),
            groups: Some(broker),
            ..Abilities::default()
        }
    }
}

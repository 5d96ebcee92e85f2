//! A deterministic simulation of the link: relays, the aggregator and ClickHouse over virtual time, with every fault at every step.
//!
//! What runs is the programs' own code, as far as it decides anything:
//!
//! | | real | simulated |
//! | --- | --- | --- |
//! | relay | what may be sent, what an answer or a welcome means (`uplink/sending.rs`); who the spool is (`spool/lineage.rs`) | the spool's files ([`spool`]), the session's tasks ([`relay`]) |
//! | aggregator | the whole journal: judging, dedupe, sessions, recovery, cursor, recent events; the worker and its plans; inserts and what is done in doubt | the disk ([`journal_disk`]), the connections ([`aggregator`]) |
//! | ClickHouse | – | tables, tokens, a window ([`click_house`]) |
//!
//! Everything runs on one thread from one seed ([`random`]), so a seed that fails fails again: `PICKET_SIM_SEED=N` replays it with a
//! trace. [`world`] has the invariants, [`fault`] what goes wrong. `mutations/` shows that the simulation finds what it is for.

pub mod aggregator;
pub mod click_house;
pub mod environment;
pub mod fault;
pub mod journal_disk;
pub mod link;
pub mod pause;
pub mod power;
pub mod random;
pub mod relay;
pub mod spool;
pub mod surroundings;
pub mod truth;
pub mod world;

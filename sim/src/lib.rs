//! A virtual world over the cores that the real roles drive: hub, agents and DNS nodes in virtual time, with one seeded
//! queue of events, faults at random, and a checker for each promise of DESIGN §5. A bug is a seed, and a seed replays
//! exactly.
//!
//! Code map:
//! * [`queue`], [`random`], [`clock`], [`network`] — time, chance, clocks that are off, packets that get lost.
//! * [`cluster`] — a Kubernetes API server in memory, and one run of an app over it.
//! * [`serving`] — what a DNS node takes in and answers.
//! * [`wishes`] — what users want, as API objects and as plain sets.
//! * [`world`] — all processes around their cores, and the script of faults and wishes.
//! * [`fact`] → [`checkers`], [`trace`], [`tally`] — what happened, who watches, and how often it did.
//! * [`fuzz`] — many seeds at once.
//!
//! Absent on purpose: rules. What is decided is decided by `policies`, `controller::core` and `agent::core`; a rule that
//! had to be written a second time here would show that a shell holds it.

#![forbid(unsafe_code)]

pub mod checkers;
pub mod clock;
pub mod cluster;
pub mod fact;
pub mod fuzz;
pub mod network;
pub mod queue;
pub mod random;
pub mod serving;
pub mod tally;
pub mod trace;
pub mod wishes;
pub mod world;

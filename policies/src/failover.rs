//! Who is healthy, as one DNS node decides it for itself: the traffic clock.
//!
//! [`traffic::Traffic`] is the machine. Findings go in (its own probes, what fellow nodes tell, what the hub reports),
//! a class for each cluster comes out. [`vote`] counts failure domains; [`damping`] says how long a cluster must be well
//! before it counts as well; [`tunnels`] is what a hub can contribute. What it decides is undone by the same evidence; nothing here scales, promotes or deletes.

pub mod damping;
pub mod traffic;
pub mod tunnels;
pub mod vote;

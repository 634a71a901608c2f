//! Which cluster answers one client: the ranking of clusters by estimated latency, and the choice among them by health.
//!
//! Two steps, because they change at different times. [`rank`] depends on the client's place alone and is done when a
//! snapshot is compiled; [`select`] depends on health and is done for every query. What stands between them,
//! [`Ranked`], decides the answer under *every* state of health, so prefixes with equal rankings share one entry of a
//! node's table, and a change of health changes neither that table nor any ECS scope.
//!
//! Absent on purpose: packets, addresses of clusters, and who judged a cluster's health.

mod rank;
mod select;

pub use rank::{Entry, Ranked, rank, rank_estimates, rank_unlocated};
pub use select::{
    CAPACITY, Candidate, Class, Family, Reason, Role, Selection, TtlRule, Why, candidate, report, select,
};

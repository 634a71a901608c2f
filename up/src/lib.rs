//! up

pub mod network;
pub mod spec;

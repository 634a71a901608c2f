//! 10: equal inputs give equal decisions, byte for byte.

use controller::core::Decision;
use policies::time::Instant;
use prost::Message as _;

use super::Checker;
use crate::fact::Fact;

/// The checker.
#[derive(Debug)]
pub struct Determinism;

impl Checker for Determinism {
    fn name(&self) -> &'static str {
        "10 equal inputs, equal decisions"
    }

    fn handle(&mut self, _now: Instant, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Decided { decision, again: Some(again), .. } = fact else { return Ok(()) };
        let differs = [
            ("what was chosen", decision.choice != again.choice),
            ("desired states", desired(decision) != desired(again)),
            ("renders", decision.renders != again.renders),
            ("the snapshot", decision.snapshot != again.snapshot || decision.head != again.head),
            ("the report", decision.report.encode_to_vec() != again.report.encode_to_vec()),
            ("finalizers", (&decision.hold, &decision.release) != (&again.hold, &again.release)),
            ("statuses", decision.app_status != again.app_status || decision.cluster_status != again.cluster_status),
        ];
        match differs.iter().find(|(_, differs)| *differs) {
            Some((what, _)) => Err(format!("{what} of two decisions on equal inputs differ")),
            None => Ok(()),
        }
    }
}

fn desired(decision: &Decision) -> Vec<Vec<u8>> {
    decision.desired.values().map(prost::Message::encode_to_vec).collect()
}

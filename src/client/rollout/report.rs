//! Tells the service what only the client can see: calls that got no answer, and what the comparison of
//! both ways found. What happened since the last report is the difference between two snapshots of the
//! metrics.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::Way;
use super::super::metrics::{AgentMetrics, LOST, OperationMetrics, UNREACHABLE};
use super::super::shadow::Samples;
use crate::proto::opdbus::v1::{Comparison, LostCalls, ReportCallsRequest};

/// The most operations in one report, and the most lost calls by operation and way.
const MAX_ENTRIES: usize = 1000;

/// What was reported so far.
#[derive(Debug)]
pub(super) struct Reports {
    metrics: Arc<AgentMetrics>,
    samples: Arc<Samples>,
    /// By operation, as `memory.Recall`.
    told: HashMap<String, Told>,
    /// One that reached nobody.
    kept: Option<ReportCallsRequest>,
}

/// The counts of one operation that the service knows. Calls that were kept back from a way that gives no
/// answers count as lost, or a way that is gone altogether would look better than one that loses some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    lost: [u64; Way::ALL.len()],
    compared: u64,
    differed: u64,
}

impl Told {
    fn of(operation: &OperationMetrics) -> Self {
        let mut told =
            Self { compared: operation.compared, differed: operation.differed, ..Self::default() };
        for way in &operation.ways {
            let lost =
                way.errors.iter().filter(|(reason, _)| matches!(*reason, LOST | UNREACHABLE));
            told.lost[way.way.index()] = lost.map(|(_, count)| count).sum::<u64>() + way.forgone;
        }
        told
    }
}

impl Reports {
    pub(super) fn new(metrics: Arc<AgentMetrics>, samples: Arc<Samples>) -> Self {
        Self { metrics, samples, told: HashMap::new(), kept: None }
    }

    /// The next report; `None` if there is nothing to tell. It counts as told: were it told twice, the
    /// calls in it would count twice, so that one which got lost stays lost.
    pub(super) fn next(&mut self, name: &str) -> Option<ReportCallsRequest> {
        if let Some(kept) = self.kept.take() {
            return Some(kept);
        }
        let mut report = ReportCallsRequest { name: name.to_owned(), ..Default::default() };
        for figures in self.metrics.snapshot().operations {
            let now = Told::of(&figures);
            let operation = format!("{}.{}", figures.agent, figures.operation);
            let before = self.told.get(&operation).copied().unwrap_or_default();
            if now == before {
                continue;
            }
            let is_full = report.comparisons.len() >= MAX_ENTRIES
                || report.lost.len() + Way::ALL.len() > MAX_ENTRIES;
            if is_full {
                break;
            }
            for way in Way::ALL {
                let calls = now.lost[way.index()] - before.lost[way.index()];
                if calls > 0 {
                    let way = way.told().into();
                    report.lost.push(LostCalls { operation: operation.clone(), way, calls });
                }
            }
            if now.compared > before.compared {
                report.comparisons.push(Comparison {
                    operation: operation.clone(),
                    compared: now.compared - before.compared,
                    differed: now.differed - before.differed,
                    samples: self.samples.take(&operation),
                });
            }
            self.told.insert(operation, now);
        }
        (!report.lost.is_empty() || !report.comparisons.is_empty()).then_some(report)
    }

    /// Has a report that certainly reached nobody be the next one.
    pub(super) fn keep(&mut self, report: ReportCallsRequest) {
        self.kept = Some(report);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::Failure;
    use crate::proto::opdbus::v1;

    #[test]
    fn each_report_tells_what_is_since_the_last_one() {
        let metrics = Arc::new(AgentMetrics::default());
        let mut reports = Reports::new(Arc::clone(&metrics), Arc::default());
        let recall = metrics.operation("memory", "Recall");
        recall.request(Way::Grpc, Duration::ZERO, Ok(()));
        assert_eq!(reports.next("desk"), None);
        let lost = Failure::lost("reset").into();
        recall.request(Way::Grpc, Duration::ZERO, Err(&lost));
        recall.compare(true);
        recall.compare(false);
        let report = reports.next("desk").unwrap();
        assert_eq!(report.name, "desk");
        let way = v1::Way::Grpc.into();
        assert_eq!(report.lost, [LostCalls { operation: "memory.Recall".into(), way, calls: 1 }]);
        assert_eq!((report.comparisons[0].compared, report.comparisons[0].differed), (2, 1));
        assert_eq!(reports.next("desk"), None);
        reports.keep(report.clone());
        assert_eq!(reports.next("desk"), Some(report));
        assert_eq!(reports.next("desk"), None);
        recall.keep_back(Way::Grpc);
        metrics.tried(Way::Grpc, false);
        assert_eq!(reports.next("desk"), None);
        recall.keep_back(Way::Grpc);
        recall.keep_back(Way::Grpc);
        metrics.tried(Way::Grpc, true);
        assert_eq!(reports.next("desk").unwrap().lost[0].calls, 2);
        recall.compare(false);
        let report = reports.next("desk").unwrap();
        assert!(report.lost.is_empty());
        assert_eq!((report.comparisons[0].compared, report.comparisons[0].differed), (1, 0));
    }
}

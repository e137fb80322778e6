//! The cases of the ledger. What it has seen differs from call to call, so what is compared is what it
//! has not, and what it refuses.

use serde_json::{Value, json};

use super::cases::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    let migration = |operation, arguments| case("migration", operation, arguments);
    let lost = |operation: &str, way: &str| json!({"name": "KEY", "lost": [{"operation": operation, "way": way, "calls": "2"}]});
    let compared = |differed: &str, samples: Value| {
        let found = json!({
            "operation": "memory.Stats", "compared": "3", "differed": differed, "samples": samples,
        });
        json!({"comparisons": [found]})
    };
    vec![
        migration("ListUses", json!({"agent": "KEY"})),
        migration("ListUses", json!({"client": "KEY", "way": "WAY_GRPC", "page_size": 10})),
        migration("ListUses", json!({"since": "2100-01-01T00:00:00Z"})),
        migration("ListUses", json!({"since": "1960-01-01T00:00:00Z"})),
        migration("ListUses", json!({"page_size": 1001})),
        migration("ListUses", json!({"page_token": "KEY"})),
        migration("GetReport", json!({"since": "2100-01-01T00:00:00Z"})),
        migration("GetReport", json!({"since": "1960-01-01T00:00:00Z"})),
        migration("ReportCalls", json!({})),
        migration("ReportCalls", lost("memory.Recall", "WAY_GRPC")),
        migration("ReportCalls", lost("memory.Nothing", "WAY_GRPC")),
        migration("ReportCalls", lost("KEY", "WAY_DBUS")),
        migration("ReportCalls", compared("4", json!([]))),
        migration("ReportCalls", compared("1", json!([{"field": "x".repeat(201)}]))),
        migration("ReportCalls", json!({"name": "no name"})),
        migration("ListDifferences", json!({"operation": "memory.KEY"})),
    ]
}

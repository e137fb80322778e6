//! The contract as it was compiled in: what must hold of every agent, whichever it is.

use super::*;

#[test]
fn every_operation_is_documented_and_says_its_risk() {
    let contract = Contract::built_in().expect("the built-in contract");
    assert!(contract.services.iter().any(|service| service.id == "memory"));
    for service in &contract.services {
        assert!(!service.docs.is_empty(), "{} has no documentation", service.full_name);
        for operation in &service.operations {
            let name = &operation.grpc_path;
            assert!(!operation.docs.is_empty(), "{name} has no documentation");
            assert_ne!(
                operation.risk,
                crate::proto::opdbus::v1::Risk::Admin,
                "{name}: no operation of this release is ADMIN, so its risk was forgotten"
            );
        }
    }
}

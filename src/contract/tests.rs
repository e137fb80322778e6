//! The contract as it was compiled in: what must hold of every agent, whichever it is.

use prost_reflect::DescriptorPool;

use super::*;
use crate::proto::DESCRIPTOR_SET;

#[test]
fn every_operation_is_documented_and_says_its_risk() {
    let contract = Contract::built_in().expect("the built-in contract");
    assert!(contract.services.iter().any(|service| service.id == "memory"));
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("the built-in contract");
    let option = pool.get_extension_by_name("opdbus.v1.operation").expect("the option");
    for service in &contract.services {
        assert!(!service.docs.is_empty(), "{} has no documentation", service.full_name);
        let descriptor = pool.get_service_by_name(&service.full_name).expect("a service");
        for (operation, method) in service.operations.iter().zip(descriptor.methods()) {
            let name = &operation.grpc_path;
            assert!(!operation.docs.is_empty(), "{name} has no documentation");
            let options = method.options();
            let said = options.get_extension(&option);
            let risk =
                said.as_message().and_then(|said| said.get_field_by_name("risk")?.as_enum_number());
            assert_ne!(risk, Some(0), "{name} does not say its risk");
        }
    }
}

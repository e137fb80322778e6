"""Recalls a key over gRPC with nothing but grpcio: the contract comes from the server's reflection.

    recall.py SOCKET KEY

Prints the response as JSON on one line.
"""

import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


def main() -> None:
    socket, key = sys.argv[1:]
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        contract = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service = contract.FindServiceByName("opdbus.agent.memory.v1.MemoryService")
        method = service.methods_by_name["Recall"]
        recall = channel.unary_unary(
            f"/{service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        response = recall(GetMessageClass(method.input_type)(key=key), timeout=10)
        print(json_format.MessageToJson(response, indent=None, preserving_proto_field_name=True))


try:
    main()
except grpc.RpcError as error:
    sys.exit(f"{error.code().name}: {error.details()}")

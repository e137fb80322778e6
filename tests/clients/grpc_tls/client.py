"""Checks op-dbus over TLS with Python's grpcio: by a certificate, by a token, and by neither.

Run by ./run, which gives OPDBUS_TLS=HOST:PORT and OPDBUS_TLS_FOLDER with certificates and a token.
"""

import os
import pathlib

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

TARGET = os.environ["OPDBUS_TLS"]
FOLDER = pathlib.Path(os.environ["OPDBUS_TLS_FOLDER"])
METHOD = "/opdbus.v1.AgentsService/CallJson"


def content(name):
    return (FOLDER / name).read_bytes()


def server():
    """What a client knows of the server."""
    return {"root_certificates": content("ca.pem")}


def channel(credentials):
    return grpc.secure_channel(TARGET, credentials)


class Caller:
    """Calls operations by JSON, with the types that reflection gives."""

    def __init__(self, credentials):
        self.channel = channel(credentials)
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        find = pool.FindMessageTypeByName
        self.request = message_factory.GetMessageClass(find("opdbus.v1.CallJsonRequest"))
        response = message_factory.GetMessageClass(find("opdbus.v1.CallJsonResponse"))
        self.method = self.channel.unary_unary(
            METHOD,
            request_serializer=self.request.SerializeToString,
            response_deserializer=response.FromString,
        )

    def call(self, agent, operation, arguments):
        request = self.request(agent=agent, operation=operation, arguments=arguments)
        return self.method(request, timeout=30).result


def expect(code, call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error.details()
    raise AssertionError(f"the call must fail with {code}")


by_certificate = Caller(
    grpc.ssl_channel_credentials(
        **server(), private_key=content("client.key"), certificate_chain=content("client.pem")
    )
)
by_certificate.call("memory", "remember", '{"key": "k", "value": "of 4712"}')
assert "of 4712" in by_certificate.call("memory", "recall", '{"key": "k"}')
print("ok a certificate is its user")

token = content("token").decode().strip()
bearer = grpc.access_token_call_credentials(token)
with_token = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(**server()), bearer)
by_token = Caller(with_token)
assert '"agents"' in by_token.call("agents", "list_agents", "{}")
expect(
    grpc.StatusCode.NOT_FOUND, lambda: by_token.call("memory", "recall", '{"key": "k"}')
)
print("ok a token is another user")
problem = expect(
    grpc.StatusCode.PERMISSION_DENIED,
    lambda: by_token.call("memory", "remember", '{"key": "k", "value": 1}'),
)
assert "token python is not for memory.Remember" in problem, problem
print("ok a token is held to its scope")

unknown = channel(grpc.ssl_channel_credentials(**server()))
ping = unknown.unary_unary("/opdbus.v1.AgentsService/Ping")
problem = expect(grpc.StatusCode.UNAUTHENTICATED, lambda: ping(b"", timeout=30))
assert "no certificate" in problem, problem
wrong = [("authorization", "Bearer " + token[:-1])]
problem = expect(
    grpc.StatusCode.UNAUTHENTICATED, lambda: ping(b"", timeout=30, metadata=wrong)
)
assert token[:-1] not in problem, problem
print("ok neither is nobody")

plain = grpc.insecure_channel(TARGET).unary_unary("/opdbus.v1.AgentsService/Ping")
expect(grpc.StatusCode.UNAVAILABLE, lambda: plain(b"", timeout=30))
print("ok without TLS there is nothing")

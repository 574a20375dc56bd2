"""The committed messages are what the .proto says, and have etcd's field numbers."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from tulle_etcd import messages_pb2 as pb

SOURCES = Path(pb.__file__).parents[1]


def test_generating_again_gives_the_same_messages(tmp_path: Path) -> None:
    out = tmp_path / "descriptors"
    arguments = ["protoc", f"-I{SOURCES}", f"-I{files(grpc_tools) / '_proto'}", f"--descriptor_set_out={out}"]
    assert protoc.main([*arguments, "tulle_etcd/messages.proto"]) == 0
    generated = FileDescriptorSet.FromString(out.read_bytes()).file[0]
    committed = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(committed)
    for message in generated.message_type:
        for field in message.field:
            field.ClearField("json_name")  # only the compiler fills it in
    assert committed == generated


def test_the_committed_types_are_those_of_the_committed_messages(tmp_path: Path) -> None:
    arguments = ["protoc", f"-I{SOURCES}", f"--pyi_out={tmp_path}", "tulle_etcd/messages.proto"]
    assert protoc.main(arguments) == 0
    made = (tmp_path / "tulle_etcd" / "messages_pb2.pyi").read_text()
    assert made == Path(pb.__file__).with_suffix(".pyi").read_text()

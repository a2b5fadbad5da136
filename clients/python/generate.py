"""Generates the messages of Foedus's schema: `python generate.py <folder>` writes `<folder>/foedus/_gen`. About two seconds.

The schema is compiled to descriptors, these are changed, and Python is generated from the result:

- Files are named `foedus/_gen/...`, so that what is generated imports itself from there and from nowhere else.
- google.rpc and grpc.health.v1 get packages of their own. A program may have googleapis-common-protos or grpcio-health-checking as well,
  in any version, and protobuf refuses two messages of one name. The bytes are the same.
- The rules of buf.validate are left out for the same reason: the hub checks them, and the client would only carry them along.
"""

import importlib.resources
import pathlib
import re
import sys
import tempfile

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = "foedus/_gen/"
# Files of other people, and the packages that they get.
FOREIGN = {
    "google/rpc/status.proto": "foedus.foreign.rpc",
    "google/rpc/error_details.proto": "foedus.foreign.rpc",
    "grpc/health/v1/health.proto": "foedus.foreign.health",
}


def compile_schema(*arguments: str) -> None:
    status = protoc.main(["protoc", *arguments])
    if status != 0:
        raise SystemExit(f"protoc ended with {status}")


def new_name(file: str) -> str:
    if file in FOREIGN:
        return f"{HOME}{file.rsplit('/', 1)[1]}"
    return HOME + file.removeprefix("foedus/") if file.startswith("foedus/") else file


def moved(file: descriptor_pb2.FileDescriptorProto) -> None:
    """Names a file, and what it imports, as the package does."""
    before, package = f".{file.package}.", FOREIGN.get(file.name)
    if package is not None:
        file.package = package
        for message in every_message(file.message_type):
            for field in message.field:
                if field.type_name.startswith(before):
                    field.type_name = f".{package}.{field.type_name.removeprefix(before)}"
        # Its calls are made by their path, which has the old name.
        del file.service[:]
    file.name = new_name(file.name)
    imports = [new_name(one) for one in file.dependency if one != "buf/validate/validate.proto"]
    del file.dependency[:]
    file.dependency.extend(imports)


def every_message(messages):
    for message in messages:
        yield message
        yield from every_message(message.nested_type)


def without_rules(file: descriptor_pb2.FileDescriptorProto) -> None:
    """Leaves out what is not known here of the options of messages and fields; those of methods and reasons are the client's."""
    for message in every_message(file.message_type):
        message.options.DiscardUnknownFields()
        for part in (*message.field, *message.oneof_decl):
            part.options.DiscardUnknownFields()


def reasons(files) -> str:
    """Writes the reasons of errors as a type, so that a misspelt one is found before the program runs."""
    common = next(file for file in files if file.name == f"{HOME}common/v1/error.proto")
    [values] = [enum.value for enum in common.enum_type if enum.name == "ErrorReason"]
    names = [value.name.removeprefix("ERROR_REASON_") for value in values if value.number != 0]
    lines = "".join(f'    "{name}",\n' for name in names)
    return f'from typing import Literal\n\nReason = Literal[\n{lines}]\n'


def generate(out: pathlib.Path) -> None:
    """Writes the code into a folder, which is made if it is not there."""
    out.mkdir(parents=True, exist_ok=True)
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    proto, third_party = ROOT / "proto", ROOT / "third_party"
    own = [str(path.relative_to(proto)) for path in sorted(proto.rglob("*.proto"))]
    with tempfile.TemporaryDirectory() as folder:
        plain, changed = f"{folder}/plain.binpb", f"{folder}/changed.binpb"
        compile_schema(
            f"-I{proto}", f"-I{third_party}", f"-I{well_known}", f"--descriptor_set_out={plain}", "--include_imports", *own, *FOREIGN
        )
        schema = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(plain).read_bytes())
        files = [file for file in schema.file if not file.name.startswith("buf/")]
        for file in files:
            without_rules(file)
            moved(file)
        pathlib.Path(changed).write_bytes(descriptor_pb2.FileDescriptorSet(file=files).SerializeToString())
        names = [file.name for file in files if file.name.startswith(HOME)]
        compile_schema(f"--descriptor_set_in={changed}", f"--python_out={out}", f"--pyi_out={out}", *names)
    home = out / HOME
    for package in (home, *(path for path in home.rglob("*") if path.is_dir() and path.name != "__pycache__")):
        (package / "__init__.py").write_text("")
    (home / "reasons.py").write_text(reasons(files))
    for stub in home.rglob("*.pyi"):
        # Strict type checkers want to know what is in a mapping.
        stub.write_text(re.sub(r"\b_Mapping\]", "_Mapping[str, object]]", stub.read_text()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python generate.py <folder>")
    generate(pathlib.Path(sys.argv[1]))

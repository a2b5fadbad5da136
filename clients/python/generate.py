"""Generates the Python code of Foedus's schema: `python generate.py <folder>`. About a second.

google.rpc and grpc.health come from packages of their own (googleapis-common-protos, grpcio-health-checking): generated here, the
folders `google` and `grpc` would hide those of the libraries.
"""

import importlib.resources
import pathlib
import sys

from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]


def generate(out: pathlib.Path) -> None:
    """Writes the code into a folder, which is made if it is not there."""
    out.mkdir(parents=True, exist_ok=True)
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    proto, third_party = ROOT / "proto", ROOT / "third_party"
    files = [str(path.relative_to(proto)) for path in sorted(proto.rglob("*.proto"))]
    status = protoc.main(
        ["protoc", f"-I{proto}", f"-I{third_party}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
        + files
        + ["buf/validate/validate.proto"]
    )
    if status != 0:
        raise SystemExit(f"protoc ended with {status}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python generate.py <folder>")
    generate(pathlib.Path(sys.argv[1]))

"""Which hub is meant: an address with files, a context of the `foedus` command, or the variables that it knows."""

import dataclasses
import errno
import json
import os
import pathlib
import re
import stat
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import UsageError
from .methods import SERVICES

ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+):\d{1,5}")
HUB_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# A contexts file is a list of some hubs.
FILE_MAX = 4 * 1024 * 1024

Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Target:
    """Target is where the services of a hub are, and the files to prove who we are. `hub_id` is empty if the files have to say it."""

    address: str | None
    services: Mapping[str, str]
    ca: str
    cert: str
    key: str
    hub_id: str

    def at(self, service: str) -> str:
        """The address of a service. Raises UsageError."""
        address = self.services.get(service)
        # With an address per service, the one without a name is the hub's main port, which is discovery's.
        if address is None and (not self.services or service == "discovery"):
            address = self.address
        if address is None:
            raise UsageError(f"the address of {service} is not known", f"Give address={service}=host:port as well.")
        return address

    @property
    def server_name(self) -> str:
        """Name that the certificate of every server has to carry: it stands for spiffe://<hub>/service/hub, or any service in split mode."""
        return self.hub_id if self.services else f"hub.{self.hub_id}"


def resolve(
    *,
    address: str | Iterable[str] | None = None,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    hub: str | None = None,
    hub_id: str | None = None,
    contexts: Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Target:
    """Decides which hub is meant. Raises UsageError."""
    env = os.environ if environ is None else environ
    if address is not None and hub is not None:
        raise UsageError("hub and address exclude each other", "Give one of them.")
    if hub_id is not None and HUB_ID.fullmatch(hub_id) is None:
        raise UsageError(f'"{hub_id}" is not the id of a hub', "Use 1 to 63 of a-z, 0-9 and hyphens.")
    # What is given in the program decides between address and context; only without both do the variables.
    if address is None and hub is None and env.get("FOEDUS_ADDRESS"):
        address = env["FOEDUS_ADDRESS"]
    if address is None:
        return _of_context(hub, hub_id, contexts, ca, cert, key, env, pathlib.Path.cwd() if folder is None else pathlib.Path(folder))
    files = {name: os.fspath(own or env.get(f"FOEDUS_{name.upper()}", "")) for name, own in (("ca", ca), ("cert", cert), ("key", key))}
    missing = [name for name, file in files.items() if file == ""]
    if missing:
        raise UsageError(
            f"an address needs {', '.join(missing)} as well",
            "Give the hub's ca.pem, and the certificate and key that `foedus pki issue` made, or set FOEDUS_CA, FOEDUS_CERT and FOEDUS_KEY.",
        )
    whole, services = _addresses(address.split(",") if isinstance(address, str) else address)
    return Target(whole, services, files["ca"], files["cert"], files["key"], hub_id or "")


def _addresses(texts: Iterable[str]) -> tuple[str | None, dict[str, str]]:
    whole: str | None = None
    services: dict[str, str] = {}
    for text in texts:
        service, equals, where = text.strip().rpartition("=")
        if ADDRESS.fullmatch(where) is None:
            raise UsageError(
                f'"{text}" is not an address', "Write host:port, or service=host:port for each service in split mode."
            )
        if equals == "":
            whole = where
        elif service in SERVICES:
            services[service] = where
        else:
            raise UsageError(f'there is no service "{service}"', f"Services are {', '.join(SERVICES)}.")
    return whole, services


def _of_context(
    name: str | None,
    hub_id: str | None,
    contexts: Path | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    env: Mapping[str, str],
    folder: pathlib.Path,
) -> Target:
    given = contexts or env.get("FOEDUS_CONTEXTS")
    file = folder / given if given else _find(env, folder)
    if file is None:
        raise UsageError(
            "nothing says where the hub is: there is no address, and no .foedus/contexts.json here or in a folder above",
            "Give address, ca, cert and key, set FOEDUS_ADDRESS, FOEDUS_CA, FOEDUS_CERT and FOEDUS_KEY, or go to the folder of a hub.",
        )
    current, known = _read(file)
    name = name or env.get("FOEDUS_HUB") or current
    context = known.get(name)
    if context is None:
        names = ", ".join(sorted(known)) or "none"
        wrong = f'{file} has no context "{name}"' if name else f"{file} has no current context"
        raise UsageError(wrong, f"Known are: {names}. Choose one with hub= or `foedus contexts use`.")
    for field in ("hub_id", "ca", "cert", "key"):
        if not isinstance(context.get(field), str) or context[field] == "":
            raise _damaged(file, f"the context {name} has no {field}")
    services: Any = context.get("services") or {}
    if not isinstance(services, dict) or not all(isinstance(value, str) for value in services.values()):
        raise _damaged(file, f"the services of the context {name} are no addresses")
    texts = [*([context["address"]] if context.get("address") else []), *(f"{one}={at}" for one, at in services.items())]
    whole, at = _addresses(texts)
    # Paths in the file are relative to it, those of the program to where it runs.
    ca, cert, key = (own or file.parent / context[field] for field, own in (("ca", ca), ("cert", cert), ("key", key)))
    return Target(whole, at, os.fspath(ca), os.fspath(cert), os.fspath(key), hub_id or context["hub_id"])


def _find(env: Mapping[str, str], folder: pathlib.Path) -> pathlib.Path | None:
    folder = folder.resolve()
    places = [above / ".foedus" / "contexts.json" for above in (folder, *folder.parents)]
    if env.get("XDG_CONFIG_HOME"):
        places.append(pathlib.Path(env["XDG_CONFIG_HOME"], "foedus", "contexts.json"))
    elif env.get("HOME"):
        places.append(pathlib.Path(env["HOME"], ".config", "foedus", "contexts.json"))
    return next((place for place in places if place.exists()), None)


def read_file(path: Path, most: int) -> bytes:
    """Reads a file, so many bytes at most. A pipe would hold the program until somebody writes. Raises OSError."""
    # Without O_NONBLOCK the open itself waits for a pipe's other end.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        with open(handle, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(handle)


def _damaged(file: pathlib.Path, why: str) -> UsageError:
    return UsageError(f"{file} is not a contexts file: {why}", "The format is in cli/README.md; `foedus contexts` writes it.")


def _read(file: pathlib.Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """Answers the name of the current context, and all of them."""
    try:
        content = read_file(file, FILE_MAX + 1)
        if len(content) > FILE_MAX:
            raise _damaged(file, "it is too long")
        known = json.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})", "Correct it, or name another one with contexts=.") from error
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(known, dict):
        raise _damaged(file, "it is no object")
    current, contexts = known.get("current", ""), known.get("contexts", {})
    if not isinstance(current, str) or not isinstance(contexts, dict) or not all(isinstance(one, dict) for one in contexts.values()):
        raise _damaged(file, "its contexts are no objects")
    return current, contexts

"""The bill of materials of the product: CycloneDX JSON of everything that is locked.

Packages come from `requirements/*.txt`, with every hash that is locked; what needs what, and their licences, from the
metadata of the environment it runs in, where that holds the locked version. The archives of the embedded Kafka come
from `broker/kafka/kafka.lock`. Nothing is asked of a network, and no host and no path is written. `make dist` runs it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from broker.kafka.artifacts import locked

SPACE: Final = UUID("5f1a3f0e-6d1c-4a52-9d0b-3c5d1a8f7e42")
"""Of this product: serial numbers of its bills are made under it, so that one commit has one."""

MARKER: Final = "eck-broker:only-where"
"""Property of a package that is installed on some machines only: its environment marker."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock file: an exact version and the SHA-256 of each distribution that may be installed."""

    name: str
    version: str
    marker: str
    sha256: tuple[str, ...]


def pins(lock: Path) -> dict[str, Pin]:
    """Reads a lock file.

    Raises:
        ValueError: a line is no exact version, or has no hash.
    """
    found: dict[str, Pin] = {}
    for line in lock.read_text("utf-8").replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        head = re.fullmatch(r"([\w.-]+)==([\w.!+-]+)(?:\s*;\s*([^#]*?))?((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*", line)
        if head is None:
            raise ValueError(f"{lock.name}: not an exact version with hashes: {line[:60]}")
        name = canonicalize_name(head[1])
        found[name] = Pin(name, head[2], (head[3] or "").strip(), tuple(re.findall(r"sha256:(\w+)", head[4])))
    return found


def graph(start: Iterable[str], locked_names: Container[str]) -> dict[str, set[str]]:
    """What each locked package needs of the others, beginning at some requirements, with the extras that are asked for.

    As the metadata of this environment says it for this machine; of a package that is not installed nothing is known.
    """
    found: dict[str, set[str]] = {}
    extras: dict[str, set[str]] = {}
    left = [Requirement(line) for line in start]
    while left:
        asked = left.pop()
        name = canonicalize_name(asked.name)
        if name not in locked_names or (name in found and asked.extras <= extras[name]):
            continue
        found.setdefault(name, set())
        extras.setdefault(name, {""}).update(asked.extras)
        try:
            needs = [Requirement(line) for line in metadata.distribution(name).requires or []]
        except metadata.PackageNotFoundError:  # a package of another kind of machine
            continue
        for need in needs:
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras[name]):
                left.append(need)
                if (other := canonicalize_name(need.name)) in locked_names and other != name:
                    found[name].add(other)
    return found


def licence(name: str, version: str) -> str | None:
    """What an installed package says of its licence, an SPDX expression where it can; none of another version."""
    try:
        about = metadata.distribution(name).metadata
    except metadata.PackageNotFoundError:
        return None
    if about["Version"] != version:
        return None
    if expression := about["License-Expression"]:
        return str(expression)
    classifiers = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or [] if c.startswith("License :: ")]
    named = " or ".join(c for c in classifiers if c != "OSI Approved")
    field = (about["License"] or "").strip()
    return named or (field if "\n" not in field else "") or None  # some put the whole text into the field


def python_component(pin: Pin, scope: ComponentScope) -> Component:
    """A locked Python package. Its hashes are those of its distributions, of which a machine installs one."""
    purl = PackageURL("pypi", None, pin.name, pin.version)
    component = Component(
        name=pin.name, version=pin.version, purl=purl, bom_ref=str(purl), type=ComponentType.LIBRARY, scope=scope
    )
    component.external_references.add(
        ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION,
            url=XsUri(str(purl)),
            comment="each distribution that may be installed",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in pin.sha256],
        )
    )
    if pin.marker:
        component.properties.add(Property(name=MARKER, value=pin.marker))
    if called := licence(pin.name, pin.version):
        declared = LicenseAcknowledgement.DECLARED
        component.licenses.add(LicenseFactory().make_from_string(called, license_acknowledgement=declared))
    return component


def bill(root: Path, epoch: int) -> Bom:
    """Everything that the product of a source tree needs, is offered with, or is built and tested with.

    Args:
        root: the source tree.
        epoch: when it was made, in seconds since 1970: the time of the commit.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    everything = pins(root / "requirements" / "dev.txt")
    shipped = pins(root / "requirements" / "embedded.txt")
    direct = project["dependencies"]
    offered = [n for extra, lines in project["optional-dependencies"].items() if extra != "dev" for n in lines]
    edges = graph((*direct, *offered, *project["optional-dependencies"]["dev"]), everything)
    runs, may_run = set(graph(direct, everything)), set(graph(offered, everything))
    own = sorted({canonicalize_name(Requirement(line).name) for line in (*direct, *offered)})

    main = Component(
        name=project["name"],
        version=project["version"],
        type=ComponentType.APPLICATION,
        purl=PackageURL("pypi", None, project["name"], project["version"]),
        bom_ref=f"pkg:pypi/{project['name']}@{project['version']}",
        description=project["description"],
        licenses=[LicenseFactory().make_from_string(project["license"])],
    )
    made = Bom(serial_number=uuid5(SPACE, f"{project['version']} {epoch} {sorted(everything.items())}"))
    made.metadata.timestamp = datetime.fromtimestamp(epoch, UTC)
    made.metadata.component = main
    components: dict[str, Component] = {}
    for name, pin in everything.items():
        if name in runs:
            scope = ComponentScope.REQUIRED
        elif name in may_run or name in shipped:
            scope = ComponentScope.OPTIONAL
        else:
            scope = ComponentScope.EXCLUDED  # the word of CycloneDX for tools of build and test
        components[name] = python_component(pin, scope)
    for jar in locked(root / "broker" / "kafka" / "kafka.lock"):
        purl = PackageURL("maven", jar.group, jar.name, jar.version)
        made.components.add(
            Component(
                group=jar.group,
                name=jar.name,
                version=jar.version,
                purl=purl,
                bom_ref=str(purl),
                type=ComponentType.LIBRARY,
                scope=ComponentScope.OPTIONAL,
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=jar.sha256)],
            )
        )
    jars = list(made.components)
    made.components.update(components.values())
    made.register_dependency(main, [*(components[name] for name in own), *jars])
    for name, component in components.items():
        made.register_dependency(component, [components[need] for need in sorted(edges.get(name, ()))])
    for jar_component in jars:
        made.register_dependency(jar_component)
    return made


def as_json(made: Bom) -> str:
    """The bill as CycloneDX 1.6 JSON; the same bill is the same text."""
    return JsonV1Dot6(made).output_as_string(indent=1) + "\n"

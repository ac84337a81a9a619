"""What an installed distribution needs, as its metadata and those of its requirements say."""

from __future__ import annotations

from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def requirements(texts: list[str]) -> list[Distribution]:
    """Return the distributions that these requirements need, and all that those need."""
    found: dict[str, Distribution] = {}
    wanted = [(Requirement(text), "") for text in texts]
    seen = set()
    while wanted:
        requirement, extra = wanted.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found.setdefault(name, distribution(name))
        assert requirement.specifier.contains(found[name].version, prereleases=True), str(requirement)
        for other in ("", *requirement.extras):
            if (name, other) not in seen:
                seen.add((name, other))
                wanted += [(Requirement(text), other) for text in found[name].requires or []]
    return list(found.values())

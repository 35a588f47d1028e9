"""YAML text -> plain data that knows its lines.

PyYAML takes the last of two equal keys without a word; here a key that stands twice is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite

import yaml

from tasks.errors import CatalogueError

Step = str | int
Steps = tuple[Step, ...]

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml: 8 times as fast
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file. `name` is how a person knows it, e.g. "profiles/hardware/jetson.yaml"."""

    name: str
    data: object
    root: yaml.Node

    def line(self, steps: Steps) -> int:
        """Return the line of the value at `steps`, or of the last value on the way that exists."""
        node, line = self.root, self.root.start_mark.line
        for step in steps:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return int(line) + 1

    def error(self, steps: Steps, problem: str) -> CatalogueError:
        """Return the error for `problem` at `steps`."""
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
        said = f"{where.removeprefix('.')}: {problem}" if where else problem
        return refusal(f"{self.name}:{self.line(steps)}", said)


def refusal(where: str, problem: str) -> CatalogueError:
    """Return the error for a file that a person has to correct."""
    return CatalogueError(f"{where}: {problem}", "nothing was changed", "correct the file")


def parse(text: str, *, name: str) -> Document:
    """Parse YAML, and refuse an empty file and keys that stand twice in one mapping.

    Raises:
        CatalogueError: with line and column where the text is not YAML.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise refusal(f"{name}:1", "the file is empty")
        for key in _repeated(root):
            raise refusal(f"{name}:{_line(key)}", f'the key "{key.value}" stands here twice')
        return Document(name, _Builder(name, loader).build(root), root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise refusal(where, f"this is not YAML: {error.problem}") from None
    except yaml.YAMLError as error:  # a control character; it comes without a line
        raise refusal(name, f"this is not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise refusal(name, "lists and mappings stand too deep in each other") from None


@dataclass(frozen=True, slots=True)
class _Builder:
    """Turns nodes into plain data: text, numbers, true, false, null, lists, mappings.

    PyYAML's own constructor also makes dates and sets, and some bad values end it in a traceback.
    """

    name: str
    loader: yaml.SafeLoader
    built: dict[int, object] = field(default_factory=dict)

    def build(self, node: yaml.Node) -> object:
        """Return the data of a node; that of an anchor is made once."""
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) not in self.built:
            self.built[id(node)] = (
                self._mapping(node)
                if isinstance(node, yaml.MappingNode)
                else [self.build(item) for item in node.value]
            )
        return self.built[id(node)]

    def _mapping(self, node: yaml.MappingNode) -> dict[str, object]:
        self.loader.flatten_mapping(node)  # merges "<<: *anchor" in
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise refusal(f"{self.name}:{_line(key)}", "a key must be one word")
        return {key.value: self.build(value) for key, value in node.value}

    def _scalar(self, node: yaml.ScalarNode) -> object:
        kind = node.tag.rpartition(":")[2]
        try:
            if kind == "int":
                return int(node.value, 0)
            if kind == "float":
                return _number(node.value)
            if kind == "bool":
                return _BOOLEANS[node.value.lower()]
        except (ValueError, KeyError):
            problem = f'"{node.value}" is neither plain text nor a number (put it in quotes)'
            raise refusal(f"{self.name}:{_line(node)}", problem) from None
        return None if kind == "null" else node.value


def _number(text: str) -> float:
    number = float(text)  # ValueError: YAML's own infinity, or sixties of sixties
    if not isfinite(number):
        raise ValueError(text)
    return number


def _repeated(root: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Yield each key that its mapping already has. An alias is one node, so it is looked at once."""
    waiting, done = [root], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.ScalarNode) or id(node) in done:
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
            continue
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key
                seen.add(key.value)
            waiting.append(value)


def _child(node: yaml.Node, step: Step) -> tuple[int, yaml.Node] | None:
    """Return line and node of one member, or None where there is no such member."""
    if isinstance(node, yaml.MappingNode):
        # Where an anchor was merged in, its keys stand first and the mapping's own keys win.
        return next(((k.start_mark.line, v) for k, v in reversed(node.value) if k.value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item.start_mark.line, item
    return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1

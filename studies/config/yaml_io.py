"""Reads and writes YAML safely, with LightningCLI's types."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML with LightningCLI's types: 1e-3 is a number, a date is text. But duplicate keys are errors."""

    def construct_document(self, node: Any) -> Any:
        _check_size(node)
        return super().construct_document(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for written, _ in node.value:
            key = self.construct_object(written, deep=True)
            if isinstance(key, list | dict | set):
                continue  # the base class refuses it
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", written.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


MOST_VALUES = 100_000  # in a file, each alias counted as what it stands for
DEEPEST = 100  # levels of nesting


def _check_size(root: Any) -> None:
    """Refuses a few lines of aliases of aliases that stand for billions of values, and nesting beyond any use.

    Raises:
        ConstructorError: with the place.
    """
    sizes: dict[int, int | None] = {}  # node -> number of values in it; None while it is being counted

    def size_of(node: Any, depth: int) -> int:
        known = sizes.get(id(node), 0)
        if known:
            return known
        if known is None:
            raise yaml.constructor.ConstructorError(None, None, "an anchor contains itself", node.start_mark)
        if depth > DEEPEST:
            problem = f"nested more than {DEEPEST} levels deep"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return 1
        sizes[id(node)] = None
        size = 1
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                size += size_of(part, depth + 1)
        if size > MOST_VALUES:
            problem = f"aliases stand for more than {MOST_VALUES:,} values"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        sizes[id(node)] = size
        return size

    size_of(root, 1)


_FLOAT = re.compile(
    r"""^(?:
    [-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
    |\.[0-9_]+(?:[eE][-+][0-9]+)?
    |[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def load_yaml(text: str) -> Any:
    """Safe YAML, with 1e-3 a float.

    Raises:
        YAMLError: it is not YAML, or of a size that no configuration has.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except (ValueError, OverflowError, TypeError) as error:  # a number of thousands of digits, a wrong !!binary
        raise yaml.YAMLError(" ".join(str(error).split())) from error


# The C implementation, if available, takes a tenth of the time.
class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes strings that load_yaml would read as numbers, such as "1e3"."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def dump_yaml(sections: Any) -> str:
    return str(yaml.dump(sections, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110))

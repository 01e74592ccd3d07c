"""Reading YAML 1.2 as DVC does.

DVC reads and writes it through ruamel.yaml. Plain PyYAML resolves YAML 1.1 scalars (``1e-5`` a string,
``on`` true), so the loader here resolves floats, integers, booleans and null as DVC's does.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from geobody.errors import DataError, ParamsError


class _Yaml12Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2 as ruamel.yaml reads them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (key_node, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
        return super().construct_mapping(node, deep)

    @classmethod
    def adopt_yaml_1_2(cls) -> None:
        cls.yaml_implicit_resolvers = {}
        for tag, pattern, first in (
            ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
            ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
            ("int", r"[-+]?(?:0b[01_]+|0o[0-7_]+|[0-9_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
            (
                "float",
                r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?"
                r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
                "-+0123456789.",
            ),
        ):
            cls.add_implicit_resolver(
                f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first)
            )
        cls.add_constructor("tag:yaml.org,2002:int", cls._int)
        cls.add_constructor("tag:yaml.org,2002:float", cls._float)

    @staticmethod
    def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
        text = loader.construct_scalar(node).replace("_", "")
        return int(text, 0) if text.lstrip("+-")[:2] in ("0b", "0o", "0x") else int(text)

    @staticmethod
    def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
        text = loader.construct_scalar(node).lower().replace("_", "")
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Yaml12Loader.adopt_yaml_1_2()


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file; raises ``DataError`` or ``ParamsError`` naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(path, "is missing", "run from the repository root") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({error})", "restore it with git checkout") from None
    try:
        values = yaml.load(text, Loader=_Yaml12Loader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ParamsError(f"{path.name}:{line} is no YAML: {problem}; mend that line") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path.name}: holds no sections; restore it with git checkout {path.name}")
    return values

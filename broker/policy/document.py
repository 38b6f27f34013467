"""Reading what people wrote (YAML, JSON) and writing it in one canonical form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from broker.errors import ConfigError

MAX_FILE_BYTES: Final = 8_000_000


class Written(BaseModel):
    """Base of all that an operator writes: fixed once read, no field that nobody knows, no values in errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True)


def canonical(value: Any) -> bytes:
    """One form for one content: RFC 8785 for strings, integers, lists and objects with ASCII keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def problems_of(error: ValidationError) -> list[str]:
    """What is wrong with a document, one sentence a field; without the values."""
    found = error.errors(include_url=False)
    inside = {e["loc"][:depth] for e in found for depth in range(len(e["loc"]))}
    # A list whose items are all wrong is also said to be too short: that is not what its author must correct.
    told = [e for e in found if e["type"] != "too_short" or e["loc"] not in inside]
    return [f"{_where(e['loc'])}: {_sentence(e['type'], e['msg'])}" for e in told]


def _where(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, str) and "[" in part:
            continue  # pydantic's name of a branch of a union; the author of a file has never seen it
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "document"


def _sentence(kind: str, message: str) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not a known field"
    if kind == "string_type":
        return "must be a string (write numbers in quotes)"
    return message.removeprefix("Value error, ")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key that is written twice is an error: else the last one wins, unseen."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(problem="a key is not a string", problem_mark=key_node.start_mark)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {key!r} is there twice", problem_mark=key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: `config.file`, with line and column where they are known.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes; split it.", code="config.file")
        return yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check the path.", code="config.file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8. Save it as UTF-8.", code="config.file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigError(f"{path}{where}: {problem}.", code="config.file") from error


def read_json(data: bytes, where: str) -> Any:
    """The content of a JSON record.

    Raises:
        ConfigError: `config.record`, naming the record.
    """
    try:
        return json.loads(data)
    except ValueError as error:
        message = f"{where} is not JSON; write it anew with `broker registry apply`."
        raise ConfigError(message, code="config.record") from error


def refuse(where: str, problems: list[str], code: str) -> ConfigError:
    """One error that lists all problems, so that an operator corrects them in one go."""
    shown = "\n".join(f"  {problem}" for problem in problems)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ConfigError(f"{where}: {count}.\n{shown}", code=code)

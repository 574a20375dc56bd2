"""A plugin's settings, as JSON brings them, into the plugin's own type.

Keys match the type's field names without regard to case, as flannel's do. Values are taken strictly: "8285"
is text and no number. Each field is converted by itself, so that all problems are found at once; the type's own checks
(`__post_init__`) raise the first they meet, so they are asked again without what they complained of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import inspect
from msgspec.structs import FieldInfo

from tulle.config.errors import HIDDEN, ConfigError, ConfigProblem, shown

Options = TypeVar("Options", bound=msgspec.Struct)

SECRET = msgspec.Meta(extra={"secret": True})
"""For a field whose value must not be shown: `PSK: Annotated[str, SECRET] = ""`."""


def convert_options(
    type: type[Options], raw: Mapping[str, Any], where: str = "Backend"
) -> tuple[Options, tuple[str, ...]]:
    """The settings, and the keys that the type does not know. A null is as good as an absent key, as in Go.

    Raises ConfigError, its keys written as `where`.Key. A ValueError of the type's __post_init__ is one of
    its problems."""
    fields = {field.encode_name.lower(): field for field in msgspec.structs.fields(type)}
    problems: list[ConfigProblem] = []
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    unknown: list[str] = []
    for key, value in raw.items():
        field = fields.get(key.lower())
        if field is None:
            unknown.append(key)
        elif field.name in given:
            wrong = f"stands there twice, as {shown(given[field.name])} and as {shown(key)}"
            problems.append(ConfigProblem(f"{where}.{field.encode_name}", None, "it once", wrong))
        else:
            given[field.name] = key
            if value is not None:
                _convert(field, value, where, values, problems)
    present = {name for name, key in given.items() if raw[key] is not None}
    for field in fields.values():
        if field.required and field.name not in present:
            problems.append(
                ConfigProblem(f"{where}.{field.encode_name}", None, _expected(field.type), "is missing")
            )
    made: Options | None = None
    if all(field.name in values for field in fields.values() if field.required):
        made, refused = _made(type, values)
        problems += [ConfigProblem(where, None, "", text) for text in refused]
    if problems or made is None:
        raise ConfigError(problems, where)
    return made, tuple(unknown)


def _convert(
    field: FieldInfo, value: Any, where: str, values: dict[str, Any], problems: list[ConfigProblem]
) -> None:
    try:
        values[field.name] = msgspec.convert(value, field.type, strict=True)
    except msgspec.ValidationError:
        text = HIDDEN if _is_secret(field.type) else shown(value)
        expected = _expected(field.type)
        problems.append(ConfigProblem(f"{where}.{field.encode_name}", text, expected, "does not fit"))


def _made(type: type[Options], values: Mapping[str, Any]) -> tuple[Options | None, list[str]]:
    """By the type's own checks, over all values together; what they refuse, in texts that say what would be right.

    A complaint is about those values without which it is another one, or none: they are left out, and the rest is
    asked again. A value that is required cannot be left out, so what is wrong beside it is told the next time."""
    required = {field.name for field in msgspec.structs.fields(type) if field.required}
    rest = dict(values)
    texts: list[str] = []
    made, text = _try(type, rest)
    while made is None:
        texts.append(text)
        blamed = [
            name
            for name in rest.keys() - required
            if _try(type, {key: value for key, value in rest.items() if key != name})[1] != text
        ]
        if not blamed:
            break
        for name in blamed:
            del rest[name]
        made, text = _try(type, rest)
    return (None if texts else made), texts


def _try(type: type[Options], values: Mapping[str, Any]) -> tuple[Options | None, str]:
    try:
        return type(**values), ""
    except (ValueError, TypeError) as error:
        return None, str(error)


def _is_secret(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        _, *notes = get_args(annotation)
        return any(isinstance(note, msgspec.Meta) and (note.extra or {}).get("secret") for note in notes)
    return False


def _expected(annotation: Any) -> str:
    """What a field takes, for people."""
    return _words(inspect.type_info(annotation))


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(type=inner):
            return _words(inner)
        case inspect.UnionType(types=types):
            return " or ".join(_words(one) for one in types if not isinstance(one, inspect.NoneType))
        case inspect.LiteralType(values=values):
            return " or ".join(shown(value) for value in values)
        case inspect.IntType() | inspect.FloatType():
            return _number_words(kind)
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return _text_words(kind)
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return f"a list, each item {_words(item)}"
        case inspect.DictType() | inspect.StructType():
            return "an object"
    return "a value of the type " + kind.__class__.__name__.removesuffix("Type").lower()


def _number_words(kind: inspect.IntType | inspect.FloatType) -> str:
    words = ["a whole number" if isinstance(kind, inspect.IntType) else "a number"]
    for limit, word in ((kind.ge, "from"), (kind.gt, "above"), (kind.le, "up to"), (kind.lt, "below")):
        if limit is not None:
            words.append(f"{word} {limit}")
    return " ".join(words)


def _text_words(kind: inspect.StrType) -> str:
    words = ["text in quotes"]
    if kind.min_length is not None:
        words.append(f"of at least {kind.min_length} characters")
    if kind.max_length is not None:
        words.append(f"of at most {kind.max_length} characters")
    if kind.pattern is not None:
        words.append(f"that matches {kind.pattern}")
    return " ".join(words)

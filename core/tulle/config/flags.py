"""tulled's settings from command line, environment and file, as Go programs (so flannel) take them.

    argv -> (flag, text) pairs -> values     flag  >  TULLED_NAME  >  FLANNELD_NAME  >  file  >  default

Which options there are is the caller's: core's (`core_options.py`) and the plugins'. Everything that is wrong is
reported together, and no message shows the value of a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from tulle.config.errors import HIDDEN, ConfigError, ConfigProblem, nearest, printable, shown
from tulle.config.govalues import parse_bool, parse_duration, parse_int
from tulle.contracts.specs import OptionSpec

_HELP = ("h", "help")
_VERSION = "version"
_CHECK = "check"
_MINUTE_S = 60.0

_EXPECTED = {
    "text": "text",
    "bool": "true or false",
    "int": "a whole number",
    "list": "a comma-separated list",
    "texts": "text, or a list of texts",
    "duration": "a duration such as 1h30m, or whole minutes",
}


class Parsed(msgspec.Struct, frozen=True):
    """What the settings came to."""

    values: dict[str, Any]
    """By option name, of every option: str, bool, int, tuple[str, ...], seconds as float; None where there is
    neither a value nor a default."""
    sources: dict[str, str]
    """By option name, where the value is from: "flag", "environment TULLED_IFACE", "file NAME" or "default"."""
    given: frozenset[str]
    """Names of the options that are not left to their default."""
    secrets: frozenset[str]
    """Names of the options whose value must not be shown."""
    asked: Literal["help", "version"] | None = None
    """Print that and do nothing else."""
    check: Literal["text", "json"] | None = None
    """Print the settings in that form and do nothing else."""
    inactive: dict[str, str] = {}
    """Names of the options that were given and have no effect, and the part that is not there yet."""
    without_effect: frozenset[str] = frozenset()
    """Names of all options that have no effect, given or not."""

    def shown(self) -> dict[str, Any]:
        """The values for people: secrets hidden."""
        return {
            name: HIDDEN if name in self.secrets and value is not None else value
            for name, value in self.values.items()
        }

    def __repr__(self) -> str:
        return f"Parsed({self.shown()!r}, asked={self.asked!r})"

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # the base names no type
        yield from self.shown().items()


def parse_flags(
    options: Sequence[OptionSpec],
    argv: Sequence[str],
    environ: Mapping[str, str],
    file: Mapping[str, Any] | None = None,
    *,
    program: str = "tulled",
    file_name: str = "",
) -> Parsed:
    """`argv` without the program's name; `file_name` is for messages. Raises ConfigError with all problems.

    Where help or version is asked for, nothing else is checked and all values are the defaults."""
    specs = {option.name: option for option in options}
    line = _CommandLine(specs, argv, program)
    secrets = frozenset(option.name for option in options if option.secret)
    if line.asked:
        values = {name: _default(option) for name, option in specs.items()}
        return Parsed(values, dict.fromkeys(values, "default"), frozenset(), secrets, line.asked)
    problems = line.problems
    texts = line.values
    file, where = file or {}, file_name or "file"
    problems += (_unknown(f"{where}: {printable(key)}", key, specs, "") for key in file if key not in specs)
    values, sources = {}, {}
    for name, option in specs.items():
        variable = next((word for word in _variables(option) if environ.get(word)), None)
        if name in texts:
            values[name], sources[name] = texts[name], "flag"
        elif variable:
            values[name] = _converted(option, environ[variable], variable, problems)
            sources[name] = f"environment {variable}"
        elif file.get(name) is not None:
            values[name] = _typed(option, file[name], f"{where}: {name}", problems)
            sources[name] = f"file {file_name}".strip()
        else:
            values[name], sources[name] = _default(option), "default"
    if problems:
        raise ConfigError(problems, f"the settings of {program}")
    given = frozenset(name for name, source in sources.items() if source != "default")
    idle = {option.name: option.inactive for option in options if option.inactive}
    return Parsed(
        values,
        sources,
        given,
        secrets,
        check=line.check,
        inactive={name: part for name, part in idle.items() if name in given},
        without_effect=frozenset(idle),
    )


def peek(
    options: Sequence[OptionSpec], argv: Sequence[str], environ: Mapping[str, str], name: str
) -> Any | None:
    """One option's value by flag or environment, whatever else is wrong; None where neither gives it. For what has to
    be known before the rest can be read."""
    option = next(one for one in options if one.name == name)
    line = _CommandLine({one.name: one for one in options}, argv, "")
    if name in line.values:
        return line.values[name]
    text = next((environ[word] for word in _variables(option) if environ.get(word)), None)
    return None if text is None else _converted(option, text, name, [])


def _variables(option: OptionSpec) -> Iterator[str]:
    """Environment variables of an option, the strongest first. An empty one counts as not set, as in
    flannel."""
    suffix = option.name.upper().replace("-", "_")
    yield f"TULLED_{suffix}"
    if option.flannel:
        yield f"FLANNELD_{suffix}"


class _CommandLine:
    """Takes argv apart by the rules of Go's package flag."""

    def __init__(self, specs: Mapping[str, OptionSpec], argv: Sequence[str], program: str) -> None:
        self.values: dict[str, Any] = {}
        self.problems: list[ConfigProblem] = []
        self.asked: Literal["help", "version"] | None = None
        self.check: Literal["text", "json"] | None = None
        self._specs = specs
        self._program = program
        self._rest = list(argv)
        while self._rest and self.asked is None:
            self._take(self._rest.pop(0))

    def _take(self, word: str) -> None:
        if word == "--":
            for positional in self._rest:
                self._positional(positional)
            self._rest.clear()
            return
        if len(word) < 2 or not word.startswith("-"):
            self._positional(word)
            return
        name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            self._note(printable(word.partition("=")[0]), None, "flags as --name=value", "is not a flag")
        elif name in self._specs:
            self._flag(self._specs[name], text if equals else None)
        elif not self._builtin(name, text if equals else None):
            self.problems.append(_unknown(printable(f"--{name}"), name, self._specs, self._program))
            # A word behind an unknown flag is most likely its value: no second problem, and no secret shown.
            if not equals and self._rest and not self._rest[0].startswith("-"):
                self._rest.pop(0)

    def _flag(self, option: OptionSpec, text: str | None) -> None:
        if text is None:
            if option.kind == "bool":
                text = "true"
            elif self._rest:
                text = self._rest.pop(0)  # whatever it looks like, as in Go
            else:
                self._note(f"--{option.name}", None, _EXPECTED[option.kind], "needs a value")
                return
        value = _converted(option, text, f"--{option.name}", self.problems)
        if option.kind in ("list", "texts") and value is not None:
            value = (*self.values.get(option.name, ()), *value)
        self.values[option.name] = value

    def _builtin(self, name: str, text: str | None) -> bool:
        """--help, --version and --check, which no option list needs to name."""
        if name == _CHECK:
            self._take_check("text" if text is None else text)
            return True
        if name not in (*_HELP, _VERSION):
            return False
        wanted = parse_bool("true" if text is None else text)
        if wanted is None:
            self._note(f"--{name}", shown(text), "true or false", "is neither true nor false")
        elif wanted:
            self.asked = "version" if name == _VERSION else "help"
        return True

    def _take_check(self, text: str) -> None:
        wanted = parse_bool(text)
        if text == "json":
            self.check = "json"
        elif text == "text" or wanted:
            self.check = "text"
        elif wanted is None:
            self._note(f"--{_CHECK}", shown(text), "text or json", "is no form to print in")
        else:
            self.check = None

    def _positional(self, word: str) -> None:
        expected = "flags only, as --name=value (a flag that is on or off: --name or --name=false)"
        self._note(self._program, shown(word), expected, "is not a flag")

    def _note(self, key: str, value: str | None, expected: str, wrong: str) -> None:
        self.problems.append(ConfigProblem(key, value, expected, wrong))


def _unknown(key: str, name: str, specs: Mapping[str, OptionSpec], program: str) -> ConfigProblem:
    meant = nearest(name, tuple(specs))
    dashes = "--" if program else ""
    expected = f"{dashes}{meant}, if you meant that" if meant else "one that --help lists"
    return ConfigProblem(
        key, None, expected, f"is not a flag of {program}" if program else "is not a setting"
    )


def _default(option: OptionSpec) -> Any:
    """The default, in the form of a value. A default that does not fit its kind is the author's mistake."""
    if option.default is None:
        return {"bool": False, "list": (), "texts": ()}.get(option.kind)
    problems: list[ConfigProblem] = []
    value = _typed(option, option.default, f"the default of --{option.name}", problems)
    if problems:
        raise ValueError(str(problems[0]))
    return value


def _typed(option: OptionSpec, raw: Any, key: str, problems: list[ConfigProblem]) -> Any:
    """A value that may have its type already. Numbers are minutes where a duration is asked for."""
    if isinstance(raw, str):
        return _converted(option, raw, key, problems)
    if isinstance(raw, bool):
        if option.kind == "bool":
            return raw
    elif isinstance(raw, int) and option.kind in ("int", "duration"):
        return raw if option.kind == "int" else raw * _MINUTE_S
    elif (
        isinstance(raw, list | tuple)
        and option.kind in ("list", "texts")
        and all(isinstance(one, str) for one in raw)
    ):
        return tuple(raw)
    problems.append(_unfit(option, key, raw))
    return None


def _converted(option: OptionSpec, text: str, key: str, problems: list[ConfigProblem]) -> Any:
    """The text as the option's kind; None and a problem where it is none."""
    value: Any = text
    if option.kind == "bool":
        value = parse_bool(text)
    elif option.kind == "int":
        value = parse_int(text)
    elif option.kind == "list":
        value = tuple(piece.strip() for piece in text.split(",") if piece.strip())
    elif option.kind == "texts":
        value = (text,) if text else ()
    elif option.kind == "duration":
        minutes = parse_int(text)
        value = parse_duration(text) if minutes is None else minutes * _MINUTE_S
    if value is None:
        problems.append(_unfit(option, key, text))
    return value


def _unfit(option: OptionSpec, key: str, raw: Any) -> ConfigProblem:
    expected = _EXPECTED[option.kind]
    return ConfigProblem(key, HIDDEN if option.secret else shown(raw), expected, f"is not {expected}")

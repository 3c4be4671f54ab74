"""Reducers as short text, `sta:r=64,order=FBF`: for command lines, reports and recipes."""

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path

from vidprune.reducers.base import Reducer
from vidprune.reducers.baselines import Random
from vidprune.reducers.by_content import SIGNALS, ByContent
from vidprune.reducers.grid import Grid
from vidprune.reducers.run_length import RunLength
from vidprune.reducers.sta import STA
from vidprune.reducers.tome import ToMe
from vidprune.reducers.vid_tldr import VidTLDR
from vidprune.reducers.ward import Ward

REDUCERS: dict[str, type] = {
    "sta": STA,
    "random": Random,
    "grid": Grid,
    "tome": ToMe,
    "run-length": RunLength,
    "vid-tldr": VidTLDR,
    "ward": Ward,
}

NONE = "none"
# Between a setting and a limit of a budget by content.
_AT = "@"

_DECIMAL = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)


def parse(text: str) -> Reducer | None:
    """The reducer that `text` names, or None for `none`.

    `name:option=value,option=value`; lists are written with slashes, `blocks=0/8/16`, one of a
    single number as `blocks=8/`, switches as `fold=true`.
    A budget by content is `signal:setting@limit@setting`, `confidence:sta:r=96@0.6@none`. What ends
    in `.json` names a recipe of `vidprune tune`, whose reducer it is then.
    Raises ValueError that lists what is known where something is not.
    """
    name, _, rest = text.strip().partition(":")
    if name in SIGNALS:
        return _by_content(name, rest)
    if text.strip().endswith(".json"):
        return parse(_recipe(Path(text.strip())))
    if name == NONE:
        if rest:
            raise ValueError(f"reducer {NONE} takes no options; leave {rest!r} out")
        return None
    if name not in REDUCERS:
        known = ", ".join([NONE, *REDUCERS, *SIGNALS])
        raise ValueError(
            f"reducer {name!r} is not known; choose one of {known}, with options after a colon, "
            "such as sta:r=64"
        )
    kind = REDUCERS[name]
    options = [_option(name, kind, part) for part in rest.split(",") if part]
    said = [option for option, _ in options]
    if twice := next((option for option in said if said.count(option) > 1), None):
        raise ValueError(f"option {twice!r} of reducer {name} is given twice; give it once")
    return kind(**dict(options))


def _by_content(signal: str, rest: str) -> ByContent:
    """Settings with limits between them, `setting@limit@setting`."""
    parts = rest.split(_AT)
    if len(parts) < 3 or len(parts) % 2 == 0 or not all(parts):
        raise ValueError(
            f"reducer {signal} takes settings with a limit between each two, such as "
            f"{signal}:sta:r=96{_AT}0.5{_AT}none; a path with {_AT} in it cannot be one"
        )
    for limit in parts[1::2]:
        if not _DECIMAL.fullmatch(limit):
            raise ValueError(f"limit {limit!r} of reducer {signal} must be a number, such as 0.5")
    return ByContent(
        signal=signal,  # type: ignore[arg-type]
        settings=tuple(parse(part) for part in parts[::2]),
        limits=tuple(float(limit) for limit in parts[1::2]),
    )


def _recipe(path: Path) -> str:
    """The text of the reducer that a recipe holds."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["reducer"]
    except OSError as error:
        raise ValueError(
            f"reducer {str(path)!r} cannot be read ({error.strerror}); name a recipe of vidprune "
            "tune"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    # Nor another recipe, alone or within, which might name this one.
    if not isinstance(found, str) or ".json" in found:
        raise ValueError(
            f"reducer {str(path)!r} is no recipe of vidprune tune: it names no reducer"
        )
    return found


def with_r(text: str, r: int) -> str:
    """A reducer's text, which has no r yet, with one; `none` for an r of 0, which drops nothing.

    Raises ValueError for a budget by content, which has none.
    """
    if (name := text.strip().partition(":")[0]) in SIGNALS:
        raise ValueError(
            f"a budget by {name} has no r of its own, as its settings have; name a reducer here"
        )
    return f"{text}{',' if ':' in text else ':'}r={r}" if r else NONE


def file_name(text: str) -> str:
    """A reducer's text as the name of a file or folder."""
    return text.replace(":", "-").replace("/", "+")


def describe(reducer: Reducer | None) -> str:
    """The shortest text that `parse` turns back into `reducer`; its repr where it has no name."""
    if reducer is None:
        return NONE
    if isinstance(reducer, ByContent):
        parts = [describe(reducer.settings[0])]
        for limit, setting in zip(reducer.limits, reducer.settings[1:], strict=True):
            parts += [str(limit), describe(setting)]
        return f"{reducer.signal}:{_AT.join(parts)}"
    name = next((name for name, kind in REDUCERS.items() if type(reducer) is kind), None)
    if name is None:
        return repr(reducer)
    options = [
        f"{field.name}={_written(getattr(reducer, field.name))}"
        for field in fields(reducer)  # type: ignore[arg-type]
        if field.default is MISSING or getattr(reducer, field.name) != field.default
    ]
    return f"{name}:{','.join(options)}" if options else name


def _option(reducer: str, kind: type, part: str) -> tuple[str, object]:
    name, equals, value = part.partition("=")
    known = [field.name for field in fields(kind)]
    if name not in known:
        raise ValueError(
            f"reducer {reducer} has no option {name!r}; its options are {', '.join(known)}"
        )
    if not equals or not value:
        raise ValueError(f"option {part!r} of reducer {reducer} needs a value, such as {name}=...")
    return name, _read(value)


def _read(value: str) -> bool | int | float | str | tuple[int, ...]:
    if value in ("true", "false"):
        return value == "true"
    if re.fullmatch(r"(\d+/)+\d*", value, re.ASCII):
        return tuple(int(part) for part in value.split("/") if part)
    if re.fullmatch(r"-?\d+", value, re.ASCII):
        return int(value)
    return float(value) if _DECIMAL.fullmatch(value) else value


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, tuple):
        return str(value)
    return "/".join(map(str, value)) if len(value) > 1 else f"{value[0]}/"

"""Runtime strings: `torch:PATH[@CHECKPOINT]`, `onnx:FILE`, `recorded:DIR`, with options as a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from workbench.errors import InputError, expect, nearest

ENGINES = ("torch", "onnx", "recorded")
_EXAMPLES = "torch:models/demo, onnx:model.onnx?threads=1, recorded:dumps/run1"


@dataclass(frozen=True, kw_only=True)
class RuntimeSpec:
    """A runtime string, taken apart."""

    text: str  # as given, for messages
    engine: str  # one of ENGINES
    path: Path
    checkpoint: str | None = None  # `best`, `epoch_0010`, `avg:5`; torch only
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


def parse_spec(text: str) -> RuntimeSpec:
    """Take a runtime string apart; whether its path exists is not looked at, but for the marks in it.

    A path may itself contain `@` or `?`: what exists under the whole name is taken as a path.

    Examples
    --------
    >>> spec = parse_spec("torch:exp@avg:3?threads=1&tf32=0")
    >>> spec.engine, str(spec.path), spec.checkpoint, spec.options
    ('torch', 'exp', 'avg:3', {'threads': '1', 'tf32': '0'})
    """
    expect(text, str, f"a runtime is named by one string, for example {_EXAMPLES}")
    engine, colon, rest = text.partition(":")
    if not colon or engine not in ENGINES:
        hint = nearest(engine, ENGINES) if colon else ""
        raise InputError(
            f"runtime {text!r}: must start with torch:, onnx: or recorded:{hint}; for example {_EXAMPLES}"
        )
    name, options = _split_query(text, rest)
    checkpoint = None
    if engine == "torch" and "@" in name and not Path(name).exists():
        name, _, checkpoint = name.rpartition("@")
        if not checkpoint:
            raise InputError(f"runtime {text!r}: no checkpoint after '@'; give best, epoch_0010 or avg:5")
    if not name:
        raise InputError(f"runtime {text!r}: no path after {engine}:; for example {_EXAMPLES}")
    return RuntimeSpec(text=text, engine=engine, path=Path(name), checkpoint=checkpoint, options=options)


def _split_query(text: str, rest: str) -> tuple[str, dict[str, str]]:
    """Path and options; an option given twice is an error."""
    name, mark, query = rest.rpartition("?")
    if not mark or Path(rest).exists():
        return rest, {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise InputError(
            f"runtime {text!r}: options must read name=value&name=value after '?', found {query!r}"
        ) from None
    options: dict[str, str] = {}
    for key, value in pairs:
        if key in options:
            raise InputError(f"runtime {text!r}: option {key!r} is given twice")
        options[key] = value
    return name, options


@dataclass(frozen=True, kw_only=True)
class TorchOptions:
    """How a torch network runs; each is one option of the runtime string."""

    device: str = "cpu"  # cpu, cuda, cuda:1 …, or auto: cuda where there is one
    tf32: bool = False  # let CUDA round float32 products to TensorFloat-32
    deterministic: bool = False  # refuse operations whose result depends on scheduling
    dtype: str = "fp32"  # of products and convolutions; features and softmax stay as they are
    threads: int | None = None  # CPU threads inside one operation; None: what torch chooses
    denormal: str = "keep"  # numbers below 1.2e-38: keep, or flush to zero


@dataclass(frozen=True, kw_only=True)
class OnnxOptions:
    """How ONNX Runtime runs a graph; each is one option of the runtime string."""

    providers: tuple[str, ...] = ("cpu",)  # in order of preference
    tf32: bool = False  # let CUDA round float32 products to TensorFloat-32
    optimization: str = "all"  # graph rewriting: none, basic, extended or all
    threads: int | None = None  # CPU threads inside one operation; None: what ONNX Runtime chooses
    deterministic: bool = False  # choose kernels whose result does not depend on scheduling
    denormal: str = "keep"  # numbers below 1.2e-38: keep, or flush to zero
    allow_fallback: bool = False  # whether running on another provider than the first is fine
    session: tuple[tuple[str, str], ...] = ()  # entries of the session's configuration, passed on as they are


DTYPES = ("fp32", "bf16", "fp16")
DENORMALS = ("keep", "flush")
OPTIMIZATIONS = ("none", "basic", "extended", "all")


def torch_options(spec: RuntimeSpec) -> TorchOptions:
    """Options of a `torch:` string; an unknown one is an `InputError` that names the nearest."""
    reader = _OptionReader(
        spec, ("device", "tf32", "deterministic", "dtype", "threads", "denormal", "config")
    )
    default = TorchOptions()
    return TorchOptions(
        device=spec.options.get("device", default.device),
        tf32=reader.flag("tf32", default.tf32),
        deterministic=reader.flag("deterministic", default.deterministic),
        dtype=reader.choice("dtype", default.dtype, DTYPES),
        threads=reader.count("threads"),
        denormal=reader.choice("denormal", default.denormal, DENORMALS),
    )


def onnx_options(spec: RuntimeSpec) -> OnnxOptions:
    """Options of an `onnx:` string; an unknown one is an `InputError` that names the nearest.

    A name with a dot, such as `session.intra_op.allow_spinning`, is an entry of the session's configuration.
    ONNX Runtime takes any such name without a word; whether it does anything is for
    `workbench.agreement.observe_conditions` to find out.
    """
    known = ("providers", "tf32", "optimization", "threads", "deterministic", "denormal", "allow_fallback")
    entries = tuple((name, value) for name, value in spec.options.items() if is_session_entry(name))
    reader = _OptionReader(spec, (*known, *(name for name, _ in entries)))
    default = OnnxOptions()
    providers = spec.options.get("providers", ",".join(default.providers))
    return OnnxOptions(
        providers=tuple(name.strip() for name in providers.split(",")),
        tf32=reader.flag("tf32", default.tf32),
        optimization=reader.choice("optimization", default.optimization, OPTIMIZATIONS),
        threads=reader.count("threads"),
        deterministic=reader.flag("deterministic", default.deterministic),
        denormal=reader.choice("denormal", default.denormal, DENORMALS),
        allow_fallback=reader.flag("allow_fallback", default.allow_fallback),
        session=entries,
    )


def is_session_entry(name: str) -> bool:
    """Whether an option goes into the configuration of ONNX Runtime's session: its name has a dot inside."""
    return "." in name.strip(".") and name.strip(".") == name


def with_options(spec: RuntimeSpec, options: Mapping[str, str]) -> RuntimeSpec:
    """The same runtime with other options beside its own; the text follows.

    Examples
    --------
    >>> str(with_options(parse_spec("onnx:m.onnx?threads=4"), {"threads": "1", "tf32": "0"}))
    'onnx:m.onnx?threads=1&tf32=0'
    """
    merged = {**spec.options, **options}
    name = f"{spec.path}@{spec.checkpoint}" if spec.checkpoint else str(spec.path)
    query = f"?{urlencode(merged, safe=',:./')}" if merged else ""
    return replace(spec, text=f"{spec.engine}:{name}{query}", options=merged)


def no_options(spec: RuntimeSpec) -> None:
    """Refuse any option, for runtimes that have none."""
    _OptionReader(spec, ())


class _OptionReader:
    """Checked access to the options of one runtime string."""

    def __init__(self, spec: RuntimeSpec, known: tuple[str, ...]):
        self.spec = spec
        for name in spec.options:
            if name not in known:
                offer = f"options of {spec.engine}: are {', '.join(known)}" if known else "it takes none"
                raise InputError(f"runtime {spec}: unknown option {name!r}{nearest(name, known)}; {offer}")

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of a few words."""
        value = self.spec.options.get(name, default)
        if value not in allowed:
            raise InputError(
                f"runtime {self.spec}: {name} must be one of {', '.join(allowed)}, got {value!r}"
            )
        return value

    def flag(self, name: str, default: bool) -> bool:
        """0 or 1."""
        return self.choice(name, str(int(default)), ("0", "1")) == "1"

    def count(self, name: str) -> int | None:
        """A positive whole number, or None where it is not given."""
        value = self.spec.options.get(name)
        if value is None:
            return None
        if not value.isascii() or not value.isdigit() or int(value) < 1:
            raise InputError(f"runtime {self.spec}: {name} must be a whole number above 0, got {value!r}")
        return int(value)

"""What a plugged-in clustering is made of: its code, what it holds, and the user's modules it needs."""

from __future__ import annotations

import ast
import dis
import importlib.util
import io
import sys
import sysconfig
import uuid
from collections.abc import Iterable, Iterator
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # what joblib pickles functions with

from workbench.errors import InputError
from workbench.manifest import digest_of, digest_values, version_of
from workbench.sweeps.settings import PluginParams

_OWN = Path(__file__).resolve().parents[1]  # the workbench, whose code has a digest of its own
_STANDARD = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]

_CODE = (
    *("name", "argcount", "posonlyargcount", "kwonlyargcount", "flags", "code", "consts", "names"),
    *("varnames", "freevars", "cellvars", "exceptiontable"),
)
"""What a piece of code does, and not where it stands: a notebook's file names hold a process number."""


def digest_plugin(clustering: object, *, lasting: bool = True) -> str:
    """Digest of a plugged-in clustering, the same in every process as long as nothing that it uses changes.

    What the function holds counts by value (defaults, what it closes over, globals it names; a function of
    a notebook or a script itself), and so do the files of all modules outside the standard library and the
    installed packages that it or one of these imports, as they are now: after an edit a module must be
    loaded again. Installed packages count by version where the package has its module's name. What is
    found in other ways is not seen, such as a file that the function reads.

    Parameters
    ----------
    clustering : of a sweep's settings
    lasting : whether another process has to know the function again, as a folder of results needs it;
        where not, one that cannot be pickled has a digest that never comes again

    Raises
    ------
    InputError : if the function cannot be pickled and `lasting` asks for it
    """
    if not isinstance(clustering, PluginParams):
        return "built-in"
    modules: set[str] = set()
    try:
        content = _content(clustering.function, modules)
    except Exception as error:  # whatever an object's own way of being pickled raises
        if not lasting:
            return uuid.uuid4().hex
        name = getattr(clustering.function, "__qualname__", type(clustering.function).__qualname__)
        raise InputError(
            f"the clustering function {name!r} cannot be pickled ({type(error).__name__}: {error}), which "
            "worker processes and a folder of results need; make what it holds inside the function (open "
            "files, sessions, locks), or use one process and no folder"
        ) from None
    return digest_values([content, _digest_modules(modules)])


def _content(value: object, modules: set[str]) -> str:
    """Digest of a pickled value; the modules of what it refers to are added to `modules`."""
    pickler = _Pickler(modules)
    pickler.dump(value)
    return sha256(pickler.content.getvalue()).hexdigest()


class _Pickler(cloudpickle.Pickler):
    """Pickles so that equal things look the same in every process; nothing of it can be loaded again."""

    def __init__(self, modules: set[str]):
        self.content = io.BytesIO()
        self._modules = modules
        super().__init__(self.content, protocol=5)

    def persistent_id(self, value: Any) -> str | None:
        """What stands for a value; None: its pickle. Every value is asked for, before anything else."""
        kind = type(value)
        if kind is str:  # always a new object, for which strings are one object depends on the process
            return f"str {value}"
        if kind is set or kind is frozenset:  # their order depends on the hash seed
            return f"{kind.__name__} {sorted(_content(each, self._modules) for each in value)}"
        if kind is CodeType:
            self._modules.update(_imported_by_code(value))
            parts = [getattr(value, f"co_{name}") for name in _CODE]
            return f"code {_content(parts, self._modules)}"
        if kind is ModuleType:
            self._modules.add(value.__name__)
        elif issubclass(kind, type | FunctionType | BuiltinFunctionType):
            self._modules.add(str(value.__module__))
        return None

    def reducer_override(self, value: Any) -> Any:
        """As cloudpickle has it, without the random number that it gives to a class of a script."""
        reduced = super().reducer_override(value)
        if issubclass(type(value), type) and isinstance(reduced, tuple) and len(reduced[1]) > 2:
            make, arguments, *rest = reduced
            return make, arguments[:-2], *rest  # that number, and a place kept for later
        return reduced


def _imported_by_code(code: CodeType) -> Iterator[str]:
    """Names that a function imports when it runs; code within it is asked on its own."""
    module = ""
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            module = step.argval
            yield module
        elif step.opname == "IMPORT_FROM":  # perhaps a module, too
            yield f"{module}.{step.argval}"


def _digest_modules(names: Iterable[str]) -> dict[str, str | None]:
    """Digests of the files of local modules and of those they import; versions of installed packages."""
    found: dict[str, str | None] = {}
    known = {"__main__"}  # looked at; functions of `__main__` are pickled whole
    installed: set[str] = set()
    left = sorted(names)
    while left:
        for name in _with_parents(left.pop()):
            if name not in known:
                known.add(name)
                file = _file_of(name)
                if file is None:  # built in, no module after all, or a folder without code of its own
                    continue
                if _is_local(file):
                    found[name] = digest_of(file)
                    left += _imported_by_file(name, file) if file.suffix == ".py" else []
                else:
                    installed.add(name)
                    found[name] = version_of(name)
            if name in installed:
                break
    return found


def _with_parents(name: str) -> list[str]:
    """The packages that a module lies in, outermost first, and the module."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _file_of(name: str) -> Path | None:
    """File of a module, which need not be loaded; None where it has none. Nothing is loaded."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
    else:
        file, folders = None, None
        for each in _with_parents(name):
            spec = PathFinder.find_spec(each, folders)
            if spec is None or (each != name and spec.submodule_search_locations is None):
                return None
            file, folders = spec.origin, spec.submodule_search_locations
    path = Path(file) if isinstance(file, str) else None
    return path.resolve() if path is not None and path.is_file() else None


def _is_local(file: Path) -> bool:
    """Whether a file is the user's: neither installed nor ours."""
    installed = {"site-packages", "dist-packages"} & set(file.parts)
    return not installed and not any(file.is_relative_to(folder) for folder in (_OWN, *_STANDARD))


def _imported_by_file(name: str, file: Path) -> Iterator[str]:
    """Names of all modules that a module imports, at its top or within a function."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:  # from above the topmost package
                continue
            yield module
            yield from (f"{module}.{each.name}" for each in node.names)  # perhaps modules, too

"""The digest of a plugged-in clustering: changed by whatever it uses, and by nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest
from sweep_corpus import make_features, make_reference

from workbench.errors import InputError
from workbench.sweeps import sweep
from workbench.sweeps.plugins import digest_plugin
from workbench.sweeps.settings import PluginParams

FILES = {
    "mine.py": """
        import numpy as np
        import shapes.corners
        from helpers import LIMIT, cut
        LATER = {"x": 1}
        class Cutter:
            def __call__(self, features, k=2): return cut(features, k)
        def cluster(features, k=2): return cut(features, k) + LIMIT
        def late(features, k=2):
            import lazy
            return lazy.cut(features, k)
        def make(words):
            def inner(features, k=2): return cut(features, len(words))
            return inner
    """,
    "helpers.py": "from deep import LIMIT\ndef cut(features, k): return features.embeddings[..., 0] > k",
    "deep.py": "LIMIT = 1",
    "lazy.py": "def cut(features, k): pass",
    "unused.py": "NOTHING = 0",
    "shapes/__init__.py": "",
    "shapes/corners.py": "from .edges import round\nfrom . import sides",
    "shapes/edges.py": "def round(x): return x",
    "shapes/sides.py": "SIDES = 4",
}
"""A folder of the user's modules."""

FUNCTIONS = {
    "imported": "from mine import cluster as function",
    "object": "from mine import Cutter\nfunction = Cutter()",
    "made": "from mine import make\nfunction = make({'a', 'bb', 'ccc', 'dddd', 'eeeee'})",
    "partial": "import functools, mine\nfunction = functools.partial(mine.cluster, k=3)",
    "own": "import helpers\ndef own(f, k): return helpers.cut(f, k)\ndef function(f, k=2): return own(f, k)",
    "own, late": "def function(f, k=2):\n    from helpers import cut\n    return cut(f, k)",
    "own, part": "def function(f, k=2):\n    from shapes import corners\n    return corners",
    "sets": "SETS = {'a', 'bb', 'ccc', frozenset('wxyz')}\ndef function(f, k=2): return len(SETS)",
    "constant set": "def function(f, k=2): return k in {'a', 'bb', 'ccc', 'dddd'}",
    "class": """
class Cutter:
    words = {'a', 'bb', 'ccc'}
    def __call__(self, f, k=2): return Cutter
function = Cutter()
    """,
    "enum": """
import enum
class Kind(enum.Enum):
    A = 'a'
    B = 'bb'
def function(f, k=Kind.A): return Kind.B
    """,
}
"""How a script may come by the function that it plugs in."""

OF_MINE = {"imported", "object", "made", "partial"}
NEEDED_BY = {
    "mine.py": OF_MINE,
    "helpers.py": {*OF_MINE, "own", "own, late"},
    "deep.py": {*OF_MINE, "own", "own, late"},
    "lazy.py": OF_MINE,
    "shapes/__init__.py": {*OF_MINE, "own, part"},
    "shapes/corners.py": {*OF_MINE, "own, part"},
    "shapes/edges.py": {*OF_MINE, "own, part"},
    "shapes/sides.py": {*OF_MINE, "own, part"},
    "unused.py": set(),
}

DIGESTS = """
import json, sys
from workbench.sweeps.plugins import digest_plugin
from workbench.sweeps.settings import PluginParams
def digest(code):
    values = {"__name__": "__main__"}
    exec(compile(code, sys.argv[1], "exec"), values)
    return digest_plugin(PluginParams(function=values["function"]))
print(json.dumps({name: digest(code) for name, code in json.load(sys.stdin).items()}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(content))
    return folder


@pytest.fixture(scope="module")
def before(folder: Path) -> dict[str, str]:
    return digests(folder)


def digests(folder: Path, seed: int = 0, prefix: str = "", file: str = "cell.py") -> dict[str, str]:
    """What a new process finds for all `FUNCTIONS`, defined in `file` after a `prefix`."""
    run = subprocess.run(
        [sys.executable, "-B", "-c", DIGESTS, file],
        input=json.dumps({name: prefix + code for name, code in FUNCTIONS.items()}),
        cwd=folder,
        env={"PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, str] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("edited", NEEDED_BY)
def test_an_edited_module_counts_for_all_functions_that_need_it(folder, before, edited):
    path = folder / edited
    content = path.read_text()
    path.write_text(f"{content}\nANOTHER = 1\n")
    after = digests(folder)
    path.write_text(content)
    assert {name for name in FUNCTIONS if after[name] != before[name]} == NEEDED_BY[edited]


def test_the_digest_does_not_depend_on_the_process_nor_on_where_a_function_stands(folder, before):
    assert len(set(before.values())) == len(FUNCTIONS)
    assert digests(folder, seed=1) == before
    assert digests(folder, seed=2, prefix="\n\n# moved\n", file="other.py") == before


def test_what_a_function_holds_is_told_apart():
    words = {"a", "b"}

    def make(value: object, power: int = 2) -> PluginParams:
        return PluginParams(function=lambda features, k=power: (k, value))

    values = [
        words,
        {"a", "c"},
        frozenset(words),
        ["a", "b"],
        ("a", "b"),
        np.arange(2),
        np.arange(2.0),
        None,
        int,
    ]
    digests = {digest_plugin(make(value)) for value in values} | {digest_plugin(make(words, power=3))}
    assert len(digests) == len(values) + 1
    assert digest_plugin(make({"b", "a"})) == digest_plugin(make(words))
    text, same = "cut off", "".join(["cut ", "off"])  # equal, and not one object
    assert digest_plugin(make([text, text])) == digest_plugin(make([text, same]))
    other = PluginParams(function=lambda features, k=2: (words, k))
    assert digest_plugin(other) not in digests


def test_what_cannot_be_pickled_is_refused_in_words_where_it_has_to_be(tmp_path):
    lock = threading.Lock()

    def guarded(features, k=2):
        with lock:
            return np.arange(features.embeddings[..., 0].size).reshape(features.embeddings.shape[:2]) % k

    def sweep_over(**options: object) -> pd.DataFrame:
        reference = make_reference("a")
        return sweep(make_features("a"), reference, {"k": [2, 3]}, clustering=guarded, **options)

    assert sweep_over()["der"].notna().all()
    for options in ({"out": tmp_path}, {"jobs": 2}):
        with pytest.raises(InputError, match=r"'.*guarded' cannot be pickled .*lock.* or use one process"):
            sweep_over(**options)
    unknown = PluginParams(function=guarded)
    assert digest_plugin(unknown, lasting=False) != digest_plugin(unknown, lasting=False)

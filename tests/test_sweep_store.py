"""Rows of a sweep on disk: found again by content, never mixed, never half written."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from pyannote.core import Annotation, Segment, Timeline

from workbench.clustering import PLDA, AHCParams, VBxParams
from workbench.errors import InputError
from workbench.features import save_features
from workbench.sweeps.settings import SweepSettings
from workbench.sweeps.store import (
    Ingredients,
    Store,
    digest_annotation,
    digest_code,
    digest_features,
    digest_plda,
    digest_regions,
    digest_settings,
    locked,
)
from workbench.types import SegmentFeatures

FIRST = Ingredients(features="f", reference="r", uem="u", scoring="s", plda="p", clustering="c", code="code")


def rows(*keys: str) -> pd.DataFrame:
    """One row per key of a cell, with the types that results have."""
    return pd.DataFrame(
        {"der": np.linspace(0, 1, len(keys)), "num_speakers": range(len(keys)), "converged": True},
        index=list(keys),
    )


def make_turns(*turns: tuple[float, float, str]) -> Annotation:
    annotation = Annotation(uri="a")
    for number, (start, end, label) in enumerate(turns):
        annotation[Segment(start, end), number] = label
    return annotation


def test_rows_come_back_by_the_key_of_their_cell(tmp_path):
    Store(tmp_path).save("a", FIRST, rows("x", "y"))
    Store(tmp_path).save("a", FIRST, rows("z"))
    found = Store(tmp_path).load("a", FIRST)
    assert sorted(found.index) == ["x", "y", "z"]
    pd.testing.assert_frame_equal(found.loc[["x", "y"]], rows("x", "y"), check_names=False)
    assert Store(tmp_path).load("b", FIRST).empty


@pytest.mark.parametrize("name", [entry.name for entry in dataclasses.fields(Ingredients)])
def test_rows_of_other_ingredients_are_left_aside_and_said(tmp_path, name):
    path = Store(tmp_path).save("a", FIRST, rows("x"))
    said = []
    changed = dataclasses.replace(FIRST, **{name: "other"})
    store = Store(tmp_path, said.append)
    assert store.load("a", changed).empty
    store.say_left_aside()
    store.say_left_aside()
    assert len(said) == 1
    words = {"scoring": "collar", "code": "version", "uem": "UEM", "plda": "PLDA", "clustering": "clustering"}
    assert words.get(name, name) in said[0]
    assert path.is_file()  # an earlier state of the inputs may come back
    assert list(Store(tmp_path).load("a", FIRST).index) == ["x"]


def test_what_was_left_aside_is_said_once_per_reason_and_never_where_rows_are_found(tmp_path):
    others = [dataclasses.replace(FIRST, scoring=str(number), uem=str(number)) for number in range(3)]
    collar = dataclasses.replace(FIRST, scoring="other")
    for uri in ("a", "b", "c"):
        for ingredients in [*others, collar]:
            Store(tmp_path).save(uri, ingredients, rows("x"))
    Store(tmp_path).save("c", FIRST, rows("x"))

    def said_of(ingredients: Ingredients) -> list[str]:
        said: list[str] = []
        store = Store(tmp_path, said.append)
        for uri in ("a", "b", "c", "never seen"):
            store.load(uri, ingredients)
        store.say_left_aside()
        return said

    because = "the collar or the treatment of overlap changed since"  # of the nearest, and no more than that
    assert said_of(FIRST) == [f"2 recordings: earlier results are left aside, because {because}"]
    assert said_of(collar) == said_of(others[0]) == []


def test_a_shard_with_any_flipped_bit_is_said_once_and_not_used(tmp_path, rng):
    path = Store(tmp_path).save("a", FIRST, rows("x"))
    whole = path.read_bytes()
    Store(tmp_path).save("a", FIRST, rows("y", "z"))
    for bit in rng.integers(8 * len(whole), size=200):
        content = np.frombuffer(whole, np.uint8).copy()
        content[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(content.tobytes())
        said: list[str] = []
        assert sorted(Store(tmp_path, said.append).load("a", FIRST).index) == ["y", "z"]
        assert str(path) in said[0]
        Store(tmp_path, said.append).load("a", FIRST)
        assert len(said) == 1
    Store(tmp_path).save("a", FIRST, rows("x"))
    assert sorted(Store(tmp_path).load("a", FIRST).index) == ["x", "y", "z"]


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "a foreign table": lambda path: pd.DataFrame({"a": [1]}).to_parquet(path),
    "a column less": lambda path: pd.read_parquet(path).drop(columns="der").to_parquet(path),
    "named as it was before names held checksums": lambda path: path.rename(
        path.with_name(f"{FIRST.key}-0123456789abcdef.parquet")
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_shard_that_is_not_as_written_is_not_used(tmp_path, damage):
    damage(Store(tmp_path).save("a", FIRST, rows("x")))
    Store(tmp_path).save("a", FIRST, rows("y"))
    said = []
    assert list(Store(tmp_path, said.append).load("a", FIRST).index) == ["y"]
    assert len(said) == 1
    assert "computed again" in said[0]


def test_a_damaged_shard_of_other_ingredients_is_left_aside_like_any(tmp_path):
    path = Store(tmp_path).save("a", FIRST, rows("x"))
    path.write_bytes(path.read_bytes()[:-10])
    said = []
    store = Store(tmp_path, said.append)
    assert store.load("a", dataclasses.replace(FIRST, uem="other")).empty
    store.say_left_aside()
    assert said == ["a: earlier results are left aside, because what it was computed from changed since"]


def test_a_shard_that_cannot_be_read_stays_and_is_not_used(tmp_path):
    path = Store(tmp_path).save("a", FIRST, rows("x"))
    path.unlink()
    path.mkdir()
    said = []
    assert Store(tmp_path, said.append).load("a", FIRST).empty
    assert str(path) in said[0]
    assert path.is_dir()


def test_what_a_killed_run_was_writing_is_no_shard_and_goes(tmp_path):
    store = Store(tmp_path)
    path = store.save("a", FIRST, rows("x"))
    half = path.parent / ".tmp-half.parquet"
    half.write_bytes(b"PAR1")
    assert list(store.load("a", FIRST).index) == ["x"]
    store.remove_leftovers()
    assert list(path.parent.iterdir()) == [path]


def test_a_recording_cannot_leave_the_folder(tmp_path):
    with pytest.raises(InputError, match="cannot name an output file"):
        Store(tmp_path).save("../a", FIRST, rows("x"))


def test_annotations_are_equal_by_what_is_said_when():
    one = make_turns((0, 1, "A"), (2, 3, "B"))
    assert digest_annotation(one) == digest_annotation(make_turns((2, 3, "B"), (0, 1, "A")))
    others = [make_turns((0, 1, "A"), (2, 3, "C")), make_turns((0, 1.001, "A"), (2, 3, "B")), None]
    assert len({digest_annotation(each) for each in [one, *others]}) == 4


def test_regions_features_and_parameters_are_told_apart(tmp_path, rng):
    assert digest_regions(None) != digest_regions(Timeline([Segment(0, 1)]))
    features = SegmentFeatures(uri="a", embeddings=rng.random((2, 4)), segments=np.array([[0, 1], [1, 2.0]]))
    moved = dataclasses.replace(features, segments=features.segments + 1)
    assert digest_features(features) != digest_features(moved)
    save_features(tmp_path / "a.npz", features)
    save_features(tmp_path / "b.npz", moved)
    assert digest_features(tmp_path / "a.npz") != digest_features(tmp_path / "b.npz")
    settings = [
        SweepSettings(),
        SweepSettings(onset=0.4),
        SweepSettings(clustering=VBxParams(Fa=0.1)),
        SweepSettings(clustering=AHCParams()),
    ]
    assert len({digest_settings(each) for each in settings}) == 4
    assert digest_settings(SweepSettings()) == digest_settings(SweepSettings().replace(Fa=np.float64(0.07)))


def test_a_plda_is_its_arrays_and_not_what_was_derived_from_them(rng):
    arrays = {"mean1": np.zeros(4), "mean2": np.zeros(2), "lda": rng.random((4, 2)), "mu": np.zeros(2)}
    arrays |= {"tr": np.eye(2), "psi": np.ones(2)}
    plda = PLDA(**arrays)
    before = digest_plda(plda)
    plda.transform(rng.random((3, 4)))
    assert digest_plda(plda) == before == digest_plda(PLDA(**arrays))
    assert digest_plda(dataclasses.replace(plda, of_segments=plda)) != before
    assert digest_plda(PLDA(**arrays | {"psi": np.array([1.0, 2.0])})) != before != digest_plda(None)


def test_the_code_digest_is_the_same_in_every_process():
    code = "from workbench.sweeps.store import digest_code; print(digest_code())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest_code()


def test_two_sweeps_never_write_into_one_folder_at_once(tmp_path):
    code = (
        "import sys; from workbench.sweeps.store import locked\n"
        f"with locked({str(tmp_path)!r}): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"another sweep.*process {other.pid} "), locked(tmp_path):
            pass
        other.kill()  # the lock goes with the process
    with locked(tmp_path):
        pass

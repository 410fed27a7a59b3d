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
    assert store.load("a", changed).empty
    assert len(said) == 1  # once, not for every look
    words = {"scoring": "collar", "code": "version", "uem": "UEM", "plda": "PLDA", "clustering": "clustering"}
    assert words.get(name, name) in said[0]
    assert path.is_file()  # an earlier state of the inputs may come back
    assert list(Store(tmp_path).load("a", FIRST).index) == ["x"]


def test_a_damaged_shard_is_said_and_not_used(tmp_path):
    path = Store(tmp_path).save("a", FIRST, rows("x"))
    Store(tmp_path).save("a", FIRST, rows("y"))
    path.write_bytes(path.read_bytes()[:-10])
    said = []
    assert list(Store(tmp_path, said.append).load("a", FIRST).index) == ["y"]
    assert "computed again" in said[0]


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

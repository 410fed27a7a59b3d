from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import InputError
from workbench.files import json_bytes
from workbench.manifest import (
    Stopwatch,
    code_digest,
    describe_files,
    digest_arrays,
    digest_of,
    digest_values,
    plain,
    run_manifest,
)


@dataclass(frozen=True)
class Options:
    threshold: float
    folder: Path
    table: dict[str, np.float32]


def test_every_file_is_named_with_its_size_and_digest(tmp_path):
    (tmp_path / "models" / "plda").mkdir(parents=True)
    (tmp_path / "models" / "plda" / "plda.npz").write_bytes(b"abc")
    (tmp_path / "models" / ".cache").write_bytes(b"no model")
    (tmp_path / "ref.rttm").write_bytes(b"")
    manifest = run_manifest(
        "workbench test",
        files={"weights": tmp_path / "models", "reference": [tmp_path / "ref.rttm"], "uem": None},
        options={},
    )
    abc = {"sha256": hashlib.sha256(b"abc").hexdigest(), "bytes": 3}
    assert manifest["files"] == {
        "weights": {str(tmp_path / "models" / "plda" / "plda.npz"): abc},
        "reference": {str(tmp_path / "ref.rttm"): {"sha256": hashlib.sha256().hexdigest(), "bytes": 0}},
    }
    assert manifest["command"] == "workbench test"


def test_a_manifest_is_json_whatever_the_options_are(tmp_path):
    options = Options(threshold=float("nan"), folder=tmp_path, table={"a": np.float32(0.5)})
    manifest = run_manifest("x", files={}, options={"all": options, "set": {2, 1}}, stopwatch=Stopwatch())
    read = json.loads(json_bytes(manifest))
    assert read["options"]["all"] == {
        "kind": "Options",
        "threshold": "nan",
        "folder": str(tmp_path),
        "table": {"a": 0.5},
    }
    assert read["options"]["set"] == [1, 2]
    assert read["software"]["packages"]["numpy"] == np.__version__
    assert read["machine"]["cores"] >= 1
    assert set(read["timing"]) == {"began", "seconds"}


def test_the_revision_is_that_of_the_working_copy(repository):
    revision = run_manifest("x", files={}, options={})["software"]["revision"]
    assert (revision is not None) == (repository / ".git").exists()
    if revision is not None:
        assert len(revision.removesuffix("+changes")) == 40


def test_a_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.*does not exist"):
        describe_files(tmp_path / "nowhere")


def test_a_digest_follows_the_content_of_a_file_that_changes(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    first = digest_of(file)
    file.write_bytes(b"two")
    assert digest_of(file) == hashlib.sha256(b"two").hexdigest() != first


def test_digests_tell_values_types_and_shapes_apart():
    values = np.arange(4.0)
    digests = {
        digest_arrays({"a": values}),
        digest_arrays({"b": values}),
        digest_arrays({"a": values.astype(np.float32)}),
        digest_arrays({"a": values.reshape(2, 2)}),
        digest_arrays({"a": values[::-1]}),
    }
    assert len(digests) == 5
    assert digest_arrays({"a": values[::-1]}) == digest_arrays({"a": values[::-1].copy()})
    assert digest_values(1) != digest_values("1") != digest_values([1])


def test_kinds_of_parameters_with_equal_values_differ():
    @dataclass(frozen=True)
    class Other:
        threshold: float

    @dataclass(frozen=True)
    class One:
        threshold: float

    assert plain(One(1.0)) != plain(Other(1.0))


def test_code_digests_differ_by_module_and_by_version():
    assert code_digest(["types"]) != code_digest(["files"])
    assert code_digest(["types"]) != code_digest(["types"], ["numpy"])
    assert code_digest(["clustering"]) == code_digest(["clustering"])

"""The command: files as the contract has them, resumed after any end, clear about every bad input."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from command import run
from sweep_corpus import make_features, make_reference, write_corpus

from workbench.clustering.plda_files import save_plda
from workbench.config import read_config
from workbench.features import save_features
from workbench.rttm import read_rttm, write_rttm
from workbench.scoring import score
from workbench.sweeps.settings import column_name
from workbench.synthetic import make_plda
from workbench.types import SegmentFeatures

AHC = ("--clustering", "ahc", "--min-cluster-size", 1)
GRID = ("--grid", "ahc_threshold=0.3:1.3:21", "--grid", "min_cluster_size=1,3")
SMALL = ("--grid", "ahc_threshold=0.3,0.7,1.2", "--jobs", 1)
FILES = ("results.parquet", "summary.parquet", "best.toml", "best.yaml", "sweep.json")


@pytest.fixture
def corpus(tmp_path) -> Path:
    write_corpus(tmp_path)
    return tmp_path


def sweep(corpus: Path, *args: object, out: str = "out"):
    return run("sweep", corpus / "features", "--reference", corpus / "ref.rttm", "--out", corpus / out, *args)


def read(corpus: Path, name: str, out: str = "out") -> pd.DataFrame:
    return pd.read_parquet(corpus / out / f"{name}.parquet")


def test_a_sweep_leaves_what_the_contract_names(corpus):
    result = sweep(corpus, *AHC, *GRID, "--jobs", 1, "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert all((corpus / "out" / name).is_file() for name in FILES)
    results, summary = read(corpus, "results"), read(corpus, "summary")
    needed = ["uri", "ahc_threshold", "min_cluster_size", "num_speakers", "total", "missed"]
    needed += ["false_alarm", "confusion", "der"]
    assert set(needed) <= set(results.columns)
    assert len(results) == 3 * 42
    assert len(summary) == 42
    assert result.json == json.loads((corpus / "out" / "sweep.json").read_text())
    assert result.json["grid"]["min_cluster_size"] == [1, 3]
    assert result.json["software"]["packages"]["numpy"] == np.__version__
    assert result.json["timing"]["seconds"] > 0
    assert set(result.json["files"]) == {"features", "reference"}
    assert result.json["best"]["der"] == summary["der"].min()
    best = yaml.safe_load((corpus / "out" / "best.yaml").read_text())["params"]["clustering"]
    assert best["threshold"] == result.json["best"]["parameters"]["ahc_threshold"]


def test_the_best_parameters_reproduce_their_der_through_cluster_and_score(corpus):
    report = sweep(corpus, *AHC, *GRID, "--collar", 0.1, "--json", "-").json
    config = corpus / "out" / "best.toml"
    assert read_config(config).clustering.ahc_threshold == report["best"]["parameters"]["ahc_threshold"]
    assert run("cluster", corpus / "features", "--out", corpus / "rttm", "--config", config).exit_code == 0
    scored = run("score", corpus / "ref.rttm", corpus / "rttm", "--collar", 0.1, "--json", "-").json
    assert scored["overall"]["der"] == pytest.approx(report["best"]["der"], abs=2e-4)
    assert scored["overall"]["jer"] == pytest.approx(report["best"]["jer"], abs=1e-2)
    results = read(corpus, "results")
    for uri, row in scored["recordings"].items():
        ours = results[(results["uri"] == uri)]
        for name, value in report["best"]["parameters"].items():
            ours = ours[ours[name] == value]
        # the RTTM has milliseconds
        assert row["der"] == pytest.approx(ours["der"].item(), abs=2e-4)


BOUNDS = {
    "num_speakers": ("num_speakers=none,2,3,4",),
    "bounds": ("min_speakers=1,3", "max_speakers=3,4,none"),
}


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize(
    ("options", "obeys"),
    [
        (("--preset", "pyannote-3.1"), True),
        (("--preset", "community-1"), True),
        (("--clustering", "ahc", "--min-cluster-size", 1), True),
        (("--preset", "diarizen"), False),  # there, they only cap how many speak at once
    ],
)
def test_bounds_on_the_speakers_are_swept_as_cluster_takes_them(corpus, bounds, options, obeys):
    save_plda(corpus / "plda", make_plda(np.random.default_rng(0), 8, 4))
    options = (*options, "--plda", corpus / "plda", "--ahc-threshold", 0.8)
    grid = [part for spec in BOUNDS[bounds] for part in ("--grid", spec)]
    result = sweep(corpus, *options, *grid, "--jobs", 1)
    assert result.exit_code == 0, result.stderr
    results = read(corpus, "results")
    names = [spec.partition("=")[0] for spec in BOUNDS[bounds]]
    columns = [column_name(name) for name in names]
    cells = results[columns].drop_duplicates().astype(object)
    assert len(cells) == (4 if bounds == "num_speakers" else 6)
    for number, cell in enumerate(cells.itertuples(index=False)):
        # an absent bound of the preset; a preset's own is 20, which none of these comes near
        given = [(name, value) for name, value in zip(names, cell, strict=True) if not pd.isna(value)]
        call = [part for name, value in given for part in (f"--{name.replace('_', '-')}", value)]
        out = corpus / f"cluster{number}"
        assert run("cluster", corpus / "features", "--out", out, *options, *call).exit_code == 0
        scored = run("score", corpus / "ref.rttm", out, "--json", "-").json["recordings"]
        chosen = np.ones(len(results), dtype=bool)
        for column, value in zip(columns, cell, strict=True):
            chosen &= results[column].isna() if pd.isna(value) else results[column].eq(value).fillna(False)
        for row in results[chosen].itertuples():
            assert row.num_speakers == len(read_rttm(out / f"{row.uri}.rttm")[row.uri].labels())
            assert row.der == pytest.approx(scored[row.uri]["der"], abs=1e-3)  # an RTTM has milliseconds
            assert row.jer == pytest.approx(scored[row.uri]["jer"], abs=1e-2)  # and dscore frames of 10
            if obeys and bounds == "num_speakers" and not pd.isna(cell[0]):
                assert row.num_speakers == cell[0]
    assert obeys or results.groupby("uri")["partition"].nunique().eq(1).all()


def test_one_job_and_two_leave_the_same_tables(corpus):
    assert sweep(corpus, *AHC, *GRID, "--jobs", 1, out="one").exit_code == 0
    assert sweep(corpus, *AHC, *GRID, "--jobs", 2, out="two").exit_code == 0
    for name in ("results", "summary"):
        pd.testing.assert_frame_equal(read(corpus, name, "one"), read(corpus, name, "two"))
    for name in ("best.toml", "best.yaml"):
        assert (corpus / "one" / name).read_bytes() == (corpus / "two" / name).read_bytes()


def test_vbx_sweeps_with_a_plda_and_needs_one(tiny_hub, corpus):
    rng = np.random.default_rng(0)
    for seed, uri in enumerate("abc"):
        features = make_features(uri, seed)
        wide = np.concatenate([features.embeddings, 0.1 * rng.standard_normal((12, 2, 8))], axis=2)
        vars(features)["embeddings"] = wide.astype(np.float32)
        save_features(corpus / "features" / f"{uri}.npz", features)
    grid = ("--grid", "Fa=0.1,0.5", "--grid", "Fb=0.8,5", "--json", "-")
    without = sweep(corpus, *grid)
    assert without.exit_code == 2
    assert "--plda" in without.stderr
    result = sweep(corpus, *grid, "--plda", tiny_hub / "plda", "--config", tiny_hub / "config.toml")
    assert result.exit_code == 0, result.stderr
    assert len(read(corpus, "results")) == 12
    assert set(result.json["files"]) == {"features", "reference", "plda", "config"}
    merged = tomllib.loads((corpus / "out" / "best.toml").read_text())
    assert merged["model"] == tomllib.loads((tiny_hub / "config.toml").read_text())["model"]
    # another PLDA: nothing of the old is taken for the new
    again = sweep(corpus, *grid, "--plda", tiny_hub / "plda", "--config", tiny_hub / "config.toml")
    assert (again.json["rows_computed"], again.json["rows_found"]) == (0, 12)


def test_a_second_sweep_computes_nothing_and_a_changed_reference_all_of_its_recording(corpus):
    first = sweep(corpus, *AHC, *GRID, "--json", "-").json
    assert (first["rows_computed"], first["rows_found"]) == (126, 0)
    tables = {name: read(corpus, name) for name in ("results", "summary")}
    again = sweep(corpus, *AHC, *GRID, "--json", "-").json
    assert again["rows_computed"] == 0
    for name, table in tables.items():
        pd.testing.assert_frame_equal(read(corpus, name), table)
    text = (corpus / "ref.rttm").read_text()
    (corpus / "ref.rttm").write_text(text.replace("SPEAKER b 1 0.010 0.900", "SPEAKER b 1 0.010 0.500"))
    changed = sweep(corpus, *AHC, *GRID, "--json", "-")
    assert changed.json["rows_computed"] == 42
    assert "b: " in changed.stderr
    assert "the reference changed" in changed.stderr
    fresh = sweep(corpus, *AHC, *GRID, out="fresh")
    assert fresh.exit_code == 0
    pd.testing.assert_frame_equal(read(corpus, "results"), read(corpus, "results", "fresh"))


SLOWED = (
    "import workbench.sweeps.blocks as b; b.FIRST_BLOCK = b.LARGEST_BLOCK = b.SMALLEST_BLOCK = 2\n"
    "from workbench.cli import main; main()"
)


def start(corpus: Path, *args: object) -> subprocess.Popen[str]:
    """The command in a process of its own, in blocks of two cells, so that there is much to interrupt."""
    command = ["sweep", corpus / "features", "--reference", corpus / "ref.rttm", "--out", corpus / "out"]
    return subprocess.Popen(
        [sys.executable, "-c", SLOWED, *map(str, [*command, *AHC, *GRID, *args])],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def shards(corpus: Path) -> dict[Path, int]:
    """Finished shards and when they were written."""
    found = (corpus / "out" / "shards").glob("*/[!.]*.parquet")
    return {path: path.stat().st_mtime_ns for path in found}


def wait_for_shards(corpus: Path, process: subprocess.Popen[str], number: int) -> None:
    while len(shards(corpus)) < number and process.poll() is None:
        time.sleep(0.005)


def test_killed_at_any_moment_it_goes_on_and_computes_only_what_was_missing(corpus):
    assert sweep(corpus, *AHC, *GRID, out="whole").exit_code == 0
    chance = random.Random(4)
    for jobs, more in ((1, 4), (2, 8), (1, 6)):
        process = start(corpus, "--jobs", jobs)
        with process:
            wait_for_shards(corpus, process, len(shards(corpus)) + more)
            time.sleep(chance.uniform(0, 0.05))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert not (corpus / "out" / "results.parquet").exists()
    done = shards(corpus)
    rows = sum(len(pd.read_parquet(path)) for path in done)
    assert len(done) >= 18
    assert rows < 126
    with start(corpus, "--jobs", 1, "--json", "-") as process:
        report = json.loads(process.communicate(timeout=60)[0])
    assert (report["rows_found"], report["rows_computed"]) == (rows, 126 - rows)
    assert done.items() <= shards(corpus).items()  # none was written again
    assert not list((corpus / "out").rglob(".tmp-*"))
    for name in ("results", "summary"):
        pd.testing.assert_frame_equal(read(corpus, name), read(corpus, name, "whole"))
    assert (corpus / "out" / "best.yaml").read_bytes() == (corpus / "whole" / "best.yaml").read_bytes()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_and_signals_to_end_leave_a_folder_that_goes_on(corpus, jobs, stop):
    with start(corpus, "--jobs", jobs) as process:
        wait_for_shards(corpus, process, 5)
        process.send_signal(stop)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + stop, stderr
    assert "same command goes on" in stderr
    assert "Traceback" not in stderr
    assert "leaked" not in stderr
    done = shards(corpus)
    assert len(done) >= 5
    again = sweep(corpus, *AHC, *GRID, "--json", "-")
    assert again.json["rows_found"] == sum(len(pd.read_parquet(path)) for path in done), again.stderr


def test_handlers_of_signals_are_those_of_before_after_a_sweep(corpus):
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)]
    assert sweep(corpus, *AHC, *SMALL).exit_code == 0
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize("filename", [None, "elsewhere/.tmp-summary.md"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_and_the_sweep_goes_on(corpus, monkeypatch, number, filename):
    def full(*_args):
        raise OSError(number, os.strerror(number), *[filename] * (filename is not None))

    with monkeypatch.context() as patched:
        patched.setattr("workbench.plots.tuning_page.write_summary", full)
        result = sweep(corpus, *AHC, *SMALL)
    assert result.exit_code == 2
    assert f"what is done is kept in {corpus / 'out'}, and the same command goes on" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"{corpus / 'out' if filename is None else 'elsewhere'}: ")
    assert last.endswith("and run the same command again")
    again = sweep(corpus, *AHC, *SMALL, "--json", "-")
    assert (again.exit_code, again.json["rows_computed"]) == (0, 0)


def test_the_best_parameters_say_whether_to_take_them(corpus):
    assert sweep(corpus, *AHC, *SMALL).exit_code == 0
    choice = json.loads((corpus / "out" / "sweep.json").read_text())["choice"]
    assert choice["recommended"] is None
    for name in ("best.toml", "best.yaml"):
        comments = [line for line in (corpus / "out" / name).read_text().splitlines() if line[:1] == "#"]
        verdict = next(line for line in comments if line.startswith("# Verdict: "))
        assert verdict.removeprefix("# Verdict: ") in choice["words"]
        assert not any("not a recommendation" in line for line in comments)  # the best one is the default


def test_a_sweep_in_a_folder_where_one_is_running_is_refused(corpus):
    from workbench.sweeps.store import locked

    with locked(corpus / "out"):
        result = sweep(corpus, *AHC, *SMALL)
    assert result.exit_code == 2
    assert "another sweep is writing here" in result.stderr
    assert sweep(corpus, *AHC, *SMALL).exit_code == 0


def test_two_sweeps_one_after_the_other_share_what_they_have_in_common(corpus):
    assert sweep(corpus, *AHC, *SMALL).exit_code == 0
    report = sweep(corpus, *AHC, "--grid", "min_cluster_size=1,2", "--json", "-").json
    # the threshold 0.7 with a size of 1 was among the first sweep's cells
    assert (report["rows_found"], report["rows_computed"]) == (3, 3)
    assert list(read(corpus, "summary")["min_cluster_size"]) == [1, 2]


def test_recordings_that_cannot_be_swept_are_named_and_the_others_go_on(corpus):
    (corpus / "features" / "d.npz").write_bytes(b"PK not really")
    save_features(corpus / "features" / "aa.npz", make_features("aa", 5))
    segments = SegmentFeatures(uri="x", embeddings=np.ones((2, 8)), segments=np.array([[0, 1], [1, 2.0]]))
    save_features(corpus / "features" / "x.npz", segments)
    result = sweep(corpus, *AHC, *SMALL, "--json", "-")
    assert result.exit_code == 1
    failed = {each["uri"]: each["error"] for each in result.json["failed"]}
    assert set(failed) == {"aa", "d", "x"}
    assert "reference does not name it, did you mean 'a'?" in failed["aa"]
    assert "one embedding per segment" in failed["x"]
    assert result.json["recordings"] == ["a", "b", "c"]
    assert "4 recordings" not in result.stderr
    assert "3 of 6 recordings failed" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--grid", "ahc_treshold=0.3,0.4"), "did you mean 'ahc_threshold'"),
        (("--grid", "ahc_threshold"), "NAME=a,b,c"),
        (("--grid", "ahc_threshold="), "has no values"),
        (("--grid", "ahc_threshold=0.1,x"), "takes numbers, got 'x'"),
        (("--grid", "ahc_threshold=-1,0.5"), "ahc_threshold must be a number of at least 0"),
        (("--grid", "Fa=0.1,0.2"), "Fa is no parameter of"),
        (("--grid", "ahc_threshold=0.1:0.9"), "start:stop:num"),
        (("--grid", "num_speakers=2,2.5"), "num_speakers_forced takes whole numbers, got 2.5"),
        (
            ("--grid", "min_cluster_size=1000000000000000000000"),
            "min_cluster_size must be at most 1e+12, got 1",
        ),
        (("--grid", f"min_cluster_size=1:9:1{400 * '0'}"), "num a whole number of at least 1"),
        (("--grid", f"ahc_threshold=1{400 * '0'}"), "ahc_threshold takes finite numbers"),
        (("--grid", "ahc_threshold=1e300"), "ahc_threshold must be at most 1e+12, got 1e+300"),
        (("--grid", "onset=0.5", "--ahc-threshold", "1e300"), "ahc_threshold must be at most 1e+12"),
        (("--grid", "num_speakers=0,2"), "num_speakers must be a whole number of at least 1"),
        (("--grid", "num_speakers=2", "--grid", "num_speakers_forced=3"), "given twice"),
        (("--grid", "min_speakers=2,4", "--grid", "max_speakers=3,5"), "min_speakers (4) must not exceed"),
        (("--grid", "ahc_threshold=0.5", "--grid", "ahc_threshold=0.6"), "given twice"),
        ((), "--grid"),
        (("--grid", "ahc_threshold=0.5", "--objective", "dre"), "did you mean 'der'"),
        (("--grid", "ahc_threshold=0.5", "--search", "tep"), "--search"),
        (("--grid", "ahc_threshold=0.5", "--jobs", "0"), "--jobs"),
        (("--grid", "ahc_threshold=0.5", "--jobs", "2", "--scheduler", "x"), "leave it out"),
        (("--grid", "ahc_threshold=0.5", "--search", "tpe", "--storage", "s.txt"), "journal file"),
        (("--grid", "ahc_threshold=0.5", "--plda", "nowhere"), "nowhere"),
        (("--grid", "ahc_threshold=0.5", "--uem", "nowhere.uem"), "nowhere.uem"),
    ],
)
def test_an_impossible_call_is_refused_and_says_why(corpus, args, message):
    result = sweep(corpus, *AHC, *args)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (corpus / "out" / "shards").exists()


def test_an_interval_is_refused_for_a_grid_before_anything_is_made(corpus):
    result = sweep(corpus, *AHC, "--grid", "ahc_threshold=0.4:0.9")
    assert result.exit_code == 2
    assert "ahc_threshold=0.4:0.9 is an interval, which a grid cannot list" in result.stderr
    assert not (corpus / "out").exists()


def test_inputs_that_are_not_there_are_named(corpus):
    (corpus / "empty").mkdir()
    out = ("--out", corpus / "out", *AHC, *SMALL)
    reference = ("--reference", corpus / "ref.rttm")
    for where, message in (("empty", "holds no features file"), ("nowhere", "does not exist")):
        result = run("sweep", corpus / where, *reference, *out)
        assert result.exit_code == 2
        assert message in result.stderr
    write_rttm(corpus / "other.rttm", make_reference("other"))
    result = run("sweep", corpus / "features", "--reference", corpus / "other.rttm", *out)
    assert result.exit_code == 2
    assert "no recording can be scored" in result.stderr
    (corpus / "bad.rttm").write_text("SPEAKER a 1 zero 1 <NA> <NA> x <NA> <NA>\n")
    result = run("sweep", corpus / "features", "--reference", corpus / "bad.rttm", *out)
    assert result.exit_code == 2
    assert "bad.rttm:1:" in result.stderr


def test_a_placeholder_reference_is_not_swept_unless_it_is_trusted(corpus):
    same = "".join((corpus / "ref.rttm").read_text().splitlines(keepends=True)[:24])
    (corpus / "ref.rttm").write_text("".join(same.replace(" a ", f" {uri} ") for uri in "abc"))
    result = sweep(corpus, *AHC, *SMALL)
    assert result.exit_code == 2
    assert "very same turns" in result.stderr
    assert sweep(corpus, *AHC, *SMALL, "--trust-reference").exit_code == 0


def test_a_reference_that_goes_on_after_the_features_is_remarked_upon(corpus):
    later = [line.split() for line in (corpus / "ref.rttm").read_text().splitlines()]
    for fields in later:
        fields[3] = str(float(fields[3]) + (100.0 if fields[1] == "b" else 0.0))
    (corpus / "ref.rttm").write_text("".join(" ".join(fields) + "\n" for fields in later))
    result = sweep(corpus, *AHC, *SMALL)
    assert result.exit_code == 0
    told = [line for line in result.stderr.splitlines() if "is it the reference of these features?" in line]
    assert len(told) == 1
    assert "b: the reference ends at 112" in told[0]
    assert "the recording is 13.00 s long" in told[0]
    (corpus / "all.uem").write_text("".join(f"{uri} 1 0 200\n" for uri in "abc"))
    assert "these features?" not in sweep(corpus, *AHC, *SMALL, "--uem", corpus / "all.uem").stderr


def test_the_uem_says_what_is_scored(corpus):
    (corpus / "all.uem").write_text("a 1 0 6\nb 1 0 14\n")
    result = sweep(corpus, *AHC, *SMALL, "--uem", corpus / "all.uem", "--skip-overlap", "--json", "-")
    assert result.exit_code == 0
    assert result.json["recordings"] == ["a", "b"]
    assert "the UEM does not name them: c" in result.stderr
    rows = read(corpus, "results").set_index(["uri", "ahc_threshold"])
    assert 0 < rows.loc[("a", 0.7), "total"] < rows.loc[("b", 0.7), "total"]
    regions = {"a": (0, 6), "b": (0, 14)}
    from pyannote.core import Segment, Timeline

    config = ("--config", corpus / "out" / "best.toml")
    assert run("cluster", corpus / "features", "--out", corpus / "rttm", *config).exit_code == 0
    best = result.json["best"]["parameters"]["ahc_threshold"]
    for uri, (begin, end) in regions.items():
        hypothesis = read_rttm(corpus / "rttm" / f"{uri}.rttm")[uri]
        reference = read_rttm(corpus / "ref.rttm")[uri]
        counts = score(reference, hypothesis, Timeline([Segment(begin, end)]), skip_overlap=True)
        assert rows.loc[(uri, best), "der"] == pytest.approx(counts.der, abs=2e-3)


def test_a_search_keeps_its_study_beside_its_results(corpus):
    grid = ("--grid", "ahc_threshold=0.3:1.3", "--grid", "min_cluster_size=1:6")
    search = ("--search", "tpe", "--trials", 8, "--objective", "der,count_error", "--max-worse", 0.02)
    result = sweep(corpus, *AHC, *grid, *search, "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert result.json["search"]["trials"] == 8
    assert result.json["rows_found"] == 0  # the trials' rows are new, although they are read again
    assert result.json["pareto"]
    assert result.json["best"]["worst_increase"] <= 0.02
    assert result.json["grid"]["min_cluster_size"] == {"low": 1, "high": 6}
    import optuna

    study = optuna.load_study(
        study_name=result.json["search"]["study_name"], storage=f"sqlite:///{corpus / 'out' / 'study.db'}"
    )
    assert len(study.trials) == 8
    longer = sweep(corpus, *AHC, *grid, *search[:2], "--trials", 10, *search[4:], "--json", "-")
    assert longer.json["search"]["trials"] == 10
    assert len(read(corpus, "summary")) >= 9


def test_a_limit_on_single_recordings_and_several_objectives_hold_in_all_that_is_left(corpus):
    """With the limit, another cell is best than without; both are recomputed from the rows here."""
    for seed, uri in enumerate("abc"):
        save_features(corpus / "features" / f"{uri}.npz", make_features(uri, seed, noise=0.9))
    begin = ("--clustering", "ahc", "--ahc-threshold", 0.5, "--min-cluster-size", 3, "--skip-overlap")
    search = ("--max-worse", 0.005, "--objective", "der,count_error,jer", "--json", "-")
    result = sweep(corpus, *begin, *GRID, *search)
    assert result.exit_code == 0, result.stderr
    rows = read(corpus, "results").set_index(["ahc_threshold", "min_cluster_size", "uri"])
    before = {uri: rows.loc[(0.5, 3, uri), "der"] for uri in "abc"}
    worse = (rows["der"] - rows.index.get_level_values("uri").map(before)).groupby(level=[0, 1]).max()
    allowed = worse[worse <= 0.005].index
    pooled = rows.groupby(level=[0, 1])[["missed", "false_alarm", "confusion", "total"]].sum()
    der = (pooled["missed"] + pooled["false_alarm"] + pooled["confusion"]) / pooled["total"]
    assert worse[der.idxmin()] > 0.005  # the limit does forbid the lowest
    assert result.json["best"]["der"] == pytest.approx(der[allowed].min(), abs=1e-12)
    assert result.json["best"]["worst_increase"] == pytest.approx(worse[allowed][der[allowed].idxmin()])
    wrong = (rows["num_speakers"] - rows["num_reference_speakers"]).abs().groupby(level=[0, 1]).mean()
    jer = rows["jer"].groupby(level=[0, 1]).mean()  # the three recordings have as many speakers
    values = pd.concat([der, wrong, jer], axis=1).loc[allowed].to_numpy()
    beaten = [((values <= each).all(axis=1) & (values < each - 1e-12).any(axis=1)).any() for each in values]
    front = {tuple(cell.values()) for cell in (each["parameters"] for each in result.json["pareto"])}
    assert front == set(allowed[~np.array(beaten)])


def test_help_shows_an_example():
    result = run("sweep", "--help")
    assert result.exit_code == 0
    assert "workbench sweep features --reference dev.rttm" in " ".join(result.stdout.split())

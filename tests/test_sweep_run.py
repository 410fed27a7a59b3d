"""Blocks of cells, computed by whoever is there: the rows are the same, and no recording loses another."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sweep_corpus import Bomb, make_features, make_reference, own_process, write_corpus

from workbench.clustering import AHCParams, run_clustering
from workbench.errors import InputError, RecordingError
from workbench.features import save_features
from workbench.reconstruction import reconstruct
from workbench.scoring import score
from workbench.sweeps import blocks, pools, sweep
from workbench.sweeps.blocks import block_order
from workbench.sweeps.grid import Grid, SweepSettings
from workbench.sweeps.pools import DaskCluster, Given, InProcess, Processes
from workbench.sweeps.run import Common, Evaluator, Recording
from workbench.sweeps.store import Store
from workbench.sweeps.summary import COUNTS, summarize

URIS = ("a", "b", "c")
BASE = SweepSettings(clustering=AHCParams(min_cluster_size=1))
GRID = Grid.of({"min_cluster_size": [1, 3], "ahc_threshold": np.linspace(0.3, 1.3, 21).tolist()}, BASE)


def make_recordings(uris: tuple[str, ...] = URIS) -> list[Recording]:
    return [
        Recording(uri=uri, features=make_features(uri, seed), reference=make_reference(uri, seed))
        for seed, uri in enumerate(uris)
    ]


def evaluate(recordings, pool=None, store=None, grid=GRID, **common):
    with Evaluator(recordings, Common(base=BASE, **common), pool=pool, store=store) as evaluator:
        return evaluator.evaluate(grid.cells(), with_base=True)


@pytest.fixture(scope="module")
def expected() -> pd.DataFrame:
    return evaluate(make_recordings()).results


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "FIRST_BLOCK", 5)
    monkeypatch.setattr(blocks, "LARGEST_BLOCK", 7)
    monkeypatch.setattr(blocks, "SMALLEST_BLOCK", 3)


def test_rows_are_those_of_clustering_and_scoring_cell_by_cell(expected):
    cells = GRID.cells()
    assert list(expected["uri"]) == [uri for uri in URIS for _ in range(len(cells))]
    for recording in make_recordings():
        rows = expected[expected["uri"] == recording.uri].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[list(GRID.names)], cells)
        for place in range(0, len(cells), 5):
            settings = BASE.replace(**cells.iloc[place].to_dict())
            clusters = run_clustering(recording.features, settings.clustering).hard_clusters
            hypothesis = reconstruct(recording.features, clusters, **settings.reconstruction_options())
            counts = score(recording.reference, hypothesis)
            for name in COUNTS:
                assert rows[name][place] == pytest.approx(getattr(counts, name), abs=1e-9)
            assert rows["num_speakers"][place] == len(hypothesis.labels())


def test_partitions_are_numbered_by_first_appearance(expected):
    for _, rows in expected.groupby("uri"):
        numbers = rows["partition"].to_numpy()
        assert numbers[0] == 0
        assert (np.diff(np.maximum.accumulate(numbers)) <= 1).all()
        assert rows.groupby("partition")["der"].nunique(dropna=False).max() == 1
        assert 1 < len(set(numbers)) < len(numbers)


def test_the_size_of_blocks_does_not_matter(expected, small_blocks):
    pd.testing.assert_frame_equal(evaluate(make_recordings()).results, expected)


def test_worker_processes_change_nothing(expected, small_blocks):
    for recordings in (make_recordings(), make_recordings()[:1]):  # one: the two help each other
        parallel = evaluate(recordings, Processes(2)).results
        pd.testing.assert_frame_equal(parallel, expected[: len(recordings) * len(GRID)])


def test_any_executor_will_do(expected, small_blocks):
    with ThreadPoolExecutor(3) as executor:
        pd.testing.assert_frame_equal(evaluate(make_recordings(), Given(executor)).results, expected)


@pytest.fixture(scope="module")
def cluster():
    """A Dask scheduler and two worker processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as cluster:
        processes = [worker.process.process.pid for worker in cluster.workers.values()]
        yield cluster
    assert not any(running(process) for process in processes)


def test_a_dask_cluster_changes_nothing(tmp_path, cluster, expected, small_blocks):
    features, _ = write_corpus(tmp_path)
    recordings = make_recordings()
    # the cluster needs to see neither our files nor our store
    recordings[0] = replace(recordings[0], features=features / "a.npz")
    pool = DaskCluster(cluster.scheduler_address)
    assert pool.slots == 2
    found = evaluate(recordings, pool, Store(tmp_path / "out"))
    pd.testing.assert_frame_equal(found.results, expected)
    again = evaluate(recordings, DaskCluster(cluster.scheduler_address), Store(tmp_path / "out"))
    assert again.num_computed == 0


def test_a_dask_worker_that_is_killed_loses_nothing(cluster, expected, small_blocks):
    killed: list[int] = []

    def kill_one(_uri: str, done: int, _total: int) -> None:
        if done and not killed:
            killed.append(next(iter(cluster.workers.values())).process.process.pid)
            os.kill(killed[0], signal.SIGKILL)

    common = Common(base=BASE)
    with Evaluator(make_recordings(), common, pool=DaskCluster(cluster.scheduler_address)) as evaluator:
        found = evaluator.evaluate(GRID.cells(), progress=kill_one)
    assert killed
    assert found.failed == []
    pd.testing.assert_frame_equal(found.results, expected)


def test_a_dask_worker_that_dies_before_its_result_is_fetched_is_noticed(cluster):
    class Fatal:
        """A result that a worker does not survive sending."""

        def __reduce__(self):
            os.kill(os.getpid(), signal.SIGKILL)

    pool = DaskCluster(cluster.scheduler_address)
    try:
        future = pool.submit(lambda _inputs: Fatal(), pool.hold("inputs that are lost with the worker"))
        assert pools.died(future.exception(timeout=60))
        assert pool.submit(len, pool.hold("abc")).result(timeout=60) == 3
    finally:
        pool.close()


def test_a_dask_cluster_without_workers_is_named(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(pools, "_NO_WORKER", 0.0)
    monkeypatch.setattr(pools, "_CONNECT", 1.0)
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as cluster:
        pool = DaskCluster(cluster.scheduler_address)
        with pytest.raises(InputError, match="no worker takes work from the Dask scheduler at 'tcp://"):
            evaluate(make_recordings(), pool)


def test_a_dask_scheduler_that_goes_away_is_named(monkeypatch, small_blocks):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(pools, "_CONNECT", 1.0)
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=50
    )
    try:
        with (
            Evaluator(
                make_recordings(), Common(base=BASE), pool=DaskCluster(cluster.scheduler_address)
            ) as evaluator,
            pytest.raises(InputError, match="no Dask scheduler answers at 'inproc://"),
        ):
            evaluator.evaluate(GRID.cells(), progress=lambda _uri, done, _total: done and cluster.close())
    finally:
        cluster.close()


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(pools, "_CONNECT", 0.5)
    with pytest.raises(InputError, match="no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        DaskCluster("tcp://127.0.0.1:9")


def test_the_base_is_evaluated_whether_or_not_the_grid_holds_it(expected):
    found = evaluate(make_recordings())
    assert list(found.base["uri"]) == list(URIS)
    same = expected[(expected["min_cluster_size"] == 1) & np.isclose(expected["ahc_threshold"], 0.7)]
    np.testing.assert_array_equal(found.base["der"], same["der"])
    assert (found.num_computed, found.num_found) == (3 * len(GRID), 0)  # the grid's own cell serves as base


def test_a_second_run_computes_nothing_and_a_larger_grid_only_what_is_new(tmp_path, expected):
    evaluate(make_recordings(), store=Store(tmp_path))
    again = evaluate(make_recordings(), store=Store(tmp_path))
    assert again.num_computed == 0
    pd.testing.assert_frame_equal(again.results, expected)
    larger = Grid.of({**GRID.values, "min_cluster_size": [1, 2, 3]}, BASE)
    grown = evaluate(make_recordings(), store=Store(tmp_path), grid=larger)
    assert grown.num_computed == 3 * 21
    pd.testing.assert_frame_equal(grown.results, evaluate(make_recordings(), grid=larger).results)


def test_changed_inputs_are_computed_again_and_the_old_rows_return_with_the_old_inputs(tmp_path, expected):
    evaluate(make_recordings(), store=Store(tmp_path))
    changed = make_recordings()
    changed[1] = replace(changed[1], reference=make_reference("b", seed=7))
    found = evaluate(changed, store=Store(tmp_path))
    assert found.num_computed == len(GRID)
    pd.testing.assert_frame_equal(found.results, evaluate(changed).results)
    assert evaluate(changed, store=Store(tmp_path), collar=0.25).num_computed == 3 * len(GRID)
    back = evaluate(make_recordings(), store=Store(tmp_path))
    assert back.num_computed == 0
    pd.testing.assert_frame_equal(back.results, expected)


def test_a_recording_that_fails_is_named_and_loses_no_other(tmp_path, expected):
    features, _ = write_corpus(tmp_path)
    broken = make_features("b", 1)
    broken.segmentations[0, 0, 0] = 0.5
    save_features(features / "b.npz", broken)
    recordings = [replace(each, features=features / f"{each.uri}.npz") for each in make_recordings()]
    for pool in (InProcess(), Processes(2)):
        found = evaluate(recordings, pool)
        assert [each["uri"] for each in found.failed] == ["b"]
        assert "must be 0 or 1" in found.failed[0]["error"]
        kept = expected[expected["uri"] != "b"].reset_index(drop=True)
        pd.testing.assert_frame_equal(found.results, kept)


def test_what_is_wrong_everywhere_is_an_error_of_the_whole(tmp_path):
    recordings = [replace(each, features=tmp_path / f"{each.uri}.npz") for each in make_recordings()]
    assert len(evaluate(recordings).failed) == 3  # missing files: each is its own
    vbx = Grid.of({"Fa": [0.1]}, SweepSettings())
    with (
        pytest.raises(InputError, match="PLDA"),
        Evaluator(make_recordings(), Common(base=SweepSettings())) as evaluator,
    ):
        evaluator.evaluate(vbx.cells())


@pytest.mark.parametrize("deaths", ["always", "one"])
def test_a_worker_that_dies_costs_at_most_its_recording(
    tmp_path, monkeypatch, expected, small_blocks, deaths
):
    monkeypatch.setenv("WORKBENCH_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("WORKBENCH_TEST_DEATHS", deaths)
    recordings = make_recordings()
    recordings[1] = replace(recordings[1], features=Bomb(**vars(recordings[1].features)))
    found = evaluate(recordings, Processes(2))
    if deaths == "one":  # the machine had a bad moment: nothing is lost
        assert found.failed == []
        pd.testing.assert_frame_equal(found.results, expected)
        return
    assert [each["uri"] for each in found.failed] == ["b"]
    assert "worker processes ended" in found.failed[0]["error"]
    kept = expected[expected["uri"] != "b"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.results, kept)


def test_a_worker_that_dies_with_nothing_to_do_is_replaced():
    with closing(Processes(2)) as pool:
        os.kill(pool.submit(own_process, None).result(), signal.SIGKILL)
        while not pool._started()._flags.broken:  # the test's own limit of time ends this if need be
            time.sleep(0.01)
        assert pool.submit(len, "abc").result() == 3


def test_a_broken_executor_of_the_caller_costs_recordings_not_the_run():
    class Broken(ThreadPoolExecutor):
        def submit(self, *_call, **_named):
            raise BrokenExecutor("its workers are gone")

    with Broken() as executor:
        found = evaluate(make_recordings(), Given(executor))
    assert [each["uri"] for each in found.failed] == list(URIS)
    assert found.num_computed == 0
    assert "worker of the executor ended" in found.failed[0]["error"]


def test_the_function_takes_executors_and_keeps_rows_in_a_folder(tmp_path, expected):
    recordings = make_recordings()
    features = [each.features for each in recordings]
    references = {each.uri: each.reference for each in recordings}
    calls: list[tuple[int, int]] = []
    first = sweep(features, references, GRID, out=tmp_path, hook=lambda *done: calls.append(done))
    pd.testing.assert_frame_equal(first, expected)
    assert calls[-1] == (126, 126)
    assert len(list(tmp_path.rglob("*.parquet"))) == 3
    with ThreadPoolExecutor(2) as executor:
        again = sweep(features, references, GRID, out=tmp_path, executor=executor)
    pd.testing.assert_frame_equal(again, expected)
    assert len(list(tmp_path.rglob("*.parquet"))) == 3
    features[1] = replace(features[1], embeddings=features[1].embeddings[:, :1])
    with pytest.warns(UserWarning, match="b is left out"):
        partly = sweep(features, references, GRID)
    assert set(partly["uri"]) == {"a", "c"}


def test_progress_counts_every_cell_of_every_recording_once(small_blocks, tmp_path):
    evaluate(make_recordings()[:1], store=Store(tmp_path))
    seen = {uri: [] for uri in URIS}
    with Evaluator(make_recordings(), Common(base=BASE), store=Store(tmp_path)) as evaluator:
        evaluator.evaluate(GRID.cells(), progress=lambda uri, done, total: seen[uri].append((done, total)))
    assert seen["a"] == [(42, 42)]  # found
    for uri in ("b", "c"):
        done = [each for each, _ in seen[uri]]
        assert done == sorted(set(done))
        assert (done[0], done[-1], seen[uri][-1][1]) == (0, 42, 42)


def test_cells_that_share_their_preparation_are_neighbours():
    cells = Grid.of({"Fa": [0.1, 0.2], "ahc_threshold": [0.5, 0.6], "Fb": [1.0, 2.0]}).cells()
    thresholds = cells["ahc_threshold"].to_numpy()[block_order(cells)]
    np.testing.assert_array_equal(thresholds, [0.5] * 4 + [0.6] * 4)


def test_the_summary_pools_seconds_and_never_averages_rates(expected):
    base = evaluate(make_recordings()).base
    summary = summarize(expected, GRID.names, base)
    pd.testing.assert_frame_equal(summary[list(GRID.names)], GRID.cells())
    for place in (0, 10, 41):
        rows = expected.iloc[[place, place + 42, place + 84]]
        errors = rows["missed"] + rows["false_alarm"] + rows["confusion"]
        assert summary["der"][place] == pytest.approx(errors.sum() / rows["total"].sum(), abs=1e-12)
        assert summary["worst_der"][place] == rows["der"].max()
        rise = rows["der"].to_numpy() - base["der"].to_numpy()
        assert summary["worst_increase"][place] == pytest.approx(rise.max(), abs=1e-12)
        wrong = (rows["num_speakers"] - rows["num_reference_speakers"]).abs()
        assert summary["num_speakers_error"][place] == wrong.mean()
    assert (summary["recordings"] == 3).all()


def test_workers_end_with_a_main_process_that_is_killed(tmp_path):
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from sweep_corpus import own_process\n"
        "from workbench.sweeps.pools import Processes\n"
        "pool = Processes(1)\n"
        "print(pool.submit(own_process, None).result(), flush=True)\n"
        "time.sleep(60)\n"
    )
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as main:
        worker = int(main.stdout.readline())
        assert Path(f"/proc/{worker}").exists()
        main.kill()
    deadline = time.monotonic() + 20
    while running(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running(worker)


def running(process: int) -> bool:
    """Whether a process is there and not merely waiting to be collected."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, FileNotFoundError):
        return False
    return state != "Z"


@pytest.mark.parametrize("address", ["nonsense", "foo://host:1", ""])
def test_what_is_no_address_of_a_scheduler_is_said_at_once(address):
    began = time.perf_counter()
    with pytest.raises(InputError, match="no Dask scheduler answers at"):
        DaskCluster(address)
    gc.collect()  # a client left half made would take half a minute to go
    assert time.perf_counter() - began < 10


def test_a_failure_names_its_recording_once(tmp_path):
    def clustering(features):
        raise RecordingError(f"{features.uri}: is not to be had")

    recordings = make_recordings()
    common = Common(base=SweepSettings().with_function(clustering))
    with Evaluator(recordings, common) as evaluator:
        failed = evaluator.evaluate(pd.DataFrame(index=[0])).failed
    assert {failure["error"] for failure in failed} == {"is not to be had"}

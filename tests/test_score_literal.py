"""`workbench score --by --compare --errors` against frames counted one by one.

All times are multiples of a frame of 0.1 s, so that counting frames is exact. Nothing of
`workbench.scoring` is used to tell what must come out.
"""

from __future__ import annotations

import csv
import itertools
import json

import numpy as np
import pytest
from command import run
from scipy import stats

FRAME = 0.1
NUM_FRAMES = 300
RECORDINGS = [f"r{number}" for number in range(7)]


def spoken(rng, num_speakers, num_turns):
    """Who talks in which frame, bool array (frames, speakers)."""
    active = np.zeros((NUM_FRAMES, num_speakers), dtype=bool)
    for _ in range(num_turns):
        start = rng.integers(0, NUM_FRAMES - 40)
        active[start : start + rng.integers(2, 40), rng.integers(num_speakers)] = True
    return active


def turns(active):
    """(first frame, one after the last, speaker) of every run of frames."""
    for speaker, column in enumerate(active.T):
        edges = np.flatnonzero(np.diff(np.r_[0, column.astype(int), 0]))
        yield from ((start, end, speaker) for start, end in edges.reshape(-1, 2))


def write(path, sides):
    lines = [
        f"SPEAKER {uri} 1 {start * FRAME:.1f} {(end - start) * FRAME:.1f} <NA> <NA> s{speaker} <NA> <NA>\n"
        for uri, active in sides.items()
        for start, end, speaker in turns(active)
    ]
    path.write_text("".join(lines))
    return path


def count(reference, hypothesis):
    """Per frame: reference speakers, missed, false alarm, confusion, correct under the best mapping."""
    pairs = reference.T.astype(int) @ hypothesis
    if len(pairs) > len(pairs.T):
        choices = [
            list(zip(rows, range(len(pairs.T)), strict=True))
            for rows in itertools.permutations(range(len(pairs)), len(pairs.T))
        ]
    else:
        choices = [
            list(zip(range(len(pairs)), columns, strict=True))
            for columns in itertools.permutations(range(len(pairs.T)), len(pairs))
        ]
    best = max(choices, key=lambda choice: sum(pairs[pair] for pair in choice))
    correct = sum((reference[:, row] & hypothesis[:, column]).astype(int) for row, column in best)
    spoken_ref, spoken_hyp = reference.sum(axis=1), hypothesis.sum(axis=1)
    return {
        "total": spoken_ref,
        "missed": np.maximum(spoken_ref - spoken_hyp, 0),
        "false_alarm": np.maximum(spoken_hyp - spoken_ref, 0),
        "confusion": np.minimum(spoken_ref, spoken_hyp) - correct,
        "correct": correct,
    }


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The report, the listed errors, and what was counted: reference, A, B by recording."""
    rng, folder = np.random.default_rng(4), tmp_path_factory.mktemp("literal")
    reference = {uri: spoken(rng, 3, 12) for uri in RECORDINGS}
    systems = [
        {
            uri: (each ^ (rng.random(each.shape) < share))[:, rng.permutation(3)]
            for uri, each in reference.items()
        }
        for share in (0.10, 0.04)
    ]
    extra = spoken(rng, 1, 3)
    systems[0]["r0"] = np.c_[systems[0]["r0"], extra]  # a speaker too many
    files = [
        write(folder / f"{name}.rttm", side) for name, side in zip("rab", (reference, *systems), strict=True)
    ]
    by = [word for each in ("recording", "overlap", "time", "speaker") for word in ("--by", each)]
    result = run(
        "score", files[0], files[1], "--compare", files[2], *by,
        "--errors", folder / "errors.csv", "--json", folder / "report.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads((folder / "report.json").read_text())
    with (folder / "errors.csv").open(encoding="utf-8-sig") as file:
        errors = list(csv.DictReader(file))
    counted = [{uri: count(reference[uri], side[uri]) for uri in RECORDINGS} for side in systems]
    return report, errors, reference, counted


KINDS = ("total", "correct", "missed", "false_alarm", "confusion")


def seconds(counts, frames=slice(None)):
    return {kind: pytest.approx(FRAME * counts[kind][frames].sum(), abs=1e-9) for kind in KINDS}


def test_recordings_and_parts_hold_what_their_frames_hold(scored):
    report, _, reference, (counted, _) = scored
    parts = report["breakdowns"]
    for uri in RECORDINGS:
        row = report["recordings"][uri]
        assert {kind: row[kind] for kind in KINDS} == seconds(counted[uri])
        own = next(row for row in parts["recording"] if row["uri"] == uri)
        assert {kind: own[kind] for kind in KINDS} == seconds(counted[uri])
    for at_once, row in enumerate(parts["overlap"]):
        frames = [np.minimum(reference[uri].sum(axis=1), 2) == at_once for uri in RECORDINGS]
        for kind in KINDS:
            expected = sum(counted[uri][kind][own].sum() for uri, own in zip(RECORDINGS, frames, strict=True))
            assert row[kind] == pytest.approx(FRAME * expected, abs=1e-9)
    for kind in KINDS:
        whole = FRAME * sum(counted[uri][kind].sum() for uri in RECORDINGS)
        for table in parts.values():
            assert sum(row[kind] for row in table) == pytest.approx(whole, abs=1e-9)


def test_time_is_divided_where_the_clock_says(scored):
    report, _, _, (counted, _) = scored
    rows = report["breakdowns"]["time"]
    width = NUM_FRAMES // len(rows)
    for number, row in enumerate(rows):
        frames = slice(number * width, (number + 1) * width)
        for kind in KINDS:
            expected = FRAME * sum(counted[uri][kind][frames].sum() for uri in RECORDINGS)
            assert row[kind] == pytest.approx(expected, abs=1e-9)


def test_listed_errors_fill_the_frames_that_are_wrong(scored):
    _, errors, _, (counted, _) = scored
    for kind in ("missed", "false_alarm", "confusion"):
        found = {uri: np.zeros(NUM_FRAMES) for uri in RECORDINGS}
        for row in errors:
            if row["kind"] == kind:
                first, last = (round(float(row[side]) / FRAME) for side in ("start", "end"))
                found[row["uri"]][first:last] += 1
        for uri in RECORDINGS:
            np.testing.assert_array_equal(found[uri], counted[uri][kind])
    durations = [float(row["duration"]) for row in errors]
    assert durations == sorted(durations, reverse=True)


def test_the_comparison_is_that_of_all_swaps_and_of_scipy(scored):
    report, _, _, counted = scored
    (compared,) = report["compare"].values()
    errors = np.array(
        [
            [
                sum(side[uri][kind].sum() for kind in ("missed", "false_alarm", "confusion"))
                for uri in RECORDINGS
            ]
            for side in counted
        ]
    )
    totals = np.array([counted[0][uri]["total"].sum() for uri in RECORDINGS])
    difference = errors[1] - errors[0]
    test = compared["test"]
    assert test["difference"]["estimate"] == pytest.approx(difference.sum() / totals.sum())
    swaps = [abs(np.dot(signs, difference)) for signs in itertools.product((1, -1), repeat=len(RECORDINGS))]
    assert test["p_permutation"] == pytest.approx(np.mean([swap >= abs(difference.sum()) for swap in swaps]))
    assert test["p_t"] == pytest.approx(stats.ttest_rel(errors[1] / totals, errors[0] / totals).pvalue)
    assert test["p_wilcoxon"] == pytest.approx(stats.wilcoxon(difference / totals).pvalue)
    rates = difference / totals
    assert test["cohens_d"] == pytest.approx(rates.mean() / rates.std(ddof=1))


def test_fixed_and_broken_seconds_are_the_frames_where_one_system_errs_more(scored):
    report, _, _, counted = scored
    (compared,) = report["compare"].values()
    wrong = [
        np.concatenate(
            [sum(side[uri][kind] for kind in ("missed", "false_alarm", "confusion")) for uri in RECORDINGS]
        )
        for side in counted
    ]
    change = wrong[1] - wrong[0]
    assert compared["fixed"] - compared["broken"] == pytest.approx(-FRAME * change.sum())
    assert compared["fixed"] == pytest.approx(FRAME * np.maximum(-change, 0).sum())

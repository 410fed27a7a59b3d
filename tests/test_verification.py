"""Error rates against scikit-learn and the NIST/WeSpeaker definitions, scores, calibration, trials."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from workbench.clustering.plda_estimation import PLDAEstimation, estimate_plda
from workbench.embedding_files import EmbeddingSet
from workbench.errors import InputError
from workbench.verification import (
    CosineScorer,
    PLDAScorer,
    Trials,
    cllr,
    compare_embeddings,
    compare_verification,
    cosine,
    det_curve,
    error_rates,
    evaluate,
    fit_calibration,
    rates_at,
    read_trials,
    roc_curve,
    score_trials,
    write_trials,
)
from workbench.verification.calibration import actual_dcf, load_calibration, save_calibration
from workbench.verification.lda import lda_dimension_table
from workbench.verification.run import average_by_speaker, verify_trials
from workbench.verification.throughput import throughput_table
from workbench.verification.trials import side_item

# --- the definitions, written out as the NIST script and WeSpeaker's copy of it have them ---------


def nist_rates(scores, target):
    order = np.argsort(scores)
    same = target[order].astype(float)
    return np.cumsum(same) / same.sum(), 1 - np.cumsum(1 - same) / (1 - same).sum()


def nist_eer(scores, target):
    miss, false_alarm = nist_rates(scores, target)
    difference = miss - false_alarm
    x1, x2 = np.flatnonzero(difference >= 0)[0], np.flatnonzero(difference < 0)[-1]
    a = (miss[x1] - false_alarm[x1]) / (false_alarm[x2] - false_alarm[x1] - (miss[x2] - miss[x1]))
    return miss[x1] + a * (miss[x2] - miss[x1]), np.sort(scores)[x1]


def nist_min_dcf(scores, target, prior, c_miss, c_fa):
    miss, false_alarm = nist_rates(scores, target)
    cost = c_miss * miss * prior + c_fa * false_alarm * (1 - prior)
    return cost.min() / min(c_miss * prior, c_fa * (1 - prior))


def random_scores(rng, num_targets=150, num_others=900, shift=1.5):
    scores = np.concatenate([rng.normal(shift, 1, num_targets), rng.normal(0, 1, num_others)])
    order = rng.permutation(len(scores))
    return scores[order], (np.arange(len(scores)) < num_targets)[order]


@pytest.mark.parametrize("shift", [0.2, 1.5, 4.0, 12.0])
def test_error_rates_equal_the_nist_definitions_and_scikit_learn(rng, shift):
    scores, target = random_scores(rng, shift=shift)
    found = evaluate(scores, target, [0.001, 0.01, 0.05], c_miss=10, c_fa=1)
    assert (found.eer, found.threshold_eer) == pytest.approx(nist_eer(scores, target), abs=1e-12)
    for prior, cost in found.min_dcf.items():
        assert cost == pytest.approx(nist_min_dcf(scores, target, prior, 10, 1), abs=1e-12)
    assert found.roc_auc == pytest.approx(roc_auc_score(target, scores), abs=1e-12)


def test_equal_scores_are_accepted_together(rng):
    scores, target = random_scores(rng)
    scores = scores.round(1)
    found = evaluate(scores, target)
    assert found.roc_auc == pytest.approx(roc_auc_score(target, scores), abs=1e-12)
    order = rng.permutation(len(scores))
    again = evaluate(scores[order], target[order])
    assert (again.eer, again.min_dcf) == (found.eer, found.min_dcf)
    assert evaluate(np.zeros(4), np.array([True, False, True, False])).eer == 0.5


def test_curves_go_through_the_points_of_scikit_learn(rng):
    scores, target = random_scores(rng)
    false_alarm, hit, _ = sklearn_roc_curve(target, scores)
    table = roc_curve(error_rates(scores, target))[::-1]
    # scikit-learn also keeps its second point, which lies on a line with its neighbours
    np.testing.assert_allclose(table["false_alarm"], np.delete(false_alarm, 1), atol=1e-12)
    np.testing.assert_allclose(table["hit"], np.delete(hit, 1), atol=1e-12)
    det = det_curve(error_rates(scores, target))
    assert np.isfinite(det[["false_alarm_deviate", "miss_deviate"]]).all(axis=None)
    middle = det.iloc[(det["miss"] - 0.5).abs().argmin()]
    assert abs(middle["miss_deviate"]) < 0.05


def test_rates_at_a_threshold_count_the_trials(rng):
    scores, target = random_scores(rng)
    rates = error_rates(scores, target)
    for threshold in (-10.0, 0.3, scores[5], 10.0):
        expected = np.mean(scores[target] < threshold), np.mean(scores[~target] >= threshold)
        assert rates_at(rates, threshold) == pytest.approx(expected, abs=1e-12)


def test_weights_count_trials_several_times(rng):
    scores, target = random_scores(rng, 20, 40)
    weights = rng.integers(0, 4, len(scores))
    weighted = error_rates(scores, target, weights)
    repeated = error_rates(np.repeat(scores, weights), np.repeat(target, weights))
    for threshold in repeated.thresholds:
        assert rates_at(weighted, threshold) == pytest.approx(rates_at(repeated, threshold))


def test_trials_of_one_kind_have_no_error_rates():
    with pytest.raises(InputError, match="found 3 of the same speaker and 0 of different"):
        evaluate(np.arange(3.0), np.ones(3, dtype=bool))
    with pytest.raises(InputError, match="prior"):
        evaluate(np.arange(2.0), np.array([True, False]), [1.0])


# --- scores ---------------------------------------------------------------------------------------


def speakers(rng, num=30, each=5, dimension=12, spread=0.6):
    labels = np.repeat(np.arange(num), each)
    rows = rng.normal(size=(num, dimension))[labels] + spread * rng.normal(size=(num * each, dimension))
    return rows, labels


def test_plda_scores_are_the_log_ratio_of_two_gaussians(rng):
    rows, labels = speakers(rng)
    scorer = PLDAScorer(estimate_plda(rows, labels, PLDAEstimation(num_lda=6)), lda_dim=4)
    features = scorer.prepare(rows)
    phi = scorer.phi
    same = np.block([[np.diag(1 + phi), np.diag(phi)], [np.diag(phi), np.diag(1 + phi)]])
    different = np.diag(np.tile(1 + phi, 2))
    for a, b in [(0, 1), (0, 70), (33, 34)]:
        pair = np.concatenate([features[a], features[b]])
        expected = multivariate_normal.logpdf(pair, cov=same) - multivariate_normal.logpdf(
            pair, cov=different
        )
        assert scorer.pairs(features[[a]], features[[b]])[0] == pytest.approx(expected, rel=1e-9)
        assert scorer.matrix(features, features)[a, b] == pytest.approx(expected, rel=1e-9)
    with pytest.raises(InputError, match="lda_dim must be 1 to 6"):
        PLDAScorer(scorer.plda, lda_dim=7)


def test_as_norm_is_wespeakers(rng):
    rows, _ = speakers(rng, 4, 2)
    cohort = rng.normal(size=(40, 12))
    names = tuple("abcdefgh")
    found = EmbeddingSet(names=names, embeddings=rows.astype(np.float32))
    trials = Trials(enroll=("a", "a", "c"), test=("b", "e", "h"), target=np.array([True, False, False]))
    scores = score_trials(trials, found, CosineScorer(), cohort=cohort, top_n=10)
    unit = {n: found[n].astype(float) / np.linalg.norm(found[n].astype(float)) for n in names}
    others = cohort / np.linalg.norm(cohort, axis=1, keepdims=True)
    for trial, score in enumerate(scores):
        enroll, test = unit[trials.enroll[trial]], unit[trials.test[trial]]
        raw, parts = enroll @ test, []
        for side in (enroll, test):
            top = np.sort(others @ side)[::-1][:10]
            parts.append((raw - top.mean()) / top.std())
        assert score == pytest.approx(sum(parts) / 2, abs=1e-9)
    with pytest.raises(InputError, match="the cohort must have the embeddings' 12 values"):
        score_trials(trials, found, cohort=cohort[:, :5])


def test_a_cohort_is_averaged_by_speaker():
    found = EmbeddingSet(names=("a", "b", "c"), embeddings=np.array([[1.0, 0], [3, 0], [0, 2]]))
    averaged = average_by_speaker(found, {"a": "s1", "b": "s1", "c": "s2", "z": "s3"})
    np.testing.assert_array_equal(averaged, [[2, 0], [0, 2]])


def test_cosine_is_the_cosine(rng):
    a, b = rng.normal(size=(2, 9))
    assert cosine(a, b) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert cosine(np.zeros(3), np.ones(3)) == 0


# --- calibration ----------------------------------------------------------------------------------


def test_calibration_is_the_weighted_logistic_regression(rng):
    scores, target = random_scores(rng)
    found = fit_calibration(scores, target, prior=0.5)
    weights = np.where(target, 0.5 / target.sum(), 0.5 / (~target).sum()) * len(scores)
    reference = LogisticRegression(C=1e8, tol=1e-10).fit(scores[:, None], target, sample_weight=weights)
    assert found.scale == pytest.approx(reference.coef_[0, 0], rel=1e-3)
    assert found.offset == pytest.approx(reference.intercept_[0], abs=1e-2)
    # what these normal distributions have for a ratio: 1.5 s - 1.125
    assert found.scale == pytest.approx(1.5, abs=0.25)
    assert found.threshold() == pytest.approx(0.75, abs=0.15)
    llr = found.llr(scores)
    assert cllr(llr, target) < min(cllr(0 * llr, target), cllr(3 * llr, target))
    assert cllr(0 * llr, target) == pytest.approx(1)


def test_calibrated_ratios_cost_little_more_than_the_best_threshold(rng):
    scores, target = random_scores(rng, 2000, 20000)
    llr = fit_calibration(scores, target).llr(scores)
    best = evaluate(llr, target, [0.05]).min_dcf[0.05]
    assert best <= actual_dcf(llr, target, 0.05) <= 1.1 * best


def test_separated_scores_still_calibrate_and_survive_a_file(tmp_path):
    found = fit_calibration(np.array([0.0, 0.1, 0.8, 0.9]), np.array([False, False, True, True]), runtime="m")
    assert np.isfinite(found.scale)
    assert found.probability(np.array([0.05, 0.85])).round(2).tolist() == [0, 1]
    save_calibration(tmp_path / "c.json", found)
    assert load_calibration(tmp_path / "c.json") == found
    (tmp_path / "c.json").write_text('{"scale": -1, "offset": 0}')
    with pytest.raises(InputError, match="scale must be positive"):
        load_calibration(tmp_path / "c.json")
    with pytest.raises(InputError, match="nothing to calibrate"):
        fit_calibration(np.array([1.0, 0.0]), np.array([False, True]))


# --- trials ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1 a.wav b/c.wav\n0 a.wav d.wav\n",
        "a.wav b/c.wav target\r\na.wav d.wav nontarget\r\n",
        "1\ta.wav\tb/c.wav\n0\ta.wav\td.wav",
    ],
)
def test_both_forms_of_a_trial_list_say_the_same(tmp_path, text):
    (tmp_path / "t.txt").write_bytes(text.encode())
    trials = read_trials(tmp_path / "t.txt")
    assert (trials.enroll, trials.test) == (("a.wav", "a.wav"), ("b/c.wav", "d.wav"))
    assert trials.target.tolist() == [True, False]
    assert trials.names == ("a.wav", "b/c.wav", "d.wav")
    write_trials(tmp_path / "again.txt", trials)
    assert read_trials(tmp_path / "again.txt").enroll == trials.enroll


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no trials"),
        ("1 a\n", "t.txt:1: a trial has three fields, found 2"),
        ("1 a b\n2 a b\n", "t.txt:2: expected 'label a b with label 1 or 0', found the label '2'"),
        ("a b target\n1 a b\n", "t.txt:2: expected 'a b target|nontarget', found the label 'b'"),
        ("a b same\n", "the other form is"),
    ],
)
def test_malformed_trial_lists_name_the_line(tmp_path, text, message):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(InputError) as error:
        read_trials(tmp_path / "t.txt")
    assert message in str(error.value)


def test_sides_are_paths_parts_of_files_or_names_of_a_list(tmp_path):
    (tmp_path / "a.flac").touch()
    assert side_item("a", tmp_path).path == tmp_path / "a.flac"
    part = side_item("a.flac#t=1.5,4", tmp_path)
    assert (part.path, part.start, part.end) == (tmp_path / "a.flac", 1.5, 4.0)
    assert side_item("u1", tmp_path, {"u1": tmp_path / "x.wav"}).path == tmp_path / "x.wav"
    for name, message in (("a#t=4,1", "start must lie before"), ("a#t=x,1", "in seconds")):
        with pytest.raises(InputError, match=message):
            side_item(name, tmp_path)
    with pytest.raises(InputError, match="did you mean 'u1'"):
        side_item("u11", tmp_path, {"u1": tmp_path / "x.wav"})


# --- two runtimes ---------------------------------------------------------------------------------


@pytest.fixture
def two_sides(rng):
    rows, labels = speakers(rng, 12, 4)
    names = tuple(f"u{n}" for n in range(len(rows)))
    baseline = EmbeddingSet(names=names, embeddings=rows.astype(np.float32))
    first, second = np.triu_indices(len(rows), k=1)
    trials = Trials(
        enroll=tuple(names[n] for n in first),
        test=tuple(names[n] for n in second),
        target=labels[first] == labels[second],
    )
    return trials, baseline


def test_equal_embeddings_change_nothing(two_sides):
    trials, baseline = two_sides
    found = verify_trials(trials, baseline)
    agreement = compare_verification(trials, (baseline, baseline), (found.verification, found.verification))
    numbers = agreement.to_dict()
    assert (numbers["flips"], numbers["max_score_difference"], numbers["max_cosine_distance"]) == (0, 0, 0)
    assert numbers["eer_difference"] == {"value": 0, "low": 0, "high": 0}


def test_a_worse_candidate_is_measured_and_its_flips_are_listed(two_sides, rng):
    trials, baseline = two_sides
    noise = rng.normal(scale=1.0, size=baseline.embeddings.shape).astype(np.float32)
    candidate = replace(baseline, embeddings=baseline.embeddings + noise)
    sides = [verify_trials(trials, each).verification for each in (baseline, candidate)]
    agreement = compare_verification(trials, (baseline, candidate), tuple(sides), num_resamples=50)
    flips = (sides[0].scores >= agreement.threshold) != (sides[1].scores >= agreement.threshold)
    assert 0 < len(agreement.flips) == flips.sum() < len(trials)
    change = (agreement.flips["candidate"] - agreement.flips["baseline"]).abs()
    assert change.is_monotonic_decreasing
    difference = agreement.eer_difference
    assert difference.value == pytest.approx(sides[1].eer - sides[0].eer)
    assert 0 < difference.low <= difference.value <= difference.high
    assert agreement.roc_auc_difference.high < 0
    expected = [cosine(a, b) for a, b in zip(baseline.embeddings, candidate.embeddings, strict=True)]
    np.testing.assert_allclose(agreement.embeddings["cosine"], expected, atol=1e-12)


def test_tiny_differences_of_direction_keep_their_digits():
    a = EmbeddingSet(names=("x",), embeddings=np.array([[1.0, 0.0]]))
    b = EmbeddingSet(names=("x",), embeddings=np.array([[1.0, 1e-6]]))
    assert compare_embeddings(a, b)["cosine_distance"][0] == pytest.approx(5e-13, rel=1e-3)
    with pytest.raises(InputError, match="no recording in common"):
        compare_embeddings(a, replace(b, names=("y",), uris=()))


def test_more_dimensions_help_until_there_are_enough(rng):
    rows, labels = speakers(rng, 40, 6, dimension=10, spread=1.0)
    table = lda_dimension_table(rows, labels, [1, 4, 8], PLDAEstimation(iterations=2), num_folds=4)
    assert table["lda_dim"].tolist() == [0, 1, 4, 8]
    eer = table.set_index("lda_dim")["eer"]
    assert eer[1] > eer[4] > eer[8]
    with pytest.raises(InputError, match="folds take at least"):
        lda_dimension_table(rows, labels, [1], num_folds=30)


def test_the_benchmark_measures_both_engines_in_one_run(tiny_hub, repository, tmp_path, capsys):
    path = repository / "benchmarks" / "embedding.py"
    spec = importlib.util.spec_from_file_location("benchmark_embedding", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    models = ["--torch", f"torch:{tiny_hub}", "--onnx", f"onnx:{tiny_hub}/onnx/embedding.onnx"]
    assert benchmark.main([*models, "--quick", "--count", "4", "--json", str(tmp_path / "t.json")]) == 0
    table = json.loads((tmp_path / "t.json").read_text())["table"]
    assert {(row["workload"], row["runtime"], row["batch_size"]) for row in table} == {
        (workload, runtime, size)
        for workload in ("fixed 200 frames", "mixed 1 to 8 s")
        for runtime in ("torch", "onnx")
        for size in (0, 1, 8)
    }
    assert capsys.readouterr().out.count("best") == 4


def test_the_throughput_table_computes_its_ratios(rng):
    class Slow:
        kind, min_num_samples, geometry = "embedding", 1, None

        def embed(self, waveforms, masks=None):
            return waveforms[:, :3].copy()

    waveforms = [np.zeros(400, np.float32)] * 6
    table = throughput_table({"a": Slow(), "b": Slow()}, {"fixed": waveforms}, [1, 4], repeats=1)
    assert len(table) == 6
    assert table.groupby("runtime")["best"].sum().tolist() == [1, 1]
    rows = table.set_index(["runtime", "batch_size"])
    speed = rows["embeddings_per_second"]
    assert rows["ratio_to_loop"]["b", 4] == pytest.approx(speed["b", 4] / speed["b", 0])
    assert rows["ratio_to_first"]["b", 4] == pytest.approx(speed["b", 4] / speed["a", 4])
    np.testing.assert_allclose(table["embeddings_per_second"] * table["seconds"], 6)

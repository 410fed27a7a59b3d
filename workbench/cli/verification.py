"""What `workbench verify` does with its options: a trial list of one model or two, or a pair of files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from workbench.cli.embed import load_embedder
from workbench.cli.output import Progress, finish, plural, print_json
from workbench.cli.tables import align, number
from workbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd

    from workbench.embedding_files import EmbeddingSet
    from workbench.extraction import ExtractionParams, Item
    from workbench.verification import EmbeddingAgreement, Scorer
    from workbench.verification.calibration import Calibration
    from workbench.verification.run import Failed, Source, VerifiedTrials


@dataclass(frozen=True, kw_only=True)
class Job:
    """What both forms of the command share."""

    scorer: Scorer
    params: ExtractionParams
    workers: int | None
    mean: np.ndarray | None
    cohort: Path | None
    cohort_speakers: Path | None
    quiet: bool

    def open(self, runtime: str) -> tuple[Source, int]:
        """A model and its workers, or a file of embeddings."""
        from workbench.embedding_files import SUFFIXES, load_embeddings
        from workbench.runtimes.spec import ENGINES

        path = Path(runtime)
        if path.suffix.lower() in SUFFIXES and (path.is_file() or not runtime.startswith(ENGINES)):
            return load_embeddings(path), 1
        return load_embedder(runtime, self.workers)

    def embed(self, items: Sequence[Item], opened: tuple[Source, int]) -> tuple[EmbeddingSet, Failed]:
        """Embeddings of items, with progress; those that fail are named."""
        from workbench.verification.run import embed_items

        source, workers = opened
        with Progress(len(items), "embeddings", self.quiet) as progress:

            def done(name: str) -> None:
                progress.start(name)
                progress.advance(1)

            found, failed = embed_items(
                items, source, self.params, workers=workers, mean=self.mean, on_done=done
            )
            for failure in failed:
                progress.always(f"FAILED {failure['uri']}: {failure['error']}", colour="red")
            progress.say(f"{plural(len(found), 'embedding')} of {plural(len(items), 'recording')}")
        return found, failed

    def cohort_embeddings(self, opened: tuple[Source, int]) -> tuple[np.ndarray | None, Failed]:
        """Embeddings (num_cohort, dimension) that scores are normalised by, less the mean like all others."""
        import numpy as np

        from workbench.audio import find_recordings
        from workbench.embedding_files import SUFFIXES, EmbeddingSet, load_embeddings
        from workbench.extraction import whole_recordings
        from workbench.verification.run import average_by_speaker, read_speakers

        if self.cohort is None:
            return None, []
        failed: Failed = []
        listed = self.cohort.suffix.lower() == ".scp" and not _points_at_archives(self.cohort)
        if self.cohort.is_dir() or listed:
            if isinstance(opened[0], EmbeddingSet):
                raise InputError.at(
                    self.cohort, "is audio, which takes a model; give embeddings of the cohort"
                )
            found, failed = self.embed(whole_recordings(find_recordings([self.cohort])), opened)
        elif self.cohort.suffix.lower() in SUFFIXES:
            found = load_embeddings(self.cohort)
            if self.mean is not None:
                found = replace(found, embeddings=found.embeddings - self.mean)
        else:
            raise InputError.at(self.cohort, "must be a file of embeddings, a folder of audio or a wav.scp")
        if not np.isfinite(found.embeddings).all():
            raise InputError.at(self.cohort, "holds embeddings whose values are not finite; leave them out")
        if self.cohort_speakers is None:
            return found.embeddings, failed
        return average_by_speaker(found, read_speakers(self.cohort_speakers)), failed


def make_scorer(plda: Path | None, lda_dim: int | None) -> Scorer:
    """Cosine, or a PLDA where a folder is given."""
    from workbench.verification import CosineScorer, PLDAScorer

    if plda is None:
        if lda_dim is not None:
            raise InputError("--lda-dim takes --plda")
        return CosineScorer()
    from workbench.clustering import PLDA

    return PLDAScorer(PLDA.load(plda), lda_dim)


def verify_list(runtime: str, trial_list: Path, job: Job, options: dict[str, Any], json: Path | None) -> None:
    """Numbers of a trial list, of one model or of two."""
    from workbench.audio import find_recordings
    from workbench.verification import read_trials, trial_items
    from workbench.verification.metrics import check_costs
    from workbench.verification.run import verify_trials

    listed = read_trials(trial_list)
    # before the models run, which may take hours
    check_costs(options["priors"], options["c_miss"], options["c_fa"])
    if listed.target.all() or not listed.target.any():
        raise InputError.at(
            trial_list,
            f"error rates take trials of both kinds, found {int(listed.target.sum())} of the same speaker "
            f"and {int((~listed.target).sum())} of different ones",
        )
    root = options["root"] or trial_list.parent
    recordings = None if options["wav_scp"] is None else find_recordings([options["wav_scp"]])
    items, missing = trial_items(listed, root, recordings)
    failed: Failed = [{"uri": name, "error": error} for name, error in missing]
    for failure in failed:
        typer.secho(f"FAILED {failure['uri']}: {failure['error']}", err=True, fg="red")
    sides = [runtime] if options["candidate"] is None else [runtime, options["candidate"]]
    found: list[VerifiedTrials] = []
    trials = listed
    embedded: list[tuple[EmbeddingSet, np.ndarray | None]] = []
    for side in sides:
        opened = job.open(side)
        embeddings, own = job.embed(items, opened)
        cohort, others = job.cohort_embeddings(opened)
        failed += [failure for failure in own + others if failure not in failed]
        embedded.append((embeddings, cohort))
    known = [all(name in each for each, _ in embedded) for name in listed.names]
    usable = {name for name, both in zip(listed.names, known, strict=True) if both}
    pairs = zip(listed.enroll, listed.test, strict=True)
    trials = listed.only(np_array([a in usable and b in usable for a, b in pairs]))
    if not len(trials):
        raise InputError.at(trial_list, "no trial has both of its recordings; is --root right?")
    for embeddings, cohort in embedded:
        found.append(
            verify_trials(
                trials,
                embeddings,
                job.scorer,
                cohort=cohort,
                top_n=options["top_n"],
                priors=options["priors"],
                c_miss=options["c_miss"],
                c_fa=options["c_fa"],
            )
        )
    report: dict[str, Any] = {
        "runtime": runtime,
        "scoring": options["scoring"],
        **found[0].verification.to_dict(),
        "left_out": len(listed) - len(trials),
    }
    report |= calibrated(found[0], options, runtime)
    agreement = None
    if len(found) == 2:
        agreement = compare_sides(found[0], found[1], options["threshold"])
        report |= {
            "candidate": {"runtime": sides[1], **found[1].verification.to_dict()},
            "agreement": agreement.to_dict(),
        }
    write_tables(found[0], options["scores"], options["curves"])
    if str(json) != "-":
        typer.echo(table_of(sides, found, agreement))
    print_json(json, {**report, "failed": failed})
    finish(failed, len(items))


def compare_sides(
    baseline: VerifiedTrials, candidate: VerifiedTrials, threshold: float | None
) -> EmbeddingAgreement:
    """Both sides of --candidate."""
    from workbench.verification import compare_verification

    return compare_verification(
        baseline.trials,
        (baseline.embeddings, candidate.embeddings),
        (baseline.verification, candidate.verification),
        threshold,
    )


def calibrated(found: VerifiedTrials, options: dict[str, Any], runtime: str) -> dict[str, Any]:
    """Cost of the ratios of --calibration, and the fit of --save-calibration."""
    from workbench.verification.calibration import actual_dcf, cllr, fit_calibration, save_calibration

    report: dict[str, Any] = {}
    verification = found.verification
    if options["calibration"] is not None:
        llr = options["calibration"].llr(verification.scores)
        report["cllr"] = cllr(llr, verification.target)
        report["act_dcf"] = {
            f"{prior:g}": actual_dcf(llr, verification.target, prior, options["c_miss"], options["c_fa"])
            for prior in options["priors"]
        }
    if options["save_calibration"] is not None:
        fit = fit_calibration(
            verification.scores, verification.target, scoring=options["scoring"], runtime=runtime
        )
        save_calibration(options["save_calibration"], fit)
        report["calibration"] = {
            "scale": fit.scale,
            "offset": fit.offset,
            "threshold": fit.threshold(),
            "cllr": cllr(fit.llr(verification.scores), verification.target),
        }
    return report


def compare_two(
    runtime: str,
    files: tuple[Path, Path],
    job: Job,
    top_n: int,
    threshold: float | None,
    calibration: Calibration | None,
    json: Path | None,
) -> None:
    """Similarity of two recordings, and the decision where there is a threshold."""
    from workbench.verification import Trials, cosine, score_trials
    from workbench.verification.trials import side_item

    opened = job.open(runtime)
    names = [str(file) for file in files]
    items = [side_item(name, Path()) for name in dict.fromkeys(names)]
    embeddings, failed = job.embed(items, opened)
    cohort, others = job.cohort_embeddings(opened)
    failed += others
    report: dict[str, Any] = {"runtime": runtime, "a": names[0], "b": names[1], "scoring": job.scorer.name}
    if all(name in embeddings for name in names):
        pair = Trials(enroll=(names[0],), test=(names[1],), target=np_array([True]))
        score = float(score_trials(pair, embeddings, job.scorer, cohort=cohort, top_n=top_n)[0])
        similarity = cosine(embeddings[names[0]], embeddings[names[1]])
        report |= {"cosine": similarity, "wespeaker_score": (similarity + 1) / 2, "score": score}
        words = [f"cosine {similarity:.4f}"]
        if job.scorer.name != "cosine" or cohort is not None:
            words.append(f"{job.scorer.name}{'' if cohort is None else ', normalised'} {score:.4f}")
        if calibration is not None:
            llr = float(calibration.llr(np_array([score]))[0])
            probability = float(calibration.probability(np_array([score]))[0])
            threshold = calibration.threshold() if threshold is None else threshold
            report |= {"llr": llr, "probability": probability}
            words.append(f"{100 * probability:.1f} % one speaker (where half of all pairs are)")
        if threshold is not None:
            same = bool(score >= threshold)
            report |= {"threshold": threshold, "same_speaker": same}
            words.append(f"{'same speaker' if same else 'different speakers'} (threshold {threshold:.4f})")
        if str(json) != "-":
            typer.echo("; ".join(words))
    print_json(json, {**report, "failed": failed})
    finish(failed, len(items))


def write_tables(found: VerifiedTrials, scores: Path | None, curves: Path | None) -> None:
    """The files of --scores and --curves."""
    from workbench.files import atomic_write
    from workbench.verification import det_curve

    verification = found.verification
    if scores is not None:
        rows = zip(
            found.trials.enroll, found.trials.test, verification.scores, verification.target, strict=True
        )
        words = {True: "target", False: "nontarget"}
        with atomic_write(scores) as temporary:
            temporary.write_text(
                "".join(f"{a} {b} {score:.5f} {words[bool(same)]}\n" for a, b, score, same in rows),
                encoding="utf-8",
            )
    if curves is not None:
        table: pd.DataFrame = det_curve(verification.rates)
        table.insert(3, "hit", 1 - table["miss"])
        with atomic_write(curves) as temporary:
            table.to_csv(temporary, index=False)


def table_of(
    sides: Sequence[str], found: Sequence[VerifiedTrials], agreement: EmbeddingAgreement | None
) -> str:
    """The numbers for the terminal."""
    priors = list(found[0].verification.min_dcf)
    heading = ["model", "EER %", "ROC-AUC", *(f"minDCF {prior:g}" for prior in priors), "threshold"]
    rows = [
        [
            side,
            number(each.verification.eer, 2, 100),
            number(each.verification.roc_auc, 4),
            *(number(each.verification.min_dcf[prior], 4) for prior in priors),
            number(each.verification.threshold_eer, 4),
        ]
        for side, each in zip(sides, found, strict=True)
    ]
    text = align(heading, rows)
    verification = found[0].verification
    text += (
        f"\n{plural(len(verification.scores), 'trial')}: {int(verification.target.sum())} of one speaker, "
        f"{int((~verification.target).sum())} of two"
    )
    if agreement is not None:
        numbers = agreement.to_dict()
        eer = agreement.eer_difference
        text += (
            f"\nembeddings: 1 - cosine at most {numbers['max_cosine_distance']:.1e}; scores differ by at "
            f"most {numbers['max_score_difference']:.1e}; {numbers['flips']} of "
            f"{plural(len(verification.scores), 'decision')} changed at {agreement.threshold:.4f}; EER "
            f"{100 * eer.value:+.2f} points [{100 * eer.low:+.2f}, {100 * eer.high:+.2f}]"
        )
    return text


def parse_priors(text: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"--p-target must be numbers with commas, got {text!r}") from None


def np_array(values: Sequence[bool] | Sequence[float]) -> np.ndarray:
    """An array, without numpy at the module's top, which would slow every command down."""
    import numpy as np

    return np.array(values)


def _points_at_archives(scp: Path) -> bool:
    """Whether a list names vectors in archives, as Kaldi's do, and not audio."""
    from workbench.textfiles import read_lines

    first = next((line for _, line in read_lines(scp)), "")
    return ".ark" in first or first.rpartition(":")[2].isdigit()

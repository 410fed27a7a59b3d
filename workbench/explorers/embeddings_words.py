"""What the embedding screen says in words, live and in the page without a kernel."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from workbench.explorers.embeddings_study import Scored
from workbench.plots.embeddings_trials import TrialView
from workbench.plots.words import percent
from workbench.verification.calibration import cllr


def headline_html(view: TrialView | None, scored: Scored | None, failed: Sequence[str] = ()) -> str:
    """EER with the other rates, and how many trials they are from."""
    if view is None or scored is None:
        return ""
    main = view.main
    costs = " / ".join(f"{cost:.3f}" for cost in main.min_dcf.values())
    priors = ", ".join(f"{100 * prior:g}" for prior in main.min_dcf)
    same = int(main.target.sum())
    kinds = f"{len(main.target)} trials: {same} same speaker, {len(main.target) - same} different"
    left_out = f" · {scored.num_left_out} left out" if scored.num_left_out else ""
    reason = f' title="{html.escape(failed[0])}"' if failed else ""
    return (
        f'<div class="wb-head"><span class="wb-der">EER {percent(main.eer)}</span>'
        f'<span class="wb-facts">ROC-AUC {main.roc_auc:.4f} · minDCF {costs} (priors {priors} %)</span>'
        f'<span class="wb-convention"{reason}>{kinds}{left_out}</span></div>'
    )


def threshold_html(view: TrialView | None) -> str:
    """What accepting from the threshold on means, in words with counts."""
    if view is None:
        return ""
    scores, target = view.main.scores, view.main.target
    accepted = scores >= view.threshold
    missed, wrong = int((~accepted & target).sum()), int((accepted & ~target).sum())
    same, different = int(target.sum()), int((~target).sum())
    words = (
        f"Accepting from <b>{view.threshold:.4g}</b> on: <b>{missed} of {same}</b> same-speaker trials "
        f"missed ({percent(missed / same)}), <b>{wrong} of {different}</b> others accepted "
        f"({percent(wrong / different)})"
    )
    if view.calibration is not None:
        ratio = float(view.calibration.llr(np.array(view.threshold)))
        chance = float(view.calibration.probability(np.array(view.threshold)))
        words += f" · LLR {_signed(ratio)} nats, {percent(chance, 0)} at even odds"
    return f'<div class="wb-rates">{words}</div>'


def calibration_html(view: TrialView | None) -> str:
    """The calibration as a formula, with what it leaves to be desired."""
    if view is None:
        return ""
    if view.calibration is None:
        return (
            '<span class="wb-about">No calibration: scores of the same speaker are not higher than the '
            "others</span>"
        )
    found = view.calibration
    cost = cllr(found.llr(view.main.scores), view.main.target)
    sign = "+" if found.offset >= 0 else "−"
    return (
        f'<span class="wb-about">Calibration, fitted on these trials: LLR = '
        f"{found.scale:.3g} × score {sign} {abs(found.offset):.3g} nats · Cllr {cost:.3f} bits</span>"
    )


def comparison_html(view: TrialView | None, scored: Scored | None) -> str:
    """Two models side by side: vectors, scores, error rates, decisions."""
    if view is None or scored is None or len(view.verifications) < 2:
        return ""
    agreement = scored.agreement
    distance = float(agreement.embeddings["cosine_distance"].max())
    change = float(np.abs(agreement.candidate.scores - agreement.baseline.scores).max())
    flips = int(view.flips.sum())
    low, high = agreement.eer_difference.low, agreement.eer_difference.high
    first, second = (html.escape(name) for name in view.names)
    return (
        f'<div class="wb-verdict"><b>{second} against {first}:</b> {len(agreement.embeddings)} embeddings, '
        f"cosine at least {cosine_words(distance)} · scores differ by at most {change:.1e} · EER "
        f"{percent(agreement.baseline.eer, 2)} and {percent(agreement.candidate.eer, 2)} "
        f"({_signed(100 * agreement.eer_difference.value, 2)} points, 95 % CI {_signed(100 * low, 2)} to "
        f"{_signed(100 * high, 2)}) · ROC-AUC {agreement.baseline.roc_auc:.4f} and "
        f"{agreement.candidate.roc_auc:.4f} · <b>{flips} of {len(view.flips)}</b> decisions differ at this "
        "threshold</div>"
    )


def cosine_words(distance: float) -> str:
    """A cosine with as many nines as it has.

    Examples
    --------
    >>> cosine_words(0.0312), cosine_words(4e-8), cosine_words(0.0)
    ('0.9688', '0.99999996', '1')
    """
    if distance <= 0:
        return "1"
    decimals = max(4, 1 - math.floor(math.log10(distance)) - 1)
    return f"{1 - distance:.{min(decimals, 15)}f}"


def _signed(value: float, decimals: int = 1) -> str:
    text = f"{abs(value):.{decimals}f}"
    return f"−{text}" if value < 0 and float(text) else text

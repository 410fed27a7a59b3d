"""References are checked before they are believed: a wrong one makes every number after it wrong."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pyannote.core import Annotation, Timeline

from workbench.errors import InputError
from workbench.scoring.turns import Turns

Check = Literal["missing", "empty", "placeholder", "unmatched", "duration", "coverage"]

_TOLERANCE = 0.5  # s, by which a reference may reach beyond the recording: rounding, and padding
_WHOLE = 1.0  # s, that a turn over the whole recording may miss of it
_PLACEHOLDER_NAMES = {
    *("", "<na>", "na", "nan", "none", "null", "unknown", "unk", "placeholder", "dummy", "todo"),
    *("speaker", "speech", "sp", "spk", "speaker1", "speaker_1", "speaker_00", "spk0", "spk1"),
}
_SHORT_RECORDING = 25.0  # s, below which one turn over all of it may well be true
_LONG_TURN = 60.0  # s: nobody talks that long from the first moment to the last
_MANY_TURNS = 10  # of the hypothesis, that make speech after the reference's end credible
_UNANNOTATED = 60.0  # s of hypothesis speech after the reference's end, from which it looks cut off


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong with a reference."""

    check: Check
    uri: str | None  # None: the references as a whole
    problem: str
    stops: bool  # numbers made with it would be wrong; otherwise worth a remark

    def __str__(self) -> str:
        return self.problem if self.uri is None else f"{self.uri}: {self.problem}"


def check_references(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation] | None = None,
    uem: Mapping[str, Timeline] | None = None,
    durations: Mapping[str, float] | None = None,
) -> list[Finding]:
    """Everything suspicious about references, worst first.

    Parameters
    ----------
    references : dict, uri -> Annotation
    hypotheses : dict, uri -> Annotation, optional
        What is to be scored: tells unmatched names and references that end early.
    uem : dict, uri -> Timeline, optional
        Only recordings that it names are checked; one whose reference is silent may be so then.
    durations : dict, uri -> float, optional
        Of the recordings, in seconds.

    Returns
    -------
    findings : list of Finding
        - `missing`: there is no reference at all
        - `empty`: nobody speaks in a recording that no UEM names
        - `placeholder`: every recording, or a long one, holds a single turn from its beginning to its
          end, or several recordings hold the very same turns
        - `unmatched`: a name that only one side has (a remark: such recordings are scored as missed or
          false alarm), with the name that was perhaps meant
        - `duration`: turns beyond the end of the recording, or mostly outside its UEM
        - `coverage`: the hypothesis goes on for long after the reference ends
    """
    hypotheses = hypotheses or {}
    if not references:
        return [
            Finding(
                check="missing", uri=None, problem="there is no reference: it names no recording", stops=True
            )
        ]
    checked = {uri: Turns.of(each) for uri, each in references.items() if uem is None or uri in uem}
    findings = [
        *_placeholders(checked, hypotheses, uem, durations or {}),
        *(
            finding
            for uri, turns in checked.items()
            for finding in _of_one(uri, turns, hypotheses, uem, durations)
        ),
    ]
    if hypotheses:
        findings += _unmatched(references, hypotheses, uem)
    return sorted(findings, key=lambda finding: not finding.stops)


def require_references(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation] | None = None,
    uem: Mapping[str, Timeline] | None = None,
    durations: Mapping[str, float] | None = None,
    hint: str = "correct the reference",
) -> list[Finding]:
    """Stop with an `InputError` where `check_references` finds what makes results wrong; else its remarks."""
    findings = check_references(references, hypotheses, uem, durations)
    fatal = [str(finding) for finding in findings if finding.stops]
    if fatal:
        more = f" (and {len(fatal) - 5} more)" if len(fatal) > 5 else ""
        raise InputError(f"the reference cannot be trusted: {'; '.join(fatal[:5])}{more}; {hint}")
    return findings


def _of_one(
    uri: str,
    turns: Turns,
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None,
    durations: Mapping[str, float] | None,
) -> list[Finding]:
    if not len(turns):
        if uem is not None:  # somebody meant this recording to be scored: it may be silent
            return []
        problem = "the reference is empty: nobody speaks; if that is true, name the recording in a UEM"
        return [Finding(check="empty", uri=uri, problem=problem, stops=True)]
    findings = []
    end, spoken = float(turns.ends.max()), float((turns.ends - turns.starts).sum())
    if durations and uri in durations and end > durations[uri] + _TOLERANCE:
        problem = f"the reference ends at {end:.2f} s, but the recording is {durations[uri]:.2f} s long"
        findings.append(Finding(check="duration", uri=uri, problem=problem, stops=True))
    if uem is not None:
        inside = sum(
            float(
                np.clip(
                    np.minimum(turns.ends, part.end) - np.maximum(turns.starts, part.start), 0, None
                ).sum()
            )
            for part in uem[uri].support()
        )
        if inside < 0.5 * spoken:
            problem = (
                f"{spoken - inside:.1f} of {spoken:.1f} s of reference speech lie outside the regions of the "
                "UEM; do they belong to the same recording, and are both in seconds?"
            )
            findings.append(Finding(check="duration", uri=uri, problem=problem, stops=inside == 0))
    if uri in hypotheses:
        found = Turns.of(hypotheses[uri])
        limit = uem[uri].extent().end if uem is not None and uem[uri] else np.inf
        after = np.clip(np.minimum(found.ends, limit) - np.maximum(found.starts, end), 0, None)
        said, beyond = float((found.ends - found.starts).sum()), float(after.sum())
        if beyond > max(_UNANNOTATED, 0.5 * said):
            problem = (
                f"the reference ends at {end:.1f} s, but {beyond:.0f} of {said:.0f} s of the hypothesis's "
                "speech come after it; is only the beginning annotated? Give the annotated regions as a UEM"
            )
            credible = np.count_nonzero(after) >= _MANY_TURNS
            findings.append(Finding(check="coverage", uri=uri, problem=problem, stops=bool(credible)))
    return findings


def _placeholders(
    references: Mapping[str, Turns],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None,
    durations: Mapping[str, float],
) -> list[Finding]:
    """References that say no more than that there is a recording, or say the same of several."""

    def stop(uri: str | None, problem: str) -> Finding:
        return Finding(check="placeholder", uri=uri, problem=problem, stops=True)

    spoken = {uri: turns for uri, turns in references.items() if len(turns)}
    whole = {uri: turns for uri, turns in spoken.items() if _is_whole(uri, turns, hypotheses, uem, durations)}
    names = {str(turns.labels[0]) for turns in whole.values()}
    # short toy recordings with one turn each do exist
    telling = {name.strip().lower() for name in names} <= _PLACEHOLDER_NAMES or all(
        turns.ends[0] >= _SHORT_RECORDING for turns in whole.values()
    )
    if len(spoken) > 1 and len(whole) == len(spoken) and len(names) == 1 and telling:
        return [
            stop(None, f"a placeholder: one turn of {min(names)!r} fills each of the {len(whole)} recordings")
        ]
    findings = [
        stop(uri, f"one turn of {turns.labels[0]!r} covers the whole recording: a placeholder")
        for uri, turns in whole.items()
        if str(turns.labels[0]).strip().lower() in _PLACEHOLDER_NAMES and turns.ends[0] >= _LONG_TURN
    ]
    contents = {
        uri: (tuple(np.sort(turns.starts).tolist()), tuple(np.sort(turns.ends).tolist()))
        for uri, turns in spoken.items()
        if len(turns) >= 10  # a handful of round numbers may well be the same
    }
    for content, times in Counter(contents.values()).items():
        if times > 1:
            same = [uri for uri, each in contents.items() if each == content]
            problem = (
                f"{', '.join(same[:3])}: {times} recordings hold the very same turns: a copy of one reference"
            )
            findings.append(stop(None, problem))
    return findings


def _is_whole(
    uri: str,
    turns: Turns,
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None,
    durations: Mapping[str, float],
) -> bool:
    """Whether the reference is a single turn over all that is known of the recording."""
    if len(turns) != 1:
        return False
    start, end = 0.0, float(turns.ends[0])
    if uem is not None:
        start, end = uem[uri].extent()
    elif uri in durations:
        end = durations[uri]
    elif uri in hypotheses and hypotheses[uri]:
        end = hypotheses[uri].get_timeline().extent().end
    return turns.starts[0] <= start + 0.05 and turns.ends[0] >= end - _WHOLE


def _unmatched(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None,
) -> list[Finding]:
    """Names that only one side has, where they would be scored."""
    scored = None if uem is None else uem.keys()
    findings = []
    for one, other, side in ((references, hypotheses, "hypothesis"), (hypotheses, references, "reference")):
        for uri in one.keys() - other.keys():
            if scored is not None and uri not in scored:
                continue
            problem = f"no {side} names it{meant(uri, other, side)}"
            findings.append(Finding(check="unmatched", uri=uri, problem=problem, stops=False))
    if uem is not None:
        for uri in sorted((references.keys() | hypotheses.keys()) - uem.keys()):
            hint = meant(uri, uem, "UEM")
            if hint:
                findings.append(
                    Finding(
                        check="unmatched", uri=uri, problem=f"the UEM does not name it{hint}", stops=False
                    )
                )
    return sorted(findings, key=lambda finding: str(finding.uri))


def meant(uri: str, names: Iterable[str], side: str) -> str:
    """In words, the one of `names` that looks like `uri` but is written differently, or nothing.

    Examples
    --------
    >>> meant("ES2011a.wav", ["ES2011a"], "reference")
    " (the reference has 'ES2011a')"
    """
    names = list(names)
    composed = unicodedata.normalize("NFC", uri)
    for name in names:
        if unicodedata.normalize("NFC", name) == composed:
            return f" (the {side} has {name!r}, whose accents are encoded differently)"
    simple = _simplified(uri)
    close = [name for name in names if _simplified(name) == simple]
    return f" (the {side} has {close[0]!r})" if close else ""


def _simplified(name: str) -> str:
    """A name without what often differs: case, and endings of files or microphones."""
    return unicodedata.normalize("NFC", name).casefold().split(".")[0]

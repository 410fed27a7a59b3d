"""Parity: every frame where two runtimes disagree, why, and what it does to the output.

Where to find what:

- the comparison: `parity` of all recordings calls `compare` for each; `sides` run models or read dumps, which
  `dump_order`, `chunk_order`, `dump_form`, `padding` and `alignment` put in order; `flips`, `statistics` and
  `consequences` count; `results`, `recording_result`, `ranking` and `findings` hold what was found
- why they differ: `diagnosis` and `time_base` read it off the outputs, `unexplained` looks again (`patterns`,
  `feature_relations`, `hypotheses`); `layers` and `worst_layers` go through the stages (`stage_sides`,
  `differences`); `front_end` through the features (`fbank_fit`, `fbank_variants`, `samples`, `heard`)
- whether the answer can be believed: `adequacy`, `guards`, `repeatability`, `length_ladder`, `conditions`
  (`condition_rows`), `strict`
- beside it: `record` writes dumps, `embedding_parity` compares embeddings, `frame_axis` feeds the screen
"""

from __future__ import annotations

from workbench.agreement.compare import ParityParams
from workbench.agreement.consequences import Backend, Consequences
from workbench.agreement.findings import Finding
from workbench.agreement.parity import parity
from workbench.agreement.recording_result import RecordingParity
from workbench.agreement.results import ParityResult

__all__ = [
    "Backend",
    "Consequences",
    "Finding",
    "ParityParams",
    "ParityResult",
    "RecordingParity",
    "parity",
]

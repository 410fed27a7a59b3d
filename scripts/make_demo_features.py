"""data/demo/features: what clustering needs of every demo recording, so that tuning runs without a model.

python scripts/make_demo_features.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from workbench.audio import find_recordings
from workbench.feature_cache import features_for
from workbench.features import save_features

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=ROOT / "data" / "demo" / "features")
    arguments.add_argument("--cache", type=Path, help="folder of features computed before (default: none)")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as fresh:
        cache = options.cache or Path(fresh)
        for uri, audio in find_recordings([ROOT / "data" / "demo"]).items():
            found = features_for(audio, ROOT / "models" / "demo", cache_dir=cache)
            path = options.out / f"{uri}.npz"
            save_features(path, found.features)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

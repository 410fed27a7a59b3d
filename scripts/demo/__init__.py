"""The recipe behind `models/demo` and `data/demo`; `scripts/train_demo.py` runs it."""

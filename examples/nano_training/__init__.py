"""The parts of `train_nano.py` and `evaluate_nano.py`."""

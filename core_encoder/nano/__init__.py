"""The bundled model `nano`: it knows coloured shapes and nothing else; see README.md beside this file.

`examples/train_nano.py` made the weights. `scenes` draws pictures and `captions` writes captions, without torch.
"""

REVISION: str = "b87b0d462b06"  # the first 12 hex digits of the SHA-256 of model.safetensors

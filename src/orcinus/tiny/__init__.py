"""The tiny chat model that ships with the engine.

tools/tiny in the repository trained it.
"""

from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"

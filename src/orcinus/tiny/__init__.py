"""The bundled model: a tiny chat model that ships with the engine, so that it runs at once without a download."""

from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"

"""What transformers computed, by name of the case."""

import json
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "golden" / "transformers"
GOLDENS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}

"""The scripts of `dev/demo` import each other by their plain names, as Python does for a script's own folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[4] / "dev" / "demo"))

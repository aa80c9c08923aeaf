"""The learning rate where the user names none."""

import re
from pathlib import Path

from trimtab_trainer.methods.registry import METHODS

GUIDE = Path(__file__).resolve().parents[4] / "docs" / "training.md"
ROW = re.compile(r"^\| (`\w+`(?:, `\w+`)*) \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)


def test_the_guide_has_the_rates_of_all_methods() -> None:
    said = {
        name.strip("`"): (float(known), float(new))
        for names, known, new in ROW.findall(GUIDE.read_text("utf-8"))
        for name in names.split(", ")
    }
    assert said == {
        name: (method.default_learning_rate(is_head_new=False), method.default_learning_rate(is_head_new=True))
        for name, method in METHODS.items()
    }

"""The example: one saved pipeline indexes pictures, another finds them by a text."""

import re
import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "haystack_pipeline.py"


def test_the_example_indexes_pictures_and_answers_a_text(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    first, *found = capsys.readouterr().out.splitlines()
    asked = first.removeprefix("40 pictures: ")
    assert len(found) == 3
    assert re.fullmatch(rf"  0\.\d\d  {asked}", found[0])

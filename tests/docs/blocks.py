"""The blocks of a page of the documentation.

```python                       runs, after the blocks before it and in the same names
```python title="a/file.py"     is a file
```python run                   is run by tests/clients or tests/engines, with packages of others
```text                         after a block that runs: what it prints
"""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_FENCE = re.compile(
    r"(?P<indent>^ *)```(?P<language>\w+)(?P<options>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of code: its language, the options behind that, its text, the line of the text's start."""

    language: str
    options: str
    text: str
    line: int

    @property
    def title(self) -> str | None:
        found = re.search(r'title="([^"]+)"', self.options)
        return None if found is None else found[1]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    source = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(source):
        indent = fence["indent"]
        found.append(
            Block(
                language=fence["language"],
                options=fence["options"].strip(),
                text=re.sub(f"^{indent}", "", fence["text"], flags=re.MULTILINE),
                line=source.count("\n", 0, fence.start()) + 2,
            )
        )
    return found

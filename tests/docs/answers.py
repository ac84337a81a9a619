"""Writes the answers of the pages' queries anew, from a finished run of the quickstart.

star-rft run quickstart
python -m tests.docs.answers
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from tests.docs.pages import PAGES, blocks
from tests.docs.reader import answers
from tests.docs.shell import run

RUN = Path("runs/quickstart")
FENCED = "```{}\n{}\n```"


def with_answer(text: str, answer: str) -> str:
    """Put an answer in the place of the first one that the text holds."""
    return re.sub(r"```text\n.*?```", lambda _: answer, text, count=1, flags=re.DOTALL)


def main() -> int:
    if not (RUN / "rounds" / "004" / "metrics.json").exists():
        print(f"error: {RUN} is no finished quickstart; call this where it lies", file=sys.stderr)
        return 2
    for page in PAGES:
        text = page.read_text()
        for query, _ in answers(blocks(page)):
            before, fence, after = text.partition(FENCED.format("sql", query.content))
            fresh = FENCED.format("text", asked(shlex.join(["star-rft", "sql", str(RUN), query.content])))
            text = before + fence + with_answer(after, fresh)
        for block in blocks(page):
            first = block.content.partition("\n")[0]
            if block.language == "console" and first.startswith(f"$ star-rft sql {RUN} "):
                fresh = FENCED.format("console", f"{first}\n{asked(first.removeprefix('$ '))}")
                text = text.replace(FENCED.format("console", block.content), fresh)
        page.write_text(text)
    return 0


def asked(command: str) -> str:
    done = run(command, Path.cwd())
    if done.status:
        raise SystemExit(f"{command}\n{done.err}")
    return done.out.rstrip()


if __name__ == "__main__":
    sys.exit(main())

"""The block of keys in pyproject.toml, without which Flower refuses an override: made of the settings, never by hand.

python -m braincl_med.settings.keys pyproject.toml      (`make keys`)
"""

import re
import sys
from pathlib import Path

from braincl_med.foundation.files import write_whole
from braincl_med.settings.loading import flat_keys

DEFAULT = "quick"
"""The experiment that `flwr run .` runs."""
BLOCK = re.compile(r"(?<=\[tool\.flwr\.app\.config\]\n).*?(?=\n\n\[|\Z)", re.DOTALL)


def block() -> str:
    """Every key that may be overridden, with an empty string for "as the experiment's YAML says"."""
    return "\n".join([f'config = "{DEFAULT}"', *(f'{key} = ""' for key in flat_keys())])


def renewed(text: str) -> str:
    """The text of a pyproject.toml with the present keys."""
    return BLOCK.sub(block(), text, count=1)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_whole(path, renewed(path.read_text(encoding="utf-8")).encode(), shared=True)

"""How Sphinx builds this documentation: ``sphinx-build -W docs docs/_build``."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from livesync import __version__  # noqa: E402 - found by the line above

project = "livesync"
author = "the livesync developers"
copyright = author  # noqa: A001 - Sphinx's name
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "livesync_docs"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"livesync {release}"

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autoclass_content = "class"
napoleon_use_ivar = True
napoleon_use_rtype = False

"""Sphinx: the pages of this folder, and the README as the first one, as a site (`make docs`).

The Markdown is the one that is read in the repository; nothing is loaded from elsewhere by the pages.
"""

from importlib import metadata

project = "selfreward"
author = "The selfreward authors"
try:
    release = metadata.version("selfreward")
except metadata.PackageNotFoundError:  # in the environment of `make docs`, which holds Sphinx and no torch
    release = ""
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "selfreward"
html_copy_source = False
html_show_copyright = False
# Links to headings (`page.md#section`), checked like all links within the pages: -W makes a broken one an error.
myst_heading_anchors = 3
nitpicky = True
# Blocks are commands, SQL, YAML and tables alike.
highlight_language = "none"

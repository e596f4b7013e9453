"""How Sphinx builds the documentation: sphinx-build -W -n --keep-going -b html docs docs/_build/html."""

import sys
from pathlib import Path

from debiasctl import __version__

sys.path.insert(0, str(Path(__file__).with_name("_ext")))

project = "debiasctl"
author = "The debiasctl authors"
copyright = f"{author}, Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "reference"]
exclude_patterns = ["_build", "_ext"]
smartquotes = False  # two hyphens begin an option
nitpicky = True
# type variables, and the base of options and settings, and the spec, whose settings are on a page of their own
nitpick_ignore = [
    ("py:class", "debiasctl.files.Found"),
    ("py:class", "debiasctl.python.values.Values"),
    ("py:class", "debiasctl.api.options.Settings"),
    ("py:class", "debiasctl.specs.sections.RunSpec"),
]
nitpick_ignore_regex = [("py:.*", r"(?!debiasctl\.).*")]  # other projects' names: nothing is fetched to look them up

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"debiasctl {__version__}"
html_static_path = ["_static"]
html_extra_path = ["golden/weights.json"]  # at the site's root, so that its address does not change
html_favicon = "_static/favicon.svg"
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r"\$ |> "
copybutton_prompt_is_regexp = True

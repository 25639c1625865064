"""Settings of Sphinx. Build with ``make docs``; pages go to docs/_build/html."""

from pathlib import Path

import si_neuroml

ROOT = Path(__file__).parents[1]

project, author, version = "si_neuroml", "the si_neuroml developers", si_neuroml.__version__
release = version
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py"]
html_theme = "furo"
html_title = f"si_neuroml {version}"

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
autosummary_generate = True
templates_path = ["_templates"]
autodoc_typehints = "none"  # the docstrings say shapes and units
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_preprocess_types = False

sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"[\\/]\d\d_",
    "copyfile_regex": r".*\.rst",
    "show_memory": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
}

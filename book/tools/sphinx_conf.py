"""A conf.py for Sphinx alone, made from _config.yml: the book without Jupyter Book.

Reads those keys that this book uses, and refuses others, so that nothing is dropped in silence.

    python book/tools/sphinx_conf.py _build/sphinx      write _build/sphinx/conf.py
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BANNER = "# Generated from _config.yml by book/tools/sphinx_conf.py.\n"

# What Jupyter Book loads without being asked, less what serves LaTeX, comments and other projects' references.
EXTENSIONS = ["sphinx_togglebutton", "sphinx_copybutton", "myst_nb", "sphinx_thebe", "sphinx_external_toc", "sphinx_design",
              "sphinx_book_theme", "sphinxcontrib.bibtex", "sphinx_multitoc_numbering"]
IGNORED = ["_build", "Thumbs.db", ".DS_Store", "**.ipynb_checkpoints"]

# From a key of _config.yml, with those above it, to Sphinx's name; or, after a dot, to an option of the theme.
NAMES = {
    "title": "html_title", "author": "author", "copyright": "copyright", "logo": "html_logo",
    "exclude_patterns": "exclude_patterns", "only_build_toc_files": "external_toc_exclude_missing",
    "execute.execute_notebooks": "nb_execution_mode",
    "parse.myst_enable_extensions": "myst_enable_extensions", "repository.url": ".repository_url",
    "repository.path_to_book": ".path_to_docs", "repository.branch": ".repository_branch", "launch_buttons": ".launch_buttons",
    "html.favicon": "html_favicon", "html.use_repository_button": ".use_repository_button",
    "html.use_issues_button": ".use_issues_button", "html.home_page_in_navbar": ".home_page_in_toc",
    "html.extra_footer": ".extra_footer", "sphinx.extra_extensions": "extensions", "sphinx.local_extensions": "local_extensions",
    "sphinx.config": "config", "bibtex_bibfiles": "bibtex_bibfiles",
}  # fmt: skip


def renamed(config: dict, above: str = "") -> dict[str, object]:
    """The settings of _config.yml by Sphinx's names. Raises ValueError for a key that this tool does not know."""
    found = {}
    for key, value in config.items():
        name = above + key
        if name in NAMES:
            found[NAMES[name]] = value
        elif isinstance(value, dict) and any(known.startswith(f"{name}.") for known in NAMES):
            found |= renamed(value, f"{name}.")
        else:
            raise ValueError(f"_config.yml: {name!r} is not known to book/tools/sphinx_conf.py; say there what it is for Sphinx")
    return found


def page_files() -> dict[str, list[str]]:
    """What Jupyter Book loads on every page: each style and each script in book/_static."""
    return {f"html_{kind}_files": sorted(path.name for path in (ROOT / "book/_static").glob(f"*.{kind}")) for kind in ("css", "js")}


def settings(config: dict, to_book: str) -> dict[str, object]:
    """What stands in conf.py, by name; ``to_book`` leads from the folder of conf.py to the book, for all paths.

    Raises ValueError for a key of ``config`` that this tool does not know.
    """
    found = renamed(config)
    theme = {name[1:]: found.pop(name) for name in list(found) if name.startswith(".")}
    local = found.pop("local_extensions", {})
    own = found.pop("config", {})
    for name in ("html_logo", "html_favicon"):
        found[name] = f"{to_book}/{found[name]}"
    found["bibtex_bibfiles"] = [f"{to_book}/{name}" for name in found["bibtex_bibfiles"]]
    found["extensions"] = EXTENSIONS + found["extensions"] + list(local)
    found["exclude_patterns"] = IGNORED + found["exclude_patterns"]
    style = {"html_static_path": [f"{to_book}/_static"], "pygments_style": "sphinx"}
    shown = {"html_theme": "sphinx_book_theme", "html_theme_options": {"search_bar_text": "Search this book...", **theme}}
    rest = {"project": found["html_title"], "external_toc_path": "_toc.yml", "html_sourcelink_suffix": ""}
    loaded = {name: own.get(name, []) + files for name, files in page_files().items()}
    return {**found, **style, **shown, **rest, **own, **loaded}


def conf(folder: Path) -> str:
    """The text of a conf.py in ``folder``: settings, and where local extensions lie."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    def to(place: str) -> str:
        return Path(os.path.relpath(ROOT / place, folder)).as_posix()
    places = config["sphinx"]["local_extensions"].values()
    paths = [f"sys.path.append(str(Path(__file__).parent / {to(place)!r}))" for place in places]
    lines = [f"{name} = {value!r}" for name, value in sorted(settings(config, to("book")).items())]
    return BANNER + "\n".join(["import sys", "from pathlib import Path", "", *paths, "", *lines]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder for conf.py, such as _build/sphinx")
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "conf.py").write_text(conf(folder), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Scripts and styles that only some pages load: those on which a directive has left its mark."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes


def add_page_files(app, mark: str, folder: Path, scripts: tuple[str, ...], styles: tuple[str, ...]) -> None:
    """Have the pages whose metadata say ``mark`` load files of ``folder``, and no other pages."""
    def add_folder(app) -> None:
        app.config.html_static_path.append(str(folder))

    def add_files(app, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
        if app.env.metadata.get(page, {}).get(mark):
            for script in scripts:
                app.add_js_file(script, loading_method="defer")
            for style in styles:
                app.add_css_file(style)

    app.connect("builder-inited", add_folder, priority=900)
    app.connect("html-page-context", add_files)

"""What `substrate-jax diff` prints: how two results of one launcher differ."""

from pathlib import Path

from ..common import program


def show(before: str, after: str, page: str | None = None) -> None:
    """Print what differs, and write it whole as a page where a path is given.

    Args:
        before: the --out folder of a run, or its result.json.
        after: likewise.
        page: of a file that ends in .html.

    Raises:
        ValueError: no results, results of two launchers, or a path that is none of a page.
    """
    from substrate_jax.report import difference_page, differences

    if page is not None and not page.endswith((".html", ".htm")):
        raise ValueError(f"page {page!r}: give a name that ends in .html")
    results = [differences.read_result(path) for path in (before, after)]
    found = differences.compare(*results)
    if page is not None:
        from substrate_jax.report.html import render
        from substrate_jax.report.writing import write_file

        made = difference_page.page(found, (before, after), str(results[0]["experiment"]))
        try:
            write_file(Path(page), render(made))
        except OSError as error:
            raise ValueError(f"page {page!r}: {error.strerror}; give another place") from None
    program.show(difference_page.text(found))

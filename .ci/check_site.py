"""Whether the built site is whole: `python .ci/check_site.py site`, after `make docs` has built it.

Every link to a page, a file or a place on a page must lead somewhere, and no page may load anything from
another host. The builder checks what is written in Markdown; this looks at the pages, also those from code.
"""

import html.parser
import pathlib
import sys
import urllib.parse

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(html.parser.HTMLParser):
    """The places of a page, its links, and what it loads."""

    def __init__(self, text: str):
        super().__init__()
        self.places, self.links, self.loads = {""}, [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and given.get(LOADED[tag]) and given.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(given[LOADED[tag]])


def complaints(site: pathlib.Path) -> list[str]:
    """What is wrong, one sentence each."""
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site} has no page"]
    there = {file.resolve(): page for file, page in pages.items()}
    for file, page in pages.items():
        if file.name == "404.html":
            continue  # its links begin at the root of a host
        for link in [*page.links, *page.loads]:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    found.append(f"{file} loads {link}")
                continue
            path = urllib.parse.unquote(parts.path)
            target = (file.parent / path).resolve() if path else file.resolve()
            if not target.is_file():
                found.append(f"{file} links to {link}, which does not exist")
            elif target in there and urllib.parse.unquote(parts.fragment) not in there[target].places:
                found.append(f"{file} links to {link}, a place that the page does not have")
    for style in sorted(site.rglob("*.css")):
        text = style.read_text(encoding="utf-8")
        if any(word in text for word in ("url(http", "url(//", "@import")):
            found.append(f"{style} loads from another host")
    return found


if __name__ == "__main__":
    wrong = complaints(pathlib.Path(sys.argv[1]))
    for sentence in wrong:
        print(sentence)
    sys.exit(bool(wrong))

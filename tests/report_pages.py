"""What a page of `verl report` holds, for the tests of it."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a page loads, runs and says."""

    def __init__(self, source: str):
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        about = dict(attrs)
        self.tags.append(tag)
        self.links += [about[name] for name in ("src", "href", "xlink:href", "srcset", "data") if name in about]
        self.ids += [about["id"]] if "id" in about else []
        self.titles += [about["title"]] if "title" in about else []
        assert not [name for name in about if name.startswith("on")]

    def handle_data(self, data):
        self.text += data

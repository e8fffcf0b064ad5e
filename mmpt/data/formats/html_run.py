"""Text that grows piece by piece, with its line breaks, and with the marks of the lists and quotations in which it stands."""


class Run:
    """A run of text. `tabs` go before the next piece where no line break does."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._breaks = self.tabs = 0
        self._open: list[list[str]] = []  # what stands before the next line, and before those after it, outermost first
        self._common = 0  # how many of them the last text stood in too

    def push(self, first: str, rest: str) -> None:
        """From here `first` stands before the first line, whatever blocks that lies in, and `rest` before each other one."""
        self._open.append([first, rest])

    def pop(self) -> None:
        """The end of the last `push`. A `first` that no text followed is not written."""
        self._open.pop()
        self._common = min(self._common, len(self._open))

    def add(self, text: str) -> None:
        """Text whose runs of spaces are one space each: none at the beginning of a line, none after another."""
        at_space = self._breaks or self.tabs or self._marked or not self._pieces or self._pieces[-1][-1].isspace()
        self.add_verbatim(text.removeprefix(" ") if at_space else text)

    def add_verbatim(self, text: str) -> None:
        if not text:
            return
        begins = self._breaks or self._marked
        if self._pieces and (self._breaks or self.tabs):
            self._trim()
            # An empty line carries the marks of what both texts stand in: a quotation goes on over it, two of them stay two.
            blank = "".join(rest for _, rest in self._open[: self._common]).rstrip()
            self._pieces.append("\n" + (blank + "\n") * (self._breaks - 1) if self._breaks else "\t" * self.tabs)
        elif self._pieces and self._marked:
            self._pieces.append("\n")
        if begins and self._open:
            self._pieces.append("".join(first for first, _ in self._open))
            for one in self._open:  # the mark of an item stands once, before its first line
                one[0] = one[1]
        self._breaks = self.tabs = 0
        self._common = len(self._open)
        self._pieces.append(self._indented(text) if self._open and "\n" in text else text)

    def line(self) -> None:
        """A line break; no more than one line stays empty."""
        self._breaks = min(2, self._breaks + 1)

    def block(self, breaks: int) -> None:
        """At least so many line breaks before what follows, if it is not the first thing after a mark."""
        if not self._marked:  # a paragraph right after a bullet begins on the bullet's line
            self._breaks = max(self._breaks, breaks)

    def take(self) -> str:
        """The text so far, without empty lines at either end. What follows begins anew, in the same lists and quotations."""
        text = "".join(self._pieces).rstrip()
        self._pieces, self._breaks, self.tabs = [], 0, 0
        return text.lstrip("\n")

    @property
    def _marked(self) -> bool:
        return any(first != rest for first, rest in self._open)

    def _indented(self, text: str) -> str:
        start = "".join(rest for _, rest in self._open)
        first, *others = text.split("\n")
        return "\n".join([first, *(start + line if line.strip() else (start + line).rstrip() for line in others)])

    def _trim(self) -> None:
        last = ""
        while self._pieces and not last:
            last = self._pieces.pop().rstrip()
        if last:
            self._pieces.append(last)

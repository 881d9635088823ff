#!/usr/bin/env python3
"""Turns screens of a terminal, as `tmux capture-pane -e -p` prints them, into an SVG picture; several screens
become a recording that repeats.

  terminal_svg.py OUT.svg COLUMNS LINES FILE              a picture
  terminal_svg.py OUT.svg COLUMNS LINES FILE:SECONDS...   a recording: each screen and how long it is shown
"""

import re
import sys
import unicodedata
from html import escape
from pathlib import Path

WIDTH, HEIGHT, SIZE, MARGIN, BAR = 8.4, 18, 14, 14, 30
PAPER, INK = "#16181d", "#d7dae0"
BASIC = ["#3b3f4a", "#e8716b", "#86c28b", "#dcb86a", "#6fa8dc", "#c08ad8", "#6cc4c4", "#d7dae0"]
BRIGHT = ["#7a8090", "#ff8f88", "#a3dba7", "#f0d28a", "#92c3f0", "#d8a8ec", "#8fdede", "#ffffff"]


class Style:
    """What SGR sequences have switched on."""

    def __init__(self):
        self.ink = self.paper = None
        self.bold = self.dim = self.reverse = self.underline = False

    def colours(self):
        ink, paper = self.ink or INK, self.paper
        return (paper or PAPER, ink) if self.reverse else (ink, paper)

    def apply(self, codes):
        codes = list(codes) or [0]
        while codes:
            code = codes.pop(0)
            if code == 0:
                self.__init__()
            elif code in (1, 2, 4, 7):
                setattr(self, {1: "bold", 2: "dim", 4: "underline", 7: "reverse"}[code], True)
            elif code == 22:
                self.bold = self.dim = False
            elif code in (24, 27):
                setattr(self, {24: "underline", 27: "reverse"}[code], False)
            elif code in (38, 48):
                colour = extended(codes)
                setattr(self, "ink" if code == 38 else "paper", colour)
            elif code in (39, 49):
                setattr(self, "ink" if code == 39 else "paper", None)
            elif code // 10 in (3, 4, 9, 10) and code % 10 < 8:
                table = BASIC if code < 90 else BRIGHT
                setattr(self, "ink" if code // 10 in (3, 9) else "paper", table[code % 10])


def extended(codes):
    """38;5;N or 38;2;R;G;B, without its first number."""
    if codes.pop(0) == 2:
        red, green, blue = codes.pop(0), codes.pop(0), codes.pop(0)
        return f"#{red:02x}{green:02x}{blue:02x}"
    index = codes.pop(0)
    if index < 16:
        return (BASIC + BRIGHT)[index]
    if index >= 232:
        return f"#{(index - 232) * 10 + 8:02x}" + f"{(index - 232) * 10 + 8:02x}" * 2
    steps = [0, 95, 135, 175, 215, 255]
    index -= 16
    return "#" + "".join(f"{steps[part]:02x}" for part in (index // 36, index // 6 % 6, index % 6))


def runs(line):
    """(column, columns, text, style as SVG, paper) of each stretch of equal style."""
    style, column, found = Style(), 0, []
    for text in re.split(r"(\x1b\[[0-9;:]*m|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x0e|\x0f)", line):
        if text.startswith("\x1b["):
            style.apply(int(code or 0) for code in re.split("[;:]", text[2:-1]))
        elif text and text[0] not in "\x1b\x0e\x0f":
            width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
            ink, paper = style.colours()
            more = ' font-weight="bold"' * style.bold + ' opacity=".6"' * style.dim
            more += ' text-decoration="underline"' * style.underline
            found.append((column, width, text, f'fill="{ink}"{more}', paper))
            column += width
    return found


def screen(text, lines):
    out = []
    for row, line in enumerate(text.split("\n")[:lines]):
        top = MARGIN + BAR + row * HEIGHT
        for column, width, words, style, paper in runs(line):
            x, length = MARGIN + column * WIDTH, width * WIDTH
            if paper:
                out.append(f'<rect x="{x:.1f}" y="{top}" width="{length:.1f}" height="{HEIGHT}" fill="{paper}"/>')
            if words.strip():
                # Blanks at either end take no part, so that the words keep their columns with any font.
                start = x + (len(words) - len(words.lstrip())) * WIDTH
                length -= (len(words) - len(words.strip())) * WIDTH
                out.append(
                    f'<text x="{start:.1f}" y="{top + 13}" textLength="{length:.1f}" {style}>'
                    f"{escape(words.strip())}</text>"
                )
    return "".join(out)


def picture(columns, lines, screens):
    width, height = columns * WIDTH + 2 * MARGIN, lines * HEIGHT + 2 * MARGIN + BAR
    style, body = "", ""
    if len(screens) == 1:
        body = screen(screens[0][0], lines)
    else:
        whole, begun = sum(seconds for _, seconds in screens), 0.0
        for at, (text, seconds) in enumerate(screens):
            start, end = 100 * begun / whole, 100 * (begun + seconds) / whole
            before = "0%{visibility:hidden}" if at else ""
            after = f"{end:.2f}%,100%{{visibility:hidden}}" if at + 1 < len(screens) else ""
            style += f"@keyframes s{at}{{{before}{start:.2f}%{{visibility:visible}}{after}}}"
            style += f"#s{at}{{visibility:hidden;animation:s{at} {whole:.1f}s step-end infinite}}"
            body += f'<g id="s{at}">{screen(text, lines)}</g>'
            begun += seconds
        # A picture for those who want no movement.
        still = f"#s{len(screens) // 2}{{visibility:visible!important}}"
        style += "@media (prefers-reduced-motion){g{animation:none!important}" + still + "}"
    dots = "".join(
        f'<circle cx="{MARGIN + 6 + 18 * at}" cy="18" r="5.5" fill="{colour}"/>'
        for at, colour in enumerate([BASIC[1], BASIC[3], BASIC[2]])
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><style>text{{white-space:pre;font:{SIZE}px ui-monospace,'
        f'SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace}}{style}</style>'
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>{dots}{body}</svg>\n'
    )


def main(out, columns, lines, *files):
    screens = []
    for file in files:
        path, _, seconds = file.partition(":")
        screens.append((Path(path).read_text(), float(seconds or 1)))
    Path(out).write_text(picture(int(columns), int(lines), screens))


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])

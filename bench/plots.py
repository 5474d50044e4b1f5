# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG, drawn by hand: a bar or a mark for each contestant, with its whole spread. No library is needed."""

import math
from xml.sax.saxutils import escape

COLOURS = {"ours": "#1f77b4", "variant": "#9ecae1", "peer": "#8c8c8c", "floor": "#2ca02c"}
LEFT, WIDTH, ROW = 190, 520, 24


def _svg(height, body):
    width = LEFT + WIDTH + 170
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
            ' font-family="sans-serif" font-size="12">\n'
            f'<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n")


def _text(x, y, words, anchor="start", extra=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" {extra}>{escape(words)}</text>'


def _figure(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


class _LogScale:
    def __init__(self, values):
        values = [value for value in values if value > 0] or [1]
        self.low, self.high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        if self.low == self.high:
            self.high += 1

    def x(self, value):
        value = max(value, 10.0 ** self.low)
        return LEFT + WIDTH * (math.log10(value) - self.low) / (self.high - self.low)

    def grid(self, bottom):
        for power in range(self.low, self.high + 1):
            x = self.x(10.0 ** power)
            yield f'<line x1="{x:.0f}" y1="34" x2="{x:.0f}" y2="{bottom}" stroke="#ddd"/>'
            yield _text(x, bottom + 14, _figure(10.0 ** power), "middle", 'fill="#666"')


def case(result):
    """One case: the median of each contestant as a bar, minimum to maximum as a whisker, on a logarithmic scale."""
    rows = result["contestants"]
    scale = _LogScale([row["value"][key] for row in rows for key in ("min", "median", "max")])
    bottom = 40 + ROW * len(rows)
    better = "less" if result["lower_is_better"] else "more"
    body = [_text(10, 20, f"{result['title']} ({result['unit']}, {better} is better)", extra='font-weight="bold"')]
    body += scale.grid(bottom)
    for number, row in enumerate(rows):
        top = 40 + ROW * number
        value, end = row["value"], scale.x(row["value"]["median"])
        body.append(_text(LEFT - 8, top + 14, row["name"], "end"))
        body.append(f'<rect x="{LEFT}" y="{top + 3}" width="{max(end - LEFT, 1):.1f}" height="{ROW - 8}"'
                    f' fill="{COLOURS[row["kind"]]}"/>')
        body.append(f'<line x1="{scale.x(value["min"]):.1f}" x2="{scale.x(value["max"]):.1f}" y1="{top + 11}"'
                    f' y2="{top + 11}" stroke="black"/>')
        body.append(_text(scale.x(value["max"]) + 6, top + 15, _figure(value["median"])))
    return _svg(bottom + 24, body)


def overview(results):
    """All cases: how many times better ours is than each of the others, round by round. Right of 1 is better."""
    marks = []
    for result in results:
        for row in result["contestants"]:
            ratio = row["ours_to_this"]
            if row["kind"] not in ("peer", "floor") or ratio["min"] <= 0:
                continue
            times = [1 / ratio[key] if result["lower_is_better"] else ratio[key] for key in ("min", "median", "max")]
            marks.append((result["case"], row["kind"], row["name"], sorted(times)))
    scale = _LogScale([time for mark in marks for time in mark[3]] + [1])
    lines = list(dict.fromkeys(mark[0] for mark in marks))
    height = {name: 8 + 13 * sum(mark[0] == name for mark in marks) for name in lines}
    bottom = 40 + sum(height.values())
    body = [_text(10, 20, "How many times better than each peer (grey) and floor (green); more is better",
                  extra='font-weight="bold"')]
    body += scale.grid(bottom)
    one = scale.x(1)
    body.append(f'<line x1="{one:.0f}" y1="34" x2="{one:.0f}" y2="{bottom}" stroke="#d62728"/>')
    top = 40
    for name in lines:
        body.append(_text(LEFT - 8, top + 14, name, "end"))
        y = top + 10
        for _, kind, other, times in (mark for mark in marks if mark[0] == name):
            colour = COLOURS[kind]
            body.append(f'<line x1="{scale.x(times[0]):.1f}" x2="{scale.x(times[2]):.1f}" y1="{y}" y2="{y}" stroke="{colour}"/>')
            body.append(f'<circle cx="{scale.x(times[1]):.1f}" cy="{y}" r="4" fill="{colour}"/>')
            body.append(_text(scale.x(times[2]) + 6, y + 4, f"{other} {_figure(times[1])}", extra='font-size="10" fill="#444"'))
            y += 13
        top += height[name]
    return _svg(bottom + 24, body)

"""Charts as inline SVG: two axes, and marks between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

INK, GRID = "#4b5563", "#e5e7eb"
MARGIN = (12, 14, 46, 58)
"""Top, right, bottom, left of the plotting area, px."""


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high` with a label; logarithmic where `log`."""

    low: float
    high: float
    label: str
    log: bool = False

    @staticmethod
    def over(values, label: str, log: bool = False, pad: float = 0.05) -> "Axis":
        """The axis that just holds the finite (and, where `log`, positive) ones of some values."""
        v = np.asarray(values, float).ravel()
        v = v[np.isfinite(v) & ((v > 0) | (not log))]
        low, high = (v.min(), v.max()) if len(v) else (0.1, 1.0) if log else (0.0, 1.0)
        if log:
            room = max((high / low) ** pad, 1.2)
            return Axis(low / room, high * room, label, log)
        room = pad * (high - low) or max(abs(high), 1.0) * pad
        return Axis(low - room, high + room, label, log)

    def holds(self, values) -> np.ndarray:
        """Which values can be drawn."""
        v = np.asarray(values, float)
        return np.isfinite(v) & (v >= self.low) & (v <= self.high)

    def place(self, values) -> np.ndarray:
        """Fractions of the axis, 0 at `low` and 1 at `high`."""
        v, low, high = np.asarray(values, float), self.low, self.high
        if self.log:
            v, low, high = np.log(v), np.log(low), np.log(high)
        return np.asarray((v - low) / (high - low))

    def ticks(self) -> list[float]:
        """Round values, about five."""
        if self.log:
            powers = 10.0 ** np.arange(np.floor(np.log10(self.low)), np.log10(self.high) + 1)
            for steps in ((1,), (1, 3), (1, 2, 5)):
                marks = [float(f"{p * s:.3g}") for p in powers for s in steps]
                marks = [m for m in marks if self.low <= m <= self.high]
                if len(marks) >= 3:
                    break
            return marks
        rough = (self.high - self.low) / 5
        power = 10.0 ** np.floor(np.log10(rough))
        step = power * min((1, 2, 5, 10), key=lambda s: abs(np.log(s * power / rough)))
        first = np.ceil(self.low / step)
        count = int(np.floor(self.high / step) - first) + 1
        return [float(f"{(first + i) * step:.6g}") for i in range(count)]


@dataclass
class Chart:
    """A chart under construction; `svg` draws what was added."""

    x: Axis
    y: Axis
    title: str
    width: int = 520
    height: int = 330
    marks: list[Markup] = field(default_factory=list)
    legend: list[Markup] = field(default_factory=list)

    def points(self, x, y, colour: str, name: str = "", size: float = 4.5, opacity: float = 0.6):
        """Dots; those off the axes are left out."""
        keep = self.x.holds(x) & self.y.holds(y)
        path = "".join(
            f"M{a:.1f} {b:.1f}h0" for a, b in self._pixels(np.asarray(x)[keep], np.asarray(y)[keep])
        )
        self._add(
            '<path d="{}" fill="none" stroke="{}" stroke-width="{}" stroke-linecap="round" '
            'stroke-opacity="{}"/>',
            path, colour, size, opacity,
        )  # fmt: skip
        self._name("dot", colour, name)

    def line(self, x, y, colour: str, name: str = "", dash: str = "", width: float = 1.8):
        """A polyline, cut at the axes' ends."""
        inside = np.isfinite(x) & np.isfinite(y)
        path = " ".join(
            f"{a:.1f},{b:.1f}"
            for a, b in self._pixels(np.asarray(x)[inside], np.asarray(y)[inside])
        )
        self._add(
            '<polyline points="{}" fill="none" stroke="{}" stroke-width="{}" '
            'stroke-dasharray="{}" clip-path="url(#area)"/>',
            path, colour, width, dash,
        )  # fmt: skip
        self._name("dash" if dash else "line", colour, name)

    def diamonds(self, x, y, colour: str, name: str = "", filled: bool = True):
        """Larger marks."""
        keep = self.x.holds(x) & self.y.holds(y)
        for a, b in self._pixels(np.asarray(x)[keep], np.asarray(y)[keep]):
            self._add(
                '<path d="M{:.1f} {:.1f}l6 6l-6 6l-6 -6z" fill="{}" stroke="{}" '
                'stroke-width="1.8"/>',
                a, b - 6, colour if filled else "#fff", colour,
            )  # fmt: skip
        self._name("diamond" if filled else "diamond hollow", colour, name)

    def band(self, x, low, high, colour: str, opacity: float = 0.75):
        """The area between two curves."""
        there = [*self._pixels(x, high), *self._pixels(x, low)[::-1]]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in there)
        self._add('<polygon points="{}" fill="{}" fill-opacity="{}"/>', path, colour, opacity)

    def across(self, y: float, colour: str, name: str = "", dash: str = "6 4"):
        """A level over the whole width."""
        self.line([self.x.low, self.x.high], [y, y], colour, name, dash, 1.5)

    def upright(self, x: float, colour: str, name: str = "", dash: str = "6 4"):
        """A line over the whole height."""
        self.line([x, x], [self.y.low, self.y.high], colour, name, dash, 1.5)

    def text(self, x: float, y: float, words: str, anchor: str = "start", colour: str = INK):
        """Words at a place in the axes' units."""
        (a, b) = self._pixels([x], [y])[0]
        self._add(
            '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}">{}</text>',
            a, b, anchor, colour, words,
        )  # fmt: skip

    def svg(self, values: bool = True) -> Markup:
        """The legend and the drawing; the y axis has no values where `values` is False."""
        top, right, bottom, left = MARGIN
        w, h = self.width - left - right, self.height - top - bottom
        frame = [Markup('<g class="grid">')]
        for tick in self.x.ticks():
            a = left + w * float(self.x.place(tick))
            frame.append(_TICK_X.format(a, top, a, top + h, a, top + h + 17, f"{tick:g}"))
        for tick in self.y.ticks() if values else []:
            b = top + h * (1 - float(self.y.place(tick)))
            frame.append(_TICK_Y.format(left, b, left + w, b, left - 7, b + 4, f"{tick:g}"))
        frame.append(Markup("</g>"))
        frame.append(_LABEL_X.format(left + w / 2, self.height - 8, self.x.label))
        frame.append(_LABEL_Y.format(14, top + h / 2, 14, top + h / 2, self.y.label))
        name = "area-" + "".join(filter(str.isalnum, self.title))
        body = Markup("").join(self.marks).replace("url(#area)", f"url(#{name})")
        return _SVG.format(
            legend=Markup("").join(self.legend), width=self.width, height=self.height,
            title=self.title, name=name, left=left, top=top, w=w, h=h,
            frame=Markup("").join(frame), body=Markup(body),
        )  # fmt: skip

    def _pixels(self, x, y) -> np.ndarray:
        """(m, 2) px"""
        top, right, bottom, left = MARGIN
        w, h = self.width - left - right, self.height - top - bottom
        return np.stack([left + w * self.x.place(x), top + h * (1 - self.y.place(y))], axis=-1)

    def _add(self, markup: str, *values: object):
        self.marks.append(Markup(markup).format(*values))

    def _name(self, kind: str, colour: str, name: str):
        if name:
            self.legend.append(
                Markup('<span><i class="{}" style="color:{}"></i>{}</span>').format(
                    kind, colour, name
                )
            )


def bars(parts: Sequence[tuple[str, float, str, str]]) -> Markup:
    """One bar split into parts, with a legend: (name, size, size in words, colour) of each."""
    whole = sum(size for _, size, _, _ in parts) or 1.0
    bar = Markup("").join(
        Markup('<b style="width:{:.2f}%;background:{}" title="{}: {}"></b>').format(
            100 * size / whole, colour, name, words
        )
        for name, size, words, colour in parts
    )
    names = Markup("").join(
        Markup('<span><i class="block" style="color:{}"></i>{} <em>{}</em></span>').format(
            colour, name, words
        )
        for name, _, words, colour in parts
    )
    return Markup('<div class="bar">{}</div><div class="legend">{}</div>').format(bar, names)


_TICK_X = Markup(
    '<line x1="{:.1f}" y1="{}" x2="{:.1f}" y2="{}"/>'
    '<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
)
_TICK_Y = Markup(
    '<line x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>'
    '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
)
_LABEL_X = Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>')
_LABEL_Y = Markup(
    '<text class="label" x="{}" y="{}" text-anchor="middle" transform="rotate(-90 {} {})">{}</text>'
)
_SVG = Markup(
    '<div class="legend">{legend}</div>'
    '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}"><title>{title}</title>'
    '<defs><clipPath id="{name}"><rect x="{left}" y="{top}" width="{w}" height="{h}"/></clipPath>'
    "</defs>{frame}{body}"
    '<rect class="frame" x="{left}" y="{top}" width="{w}" height="{h}"/></svg>'
)

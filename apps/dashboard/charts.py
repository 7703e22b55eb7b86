"""The charts: colours that colour-blind readers tell apart, numbers where colours alone would not do.

Each says what it shows (`description`), which a browser hands to whoever has pages read aloud.
"""

import json
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

Drawing = alt.LayerChart | alt.FacetChart
MOST_NUMBERS = 14
MOST_LABELS = 40
"""Labels side by side along an axis that a page is wide enough for."""
BLUES, REDS = ["#eef4fb", "#08519c"], ["#fdf6f1", "#b23c00"]
BLUES_ON_DARK, REDS_ON_DARK = ["#11202f", "#8ec2f5"], ["#2b1a11", "#ff9d66"]
STRONG = 0.7
"""From which share on a cell is so dark that white is read better on it than black; on a dark page the reverse."""
INK, INK_ON_DARK = "#000000", "#f2f2f2"
"""Of words and lines beside the data, by the page's theme; contrast to its background is above 15 : 1."""
# Okabe & Ito's colours; the last two only where there are that many curves.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", INK, "#8C6D31"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4], [4, 6], [12, 3, 2, 3, 2, 3], [1, 4]]
SHARES: dict[str, Any] = {"format": ".0%", "tickCount": 5}
LABEL: dict[str, Any] = {
    "labelFlush": False,
    "labelLimit": 330,
    "labelFontSize": 12,
    "titleFontSize": 13,
    "titlePadding": 10,
}


def curves(frame: pd.DataFrame, x: str, y: str, name: str, names: list[str], x_title: str, y_title: str) -> Drawing:
    """One curve a value of column `name`, in the order of `names`; `x` holds the ordered steps, `y` shares of 1.

    Colours and dashes both tell the curves apart, each for eight of them and their pairs for all.
    """
    steps, found = list(dict.fromkeys(frame[x])), [n for n in names if n in set(frame[name])]
    shown = alt.Chart(frame).encode(
        x=alt.X(
            f"{x}:N",
            sort=steps,
            title=x_title,
            axis=alt.Axis(labelAngle=_angle(steps), labelOverlap=False, values=_labelled(steps), **LABEL),
        ),
        y=alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(**SHARES, **LABEL)),
        tooltip=[
            alt.Tooltip(f"{x}:N", title=x_title),
            alt.Tooltip(f"{name}:N", title=" "),
            alt.Tooltip(f"{y}:Q", title=y_title, format=".1%"),
        ],
    )
    lines = shown.mark_line(strokeWidth=2.5).encode(
        stroke=_strokes(name, found, PALETTE), strokeDash=_dashes(name, found)
    )
    points = shown.mark_point(strokeWidth=0, size=90, opacity=1).encode(fill=_fills(name, found, PALETTE))
    said = f"{y_title} by {x_title}, curves: {_listed(found)}"
    return alt.layer(lines, points).properties(height=420, description=said)


def heatmap(
    frame: pd.DataFrame,
    x: str,
    y: str,
    value: str,
    text: str,
    x_title: str,
    y_title: str | None,
    right: str | None = None,
) -> Drawing:
    """Cells of shares of 1, each with the words of column `text` written in it while they can be read.

    Where they cannot, cells of which column `right` is false have colours of their own, up to the largest share among
    them: mistakes over many classes are small shares, which one scale for all would leave as pale as none.
    """
    columns, rows = list(dict.fromkeys(frame[x])), list(dict.fromkeys(frame[y]))
    readable = len(columns) <= MOST_NUMBERS
    angle = _angle(columns)
    above = alt.Axis(orient="top", labelAngle=angle, labelOverlap=False, values=_labelled(columns), **LABEL)
    dark = ink() == INK_ON_DARK
    blues, reds = (BLUES_ON_DARK, REDS_ON_DARK) if dark else (BLUES, REDS)
    cells = alt.Chart(frame).encode(
        x=alt.X(f"{x}:N", sort=columns, scale=alt.Scale(domain=columns), title=x_title, axis=above),
        y=alt.Y(
            f"{y}:N",
            sort=rows,
            scale=alt.Scale(domain=rows),
            title=y_title,
            axis=alt.Axis(labelOverlap=False, **LABEL),
        ),
        tooltip=[alt.Tooltip(f"{of}:N", title=title) for of, title in ((y, y), (x, x), (text, " "))],
    )

    def boxes(of: alt.Chart, colours: list[str], largest: float, title: str | None = None) -> alt.Chart:
        drawn: alt.Chart = of.mark_rect(stroke="black" if dark else "white", strokeWidth=1).encode(
            color=alt.Color(
                f"{value}:Q",
                scale=alt.Scale(range=colours, domain=[0, largest]),
                legend=None if readable else alt.Legend(title=title, format=".0%", gradientLength=160),
            )
        )
        return drawn

    around = 70 if angle == 0 else 190
    said = f"Table of shares: {y}, rows, by {x}, columns; {len(rows)} by {len(columns)}, the stronger the more"
    if not readable and right is not None and not frame[right].all():
        wrong = float(frame.loc[~frame[right], value].max()) or 1.0
        found = boxes(cells.transform_filter(f"datum.{right}"), blues, 1.0, "right")
        missed = boxes(cells.transform_filter(f"!datum.{right}"), reds, wrong, "mistaken")
        both: Drawing = alt.layer(found, missed).resolve_scale(color="independent")
        return both.properties(height=18 * len(rows) + around, description=said)
    if not readable:
        return alt.layer(boxes(cells, blues, 1.0)).properties(height=18 * len(rows) + around, description=said)
    words = cells.mark_text(fontSize=13).encode(
        text=f"{text}:N",
        color=alt.condition(alt.datum[value] > STRONG, *map(alt.value, (INK, INK_ON_DARK)[:: 1 if dark else -1])),
    )
    return alt.layer(boxes(cells, blues, 1.0), words).properties(height=52 * len(rows) + around, description=said)


def intervals(frame: pd.DataFrame, name: str, x_title: str) -> Drawing:
    """A point and its interval a row: columns `name`, `share`, `low`, `high`, and `text` beside the interval."""
    found = list(dict.fromkeys(frame[name]))
    base = alt.Chart(frame).encode(
        y=alt.Y(f"{name}:N", sort=found, title=None, axis=alt.Axis(**LABEL)),
        tooltip=[
            alt.Tooltip(f"{name}:N", title=" "),
            alt.Tooltip("share:Q", title=x_title, format=".1%"),
            alt.Tooltip("low:Q", title="from", format=".1%"),
            alt.Tooltip("high:Q", title="to", format=".1%"),
            alt.Tooltip("text:N", title="scans"),
        ],
    )
    axis = alt.Axis(**SHARES, **LABEL)
    scale = alt.Scale(domain=[0, 1])
    rules = base.mark_rule(strokeWidth=3, color=PALETTE[4]).encode(
        x=alt.X("low:Q", title=x_title, scale=scale, axis=axis), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=110, color=PALETTE[0], opacity=1).encode(
        x=alt.X("share:Q", scale=scale)
    )
    words = base.mark_text(align="left", dx=10, fontSize=12, color=ink()).encode(
        x=alt.X("high:Q", scale=scale), text="text:N"
    )
    said = f"{x_title}, each a point with its interval: {_listed(found)}"
    drawn = alt.layer(rules, points, words)
    return drawn.properties(height=36 * len(found) + 60, padding={"right": 70}, description=said)


def stacked_bars(
    frame: pd.DataFrame, name: str, amount: str, part: str, x_title: str, text: str, height: int = 46
) -> Drawing:
    """One bar a value of column `name`, made of the amounts of each `part`; `text` holds amounts with units."""
    found, parts = list(dict.fromkeys(frame[name])), list(dict.fromkeys(frame[part]))
    bars = (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            y=alt.Y(f"{name}:N", sort=found, title=None, axis=alt.Axis(**LABEL)),
            x=alt.X(f"{amount}:Q", title=x_title, axis=alt.Axis(tickCount=6, **LABEL)),
            order=alt.Order("order:Q"),
            color=alt.Color(
                f"{part}:N",
                sort=parts,
                scale=alt.Scale(domain=parts, range=_colours(PALETTE, parts)),
                legend=alt.Legend(title=None, orient="bottom", labelLimit=320, labelFontSize=12),
            ),
            tooltip=[
                alt.Tooltip(f"{name}:N", title=" "),
                alt.Tooltip(f"{part}:N", title="part"),
                alt.Tooltip(f"{text}:N", title="amount"),
            ],
        )
        .transform_calculate(order=f"indexof({parts!r}, datum['{part}'])")
    )
    said = f"Bars of {x_title}: {_listed(found)}; parts: {_listed(parts)}"
    return alt.layer(bars).properties(height=height * len(found) + 90, description=said)


def densities(frame: pd.DataFrame, threshold: int, ticks: dict[int, str], x_title: str) -> Drawing:
    """Histograms as steps, and a rule at the threshold.

    Args:
        frame: columns `bin`, `share` of the group's scans, and `group`.
        threshold: a bin.
        ticks: what stands at the axis, by bin; bins need not be of one width.
        x_title: of the axis.
    """
    groups = list(dict.fromkeys(frame["group"]))
    axis = alt.Axis(grid=False, values=list(ticks), labelExpr=f"({json.dumps(ticks)})[datum.value]", **LABEL)
    shown = alt.Chart(frame).encode(
        x=alt.X("bin:Q", title=x_title, scale=alt.Scale(nice=False, zero=False), axis=axis),
        y=alt.Y("share:Q", title="Share of the group's scans", stack=None, axis=alt.Axis(**SHARES, **LABEL)),
        tooltip=[alt.Tooltip("group:N", title=" "), alt.Tooltip("share:Q", title="share", format=".1%")],
    )
    palette = [PALETTE[i] for i in (0, 3, 5, 1)]
    areas = shown.mark_area(interpolate="step-after", opacity=0.1).encode(fill=_fills("group", groups, palette))
    lines = shown.mark_line(interpolate="step-after", strokeWidth=2.5).encode(
        stroke=_strokes("group", groups, palette), strokeDash=_dashes("group", groups)
    )
    at = alt.Chart(pd.DataFrame({"bin": [threshold], "label": ["threshold"]}))
    rule = at.mark_rule(color=ink(), strokeWidth=2).encode(x="bin:Q")
    words = at.mark_text(align="left", dx=6, fontSize=12, color=ink()).encode(
        x="bin:Q", y=alt.value(-8), text="label:N"
    )
    # The layer with the legend comes first: the first one decides whether there is any.
    said = f"Histograms over {x_title}, a rule at the threshold: {_listed(groups)}"
    return alt.layer(lines, areas, rule, words).properties(height=460, description=said)


def ink() -> str:
    """The colour of words and lines that reads on the page's background, which follows the reader's system."""
    return INK_ON_DARK if st.context.theme.type == "dark" else INK


def _listed(names: list[str]) -> str:
    """Names as a sentence has them; of many their number."""
    return ", ".join(names) if len(names) <= MOST_NUMBERS else f"{len(names)} of them"


def _fills(name: str, found: list[str], palette: list[str]) -> alt.Fill:
    # A channel of its own, so that the legend shows the strokes alone.
    return alt.Fill(f"{name}:N", scale=alt.Scale(domain=found, range=_colours(palette, found)), legend=None)


def _strokes(name: str, found: list[str], palette: list[str]) -> alt.Stroke:
    return alt.Stroke(
        f"{name}:N", sort=found, scale=alt.Scale(domain=found, range=_colours(palette, found)), legend=_legend(found)
    )


def _dashes(name: str, found: list[str]) -> alt.StrokeDash:
    # The same domain and legend as the strokes', so that one legend shows both.
    return alt.StrokeDash(
        f"{name}:N", sort=found, scale=alt.Scale(domain=found, range=_looks(DASHES, found, 1)), legend=_legend(found)
    )


def _legend(found: list[str]) -> alt.Legend:
    columns = max(1, min(4, 100 // max(map(len, found), default=1)))
    return alt.Legend(
        title=None,
        orient="bottom",
        columns=columns,
        labelLimit=420,
        labelFontSize=12,
        symbolType="stroke",
        symbolSize=500,
        symbolStrokeWidth=3,
    )


def _colours(palette: list[str], found: list[str]) -> list[str]:
    return [ink() if colour == INK else colour for colour in _looks(palette, found)]


def _looks(choices: list[Any], found: list[str], shift: int = 0) -> list[Any]:
    """One of `choices` for each of `found`; after each turn the choices begin `shift` later."""
    turns = len(choices)
    return [choices[(i + shift * (i // turns)) % turns] for i in range(len(found))]


def _labelled(labels: list[str]) -> list[str]:
    """Every label, or every k-th of those that would overlap."""
    return labels[:: -(-len(labels) // MOST_LABELS)] if labels else []


def _angle(labels: list[str]) -> int:
    """Level while the labels fit beside each other, else slanted."""
    return 0 if max(map(len, labels), default=0) * len(labels) <= 110 else -35

"""A picture of how a death becomes known: the share of the others that know, against the seconds since."""

from collections.abc import Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

from mesh.simulation.experiment import Outcome, curves

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 44, 44
FONT = "font-family='sans-serif' font-size='12'"

Curve = Sequence[tuple[float, float]]


def svg(outcome: Outcome) -> str:
    """One step line for each kill, the first suspicions as dots on the axis. Raises ValueError without a kill."""
    lines = curves(outcome.deaths)
    if not lines:
        raise ValueError("nothing to draw: no node was killed")
    until = 1.05 * max(line[-1][0] for line in lines)
    suspected = [death.suspected for death in outcome.deaths if death.suspected is not None]
    figures = outcome.as_json()["detect_all_s"]
    experiment = outcome.experiment
    title = (
        f"{len(lines)} of {experiment.nodes} nodes killed, one after the other; "
        f"loss {experiment.weather.loss:.0%}, seed {experiment.seed}; all know after {figures['p50']} s (median)"
    )
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>",
            f"<title>{escape(title)}</title>",
            f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>",
            f"<text x='{LEFT}' y='24' {FONT} fill='#222'>{escape(title)}</text>",
            *_grid(until),
            *(_step_line(line, until) for line in lines),
            *(
                f"<circle cx='{_x(at, until):.1f}' cy='{_y(0):.1f}' r='3' fill='#c2410c'/>"
                for at in suspected
            ),
            f"<text x='{WIDTH - RIGHT}' y='{HEIGHT - 8}' {FONT} fill='#555' text-anchor='end'>"
            "seconds since the kill; dots: first suspicion</text>",
            "</svg>",
            "",
        ]
    )


def _grid(until: float) -> list[str]:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        parts.append(f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y:.1f}' y2='{y:.1f}' stroke='#ddd'/>")
        parts.append(
            f"<text x='{LEFT - 6}' y='{y + 4:.1f}' {FONT} fill='#555' text-anchor='end'>{share:.0%}</text>"
        )
    step = next(size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if until / size <= 10)
    for tick in range(0, int(until) + 1, step):
        parts.append(
            f"<text x='{_x(tick, until):.1f}' y='{HEIGHT - BOTTOM + 18}' {FONT} fill='#555' "
            f"text-anchor='middle'>{tick}</text>"
        )
    return parts


def _step_line(line: Curve, until: float) -> str:
    points = []
    for (_, before), (at, share) in pairwise(line):
        points += [(at, before), (at, share)]
    path = " ".join(f"{_x(at, until):.1f},{_y(share):.1f}" for at, share in [line[0], *points])
    return f"<polyline points='{path}' fill='none' stroke='#1d4ed8' stroke-opacity='0.45'/>"


def _x(at: float, until: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at / until


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

"""Synthetic chest radiographs: clear lungs, a consolidation in one of them, or an effusion at its base."""

import numpy as np

from braincl_med.streams.renderers.canvas import Canvas, Field, Modality, blob, grey, soft


def render(canvas: Canvas) -> Field:
    """A grey chest: soft tissue light, lungs dark with ribs across, spine, heart and diaphragm light."""
    right, down = canvas.placed(
        canvas.dice(-0.1, 0.1), canvas.dice(-0.1, 0.1), canvas.dice(-0.12, 0.12), canvas.dice(0.88, 1.12)
    )
    breath = canvas.dice(0.9, 1.1)
    lungs, side_right = np.zeros_like(right), canvas.dice() > 0.5
    for lung in (-1, 1):
        across, along = (right - lung * 0.44) / 0.34, (down + 0.08) / (0.74 * breath)
        narrow = 1 + 0.35 * np.clip(-along, 0, 1)  # lungs taper towards the collar bones
        lungs = np.maximum(lungs, soft(np.hypot(across * narrow, along) - 1 + 0.03 * canvas.noise(0, 6), 0.25))
    base = canvas.dice(0.45, 0.6) * breath + 0.25 * (np.abs(right) - 0.45) ** 2
    lungs = lungs * soft(down - base, 0.12)
    bend = down - 0.35 * np.abs(right) + 0.4 * right * right
    ribs = np.cos(bend * canvas.dice(15, 19) + canvas.dice(0, 6.28)) * canvas.dice(0.02, 0.06)
    vessels = 0.10 * blob(np.abs(right) - 0.22, (down + 0.02) * 0.7, 0.22)
    air = canvas.dice(0.16, 0.30) + ribs + vessels + 0.03 * canvas.noise(1, 12)
    tissue = canvas.dice(0.56, 0.72) + 0.10 * soft(np.abs(right) - 0.13, 0.2) + 0.5 * ribs
    density = tissue + (air - tissue) * lungs
    slant = right - 0.10 - 0.25 * (down - 0.25)
    heart = soft(np.hypot(slant / canvas.dice(0.27, 0.38), (down - 0.28) / 0.40) - 1, 0.45)
    density = density + np.clip(tissue + 0.03 - density, 0, None) * heart
    side = np.where(side_right, np.float32(1), np.float32(-1))
    density = density + _finding(canvas, right, down, side, base) * lungs * (1 - 0.7 * heart)
    beside = soft(np.abs(right) - canvas.dice(0.92, 1.02), 0.12)
    contrast, exposure = canvas.dice(0.85, 1.2), canvas.dice(-0.06, 0.06)
    return grey((density * beside - 0.5) * contrast + 0.5 + exposure + 0.022 * canvas.noise(2))


def _finding(canvas: Canvas, right: Field, down: Field, side: Field, base: Field) -> Field:
    """What is added to the lungs: nothing, a cloudy patch, or fluid that climbs along the chest wall."""
    x, y = side * canvas.dice(0.30, 0.58), canvas.dice(-0.45, 0.30)
    patch = blob(right - x, (down - y) * canvas.dice(0.8, 1.3), canvas.dice(0.17, 0.34))
    cloud = canvas.dice(0.22, 0.5) * patch * (1 + 0.4 * canvas.noise(3, 12))
    wall = np.clip(right * side - 0.25, 0, 0.6)
    level = base - canvas.dice(0.12, 0.5) - canvas.dice(0.5, 1.0) * wall * wall
    fluid = canvas.dice(0.3, 0.45) * soft(level - down, 0.16) * soft(-right * side, 0.1)
    return canvas.where(np.zeros_like(cloud), cloud, fluid)


XRAY = Modality("synthetic chest x-ray", ("normal", "consolidation", "effusion"), render)

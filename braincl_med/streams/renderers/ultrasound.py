"""Synthetic breast ultrasound: a dark mass in speckle, smooth and flat or ragged and upright."""

import numpy as np

from braincl_med.streams.renderers.canvas import Canvas, Field, Modality, grey, soft

SPIKES = (3, 5, 8)


def render(canvas: Canvas) -> Field:
    """Grey speckle over layers of tissue, darker with depth, and one mass with its shadow or brightening below."""
    waves = canvas.v + 0.06 * canvas.noise(0, 4)
    tissue = 0.42 + 0.07 * np.cos(waves * canvas.dice(6, 12) + canvas.dice(0, 6.28))
    tissue = tissue + 0.3 * soft(waves + canvas.dice(0.80, 0.95), 0.15)
    tissue = tissue + 0.08 * canvas.noise(1, 7)
    x, y, turn = canvas.dice(-0.3, 0.3), canvas.dice(-0.3, 0.2), canvas.dice(-0.4, 0.4)
    right, down = canvas.placed(x, y, turn, canvas.dice(0.26, 0.46))
    flat = canvas.where(canvas.dice(1.1, 1.7), canvas.dice(0.75, 1.25))
    right, down = right / flat, down * flat**0.5
    ragged = canvas.where(canvas.dice(0.0, 0.06), canvas.dice(0.06, 0.16))
    outline = 1 + 0.06 * canvas.noise(0, 6)
    bearing = np.arctan2(down, right)
    for spikes in SPIKES:
        outline = outline + ragged * np.cos(spikes * bearing + canvas.dice(0, 6.28))
    border = canvas.where(canvas.dice(0.12, 0.3), canvas.dice(0.2, 0.6))
    mass = soft(np.hypot(right, down) - outline, border)
    below = soft(np.abs(canvas.u - x) / flat - 0.26, 0.2) * soft(y + 0.25 - canvas.v, 0.3)
    behind = canvas.where(canvas.dice(-0.05, 0.35), canvas.dice(-0.6, 0.1))
    tissue = tissue * (1 + behind * below)
    depth = 1 - canvas.dice(0.1, 0.4) * (canvas.v + 1) / 2
    echo = tissue * depth * (1 - canvas.dice(0.6, 0.85) * mass)
    speckle = np.hypot(canvas.noise(2), canvas.noise(3)) / np.float32(1.25)
    grain = canvas.dice(0.25, 0.55)
    return grey(np.clip(echo, 0, 1) ** canvas.dice(0.85, 1.15) * (1 - grain + grain * speckle) + 0.02)


ULTRASOUND = Modality("synthetic ultrasound", ("benign mass", "malignant mass"), render)

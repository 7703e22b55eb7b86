"""Synthetic photographs of the back of the eye: clear, or with bright deposits and small bleedings."""

import numpy as np

from braincl_med.streams.renderers.canvas import Canvas, Field, Modality, blob, painted, soft, tinted


def render(canvas: Canvas) -> Field:
    """An orange disc on black with the optic disc, vessels that leave it, and the dark macula."""
    right, down = canvas.placed(
        canvas.dice(-0.06, 0.06), canvas.dice(-0.06, 0.06), canvas.dice(-0.2, 0.2), canvas.dice(0.92, 1.08)
    )
    right = right * np.where(canvas.dice() > 0.5, np.float32(1), np.float32(-1))  # left and right eyes
    light = canvas.dice(-0.08, 0.08) - 0.14 * (right * right + down * down) + 0.02 * canvas.noise(0, 8)
    image = tinted(0.80, 0.42, 0.20, light)
    x, y = canvas.dice(0.38, 0.55), canvas.dice(-0.12, 0.12)
    image = painted(image, tinted(0.55, 0.24, 0.12), 0.6 * blob(right + 0.15, down, 0.22))
    image = painted(image, tinted(0.50, 0.14, 0.10), 0.75 * _vessels(canvas, right - x, down - y))
    image = painted(image, tinted(0.98, 0.86, 0.55), 0.9 * soft(np.hypot(right - x, down - y) - 0.17, 0.12))
    ill = canvas.where(0, 1)
    inside = soft(np.hypot(right + 0.1, down) - 0.65, 0.3) * ill
    image = painted(image, tinted(0.97, 0.88, 0.50), soft(canvas.dice(1.2, 1.9) - canvas.noise(1), 0.5) * inside)
    image = painted(image, tinted(0.35, 0.05, 0.05), soft(canvas.dice(1.4, 2.1) - canvas.noise(2), 0.5) * inside)
    image = image * soft(np.hypot(right, down) - 0.96, 0.06)[..., None]
    return image + 0.012 * canvas.noise(3)[..., None]


def _vessels(canvas: Canvas, right: Field, down: Field) -> Field:
    """Two arcades that bend around the macula and two short vessels to the other side."""
    found = np.zeros_like(right)
    for upward in (-1, 1):
        bend = canvas.dice(0.45, 0.75)
        arcade = np.abs(down - upward * bend * np.sqrt(np.clip(-right, 0, None) + 0.002))
        found = np.maximum(found, soft(arcade - 0.035, 0.06) * soft(right, 0.1))
        nasal = np.abs(down - upward * canvas.dice(0.5, 1.2) * right)
        found = np.maximum(found, soft(nasal - 0.025, 0.06) * soft(-right, 0.1))
    return found


FUNDUS = Modality("synthetic fundus", ("clear retina", "deposits and bleedings"), render)

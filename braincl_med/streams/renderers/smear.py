"""Synthetic stained blood smears: a white cell among red ones; its nucleus tells the class."""

import numpy as np

from braincl_med.streams.renderers.canvas import Canvas, Field, Modality, painted, soft, tinted

RED_CELLS = 4
LOBES = 3


def render(canvas: Canvas) -> Field:
    """A colour smear: plasma, red cells at the rim, one white cell near the middle."""
    stain = canvas.dice(-0.09, 0.07)
    image = tinted(0.94, 0.86, 0.84, stain + 0.02 * canvas.noise(0, 5))
    for corner in range(RED_CELLS):
        image = _red_cell(canvas, image, corner, stain)
    x, y, angle = canvas.dice(-0.2, 0.2), canvas.dice(-0.2, 0.2), canvas.dice(0, 2 * np.pi)
    right, down = canvas.placed(x, y, angle, canvas.dice(0.48, 0.72))
    stretch = canvas.dice(0.87, 1.15)
    right, down = right * stretch, down / stretch
    body = soft(np.hypot(right, down) + 0.06 * canvas.noise(1, 6) - 1, 0.2)
    image = painted(image, tinted(0.77, 0.72, 0.86, stain + 0.03 * canvas.noise(2)), body)
    image = painted(image, tinted(0.80, 0.42, 0.42, stain), _granules(canvas) * body)
    chromatin = stain + canvas.dice(-0.06, 0.08) + 0.045 * canvas.noise(3, 14)
    image = painted(image, tinted(0.40, 0.25, 0.56, chromatin), _nucleus(canvas, right, down))
    return image + 0.02 * canvas.noise(2)[..., None]


def _red_cell(canvas: Canvas, image: Field, corner: int, stain: Field) -> Field:
    """A pale pink disc with a paler middle, somewhere along the rim."""
    angle = canvas.dice(corner, corner + 1) * np.float32(2 * np.pi / RED_CELLS)
    away = canvas.dice(0.85, 1.35)
    right, down = canvas.placed(away * np.cos(angle), away * np.sin(angle), angle, canvas.dice(0.34, 0.46))
    distance = np.hypot(right, down * canvas.dice(1, 1.25))
    pallor = 0.10 * soft(distance - 0.45, 0.5)
    return painted(image, tinted(0.86, 0.62, 0.61, stain + pallor), soft(distance - 1, 0.2))


def _granules(canvas: Canvas) -> Field:
    """Reddish grains through the cell body: dense in granular cells, sparse in the others."""
    density = canvas.where(
        canvas.dice(1.2, 2.2), canvas.dice(1.0, 2.0), canvas.dice(1.1, 2.1), canvas.dice(-0.2, 0.8)
    )
    return soft(density - canvas.noise(1), 0.6)


def _nucleus(canvas: Canvas, right: Field, down: Field) -> Field:
    """Round and large, lobed, kidney-shaped, or of two lobes."""
    wobble = 0.05 * canvas.noise(0, 9)
    edge = 0.16
    off = canvas.dice(-0.14, 0.14)
    from_middle = np.hypot(right - off, down * canvas.dice(0.85, 1.15)) + wobble
    round_one = soft(from_middle - canvas.dice(0.55, 0.86), edge)
    dent = np.hypot(right - canvas.dice(0.45, 0.7), down) - canvas.dice(0.35, 0.5)
    kidney = soft(from_middle - canvas.dice(0.66, 0.86), edge) * (1 - soft(dent, edge))
    lobed = np.zeros_like(right)
    for lobe in range(LOBES):
        lobed = np.maximum(lobed, _lobe(canvas, right, down, lobe * canvas.dice(1.2, 2.0), wobble))
    two = np.zeros_like(right)
    for lobe in range(2):
        two = np.maximum(two, _lobe(canvas, right, down, lobe * canvas.dice(1.7, 3.0), wobble))
    return canvas.where(round_one, lobed, kidney, two)


def _lobe(canvas: Canvas, right: Field, down: Field, angle: Field, wobble: Field) -> Field:
    away = canvas.dice(0.38, 0.55)
    distance = np.hypot(right - away * np.cos(angle), down - away * np.sin(angle))
    return soft(distance + wobble - canvas.dice(0.26, 0.40), 0.16)


SMEAR = Modality(
    "synthetic smear", ("round nucleus", "lobed nucleus", "kidney-shaped nucleus", "granular cell body"), render
)

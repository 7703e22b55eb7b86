"""Rough conditions: scans as worse machines, hands and files make them, in five strengths; things drawn on them.

After Hendrycks & Dietterich (2019), with strengths for scans of a fixed field of view: lengths are in 28ths of a
side, so that 224 px are blurred as much as 28. Fifteen fit photographs (of skin, smears, the eye's
ground), fifteen grey scans (x-ray, CT, MR, ultrasound); of a grey scan all three channels stay alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg
from torchvision.transforms.v2 import functional as tv

from braincl_med.foundation.arrays import Images

STRENGTHS = 5
Change = Callable[[Tensor, float, torch.Generator], Tensor]
"""Of scans (n, 3, h, w) in [0, 1], by how much, drawn by a generator."""


@dataclass(frozen=True)
class Condition:
    """One way in which scans get worse.

    Attributes:
        change: what happens.
        levels: by how much, mildest first.
        photographs, greys: which scans it can befall.
    """

    change: Change
    levels: tuple[float, float, float, float, float]
    photographs: bool = True
    greys: bool = True


def conditioned(images: Images, name: str, strength: int, seed: int) -> Images:
    """Scans (n, h, w, 3) under the condition `name` of `CONDITIONS` at `strength` 1 to 5, the same at every call."""
    if not len(images):
        return images.copy()
    condition = CONDITIONS[name]
    draw = torch.Generator().manual_seed(seed)
    scans = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    changed = condition.change(scans, condition.levels[strength - 1], draw).clamp(0, 1)
    changed = torch.where(torch.from_numpy(grey(images))[:, None, None, None], changed[:, :1], changed)
    found: Images = (changed * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return found


def grey(images: Images) -> npt.NDArray[np.bool_]:
    """(n,) whether all three channels of scans (n, h, w, 3) are alike."""
    alike: npt.NDArray[np.bool_] = (images == images[..., :1]).all(axis=(1, 2, 3))
    return alike


def fits(name: str, greys: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(n,) which scans a condition can befall, by whether each is grey."""
    condition = CONDITIONS[name]
    return (greys & condition.greys) | (~greys & condition.photographs)


def with_artefact(images: Images, name: str) -> Images:
    """Scans (n, h, w, 3) with one of `ARTEFACTS` drawn over each."""
    drawn = [_drawn(scan, ARTEFACTS[name]) for scan in images]
    return np.stack(drawn) if drawn else images.copy()


def _gaussian_noise(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    return scans + level * torch.randn(scans.shape, generator=draw)


def _shot_noise(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    return torch.poisson(scans * level, generator=draw) / level


def _salt_and_pepper(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    thrown = torch.rand((len(scans), 1, *scans.shape[2:]), generator=draw)
    return torch.where(thrown < level / 2, 0.0, torch.where(thrown > 1 - level / 2, 1.0, scans))


def _gaussian_blur(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    sigma = level * scans.shape[-1] / 28
    blurred: Tensor = tv.gaussian_blur(scans, [2 * int(np.ceil(3 * sigma)) + 1] * 2, [sigma, sigma])
    return blurred


def _spread(scans: Tensor, kernel: Tensor) -> Tensor:
    """Each channel convolved with a kernel (k, k), borders repeated."""
    reach = len(kernel) // 2
    padded = torch.nn.functional.pad(scans, [reach] * 4, mode="replicate")
    rows = (kernel / kernel.sum())[None, None].expand(scans.shape[1], 1, -1, -1)
    return torch.nn.functional.conv2d(padded, rows, groups=scans.shape[1])


def _defocus(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    radius = level * scans.shape[-1] / 28
    reach = torch.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1).float()
    # A disc whose rim counts by how much of it lies inside, so that a radius below one pixel blurs too.
    return _spread(scans, (radius + 0.5 - torch.hypot(reach[:, None], reach[None])).clamp(0, 1))


def _motion(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    length = level * scans.shape[-1] / 28
    reach = torch.arange(-int(np.ceil(length)), int(np.ceil(length)) + 1).float()
    row = (length + 0.5 - reach.abs()).clamp(0, 1)
    kernel = torch.zeros(len(row), len(row))
    kernel[len(row) // 2] = row
    return _spread(scans, kernel)


def _brightness(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    return scans + level


def _contrast(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    changed: Tensor = tv.adjust_contrast(scans, level)
    return changed


def _saturation(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    changed: Tensor = tv.adjust_saturation(scans, level)
    return changed


def _hue(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    changed: Tensor = tv.adjust_hue(scans, level)
    return changed


def _gamma(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    from monai.transforms import AdjustContrast  # type: ignore[attr-defined]

    return torch.stack([torch.as_tensor(AdjustContrast(level)(scan)) for scan in scans])


def _jpeg(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    files = encode_jpeg([(scan * 255).round().to(torch.uint8) for scan in scans], quality=int(level))
    return torch.stack([decode_jpeg(file, mode=ImageReadMode.RGB) for file in files]).float() / 255


def _pixelate(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    sides = list(scans.shape[2:])
    few = [max(1, round(level * side)) for side in sides]
    small = tv.resize(scans, few, tv.InterpolationMode.BILINEAR, antialias=True)
    coarse: Tensor = tv.resize(small, sides, tv.InterpolationMode.NEAREST)
    return coarse


def _rotation(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, (len(scans),), generator=draw) * 2 - 1
    turned = [
        tv.rotate(scan, float(level * sign), tv.InterpolationMode.BILINEAR)
        for scan, sign in zip(scans, signs, strict=True)
    ]
    return torch.stack(turned)


def _bias_field(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    from monai.transforms import RandBiasField  # type: ignore[attr-defined]

    uneven = RandBiasField(coeff_range=(-level, level), prob=1.0)
    uneven.set_random_state(int(torch.randint(2**31, (1,), generator=draw)))
    return torch.stack([torch.as_tensor(uneven(scan)) for scan in scans])


def _gibbs(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    from monai.transforms import GibbsNoise  # type: ignore[attr-defined]

    ringing = GibbsNoise(level)
    return torch.stack([torch.as_tensor(ringing(scan)) for scan in scans])


def _spikes(scans: Tensor, level: float, draw: torch.Generator) -> Tensor:
    """One frequency too loud, as by a spark in a scanner's coil: stripes over the whole picture."""
    from monai.transforms import KSpaceSpikeNoise  # type: ignore[attr-defined]

    height, width = scans.shape[2:]
    places = torch.randint(1, 5, (len(scans), 2), generator=draw)
    striped = []
    for scan, (row, column) in zip(scans, places.tolist(), strict=True):
        spike = KSpaceSpikeNoise((height // 2 + row, width // 2 + column), float(np.log(level * height * width)))
        striped.append(torch.as_tensor(spike(scan)))
    return torch.stack(striped)


CONDITIONS: dict[str, Condition] = {
    "gaussian-noise": Condition(_gaussian_noise, (0.04, 0.06, 0.08, 0.12, 0.18)),
    "shot-noise": Condition(_shot_noise, (300, 150, 75, 40, 20)),
    "salt-and-pepper": Condition(_salt_and_pepper, (0.01, 0.02, 0.05, 0.1, 0.2)),
    "gaussian-blur": Condition(_gaussian_blur, (0.4, 0.6, 0.8, 1.1, 1.5)),
    "defocus": Condition(_defocus, (0.7, 0.9, 1.2, 1.6, 2.2)),
    "motion": Condition(_motion, (0.7, 1, 1.5, 2, 3)),
    "brightness": Condition(_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Condition(_contrast, (0.8, 0.65, 0.5, 0.35, 0.2)),
    "gamma": Condition(_gamma, (1.25, 1.5, 1.75, 2, 2.5)),
    "jpeg": Condition(_jpeg, (60, 40, 25, 15, 8)),
    "pixelate": Condition(_pixelate, (0.8, 0.65, 0.5, 0.4, 0.3)),
    "rotation": Condition(_rotation, (5, 10, 15, 20, 30)),
    "bias-field": Condition(_bias_field, (0.1, 0.2, 0.3, 0.4, 0.6)),
    "saturation": Condition(_saturation, (0.8, 0.6, 0.4, 0.2, 0), greys=False),
    "hue": Condition(_hue, (0.02, 0.04, 0.07, 0.1, 0.15), greys=False),
    "gibbs": Condition(_gibbs, (0.4, 0.5, 0.6, 0.7, 0.8), photographs=False),
    "spikes": Condition(_spikes, (0.03, 0.06, 0.1, 0.15, 0.25), photographs=False),
}
"""By name. `levels`: deviations, counts a full pixel, shares, 28ths of a side, degrees, qualities."""


def _text(pen: ImageDraw.ImageDraw, side: int) -> None:
    """What a machine burns in: a side, a number."""
    pen.text((side // 28, 0), "L 07", fill=(255, 255, 255), font=ImageFont.load_default(max(8, side // 4)))


def _ruler(pen: ImageDraw.ImageDraw, side: int) -> None:
    """A measure laid beside a lesion."""
    wide, unit = max(2, side // 7), max(2, side // 14)
    pen.rectangle((0, side - wide, side, side), fill=(235, 235, 235))
    for tick in range(0, side, unit):
        reach = wide if tick % (2 * unit) == 0 else wide // 2
        pen.line((tick, side - reach, tick, side), fill=(0, 0, 0), width=max(1, side // 56))


def _corner(pen: ImageDraw.ImageDraw, side: int) -> None:
    """The black beyond a round field of view."""
    reach = side // 3
    for x, y in ((0, 0), (side - 1, 0), (0, side - 1), (side - 1, side - 1)):
        inward = (1 if not x else -1, 1 if not y else -1)
        pen.polygon([(x, y), (x + inward[0] * reach, y), (x, y + inward[1] * reach)], fill=(0, 0, 0))


ARTEFACTS: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {
    "text": _text,
    "ruler": _ruler,
    "corner": _corner,
}
"""What is drawn on a scan, by name."""


def _drawn(scan: Images, draw: Callable[[ImageDraw.ImageDraw, int], None]) -> Images:
    picture = Image.fromarray(scan)
    draw(ImageDraw.Draw(picture), picture.width)
    return np.asarray(picture)

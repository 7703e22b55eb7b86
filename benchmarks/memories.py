"""What a hospital could keep instead of scans: each memory gives recalls, and says what all of it weighs.

A memory is fitted to the training scans (n, height, width, 3), uint8, of one data set and their classes (n,), and
answers with a `Memory`. Codecs keep a file a scan; `stripped` leaves out what is the same in every file and counts
the rest alone. CompressAI needs packages that the project does not: `pip install --no-deps compressai einops
pytorch-msssim torch_geometric pandas`.
"""

import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from imagecodecs import avif_decode, avif_encode, jpegxl_decode, jpegxl_encode
from PIL import Image
from scipy.fft import dctn, idctn

from braincl_med.memory.coding import FrequencyTables, encode
from braincl_med.memory.module import complete, fit
from braincl_med.settings.memory import LinearMemory
from braincl_med.vault.cuefile import CODER, CueFile, Header, Shard

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
WEBP_HEADERS = 30
"""RIFF, chunk and frame header of a lossy WebP file."""
COLOURS = np.linalg.qr(np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], float).T)[0]
"""An orthonormal luminance and two chrominances."""
LEAST_DEVIATION = 0.55
COMPRESSAI_CHANNELS, COMPRESSAI_EPOCHS = (32, 48), 60


@dataclass(frozen=True)
class Memory:
    """A fitted memory.

    Attributes:
        recalls: of the training scans.
        payload: bytes of what is kept of the scans.
        rest: bytes of all else that is needed to recall them (tables, networks or bases, index).
        unseen: recalls of other scans, kept by the same means.
    """

    recalls: Images
    payload: int
    rest: int
    unseen: Callable[[Images], Images]


def raw(images: Images, _labels: Labels, _setting: float) -> Memory:
    """The scans themselves."""
    return Memory(images, images.nbytes, 0, lambda others: others)


def ours(images: Images, labels: Labels, step: float, **settings: Any) -> Memory:
    """The project's memory module, weighed as the bytes of its cue file."""
    module = fit(images, LinearMemory(step=step, **settings), 1, labels)
    cues = module.encode(images)
    shard = Shard(label=0, dataset_label="set/0", records=len(images), words=0, recall_error=0)
    shape = module.completion.shape.as_json()
    header = Header(
        experiment="b", task=0, task_name="b", memory="working", key="", coder=CODER, shape=shape, shards=(shard,)
    )
    file = CueFile.pack(header, {0: cues}, FrequencyTables.of(cues), module.stored)
    payload = file.sizes()["cues"]
    return Memory(
        complete(module.completion, cues),
        payload,
        len(file.to_bytes()) - payload,
        lambda others: complete(module.completion, module.encode(others)),
    )


def ours_unguided(images: Images, labels: Labels, step: float) -> Memory:
    """Principal components of the squared error alone."""
    return ours(images, labels, step, guidance=0)


def ours_paper(images: Images, labels: Labels, lambda_: float) -> Memory:
    """The paper's recipe at its small preset, with mixed quantisation and a tenfold learning rate."""
    return ours(
        images, labels, 1.0, recipe="paper", lambda_=lambda_, quantisation="mixed", learning_rate=1e-3, epochs=60
    )


def ours_paper_networks(images: Images, labels: Labels, lambda_: float) -> Memory:
    """The paper's recipe as it stands, at its own widths; hours on a CPU."""
    return ours(images, labels, 1.0, recipe="paper", preset="paper", lambda_=lambda_)


def pca(images: Images, _: Labels, step: float) -> Memory:
    """Quantised principal components under the same coder; the basis in eight bits a number."""
    flat = images.reshape(len(images), -1) / 255.0
    mean = flat.mean(0)
    variances, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    kept = np.sqrt(np.maximum(variances, 0)) > step * LEAST_DEVIATION
    basis = vectors[:, kept].T
    size = np.abs(basis).max(1, keepdims=True) / 127
    basis = np.rint(basis / size) * size
    inverse = np.linalg.pinv(basis)

    def cues_of(others: Images) -> npt.NDArray[np.int16]:
        return np.rint((others.reshape(len(others), -1) / 255.0 - mean) @ inverse / step).astype(np.int16)

    def recall(cues: npt.NDArray[np.int16]) -> Images:
        return _pixels((cues * step @ basis + mean).reshape(-1, *images.shape[1:]))

    cues = cues_of(images)
    payload, tables = _coded(cues)
    return Memory(
        recall(cues), payload, tables + basis.size + len(basis) * 4 + mean.size, lambda o: recall(cues_of(o))
    )


def dct(images: Images, _: Labels, step: float) -> Memory:
    """A whole-image discrete cosine transform under the same coder; nothing to store but tables."""
    mean = images.mean((0, 1, 2)) / 255.0

    def coefficients(others: Images) -> npt.NDArray[np.int16]:
        spectrum = dctn((others / 255.0 - mean) @ COLOURS, axes=(1, 2), norm="ortho")
        return np.rint(spectrum.reshape(len(others), -1) / step).astype(np.int16)

    def recall(cues: npt.NDArray[np.int16]) -> Images:
        spectrum = (np.where(kept, cues, 0) * step).reshape(-1, *images.shape[1:])
        return _pixels(idctn(spectrum, axes=(1, 2), norm="ortho") @ COLOURS.T + mean)

    cues = coefficients(images)
    kept = (cues != 0).mean(0) > 0.002
    payload, tables = _coded(cues[:, kept])
    places = -(-kept.size // 8)
    return Memory(recall(cues), payload, tables + places + 12, lambda others: recall(coefficients(others)))


def webp(images: Images, _: Labels, quality: float, stripped: bool = False) -> Memory:
    """WebP at its slowest setting."""
    return _codec(images, lambda f, s: f.save(s, "WEBP", quality=int(quality), method=6), WEBP_HEADERS * stripped)


def webp_stripped(images: Images, labels: Labels, quality: float) -> Memory:
    """WebP without the 30 bytes that are the same in every file."""
    return webp(images, labels, quality, stripped=True)


def jpeg(images: Images, _: Labels, quality: float) -> Memory:
    """JPEG with optimised tables."""
    return _codec(images, lambda f, s: f.save(s, "JPEG", quality=int(quality), optimize=True), 0)


def jpeg_stripped(images: Images, _: Labels, quality: float) -> Memory:
    """JPEG with standard tables, of which the entropy-coded scan alone is counted."""
    sample = io.BytesIO()
    Image.fromarray(images[0]).save(sample, "JPEG", quality=int(quality))
    content = sample.getvalue()
    start = content.index(b"\xff\xda")
    headers = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big") + 2
    return _codec(images, lambda f, s: f.save(s, "JPEG", quality=int(quality)), headers)


def jpeg_xl(images: Images, _: Labels, quality: float) -> Memory:
    """JPEG XL at its own default effort: its slowest takes a minute for a thousand scans."""
    return _through(
        images, lambda scan: jpegxl_encode(scan, level=int(quality), effort=9, lossless=False), jpegxl_decode
    )


def avif(images: Images, _: Labels, quality: float) -> Memory:
    """AVIF; its slowest setting takes minutes for a thousand scans."""
    return _through(images, lambda scan: avif_encode(scan, level=int(quality), speed=4), avif_decode)


def compressai(images: Images, _: Labels, lambda_: float) -> Memory:
    """CompressAI's factorised prior (Ballé et al. 2018), trained on the same scans; its decoder in half precision."""
    torch.manual_seed(1)
    network = importlib.import_module("compressai.models").FactorizedPrior(*COMPRESSAI_CHANNELS)
    side = -(-max(images.shape[1:3]) // 16) * 16
    rows, columns = side - images.shape[1], side - images.shape[2]

    def padded(others: Images) -> torch.Tensor:
        scans = torch.from_numpy(others).permute(0, 3, 1, 2).float() / 255
        return torch.nn.functional.pad(scans, (0, columns, 0, rows), mode="replicate")

    main = [p for name, p in network.named_parameters() if not name.endswith(".quantiles")]
    rest = [p for name, p in network.named_parameters() if name.endswith(".quantiles")]
    optimisers = torch.optim.Adam(main, 1e-3), torch.optim.Adam(rest, 1e-2)
    for epoch in range(COMPRESSAI_EPOCHS):
        if epoch == COMPRESSAI_EPOCHS * 3 // 4:
            optimisers[0].param_groups[0]["lr"] /= 5
        for chosen in torch.randperm(len(images)).split(16):
            scans = padded(images[chosen.numpy()])
            out = network(scans)
            bits = -sum(torch.log2(values).sum() for values in out["likelihoods"].values()) / scans[:, 0].numel()
            loss = lambda_ * 255**2 * torch.nn.functional.mse_loss(out["x_hat"], scans) + bits
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(main, 1.0)
            network.aux_loss().backward()
            for optimiser in optimisers:
                optimiser.step()
    network.eval().update()
    payload = 0

    @torch.no_grad()
    def through(others: Images) -> Images:
        nonlocal payload
        recalls = []
        for start in range(0, len(others), 256):
            coded = network.compress(padded(others[start : start + 256]))
            payload += sum(len(string) for string in coded["strings"][0])
            decoded = network.decompress(coded["strings"], coded["shape"])["x_hat"]
            recalls.append(decoded[..., : images.shape[1], : images.shape[2]].permute(0, 2, 3, 1).double().numpy())
        return _pixels(np.concatenate(recalls))

    recalls = through(images)
    kept = [p for name, p in network.named_parameters() if not name.startswith("g_a")]
    return Memory(recalls, payload, 2 * sum(p.numel() for p in kept), through)


def _codec(images: Images, save: Callable[[Image.Image, io.BytesIO], None], headers: int) -> Memory:
    def encoded(scan: Images) -> bytes:
        stream = io.BytesIO()
        save(Image.fromarray(scan), stream)
        return stream.getvalue()

    return _through(images, encoded, lambda file: np.asarray(Image.open(io.BytesIO(file)).convert("RGB")), headers)


def _through(
    images: Images, encoded: Callable[[Images], bytes], decoded: Callable[[bytes], Images], headers: int = 0
) -> Memory:
    """A file a scan, of which `headers` bytes are the same in all."""
    files = [encoded(scan) for scan in images]
    recalls = np.stack([decoded(file) for file in files])
    payload = sum(len(file) - headers for file in files)
    return Memory(recalls, payload, 0, lambda others: np.stack([decoded(encoded(scan)) for scan in others]))


def _coded(cues: npt.NDArray[np.int16]) -> tuple[int, int]:
    """Bytes of range-coded cues (n, M) and of their tables."""
    shaped = cues[:, :, None, None]
    tables = FrequencyTables.of(shaped)
    return 4 * len(encode(shaped, tables)), len(tables.to_bytes())


def _pixels(values: npt.NDArray[np.float64]) -> Images:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


MEMORIES: dict[str, Callable[[Images, Labels, float], Memory]] = {
    "raw": raw,
    "ours": ours,
    "ours, unguided": ours_unguided,
    "ours, paper's recipe": ours_paper,
    "ours, paper's networks": ours_paper_networks,
    "PCA": pca,
    "DCT": dct,
    "WebP": webp,
    "WebP, stripped": webp_stripped,
    "JPEG": jpeg,
    "JPEG, stripped": jpeg_stripped,
    "JPEG XL": jpeg_xl,
    "AVIF": avif,
    "CompressAI": compressai,
}

"""Vision transformers from the equations, in NumPy and float64, one clip, patch and head at a time.

Weights are under the names of the files that the hubs have.
"""

from __future__ import annotations

from math import erf, exp, log, log10, pi

import numpy as np
from scipy.fft import rfft
from scipy.signal import get_window

# layers


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(x, weights, name, epsilon=1e-6):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x):
    return x * np.vectorize(lambda value: (1 + erf(value / np.sqrt(2))) / 2)(x)


def sigmoid(x):
    return np.array([1 / (1 + exp(-value)) for value in x])


def attention(x, weights, name, n_heads):
    qkv = linear(x, weights, f"{name}.qkv")
    dim = x.shape[1]
    width = dim // n_heads
    heads = []
    for head in range(n_heads):
        own = slice(head * width, (head + 1) * width)
        q, k, v = qkv[:, :dim][:, own], qkv[:, dim : 2 * dim][:, own], qkv[:, 2 * dim :][:, own]
        out = np.zeros_like(v)
        for i, query in enumerate(q):
            powers = np.exp(k @ query / np.sqrt(width))
            out[i] = powers / powers.sum() @ v
        heads.append(out)
    return linear(np.concatenate(heads, axis=1), weights, f"{name}.proj")


def perceptron(x, weights, name):
    return linear(gelu(linear(x, weights, f"{name}.fc1")), weights, f"{name}.fc2")


def pre_norm_block(x, weights, name, n_heads):
    x = x + attention(layer_norm(x, weights, f"{name}.norm1"), weights, f"{name}.attn", n_heads)
    return x + perceptron(layer_norm(x, weights, f"{name}.norm2"), weights, f"{name}.mlp")


def post_norm_block(x, weights, name, n_heads):
    x = x + attention(x, weights, f"{name}.attn", n_heads)
    residual = x = layer_norm(x, weights, f"{name}.norm1")
    return layer_norm(residual + perceptron(x, weights, f"{name}.mlp"), weights, f"{name}.norm2")


def patch(image, weights, name, row, column):
    """The token of one patch: (dim,)."""
    kernels = weights[f"{name}.proj.weight"][:, 0]
    height, width = kernels.shape[1:]
    seen = image[row * height : (row + 1) * height, column * width : (column + 1) * width]
    return (kernels * seen).sum(axis=(1, 2)) + weights[f"{name}.proj.bias"]


def sine_position(row, column, dim):
    """Of the original of the masked autoencoder: sines and cosines of the column, then of the row."""
    quarter = dim // 4
    omega = [1 / 10000 ** (k / quarter) for k in range(quarter)]
    return [function(place * w) for place in (column, row) for function in (np.sin, np.cos) for w in omega]


def encode(image, weights, geometry):
    """One image through any geometry: {block: (frames, bands, dim)}, {block: CLS}."""
    rows, columns = (n // size for n, size in zip(image.shape, geometry.patch, strict=True))
    time_first = geometry.rows == "time"
    tokens = []
    for row in range(rows):
        for column in range(columns):
            token = patch(image, weights, "patch_embed", row, column)
            t, f = (row, column) if time_first else (column, row)
            if geometry.positions == "axes":
                token = token + weights["time_pos_embed"][0, :, 0, t] + weights["freq_pos_embed"][0, :, f, 0]
            else:
                across = geometry.bands if time_first else geometry.frames
                place = row * (across // geometry.patch[1]) + column
                token = token + weights["pos_embed"][0, place + (geometry.positions == "table_with_cls")]
            tokens.append(token)
    if geometry.has_cls:
        cls = weights["cls_token"][0, 0]
        if geometry.positions == "table_with_cls":
            cls = cls + weights["pos_embed"][0, 0]
        tokens.insert(0, cls)
    x = np.array(tokens)
    if geometry.input_norm:
        x = layer_norm(x, weights, "pre_norm")
    grids, classes = {}, {}
    for block in range(1, 1 + geometry.depth):
        through = pre_norm_block if geometry.norm == "pre" else post_norm_block
        x = through(x, weights, f"blocks.{block - 1}", geometry.heads)
        given = layer_norm(x, weights, "norm") if geometry.final_norm and block == geometry.depth else x
        if geometry.has_cls:
            classes[block], given = given[0], given[1:]
        grid = np.array([[given[row * columns + column] for column in range(columns)] for row in range(rows)])
        grids[block] = grid if time_first else grid.swapaxes(0, 1)
    return grids, classes


# networks: each gives {block: tokens on their grid, (frames, bands, dim)}, and {block: CLS}


def eat(image, weights, n_heads):
    """Of a normalized image, (frames, 128)."""
    frames, bands = len(image) // 16, 8
    tokens = [weights["model.extra_tokens"][0, 0]]
    for t in range(frames):
        for f in range(bands):
            position = weights["model.fixed_positional_encoder.positions"][0, t * bands + f]
            tokens.append(patch(image, weights, "model.local_encoder", t, f) + position)
    x = layer_norm(np.array(tokens), weights, "model.pre_norm")
    grids, cls = {}, {}
    for block in range(1, 1 + depth(weights, "model.")):
        x = post_norm_block(x, weights, f"model.blocks.{block - 1}", n_heads)
        cls[block] = x[0]
        grids[block] = np.array([[x[1 + t * bands + f] for f in range(bands)] for t in range(frames)])
    return grids, cls


def eat_probabilities(cls, weights):
    return sigmoid(linear(layer_norm(cls, weights, "model.fc_norm", epsilon=1e-5), weights, "model.head"))


def ced(image, weights, n_heads):
    """Of an image of at most 1012 frames, normalized, (64, frames)."""
    bands, frames = 4, image.shape[1] // 16
    tokens = []
    for f in range(bands):
        for t in range(frames):
            position = weights["encoder.time_pos_embed"][0, :, 0, t]
            position = position + weights["encoder.freq_pos_embed"][0, :, f, 0]
            tokens.append(patch(image, weights, "encoder.patch_embed", f, t) + position)
    x, grids = np.array(tokens), {}
    last = depth(weights, "encoder.")
    for block in range(1, 1 + last):
        x = pre_norm_block(x, weights, f"encoder.blocks.{block - 1}", n_heads)
        given = layer_norm(x, weights, "encoder.norm") if block == last else x
        grids[block] = np.array([[given[f * frames + t] for f in range(bands)] for t in range(frames)])
    return grids


def ced_normalized(levels, weights):
    """Batch normalization: (64, frames) to the same."""
    out = np.zeros_like(levels)
    for band, level in enumerate(levels):
        mean, variance, scale, shift = (
            weights[f"encoder.init_bn.{name}"][band]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        out[band] = (level - mean) / np.sqrt(variance + 1e-5) * scale + shift
    return out


def ced_in_chunks(levels, weights, n_heads):
    """Of levels of any length, (64, frames)."""
    image = ced_normalized(levels, weights)
    frames = image.shape[1]
    if frames <= 1012:
        return ced(image, weights, n_heads)
    chunks = []
    for first in range(0, frames, 1012):
        chunk = np.zeros((64, 1012))
        seen = image[:, first : first + 1012]
        chunk[:, : seen.shape[1]] = seen
        chunks.append(ced(chunk, weights, n_heads))
    return {block: np.concatenate([chunk[block] for chunk in chunks]) for block in chunks[0]}


def ced_probabilities(grid, weights):
    tokens = grid.reshape(-1, grid.shape[-1]).mean(axis=0)
    normalized = layer_norm(tokens, weights, "outputlayer.0", epsilon=1e-5)
    return sigmoid(linear(normalized, weights, "outputlayer.1"))


def m2d(image, weights, n_heads, longest):
    """Of a normalized image of whole patches, (80, frames)."""
    bands, frames, columns = 5, image.shape[1] // 16, longest // 16
    positions = weights["pos_embed"][0]
    tokens = [weights["cls_token"][0, 0] + positions[0]]
    for f in range(bands):
        for t in range(frames):
            tokens.append(patch(image, weights, "patch_embed", f, t) + positions[1 + f * columns + t])
    x, grids, cls = np.array(tokens), {}, {}
    last = depth(weights, "")
    for block in range(1, 1 + last):
        x = pre_norm_block(x, weights, f"blocks.{block - 1}", n_heads)
        given = layer_norm(x, weights, "norm") if block == last else x
        cls[block] = given[0]
        grids[block] = np.array([[given[1 + f * frames + t] for f in range(bands)] for t in range(frames)])
    return grids, cls


def m2d_in_chunks(log_mel, weights, n_heads, longest):
    """Of values of any length, (80, frames); CLS is the mean of the chunks'."""
    mean, std = weights.get("norm_stats", (-7.1, 4.2))
    image = (log_mel - mean) / std
    grids, cls = [], []
    for first in range(0, image.shape[1], longest):
        chunk = image[:, first : first + longest]
        whole = np.zeros((80, 16 * ((chunk.shape[1] + 15) // 16)))
        whole[:, : chunk.shape[1]] = chunk
        grid, token = m2d(whole[:, :longest], weights, n_heads, longest)
        grids.append(grid)
        cls.append(token)
    return (
        {block: np.concatenate([grid[block] for grid in grids]) for block in grids[0]},
        {block: np.mean([token[block] for token in cls], axis=0) for block in cls[0]},
    )


def depth(weights, prefix):
    return sum(name.startswith(f"{prefix}blocks.") and name.endswith(".norm1.weight") for name in weights)


# front ends


def ced_levels(waveform):
    """(samples,) to (64, frames), in dB."""
    edges = [700 * (10 ** (mel / 2595) - 1) for mel in np.linspace(0, 2595 * log10(1 + 8000 / 700), 66)]
    power = mel_power(waveform, 512, edges, heights=[1.0] * 64)
    levels = 10 * np.log10(np.maximum(power, 1e-10))
    return np.maximum(levels, levels.max() - 120)


def m2d_log_mel(waveform):
    """(samples,) to (80, frames)."""
    first, last = 50 / (200 / 3), 15 + 27 * log(8) / log(6.4)  # Slaney's mel of 50 and of 8000 Hz
    edges = [
        mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27) for mel in np.linspace(first, last, 82)
    ]
    heights = [2 / (right - left) for left, right in zip(edges[:-2], edges[2:], strict=True)]
    return np.log(mel_power(waveform, 400, edges, heights) + 2.0**-23)


def mel_power(waveform, n_fft, edges, heights):
    """Power in triangles between these edges, in Hz, of centred frames each 160 samples: (bands, frames)."""
    filters = np.zeros((len(heights), n_fft // 2 + 1))
    for band, height in enumerate(heights):
        left, centre, right = edges[band : band + 3]
        for i in range(n_fft // 2 + 1):
            hz = i * 16000 / n_fft
            if left < hz < right:
                filters[band, i] = height * min(
                    (hz - left) / (centre - left), (right - hz) / (right - centre)
                )
    padded = np.pad(np.asarray(waveform, np.float64), n_fft // 2, mode="reflect")
    window = get_window("hann", n_fft, fftbins=True)
    starts = range(0, len(waveform) + 1, 160)
    return np.array([filters @ np.abs(rfft(padded[n : n + n_fft] * window)) ** 2 for n in starts]).T


def eat_fbank(waveform):
    """(samples,) to (frames, 128)."""
    waveform = np.asarray(waveform, np.float64)
    waveform = waveform - waveform.mean()
    window = [0.5 - 0.5 * np.cos(2 * pi * i / 399) for i in range(400)]
    filters = _kaldi_triangles()
    rows = []
    for first in range(0, len(waveform) - 400 + 1, 160):
        frame = waveform[first : first + 400]
        frame = frame - frame.mean()
        before = [frame[0], *frame[:-1]]
        emphasized = [(x - 0.97 * y) * w for x, y, w in zip(frame, before, window, strict=True)]
        power = np.abs(rfft([*emphasized, *[0.0] * 112])) ** 2
        rows.append([log(max(band, 2.0**-23)) for band in filters @ power])
    return np.array(rows)


def _kaldi_triangles():
    """(128, 257), triangles over mel."""

    def mel(hz):
        return 1127 * log(1 + hz / 700)

    step = (mel(8000) - mel(20)) / 129
    filters = np.zeros((128, 257))
    for band in range(128):
        left, centre, right = (mel(20) + (band + i) * step for i in range(3))
        for i in range(256):
            place = mel(i * 16000 / 512)
            if left < place < right:
                up, down = (place - left) / (centre - left), (right - place) / (right - centre)
                filters[band, i] = min(up, down)
    return filters


def eat_image(waveform, frames):
    """(samples,) to (frames, 128), normalized."""
    values = np.zeros((frames, 128))
    found = eat_fbank(waveform)[:frames]
    values[: len(found)] = found
    return (values + 4.268) / (2 * 4.569)


# files: names and shapes as published


def _block_shapes(prefix, dim, depth):
    own = {
        "norm1.weight": (dim,),
        "norm1.bias": (dim,),
        "attn.qkv.weight": (3 * dim, dim),
        "attn.qkv.bias": (3 * dim,),
        "attn.proj.weight": (dim, dim),
        "attn.proj.bias": (dim,),
        "norm2.weight": (dim,),
        "norm2.bias": (dim,),
        "mlp.fc1.weight": (4 * dim, dim),
        "mlp.fc1.bias": (4 * dim,),
        "mlp.fc2.weight": (dim, 4 * dim),
        "mlp.fc2.bias": (dim,),
    }
    return {f"{prefix}blocks.{i}.{name}": shape for i in range(depth) for name, shape in own.items()}


def _affine(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def eat_shapes(dim, depth, *, classes=None):
    shapes = {
        "model.extra_tokens": (1, 1, dim),
        "model.fixed_positional_encoder.positions": (1, 6144, dim),
        **_affine("model.local_encoder.proj", dim, 1, 16, 16),
        **_affine("model.pre_norm", dim),
        **_block_shapes("model.", dim, depth),
    }
    if classes is not None:
        shapes |= {**_affine("model.fc_norm", dim), **_affine("model.head", classes, dim)}
    return shapes


def ced_shapes(dim, depth):
    return {
        "encoder.time_pos_embed": (1, dim, 1, 63),
        "encoder.freq_pos_embed": (1, dim, 4, 1),
        **_affine("encoder.init_bn", 64),
        "encoder.init_bn.running_mean": (64,),
        "encoder.init_bn.running_var": (64,),
        **_affine("encoder.patch_embed.proj", dim, 1, 16, 16),
        **_block_shapes("encoder.", dim, depth),
        **_affine("encoder.norm", dim),
        **_affine("outputlayer.0", dim),
        **_affine("outputlayer.1", 527, dim),
    }


def m2d_shapes(dim, depth, *, longest=608):
    return {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 1 + 5 * (longest // 16), dim),
        "norm_stats": (2,),
        **_affine("patch_embed.proj", dim, 1, 16, 16),
        **_block_shapes("", dim, depth),
        **_affine("norm", dim),
    }


def drawn(shapes, rng):
    """Random weights, float32, of a size that keeps every layer alive."""
    return {name: _drawn(name, shape, rng).astype(np.float32) for name, shape in shapes.items()}


def _drawn(name, shape, rng):
    normal = rng.standard_normal(shape)
    if name.endswith("running_mean"):  # levels in dB
        return 10 * normal - 30
    if name.endswith("running_var"):
        return 200 + 100 * rng.random(shape)
    if name.endswith("norm_stats"):
        return np.array([-6.5, 3.9])
    if name.endswith("weight") and len(shape) == 1:
        return 1 + normal / 4
    if name.endswith("qkv.weight"):
        return 2 * normal / np.sqrt(shape[1])
    if name.endswith("weight"):
        return normal / np.sqrt(np.prod(shape[1:]))
    return normal / 2

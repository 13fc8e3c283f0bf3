"""EfficientAT from its equations: NumPy, loops, double precision, one waveform at a time.

Networks are mappings from the names in a published file to arrays. Maps are (channels, bands, frames).
"""

from __future__ import annotations

import numpy as np

EPSILON = 1e-3  # of batch normalization
STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1)  # of the bottlenecks 1 to 15; MobileNetV3-Large
FIRST_HARD_SWISH = 7  # the bottlenecks before it have ReLU


def mel(hz):
    return 1127 * np.log(1 + hz / 700)


def log_mel(waveform, *, rate=32000, n_fft=1024, length=800, hop=320, n_mels=128, f_max=15000.0):
    """(samples,) to (n_mels, frames)."""
    emphasized = [waveform[t + 1] - 0.97 * waveform[t] for t in range(len(waveform) - 1)]
    filters = mel_filters(rate, n_fft, n_mels, f_max)
    columns = [filters @ power(emphasized, hop * m, n_fft, length) for m in range(1 + len(emphasized) // hop)]
    return (np.log(np.array(columns).T + 1e-5) + 4.5) / 5


def power(samples, centre, n_fft, length):
    """Of the frame around a sample: (1 + n_fft // 2,)."""
    last = len(samples) - 1
    frame = np.zeros(n_fft)
    for i in range(length):
        at = abs(centre - n_fft // 2 + (n_fft - length) // 2 + i)  # mirrored at the first sample
        at = last - abs(last - at)  # and at the last
        frame[(n_fft - length) // 2 + i] = samples[at] * np.sin(np.pi * i / (length - 1)) ** 2
    return np.abs(np.fft.rfft(frame)) ** 2


def mel_filters(rate, n_fft, n_mels, f_max):
    filters = np.zeros((n_mels, 1 + n_fft // 2))
    width = mel(f_max) / (n_mels + 1)
    for band in range(n_mels):
        low, high = width * band, width * (band + 2)
        for k in range(n_fft // 2):
            at = mel(k * rate / n_fft)
            filters[band, k] = max(0.0, min((at - low) / width, (high - at) / width))
    return filters


def convolved(maps, weight, stride):
    """Each output channel from all input channels, or, if its weight has one, from the channel of its number."""
    kernel = weight.shape[-1]
    around = kernel // 2
    padded = np.pad(maps, ((0, 0), (around, around), (around, around)))
    bands, frames = (1 + (size - 1) // stride for size in maps.shape[1:])
    found = np.zeros((len(weight), bands, frames))
    for f in range(bands):
        for t in range(frames):
            patch = padded[:, f * stride : f * stride + kernel, t * stride : t * stride + kernel]
            if weight.shape[1] == len(maps):
                found[:, f, t] = weight.reshape(len(weight), -1) @ patch.ravel()
            else:
                found[:, f, t] = (weight[:, 0] * patch).sum(axis=(1, 2))
    return found


def normalized(maps, tensors, name):
    mean, variance, weight, bias = (
        tensors[f"{name}.{kind}"][:, None, None] for kind in ("running_mean", "running_var", "weight", "bias")
    )
    return (maps - mean) / np.sqrt(variance + EPSILON) * weight + bias


def relu(x):
    return np.maximum(x, 0.0)


def hard_swish(x):
    return x * np.clip(x + 3, 0, 6) / 6


def layer(maps, tensors, name, stride, activation):
    return activation(normalized(convolved(maps, tensors[f"{name}.0.weight"], stride), tensors, f"{name}.1"))


def bottleneck(maps, tensors, name, stride, activation):
    """What there is to be done, and how wide, is told by the tensors that there are."""
    start = f"{name}.block."
    names = sorted({int(key.removeprefix(start).split(".")[0]) for key in tensors if key.startswith(start)})
    *inner, last = [f"{start}{i}" for i in names]
    found = maps
    for part in inner:
        if f"{part}.0.weight" not in tensors:
            found = excited(found, tensors, f"{part}.conc_se_layers.0")
        else:
            is_by_channel = tensors[f"{part}.0.weight"].shape[-1] > 1
            found = layer(found, tensors, part, stride if is_by_channel else 1, activation)
    found = layer(found, tensors, last, 1, lambda x: x)
    return maps + found if stride == 1 and found.shape == maps.shape else found


def excited(maps, tensors, name):
    means = maps.mean(axis=(1, 2))
    hidden = relu(tensors[f"{name}.fc1.weight"] @ means + tensors[f"{name}.fc1.bias"])
    weights = 1 / (1 + np.exp(-(tensors[f"{name}.fc2.weight"] @ hidden + tensors[f"{name}.fc2.bias"])))
    return maps * weights[:, None, None]


def blocks(levels, tensors, strides=STRIDES, first_hard_swish=FIRST_HARD_SWISH):
    """Of log-mel levels, (n_mels, frames): the outputs of features.0, features.1, ..."""
    tensors = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
    outputs = [layer(levels[None], tensors, "features.0", 2, hard_swish)]
    for n, stride in enumerate(strides, 1):
        activation = hard_swish if n >= first_hard_swish else relu
        outputs.append(bottleneck(outputs[-1], tensors, f"features.{n}", stride, activation))
    outputs.append(layer(outputs[-1], tensors, f"features.{len(strides) + 1}", 1, hard_swish))
    return outputs


def probabilities(last_output, tensors):
    tensors = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
    means = last_output.mean(axis=(1, 2))
    hidden = hard_swish(tensors["classifier.2.weight"] @ means + tensors["classifier.2.bias"])
    return 1 / (1 + np.exp(-(tensors["classifier.5.weight"] @ hidden + tensors["classifier.5.bias"])))

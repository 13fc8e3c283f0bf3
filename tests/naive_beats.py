"""BEATs from its equations: query by query, head by head, in double precision, from a dict of its weights."""

from __future__ import annotations

import math

import naive_fbank
import numpy as np
from scipy.special import erf


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def softmax(x):
    e = np.exp(x - max(x))
    return e / sum(e)


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state, name, x):
    """Of vectors, (..., dim)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def front_end(waveform):
    """(samples,) to (frames, 128)."""
    return (naive_fbank.kaldi_fbank(2**15 * waveform, window="povey") - 15.41663) / (2 * 6.55582)


def patches(state, fbank, size):
    """(frames, bands) to (n_tokens, dim): a row of patches for each time."""
    kernels = state["patch_embedding.weight"]
    embedded = []
    for t in range(len(fbank) // size):
        for f in range(fbank.shape[1] // size):
            patch = fbank[t * size : (t + 1) * size, f * size : (f + 1) * size]
            embedded.append([np.sum(kernel[0] * patch) for kernel in kernels])
    return linear(state, "post_extract_proj", norm(state, "layer_norm", np.array(embedded)))


def positions(state, x, groups):
    """The positional convolution of (n_tokens, dim): output n is of inputs n - length // 2 and after."""
    g, v = state["encoder.pos_conv.0.weight_g"], state["encoder.pos_conv.0.weight_v"]
    dim, per_group, length = v.shape
    out = np.zeros_like(x)
    for tap in range(length):
        weight = g[0, 0, tap] * v[:, :, tap] / np.sqrt(np.sum(v[:, :, tap] ** 2))
        for n in range(len(x)):
            m = n - length // 2 + tap
            if 0 <= m < len(x):
                for o in range(dim):
                    first = o // (dim // groups) * per_group
                    out[n, o] += weight[o] @ x[m, first : first + per_group]
    return gelu(out + state["encoder.pos_conv.0.bias"])


def bucket(distance, buckets, max_distance):
    """Of key position less query position."""
    half = buckets // 2
    exact = half // 2
    forward = half if distance > 0 else 0
    size = abs(distance)
    if size < exact:
        return forward + size
    share = math.log(size / exact) / math.log(max_distance / exact)
    return forward + min(half - 1, exact + math.floor(share * (half - exact)))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def gate(state, name, query, head):
    """How much a query of one head scales its biases."""
    eight = linear(state, f"{name}.grep_linear", query)
    update, reset = sigmoid(sum(eight[:4])), sigmoid(sum(eight[4:]))
    return update * (reset * state[f"{name}.grep_a"][0, head, 0, 0] - 1) + 2


def attention(state, i, x, cfg):
    name, heads = f"encoder.layers.{i}.self_attn", cfg["encoder_attention_heads"]
    table = state["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    q, k, v = (linear(state, f"{name}.{p}_proj", x) for p in "qkv")
    size = x.shape[1] // heads
    out = np.zeros_like(x)
    for h in range(heads):
        own = slice(h * size, (h + 1) * size)
        for a in range(len(x)):
            scale = gate(state, name, q[a, own], h) if cfg["gru_rel_pos"] else 1.0
            logits = []
            for b in range(len(x)):
                bias = table[bucket(b - a, cfg["num_buckets"], cfg["max_distance"]), h]
                logits.append(q[a, own] @ k[b, own] / math.sqrt(size) + scale * bias)
            out[a, own] = softmax(np.array(logits)) @ v[:, own]
    return linear(state, f"{name}.out_proj", out)


def block(state, i, x, cfg):
    name = f"encoder.layers.{i}"
    alpha = (2 * cfg["encoder_layers"]) ** 0.25 if cfg["deep_norm"] else 1.0
    x = norm(state, f"{name}.self_attn_layer_norm", alpha * x + attention(state, i, x, cfg))
    hidden = gelu(linear(state, f"{name}.fc1", x))
    return norm(state, f"{name}.final_layer_norm", alpha * x + linear(state, f"{name}.fc2", hidden))


def outputs(state, fbank, cfg):
    """(frames, bands) after the front end to the tokens of every block: (blocks, frames, bands, dim)."""
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    size = cfg["input_patch_size"]
    x = patches(state, fbank, size)
    x = norm(state, "encoder.layer_norm", x + positions(state, x, cfg["conv_pos_groups"]))
    of_blocks = []
    for i in range(cfg["encoder_layers"]):
        x = block(state, i, x, cfg)
        of_blocks.append(x.reshape(len(fbank) // size, fbank.shape[1] // size, -1))
    return np.array(of_blocks)

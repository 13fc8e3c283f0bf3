"""Slow and obvious twins of fast functions: what the tests compare with."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

# evaluation


def auc(normal_scores, anomaly_scores):
    """The share of (normal, anomaly) pairs in the right order; a tie is half right."""
    right = 0.0
    for n in normal_scores:
        for a in anomaly_scores:
            right += 1.0 if a > n else 0.5 if a == n else 0.0
    return right / (len(normal_scores) * len(anomaly_scores))


def pauc(normal_scores, anomaly_scores, max_fpr):
    """Area below the explicit ROC polygon up to ``max_fpr``, standardized after McClish."""
    points = [(0.0, 0.0)]
    for threshold in sorted({*normal_scores, *anomaly_scores}, reverse=True):
        fpr = sum(n >= threshold for n in normal_scores) / len(normal_scores)
        tpr = sum(a >= threshold for a in anomaly_scores) / len(anomaly_scores)
        points.append((fpr, tpr))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= max_fpr or x1 == x0:
            continue
        if x1 > max_fpr:
            y1 = y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
            x1 = max_fpr
        area += (x1 - x0) * (y0 + y1) / 2
    chance, perfect = max_fpr**2 / 2, max_fpr
    return (1 + (area - chance) / (perfect - chance)) / 2


def harmonic_mean(values, floor):
    return len(values) / sum(1 / max(v, floor) for v in values)


def precision_recall_f1(anomalous, flagged):
    hits = sum(1 for a, f in zip(anomalous, flagged, strict=True) if a and f)
    precision = hits / sum(flagged) if sum(flagged) else 0.0
    recall = hits / sum(anomalous) if sum(anomalous) else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0


# features, microphones, autoencoder


def stack_frames(features, n_frames):
    """(bands, frames) to vectors, each a list: frame by frame, all bands of one before the next."""
    bands, frames = features.shape
    return [
        [features[band, first + i] for i in range(n_frames) for band in range(bands)]
        for first in range(frames - n_frames + 1)
    ]


def cancelled(near, far, n_fft=1024, hop=512):
    """Near minus what far explains, by one complex coefficient a bin: a sum a bin, in double precision."""
    n = len(near)
    window = [0.5 - 0.5 * np.cos(2 * np.pi * i / n_fft) for i in range(n_fft)]
    times, bins = np.arange(n_fft), np.arange(n_fft // 2 + 1)
    transform = np.exp(-2j * np.pi * bins[:, None] * times / n_fft)

    def spectrum(waveform, centre):
        frame = np.zeros(n_fft)
        for i in range(n_fft):
            if 0 <= centre - n_fft // 2 + i < n:
                frame[i] = window[i] * waveform[centre - n_fft // 2 + i]
        return transform @ frame

    centres = range(0, n + hop, hop)  # up to the first at or past the end, which closes the overlap
    C = [spectrum(near, c) for c in centres]
    F = [spectrum(far, c) for c in centres]
    inside = [t for t, c in enumerate(centres) if c <= n]
    H = sum(C[t] * F[t].conj() for t in inside) / (sum(abs(F[t]) ** 2 for t in inside) + 1e-12)
    summed, weight = np.zeros(n), np.zeros(n)
    for t, centre in enumerate(centres):
        Y = C[t] - H * F[t]
        whole = np.r_[Y, Y[-2:0:-1].conj()]
        frame = np.array([(whole * np.exp(2j * np.pi * np.arange(n_fft) * i / n_fft)).sum() for i in times])
        for i in range(n_fft):
            if 0 <= centre - n_fft // 2 + i < n:
                summed[centre - n_fft // 2 + i] += window[i] * frame[i].real / n_fft
                weight[centre - n_fft // 2 + i] += window[i] ** 2
    return summed / weight


def reconstructed(state, x):
    """The autoencoder's output for the vector x, from a dict of its weights, in double precision."""
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    n_layers = 10
    of_norm = ("weight", "bias", "running_mean", "running_var")
    for i in range(n_layers):
        x = state[f"{3 * i}.weight"] @ x + state[f"{3 * i}.bias"]
        if i < n_layers - 1:
            norm = {name: state[f"{3 * i + 1}.{name}"] for name in of_norm}
            x = (x - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-3)
            x = np.maximum(0.0, x * norm["weight"] + norm["bias"])
    return x


def official_covariances(residuals, domains, batches, dim=128):
    """Of (vectors, 5 * dim) residuals: a covariance for each domain, as in the baseline's covariance pass.

    Per batch and per domain: rows of ``dim``, less their mean, outer products; the sum over batches is divided
    by the number of *vectors* less one. A domain without vectors takes the covariance of the source.
    """
    covariances = {}
    for domain in ("source", "target"):
        scatter, n_vectors = np.zeros((dim, dim)), 0
        for batch in batches:
            chosen = [i for i in batch if domains[i] == domain]
            if not chosen:
                continue
            rows = np.concatenate([residuals[i].reshape(-1, dim) for i in chosen])
            mean = rows.mean(axis=0)
            for row in rows:
                scatter += np.outer(row - mean, row - mean)
            n_vectors += len(chosen)
        covariances[domain] = scatter / (n_vectors - 1) if n_vectors else covariances["source"]
    return covariances


def official_mahalanobis(residuals, covariances, dim=128):
    """The smaller, over domains, mean of the whole N x N matrix ``D P D^T`` of a clip's N residual rows D."""
    D = residuals.reshape(-1, dim)
    return min((D @ np.linalg.inv(c) @ D.T).mean() for c in covariances.values())


def official_mse(residuals):
    """Mean over all vectors of a clip and all of their dimensions."""
    return sum(float(r) ** 2 for r in residuals.ravel()) / residuals.size


# back ends, thresholds


def ledoit_wolf(centred):
    """The shrunk covariance of rows with mean zero, and its shrinkage: Ledoit and Wolf (2004), section 3.2."""
    n, dim = centred.shape
    sample = sum(np.outer(x, x) for x in centred) / n
    m = np.trace(sample) / dim  # their inner product of matrices is the trace over dim
    d2 = np.sum((sample - m * np.eye(dim)) ** 2) / dim
    b2 = min(d2, sum(np.sum((np.outer(x, x) - sample) ** 2) / dim for x in centred) / n**2)
    shrinkage = b2 / d2 if dim > 1 else 0.0  # a single variance is its own multiple of the identity
    return shrinkage * m * np.eye(dim) + (1 - shrinkage) * sample, shrinkage


def nearest_domain_distance(fitted, domain, x):
    """Squared Mahalanobis distance of ``x`` to the nearest domain mean, under the shared covariance."""
    means = {
        d: np.mean([f for f, e in zip(fitted, domain, strict=True) if e == d], axis=0) for d in set(domain)
    }
    centred = np.array([f - means[d] for f, d in zip(fitted, domain, strict=True)])
    precision = np.linalg.inv(ledoit_wolf(centred)[0])
    return min((x - mean) @ precision @ (x - mean) for mean in means.values())


def mean_of_whole_matrix(rows, precision):
    """The N x N matrix of every pair of rows, averaged: what the official code computes."""
    return np.mean([[a @ precision @ b for b in rows] for a in rows])


def mean_of_row_lengths(rows, precision):
    return sum(row @ precision @ row for row in rows) / len(rows)


def p_value(normal_scores, score):
    """The rank of a score among the normal ones and itself."""
    return (1 + sum(n >= score for n in normal_scores)) / (1 + len(normal_scores))

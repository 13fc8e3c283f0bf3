"""Slow and obvious twins of fast functions: what the tests compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise, product

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


def cancelled_by_taps(near, far, n_fft, taps, ridge, limit_db):
    """Near minus what frames of far explain: the normal equations of each bin, one after the other."""
    n, hop = len(near), n_fft // 2
    window = np.hanning(n_fft + 1)[:-1]
    centres = range(0, n + hop, hop)  # up to the first at or past the end, which closes the overlap
    around = np.zeros((2, n_fft + n + n_fft))
    around[:, n_fft : n_fft + n] = near, far
    C, F = (
        np.array([np.fft.rfft(window * x[n_fft + c - hop : n_fft + c + hop]) for c in centres])
        for x in around
    )
    inside = [t for t, c in enumerate(centres) if c <= n]
    explained = np.zeros_like(C)
    for f in range(hop + 1):
        design = np.zeros((len(C), len(taps)), complex)
        for t in range(len(C)):
            for k, tap in enumerate(taps):
                if 0 <= t + tap < len(F):
                    design[t, k] = F[t + tap, f]
        A, c = design[inside], C[inside, f]
        gram = A.conj().T @ A
        loading = ridge * np.trace(gram).real / len(taps)
        if loading == 0 or not c.any() or len(inside) <= len(taps):
            continue
        H = np.linalg.solve(gram + loading * np.eye(len(taps)), A.conj().T @ c)
        share = 1 - (abs(c - A @ H) ** 2).sum() / (abs(c) ** 2).sum()
        mean = len(taps) / len(inside)
        chance = mean + 2 * (mean * (1 - mean) / (len(inside) + 1)) ** 0.5
        if share > chance and chance < 1:
            H = H * (share - chance) / (1 - chance) / share
            full, allowed = H, 10 ** (-limit_db / 10) * (abs(c) ** 2).sum()
            low, high = 0, 1  # by halves: more of the coefficients leave less
            for _ in range(60 * ((abs(c - A @ H) ** 2).sum() < allowed)):
                H = (low + high) / 2 * full
                low, high = (
                    (low, (low + high) / 2)
                    if (abs(c - A @ H) ** 2).sum() < allowed
                    else ((low + high) / 2, high)
                )
            explained[:, f] = design @ H
    summed, weight = np.zeros((2, n_fft + n + n_fft))
    for t, c in enumerate(centres):
        frame = slice(n_fft + c - hop, n_fft + c + hop)
        summed[frame] += window * np.fft.irfft(explained[t], n_fft)
        weight[frame] += window**2
    return near - summed[n_fft : n_fft + n] / weight[n_fft : n_fft + n]


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


# neighbours; back ends domain_local_density, density_normalized, nearest_neighbour, beam, gaussians


def euclidean(a, b):
    """In extended precision, as the one below: near-duplicates keep their digits."""
    return np.sqrt(sum((np.longdouble(x) - np.longdouble(y)) ** 2 for x, y in zip(a, b, strict=True)))


def cosine(a, b):
    """1 - cos, from the distance of unit vectors."""
    a, b = (np.asarray(v, np.longdouble) for v in (a, b))
    return sum((a / np.sqrt(sum(a * a)) - b / np.sqrt(sum(b * b))) ** 2) / 2


def nearest(query, references, k, distance):
    """(distance, index) of the k nearest, nearest first."""
    return sorted((distance(query, r), i) for i, r in enumerate(references))[:k]


def mean_to_others(i, references, k, distance):
    """Mean distance of reference i to its k nearest others."""
    others = [distance(references[i], r) for j, r in enumerate(references) if j != i]
    return sum(sorted(others)[:k]) / k


def nearest_neighbour(fitted, domain, x, k, distance):
    banks = [[f for f, e in zip(fitted, domain, strict=True) if e == d] for d in set(domain)]
    return float(min(sum(d for d, _ in nearest(x, bank, k, distance)) / k for bank in banks))


def domain_local_density(fitted, domain, x, ks, distance, normalization, eps):
    """Equations 2 and 3 of the report; ``ks`` has K by domain. No scale is below 0.05 of a domain's median one."""
    scores = []
    for d in set(domain):
        bank = [f for f, e in zip(fitted, domain, strict=True) if e == d]
        ((to_nearest, i),) = nearest(x, bank, 1, distance)
        means = [mean_to_others(j, bank, ks[d], distance) for j in range(len(bank))]
        mean = max(means[i], 0.05 * sorted_median(means))
        ratio = to_nearest / (ks[d] * mean + eps)
        scores.append(to_nearest - mean if normalization == "difference" else ratio)
    return float(min(scores))


def density_normalized(fitted, x, k, distance, normalization):
    """arXiv:2509.10951: every distance by the mean distance of that reference to its k nearest others."""
    scores = []
    scales = [mean_to_others(i, fitted, k, distance) for i in range(len(fitted))]
    for reference, scale in zip(fitted, scales, strict=True):
        if normalization == "ratio":
            scores.append(distance(x, reference) / max(scale, 0.001 * sorted_median(scales)))
        else:
            scores.append(distance(x, reference) - scale)
    return float(min(scores))


def beam(fitted, x, varmin=False):
    """Of (clips, bands, dim) and (bands, dim): for each band a neighbour of its own."""

    def half(a, b):
        return cosine(a, b) / 2

    scores = []
    for band in range(len(x)):
        references = [f[band] for f in fitted]
        subtract = [0.0] * len(fitted)
        if varmin:
            b = [mean_to_others(i, references, 4, half) for i in range(len(fitted))]
            alpha = variance_minimizing(references, half)
            subtract = [alpha * v for v in b]
        scores.append(min(half(x[band], r) - s for r, s in zip(references, subtract, strict=True)))
    return float(sum(scores) / len(scores))


def matched(references, distance):
    """Of each reference z: the distance to its nearest other j, and the mean of j to its 4 others, z among them."""
    for z, r in enumerate(references):
        to_nearest, j = min((distance(r, o), i) for i, o in enumerate(references) if i != z)
        yield to_nearest, mean_to_others(j, references, 4, distance)


def variance_minimizing(references, distance):
    u, v = (np.array(x) for x in zip(*matched(references, distance), strict=True))
    return np.mean((u - u.mean()) * (v - v.mean())) / np.mean((v - v.mean()) ** 2)


def gaussians(fitted, group, target, target_group, x, threshold, ridge=1e-4):
    """The smallest squared Mahalanobis distance: source groups, and target groups of the same name."""
    scores = []
    for g in sorted(set(group)):
        clips = np.array([f for f, h in zip(fitted, group, strict=True) if h == g])
        precision = np.linalg.inv(np.cov(clips.T).reshape(len(x), len(x)) + ridge * np.eye(len(x)))
        scores.append((x - clips.mean(axis=0)) @ precision @ (x - clips.mean(axis=0)))
        own = [t for t, h in zip(target, target_group, strict=True) if h == g]
        if own:
            centre = np.mean(own, axis=0)
            median = np.median([(t - centre) @ precision @ (t - centre) for t in own])
            scores.append((x - centre) @ precision @ (x - centre) / max(1, median / threshold))
    return min(scores)


def k_means(points, k):
    """The group of each point: the best of Lloyd's algorithm from every choice of k points."""
    points = [np.asarray(p, float) for p in points]

    def nearest_centre(p, centres):
        return min(range(k), key=lambda g: sum((p - centres[g]) ** 2))

    best = None
    for start in combinations(range(len(points)), k):
        centres, groups = [points[i] for i in start], None
        while groups != (groups := [nearest_centre(p, centres) for p in points]):
            own = [[p for p, g in zip(points, groups, strict=True) if g == h] for h in range(k)]
            centres = [sum(some) / len(some) if some else centres[h] for h, some in enumerate(own)]
        error = sum(sum((p - centres[g]) ** 2) for p, g in zip(points, groups, strict=True))
        if best is None or error < best[0]:
            best = error, groups
    return best[1]


# virtual and synthetic references, normalization by domain


def mem_mixup_references(fitted, domain, k, weight, target="target"):
    """All of them, the virtual ones written out."""
    sources = [f for f, d in zip(fitted, domain, strict=True) if d != target]
    targets = [f for f, d in zip(fitted, domain, strict=True) if d == target]
    virtual = []
    for t in targets:
        nearest = sorted(sources, key=lambda s: np.linalg.norm(t - s))[:k]
        virtual += [weight * t + (1 - weight) * s for s in nearest]
    return [*sources, *targets, *virtual]


def smote_references(fitted, domain, k, ratio, distance, rng):
    """The real ones, then for each smaller domain points on lines between neighbours; draws as the fast one."""
    banks = {d: [f for f, e in zip(fitted, domain, strict=True) if e == d] for d in sorted(set(domain))}
    wanted = round(ratio * max(map(len, banks.values())))
    references = list(fitted)
    for bank in banks.values():
        missing = wanted - len(bank)
        if missing <= 0:
            continue
        order = rng.permutation(len(bank))
        choices = rng.integers(k, size=missing)
        steps = rng.random(missing)
        for i in range(missing):
            begin = order[i % len(bank)]
            others = [j for j in range(len(bank)) if j != begin]
            others.sort(key=lambda j: distance(bank[begin], bank[j]))
            end = others[choices[i]]
            references.append(bank[begin] + steps[i] * (bank[end] - bank[begin]))
    return references


def normalized_by_domain(fitted, domain, x, fit_and_score):
    """Score over the median leave-one-out score of the domain's own; ``fit_and_score(fitted, x)`` is anything."""
    relative = []
    for d in set(domain):
        bank = [f for f, e in zip(fitted, domain, strict=True) if e == d]
        own = [fit_and_score(bank[:i] + bank[i + 1 :], bank[i]) for i in range(len(bank))]
        relative.append(fit_and_score(bank, x) / sorted_median(own))
    return min(relative)


def left_out_distances(fitted, domain, shrinkage, by_clips=()):
    """Of each clip, the squared Mahalanobis distance from its domain, by a fit without it; by domain.

    It is that to the mean of the domain, or, in the domains ``by_clips``, to the nearest clip of it.
    """
    distances = {d: [] for d in domain}
    for i, (x, own) in enumerate(zip(fitted, domain, strict=True)):
        rest = [(f, d) for j, (f, d) in enumerate(zip(fitted, domain, strict=True)) if j != i]
        means = {d: np.mean([f for f, e in rest if e == d], axis=0) for _, d in rest}
        if own not in means:
            continue
        scatter = sum(np.outer(f - means[d], f - means[d]) for f, d in rest) / len(rest)
        dim = len(x)
        covariance = (1 - shrinkage) * scatter + shrinkage * np.trace(scatter) / dim * np.eye(dim)
        precision = np.linalg.inv(covariance)
        centres = [f for f, d in rest if d == own] if own in by_clips else [means[own]]
        distances[own].append(min((x - c) @ precision @ (x - c) for c in centres))
    return distances


def sorted_median(values):
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


# fusion, protocols, statistics


def section_metrics(anomalous, domain, scores, counts):
    """AUCs (source and target, or one without domains) and pAUC, each clip written out as often as it counts."""
    clips = [
        c for c, n in zip(zip(anomalous, domain, scores, strict=True), counts, strict=True) for _ in range(n)
    ]
    anomalies = [s for a, _, s in clips if a]
    normals = [(d, s) for a, d, s in clips if not a]
    domains = ("source", "target") if "source" in domain or "target" in domain else (None,)
    aucs = [auc([s for e, s in normals if e == d], anomalies) for d in domains]
    return [*aucs, pauc([s for _, s in normals], anomalies, 0.1)]


def simplex(n, parts):
    """Every vector of n multiples of 1 / parts that sums to 1."""
    if n == 1:
        return [[parts / parts]]
    grid = product(range(parts + 1), repeat=n)
    return [[k / parts for k in w] for w in grid if sum(w) == parts]


def robust_sigmoid(scores, x):
    """Of the number x, by the median and the quartiles of ``scores``."""
    q1, median, q3 = (np.quantile(scores, q) for q in (0.25, 0.5, 0.75))
    return 1 / (1 + np.exp(-(x - median) / (q3 - q1)))


def rank(references, x):
    """Each lower reference counts one, each equal one a half."""
    return sum(1.0 if r < x else 0.5 if r == x else 0.0 for r in references) / len(references)


def fused(normals, scores, weights, calibration):
    """Of one clip: each branch on the scale of its own normal scores, then weighted and added."""
    total = 0.0
    for b, weight in enumerate(weights):
        own = sorted(normals[:, b])
        if calibration == "own_normals_log":
            middle = (own[(len(own) - 1) // 2] + own[len(own) // 2]) / 2
            total += weight * math.log(max(scores[b] / middle, 1e-6))
        else:
            total += weight * {"own_normals": robust_sigmoid, "reference_rank": rank}[calibration](
                own, scores[b]
            )
    return total


def best_weights(grid, omega_of):
    """The best Omega; among equals the nearest to equal weights; among these the first."""
    best, best_omega = None, -1.0
    for w in grid:
        found = omega_of(w)
        away = sum((x - 1 / len(w)) ** 2 for x in w)
        if found > best_omega + 1e-12 or (abs(found - best_omega) <= 1e-12 and away < best[1] - 1e-12):
            best, best_omega = (w, away), found
    return best[0], best_omega


def selected_forward(n, rounds, omega_of):
    """Caruana's selection, with replacement: the list of branches that were added, as far as it got better."""
    added, best, best_omega = [], [], -1.0
    for _ in range(rounds):
        found = []
        for branch in range(n):
            tried = [*added, branch]
            found.append(omega_of([tried.count(b) / len(tried) for b in range(n)]))
        chosen = next(b for b in range(n) if found[b] > max(found) - 1e-12)
        added = [*added, chosen]
        if found[chosen] > best_omega + 1e-12:
            best, best_omega = added, found[chosen]
    return [best.count(b) / len(best) for b in range(n)], best_omega


def kolmogorov_smirnov(a, b):
    """The largest difference of two distribution functions, looked for at every value."""
    return max(abs(sum(x <= v for x in a) / len(a) - sum(x <= v for x in b) / len(b)) for v in [*a, *b])


def jackknife(omega_of, n):
    """Standard error: of n values, each without one clip. ``omega_of`` takes the clips that stay."""
    without = [omega_of([j for j in range(n) if j != i]) for i in range(n)]
    mean = sum(without) / n
    return ((n - 1) / n * sum((x - mean) ** 2 for x in without)) ** 0.5


# inspection of recordings


def _band_edges(rate, length, bands=24, lowest=62.5):
    first = max(1, round(lowest * length / rate))
    edges = []
    for band in range(bands + 1):
        edge = round(first * (length / 2 / first) ** (band / bands))
        edges.append(max(edge, first + band, *edges[-1:]))
    return edges


def _frames_of(samples, rate):
    """Pairs of spectra, near and far, of Hann-windowed frames of 0.128 s; shorter recordings overlap them."""
    length = 2 ** round(np.log2(0.128 * rate))
    hop = length // 2 if samples.shape[1] < 4 * rate else length
    window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * i / length) for i in range(length)])
    window /= np.sqrt(sum(window**2) * length / 2)
    starts = range(0, samples.shape[1] - length + 1, hop)
    return [tuple(np.fft.rfft(x[start : start + length] * window) for x in samples) for start in starts]


def bands(waveform, rate, edges):
    """Of one view, in dB: level of the mean power of each band, and the 95 % quantile of those of its frames."""
    length = 2 ** round(np.log2(0.128 * rate))
    window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * i / length) for i in range(length)])
    turns = np.exp(-2j * np.pi * np.outer(np.arange(length // 2 + 1), np.arange(length)) / length)
    powers = []
    for start in range(0, len(waveform) - length + 1, length // 2):
        spectrum = turns @ (np.asarray(waveform[start : start + length], np.float64) * window)
        sums = [0.0] * (len(edges) - 1)
        for k, value in enumerate(spectrum):
            hertz, sides = k * rate / length, 1 if k == length // 2 else 2
            for band, (low, high) in enumerate(pairwise(edges)):
                if low <= hertz < high or hertz == high == rate / 2:
                    sums[band] += sides * abs(value) ** 2 / (length * sum(window**2))
        powers.append([max(power, 1e-10) for power in sums])
    levels, peaks = [], []
    for of_band in zip(*powers, strict=True):
        levels.append(10 * np.log10(sum(of_band) / len(of_band)))
        ordered = sorted(10 * np.log10(power) for power in of_band)
        place = 0.95 * (len(ordered) - 1)
        below, rest = int(place), place - int(place)
        above = ordered[min(below + 1, len(ordered) - 1)]
        peaks.append(ordered[below] + rest * (above - ordered[below]))
    return levels, peaks


def two_channels(samples, rate):
    """``Pair`` of a whole recording, and the levels of its channels."""
    near, far = samples = np.asarray(samples, np.float64)
    spectra = _frames_of(samples, rate)
    of_near = sum(abs(a) ** 2 for a, _ in spectra)
    of_far = sum(abs(b) ** 2 for _, b in spectra)
    cross = sum(a * np.conj(b) for a, b in spectra)
    common = abs(cross) ** 2 / (of_near * of_far)
    length = 2 * (len(cross) - 1)
    contrast, ratio, share, tonal, likeness = [], [], [], [], []
    for first, last in pairwise(_band_edges(rate, length)):
        band = slice(first, last)
        alone = np.maximum(1 - common[band], 1e-4)
        contrast.append(10 * np.log10(sum(of_near[band]) / sum(of_far[band])))
        ratio.append(10 * np.log10(sum(of_near[band] * alone) / sum(of_far[band])))
        share.append(sum(10 * np.log10(alone)) / len(alone))
        flat = [10 * np.log10(np.mean(x[band])) - np.mean(10 * np.log10(x[band])) for x in (of_near, of_far)]
        tonal.append(flat[0] - flat[1])
        likeness.append(np.mean(common[band]))
    return {
        "phase": sum(a * np.conj(b) for a, b in spectra)
        / np.sqrt(sum(abs(a) ** 2 for a, _ in spectra) * sum(abs(b) ** 2 for _, b in spectra)),
        "contrast": contrast,
        "presence": [*ratio, *share, *tonal],
        "likeness": sorted(likeness)[11:13][0] / 2 + sorted(likeness)[11:13][1] / 2,
        "level": [10 * np.log10(np.mean((x - np.mean(x)) ** 2)) for x in (near, far)],
    }


def agreement(clips, recording, rate):
    """The cosine between a recording's complex coherence and the mean of the training clips'."""
    phases = [two_channels(clip, rate)["phase"] for clip in clips]
    heard = two_channels(recording, rate)["phase"]
    product = of_heard = of_template = 0.0
    for f in range(len(heard)):
        mean = sum(phase[f] for phase in phases) / len(phases)
        by_chance = 1 / (len(phases) * max(abs(mean) ** 2, 1e-12))
        template = mean * np.sqrt(max(0.0, 1 - by_chance))
        product += (heard[f] * np.conj(template)).real
        of_heard += abs(heard[f]) ** 2
        of_template += abs(template) ** 2
    return product / np.sqrt(of_heard * of_template)


def places_of_the_next_score(scores: Sequence[float], edges: Sequence[float]) -> list[int]:
    """Of the n + 1 places among n scores that are equally likely for the next, how many are in each bin."""
    places = [0] * (len(edges) + 1)
    for score in scores:
        places[sum(edge < score for edge in edges)] += 1
    places[-1] += 1  # above all
    return places


# drift


def median_polish(table, sweeps):
    """Rows and columns of a table, in turn relieved of their medians, cell by cell; None is no cell."""

    def middle(values):
        known = sorted(v for v in values if v is not None)
        half = len(known) // 2
        return (known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2) if known else 0.0

    rows, columns = [0.0] * len(table), [0.0] * len(table[0])
    for sweep in range(sweeps + 1):
        for i, row in enumerate(table):
            rows[i] = middle([None if v is None else v - c for v, c in zip(row, columns, strict=True)])
        if sweep == sweeps:
            return rows, columns
        there = [any(row[j] is not None for row in table) for j in range(len(columns))]
        for j in range(len(columns)):
            columns[j] = middle(
                [None if row[j] is None else row[j] - r for row, r in zip(table, rows, strict=True)]
            )
        shift = middle([c for c, known in zip(columns, there, strict=True) if known])
        columns = [c - shift if known else 0.0 for c, known in zip(columns, there, strict=True)]
    return None


def sign(x):
    return (x > 0) - (x < 0)


def kendall(values):
    """Pairs in order less pairs in the wrong order."""
    return sum(sign(b - a) for a, b in combinations(values, 2))


def kendall_variance(n, coefficient):
    """Of Gaussian values with the autocorrelation ``coefficient ** lag``, pair by pair, by the law of arcsines."""

    def r(i, j):
        return coefficient ** abs(i - j)

    total, pairs = 0.0, list(combinations(range(n), 2))
    for i, j in pairs:
        for k, m in pairs:
            covariance = r(j, m) - r(j, k) - r(i, m) + r(i, k)
            scale = math.sqrt((2 - 2 * r(i, j)) * (2 - 2 * r(k, m)))
            total += 2 / math.pi * math.asin(max(-1.0, min(1.0, covariance / scale)))
    return total


def step(values, ends):
    """The block whose removal leaves two parts, of ``ends`` values at least, with the least squares."""
    best = None
    for k in range(ends, len(values) - ends):
        before, after = values[:k], values[k + 1 :]
        a, b = sum(before) / len(before), sum(after) / len(after)
        left = sum((v - a) ** 2 for v in before) + sum((v - b) ** 2 for v in after)
        if best is None or left < best[0]:
            best = (left, k, a, b)
    return best[1:]


def left_by_step_and_line(values):
    """Variance, and mean squares that the best step and the best line leave, after running medians of three."""
    n = len(values)
    inner = [sorted(values[i - 1 : i + 2])[1] for i in range(1, n - 1)]
    smooth = [values[0], *inner, values[-1]]
    mean, centre = sum(smooth) / n, (n - 1) / 2
    slope = sum((i - centre) * (v - mean) for i, v in enumerate(smooth)) / sum(
        (i - centre) ** 2 for i in range(n)
    )
    k, a, b = step(smooth, 2)
    low, high = sorted((a, b))
    stairs = [a if i < k else b if i > k else min(max(v, low), high) for i, v in enumerate(smooth)]
    lines = [mean + slope * (i - centre) for i in range(n)]
    return [
        sum((v - f) ** 2 for v, f in zip(smooth, fit, strict=True)) / n for fit in ([mean] * n, stairs, lines)
    ]

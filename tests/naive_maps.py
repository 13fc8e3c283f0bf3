"""Maps, written out: loops over dimensions and frames."""

from __future__ import annotations

import numpy as np
import scipy.linalg


def square_root(matrix):
    """Of a matrix that may have eigenvalues of 0: U s V' with U = V has the root U s^(1/2) U'."""
    u, s, _ = np.linalg.svd(matrix)
    return u @ np.diag(np.sqrt(s)) @ u.T


def corr_max(form):
    """(S^-1 G S^-1)^(1/2) S, with S the inverse standard deviations of the inverse of the form."""
    covariance = np.linalg.inv(form)
    n = len(form)
    scaled = np.array(
        [[form[i, j] * np.sqrt(covariance[i, i] * covariance[j, j]) for j in range(n)] for i in range(n)]
    )
    return square_root(scaled) @ np.diag([covariance[i, i] ** -0.5 for i in range(n)])


def map_of_means(frames, centre, precision):
    """Of the pooling ``mean``: (frames, bands) to (bands, frames) values, which add up to the quadratic form."""
    n, bands = frames.shape
    form = corr_max(precision)
    y = form @ (frames.mean(axis=0) - centre)
    values = np.zeros((bands, n))
    for t in range(n):
        for band in range(bands):
            of_frame = sum(form[band, i] * (frames[t, i] - centre[i]) for i in range(bands))
            values[band, t] = y[band] * of_frame / n
    return values


def map_of_shape(frames, centre, precision):
    """Of ``shape_mean_std``: means without their mean over bands, then standard deviations."""
    n, bands = frames.shape
    mean = [frames[:, b].mean() for b in range(bands)]
    std = [frames[:, b].std() for b in range(bands)]
    centring = np.eye(bands) - 1.0 / bands
    linear = scipy.linalg.block_diag(centring, np.eye(bands))  # what is done to means and standard deviations
    form = linear.T @ precision @ linear
    # a form without an inverse: the covariance of what it knows is the pseudo-inverse
    covariance = np.linalg.pinv(form, rcond=1e-10, hermitian=True)
    root = np.diag(np.sqrt(np.diag(covariance)))
    transformation = square_root(root @ form @ root) @ np.linalg.inv(root)
    embedding = np.concatenate([np.array(mean) - np.mean(mean), std])
    y = transformation @ (embedding - centre)
    values = np.zeros((bands, n))
    for t in range(n):
        of_means = [frames[t, b] - mean[b] + (embedding[b] - centre[b]) for b in range(bands)]
        of_stds = [(frames[t, b] - mean[b]) ** 2 / std[b] - centre[bands + b] for b in range(bands)]
        y_of_frame = transformation @ np.array(of_means + of_stds)
        for b in range(bands):
            values[b, t] = (y[b] * y_of_frame[b] + y[bands + b] * y_of_frame[bands + b]) / n
    return values

"""Slow, obvious twins of `nearfar.recordings.inspection.unlike`."""

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage


def distances(rows, domains, used, *, few):
    """Squared distances of each clip by a mean and a covariance that are made anew without it."""
    names = sorted(set(domains))
    numbers = {name: [i for i, d in enumerate(domains) if d == name] for name in names}
    largest = max(names, key=lambda name: len(numbers[name]))

    def residuals(which):
        """Of these clips around the means of their domains."""
        means = {
            n: rows[[i for i in which if domains[i] == n]].mean(axis=0) for n in {domains[i] for i in which}
        }
        return np.array([rows[i] - means[domains[i]] for i in which]), means

    every = [i for i in range(len(rows)) if used[i]]
    shrinkage = ledoit_wolf_shrinkage(residuals(every)[0], assume_centered=True)
    found = np.full(len(rows), np.nan)
    for i, domain in enumerate(domains):
        own = numbers[domain]
        if len(own) == 1:
            continue
        rest = [j for j in every if j != i]
        around, means = residuals(rest)
        scatter = around.T @ around / len(rest)
        identity = np.trace(scatter) / len(scatter) * np.eye(len(scatter))
        precision = np.linalg.inv((1 - shrinkage) * scatter + shrinkage * identity)
        small = len(own) < few and domain != largest
        centres = [rows[j] for j in own if used[j] and j != i] if small else [means[domain]]
        found[i] = min((rows[i] - c) @ precision @ (rows[i] - c) for c in centres)
    return found


def discoveries(p, share):
    """Benjamini and Hochberg: the largest k whose k-th smallest p-value is at most k / n times the share."""
    ordered = sorted(p)
    k = max((k for k in range(1, len(p) + 1) if ordered[k - 1] <= share * k / len(p)), default=0)
    return [value <= ordered[k - 1] if k else False for value in p]

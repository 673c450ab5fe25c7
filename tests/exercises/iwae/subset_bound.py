"""Right answers for `subset_bound`, each in another style."""

import itertools
import math

import torch


def subset_in_a_loop(log_w, m):
    bounds = [
        torch.logsumexp(torch.stack(rows), dim=0) - math.log(m)
        for rows in itertools.combinations(log_w, m)
    ]
    return sum(bounds) / len(bounds)


def subset_over_permutations(log_w, m):
    # every subset is counted m! times
    orders = torch.tensor(list(itertools.permutations(range(len(log_w)), m)), device=log_w.device)
    largest = log_w[orders].amax(1, keepdim=True)
    means = torch.exp(log_w[orders] - largest).mean(1)
    return (torch.log(means) + largest[:, 0]).mean(0)


def subset_by_recursion(log_w, m):
    def total(start, chosen):
        if len(chosen) == m:
            return torch.logsumexp(log_w[chosen], 0) - math.log(m)
        rest = range(start, len(log_w) - (m - len(chosen)) + 1)
        return sum(total(i + 1, [*chosen, i]) for i in rest)

    return total(0, []) / math.comb(len(log_w), m)


def subset_with_masks(log_w, m):
    subsets = [s for s in itertools.product([0, 1], repeat=len(log_w)) if sum(s) == m]
    masks = torch.tensor(subsets, device=log_w.device, dtype=torch.bool)
    masked = log_w[None].masked_fill(~masks[:, :, None], -math.inf)
    return masked.logsumexp(1).sub(math.log(m)).mean(0)


RIGHT = (
    subset_in_a_loop,
    subset_over_permutations,
    subset_by_recursion,
    subset_with_masks,
)

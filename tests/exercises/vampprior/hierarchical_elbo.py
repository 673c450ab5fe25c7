"""Right answers for `hierarchical_elbo`, each in another style."""

import torch


def hierarchical_from_kl_terms(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    return log_px - (log_qz1 - log_pz1) - (log_qz2 - log_pz2)


def hierarchical_stacked(*terms):
    signs = torch.tensor([1, 1, 1, -1, -1], dtype=terms[0].dtype, device=terms[0].device)
    return signs @ torch.stack(terms)


def hierarchical_in_a_loop(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    return torch.stack(
        [
            a + (b + c) - (d + e)
            for a, b, c, d, e in zip(log_px, log_pz1, log_pz2, log_qz1, log_qz2, strict=True)
        ]
    )


RIGHT = (
    hierarchical_from_kl_terms,
    hierarchical_stacked,
    hierarchical_in_a_loop,
)

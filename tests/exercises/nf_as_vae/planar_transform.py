"""Right answers for `planar_transform`, each in another style."""

import torch
import torch.nn.functional as F


def planar_as_in_the_paper(z, u, w, b):
    along = torch.dot(w, u)
    u_hat = u + (F.softplus(along) - 1 - along) * w / torch.norm(w) ** 2
    activation = torch.tanh(F.linear(z, w.unsqueeze(0), b))
    psi = (1 - activation**2) * w
    return z + activation * u_hat, torch.log(torch.abs(1 + psi @ u_hat))


def planar_in_loops(z, u, w, b):
    m = torch.logaddexp((w * u).sum(), torch.zeros_like(b)) - 1
    u_hat = u + (m - (w * u).sum()) * w / (w * w).sum()
    points, log_dets = [], []
    for row in z:
        a = (w * row).sum() + b
        points.append(row + u_hat * torch.tanh(a))
        # det(I + û tanh' wᵀ), the whole matrix
        if len(w) < 10:
            matrix = torch.diag(torch.ones_like(w)) + torch.outer(
                u_hat, (1 - torch.tanh(a) ** 2) * w
            )
            log_dets.append(torch.logdet(matrix))
        else:
            log_dets.append(torch.log1p((1 - torch.tanh(a) ** 2) * (w @ u_hat)))
    return torch.stack(points), torch.stack(log_dets)


def planar_by_einsum(z, u, w, b):
    along = torch.einsum("l,l->", w, u)
    stretch = F.softplus(along)
    direction = F.normalize(w, dim=0)
    # the part of u across w stays, the part along w is replaced
    across = u - (direction @ u) * direction
    u_hat = across + (stretch - 1) * direction / torch.linalg.norm(w)
    a = torch.einsum("bl,l->b", z, w) + b
    slope = 4 * torch.sigmoid(2 * a) * torch.sigmoid(-2 * a)
    return z + torch.einsum("b,l->bl", torch.tanh(a), u_hat), torch.log1p(slope * (stretch - 1))


def planar_from_the_jacobian(z, u, w, b):
    start = z if z.requires_grad else z.detach().requires_grad_()
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    moved = start + torch.tanh(start @ w + b).outer(u_hat)
    # the determinant is the product of the stretch along û, everything else stays
    slope = torch.autograd.grad((moved @ w).sum(), start, create_graph=True)[0] @ w / (w @ w)
    return moved, slope.log()


RIGHT = (
    planar_as_in_the_paper,
    planar_in_loops,
    planar_by_einsum,
    planar_from_the_jacobian,
)

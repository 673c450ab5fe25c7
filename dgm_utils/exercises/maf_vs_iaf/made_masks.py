"""`made_masks`: the masks that make a network autoregressive."""

import itertools

import torch

from dgm_utils import maf_vs_iaf
from nbjudge.asking.page import Page

page = Page(
    maf_vs_iaf.made_masks,
    "masks of 0 and 1, (out, in), that make a network strictly autoregressive",
    points=3,
    minutes=25,
    difficulty=3,
    axes="_, _, _ -> _",
    compare=False,
    hints=(
        "Give each unit a degree, the number of inputs (in the order) that it may depend on. "
        "The input that comes k-th (k = 1 … D) has degree k. What does that allow between layers?",
        "Hidden degrees run through 1 … D − 1 again and again: `1 + torch.arange(size) % (D - 1)`, "
        "with care at D = 1. A hidden unit sees degrees ≤ its own. The output that comes k-th "
        "sees degrees < k.",
        "`place = torch.tensor([order.index(i) + 1 for i in range(D)])`, hidden masks "
        "`degrees[:, None] >= previous`, where the first `previous` is `place`, and the last mask "
        "`place[:, None] > previous`. Use `max(1, D - 1)` for the remainder.",
    ),
)


@page.cases
def _(draw):
    def shuffled(num):
        return torch.randperm(num, generator=draw.generator).tolist()

    yield page.case("three inputs in the natural order", 3, [4], [0, 1, 2])
    for order in list(itertools.permutations(range(3)))[1:]:
        sizes = [draw.integer(2, 6)]
        yield page.case("three inputs in another order", 3, sizes, list(order))
    d = draw.integer(5, 7)
    yield page.case("as few units as are enough", d, [d - 1, d - 1], shuffled(d))
    yield page.case("layers of different widths", d, [2 * d + 1, d, 3 * d - 1], shuffled(d))
    yield page.case("no hidden layer", d - 1, [], shuffled(d - 1))
    yield page.case("a layer of fewer than D − 1 units", d, [2, d + 2], shuffled(d))
    yield page.case("one unit", 4, [1], shuffled(4))
    yield page.case("two inputs", 2, [draw.integer(1, 3)], [1, 0])
    yield page.case("one input", 1, [draw.integer(2, 4)], [0])
    yield page.case("20 inputs", 20, [19, 40], shuffled(20))


@page.must
def have_the_shapes(masks, num_inputs, hidden_sizes):
    """Each mask has a layer's shape, (out, in): from D inputs through the hidden sizes to D
    outputs, one for each input. Yours have other shapes.
    """
    layers = itertools.pairwise([num_inputs, *hidden_sizes, num_inputs])
    return [tuple(mask.shape) for mask in masks] == [(b, a) for a, b in layers]


@page.must
def be_zero_or_one(masks):
    """A mask holds zeros and ones only. Yours do not."""
    return all(bool(((mask == 0) | (mask == 1)).all()) for mask in masks)


def _paths(masks, order):
    """How many paths lead to each output from each input, both sorted by the order."""
    product = torch.eye(len(order), dtype=torch.float64)
    for mask in masks:
        product = mask.double().cpu() @ product
    return product[order][:, order]


@page.must
def not_see_itself(masks, order):
    """In the product of your masks (last @ … @ first) an output is connected to the very input
    that it is to predict. It may see only inputs that come before, not itself.
    """
    return not _paths(masks, order).diagonal().any()


@page.must
def see_no_later_input(masks, order):
    """In the product of your masks (last @ … @ first) an output is connected to an input that
    comes after it. Input `order[k]` comes k-th, and output i belongs to input i.
    """
    return not _paths(masks, order).triu(1).any()


@page.must
def see_all_before_it(masks, num_inputs, hidden_sizes, order):
    """In the product of your masks (last @ … @ first) an output is not connected to an input that
    comes before it, although every hidden layer has at least D − 1 units. All of these connections
    are wanted.
    """
    if any(size < num_inputs - 1 for size in hidden_sizes):
        return True
    earlier = torch.ones(num_inputs, num_inputs).tril(-1).bool()
    return bool((_paths(masks, order)[earlier] > 0).all())


@page.right
def _(num_inputs, hidden_sizes, order):
    place = torch.tensor([order.index(i) + 1 for i in range(num_inputs)])
    degrees = [place]
    for size in hidden_sizes:
        degrees.append(1 + torch.arange(size) % max(1, num_inputs - 1))
    masks = [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]
    return [*masks, (place[:, None] > degrees[-1]).float()]


@page.piece
def places(num_inputs, order):
    """The place of each input in the order, from 1."""
    return torch.tensor([order.index(i) + 1 for i in range(num_inputs)])


@page.piece
def hidden_degrees(num_inputs, hidden_sizes):
    """The degrees of each hidden layer, 1 … D − 1 again and again."""
    return [1 + torch.arange(size) % max(1, num_inputs - 1) for size in hidden_sizes]


@page.piece
def masks_of(degrees, outputs):
    """The masks between layers of these degrees, and to outputs of these."""
    masks = [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]
    return [*masks, (outputs[:, None] > degrees[-1]).float()]


@page.wrong("≥ in the last mask")
def _(num_inputs, hidden_sizes, order):
    """Your last mask uses ≥, as the hidden ones do, so an output sees its own input; the output
    that comes k-th may see units of degree below k only, >.
    """
    place = places(num_inputs, order)
    degrees = [place, *hidden_degrees(num_inputs, hidden_sizes), place]
    return [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]


@page.wrong("> in the hidden masks")
def _(num_inputs, hidden_sizes, order):
    """You use > between the hidden layers too. Nothing is seen that must not be, but paths are
    lost at each layer; a hidden unit may see all of its own degree or below, ≥.
    """
    place = places(num_inputs, order)
    degrees = [place, *hidden_degrees(num_inputs, hidden_sizes), place]
    return [(b[:, None] > a).float() for a, b in itertools.pairwise(degrees)]


@page.wrong("always the natural order")
def _(num_inputs, hidden_sizes, order):
    """Your masks belong to the order 0, 1, 2, … whatever `order` is; input `order[k]` is the one
    that comes k-th, and it has the degree k + 1.
    """
    place = 1 + torch.arange(num_inputs)
    return masks_of([place, *hidden_degrees(num_inputs, hidden_sizes)], place)


@page.wrong("the order taken for the degrees")
def _(num_inputs, hidden_sizes, order):
    """You use `order` itself as the degrees. `order[k]` is the index of the input that comes
    k-th; the degree of an input is its place, the inverse permutation, `order.index(i)`.
    """
    place = 1 + torch.tensor(order)
    return masks_of([place, *hidden_degrees(num_inputs, hidden_sizes)], place)


@page.wrong("outputs not reordered")
def _(num_inputs, hidden_sizes, order):
    """You reorder the inputs but not the outputs: row i of the last mask belongs to input i, with
    that input's degree, whatever comes i-th.
    """
    degrees = [places(num_inputs, order), *hidden_degrees(num_inputs, hidden_sizes)]
    return masks_of(degrees, 1 + torch.arange(num_inputs))


@page.wrong("hidden degrees from 0")
def _(num_inputs, hidden_sizes, order):
    """Your hidden degrees run from 0 to D − 1. A unit of degree 0 sees no input and is wasted,
    and a layer of D − 1 units then lacks a degree that is needed; let them run from 1 to D − 1.
    """
    place = places(num_inputs, order)
    return masks_of([place, *(torch.arange(size) % num_inputs for size in hidden_sizes)], place)


@page.wrong("degrees drawn at random")
def _(num_inputs, hidden_sizes, order):
    """You draw the hidden degrees at random, so a narrow layer can lack one, and with it all
    paths through it; spread the degrees 1 … D − 1 evenly over the units.
    """
    generator = torch.Generator().manual_seed(0)
    place = places(num_inputs, order)
    degrees = [place]
    for size in hidden_sizes:
        degrees.append(torch.randint(1, max(2, num_inputs), (size,), generator=generator))
    return masks_of(degrees, place)


page.but(
    "(in, out) for (out, in)",
    "Your masks have the shape (in, out). They multiply the weight of `nn.Linear`, which is (out, "
    "in): the transpose.",
    lambda masks: [mask.T for mask in masks],
)
page.but(
    "two outputs for each input",
    "Your last mask has two rows for each input, for mu and log_sigma; one is asked for here, D "
    "rows in all, and a network repeats it as often as it needs.",
    lambda masks: [*masks[:-1], masks[-1].repeat(2, 1)],
)

"""Self-training of the neural posterior: copies of clear spikes are taught the place the teacher gives the original.

The teacher's posterior q of the clear spike is sampled at every step, r ~ q, and the student minimizes
-log p(r | copy). Averaged over all copies that look alike this is the cross entropy with the mixture of their teachers'
posteriors: the student learns how much a copy leaves open and never more than the teacher knew. On the recording's
plain spikes of all sizes the student is held to the teacher, by the divergence of Gaussians with the mean and scale of
each,

    KL(q || p) = (tr(P^-1 Q) + d^T P^-1 d - 3 + log |P| / |Q|) / 2,

with d the difference of the means and P and Q the scale matrices; plus the squared difference of the logarithms of the
degrees of freedom.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from ..training import EarlyStopping, cosine_factor, one_thread, progress, seeded
from .fine_tune_copies import CopyBatch
from .neural_posterior import PreparedPosterior
from .set_network import SetNetwork
from .torch_network import PosteriorNetwork, split_outputs, student_log_density

__all__ = ["CopyScores", "Posteriors", "Targets", "network_posteriors", "score_copies", "tune_network"]

VALIDATE_EVERY, PATIENCE = 25, 6
# of the running mean of the weights, which is what is validated and kept: batches are small and targets random
AVERAGE_DECAY = 0.97
# places drawn from each teacher's posterior: in a step, and for held-out copies
STEP_DRAWS, HELD_OUT_DRAWS = 2, 16
# outputs after the posterior over the place: amplitude, its spread, outlier logit
FIRST_OTHER_OUTPUT = 10


class Posteriors(NamedTuple):
    """Student t distributions in the plane of the probe, relative to the centre contacts.

    Attributes
    ----------
    mean : float32 tensor, shape (n, 3)
        In um.
    factor : float32 tensor, shape (n, 3, 3)
        Lower triangular factor of the scale matrix, in um.
    dof : float32 tensor, shape (n,)
        Degrees of freedom.
    """

    mean: torch.Tensor
    factor: torch.Tensor
    dof: torch.Tensor

    def moved(self, batch: CopyBatch) -> "Posteriors":
        """Those of the copied spikes, as seen from the centre channels of the copies."""
        rows = torch.from_numpy(batch.rows)
        shift = torch.as_tensor(batch.moved, dtype=self.mean.dtype)
        return Posteriors(self.mean[rows] - shift, self.factor[rows], self.dof[rows])


def _torch_network(network: SetNetwork, num_slots: int) -> PosteriorNetwork:
    """The torch network with the weights of a numpy one."""
    sizes = {name: value.shape for name, value in network.weights.items()}
    module = PosteriorNetwork(
        basis_size=sizes["channel1.weight"][1],
        slots=num_slots,
        channel=sizes["channel1.weight"][0],
        code=sizes["channel2.weight"][0],
        place=sizes["place.4.weight"][0],
        hidden=sizes["dense1.weight"][0],
        code2=sizes["channel4.weight"][0],
    )
    module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in network.weights.items()})
    return module


def _from_outputs(outputs: torch.Tensor, scale: torch.Tensor) -> Posteriors:
    """Outputs of the network as posteriors, with the factor (n,) on the standard deviations that calibrates them."""
    mean, factor, dof, *_ = split_outputs(outputs)
    return Posteriors(mean, factor * scale[:, None, None], dof)


def _sample_places(posteriors: Posteriors, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Places drawn from posteriors: (n, count, 3), in um."""
    normal = torch.as_tensor(rng.standard_normal((len(posteriors.dof), count, 3)), dtype=torch.float32)
    dof = posteriors.dof.detach().double().numpy()[:, None]
    stretch = torch.as_tensor(np.sqrt(dof / rng.chisquare(np.broadcast_to(dof, normal.shape[:2]))), dtype=torch.float32)
    steps = torch.einsum("nij,ncj->nci", posteriors.factor, normal)
    return posteriors.mean[:, None] + stretch[..., None] * steps


def network_posteriors(prepared: PreparedPosterior, batch: CopyBatch, network: SetNetwork | None = None) -> Posteriors:
    """Posteriors of a batch by the prepared model, or by another network in its place (float32, on the CPU)."""
    network = prepared.model.network if network is None else network
    offsets = prepared.geometry.plane_offsets[batch.channels]
    outputs = network(batch.coefficients, network.place_codes(offsets, batch.observed))
    return _from_outputs(torch.from_numpy(outputs), _scale(prepared, batch))


class Targets:
    """Where the teacher puts the copied spikes: its mean (n, 3), and places drawn from its posterior (n, draws, 3)."""

    def __init__(self, originals: Posteriors, batch: CopyBatch, seed: int):
        moved = originals.moved(batch)
        self.mean, self.places = moved.mean, _sample_places(moved, HELD_OUT_DRAWS, np.random.default_rng([seed, 4]))


class CopyScores(NamedTuple):
    """How far a model is from the teacher on copies, float64 arrays of shape (num_copies,).

    Attributes
    ----------
    nll : array
        Minus the mean log density of the teacher's places.
    distance : array
        Between the means, in the plane, in um.
    inside : array
        Share of the teacher's places in the 90 % region of the plane.
    """

    nll: np.ndarray
    distance: np.ndarray
    inside: np.ndarray


def score_copies(
    prepared: PreparedPosterior, batch: CopyBatch, targets: Targets, network: SetNetwork | None = None
) -> CopyScores:
    """Scores of the prepared model, or of another network in its place."""
    from scipy.stats import f

    found = network_posteriors(prepared, batch, network)
    nll = -student_log_density(*found, targets.places).double().mean(1).numpy()
    distance = (found.mean - targets.mean)[:, :2].norm(dim=1).double().numpy()
    matrix = (found.factor @ found.factor.transpose(1, 2))[:, :2, :2].double()
    delta = (targets.places - found.mean[:, None])[:, :, :2].double()
    squared = torch.einsum("nci,nij,ncj->nc", delta, torch.linalg.inv(matrix), delta).numpy()
    inside = squared / 2.0 <= f.ppf(0.9, 2, found.dof.double().numpy())[:, None]
    return CopyScores(nll, distance, inside.mean(axis=1))


def tune_network(
    prepared: PreparedPosterior,
    draw_copies: Callable[[np.random.Generator], CopyBatch],
    draw_plain: Callable[[np.random.Generator], CopyBatch],
    validation: CopyBatch,
    originals: Posteriors,
    *,
    steps: int,
    learning_rate: float,
    anchor: float,
    seed: int,
    device: str,
    progress_bar: bool,
) -> tuple[SetNetwork, dict]:
    """The fine-tuned network.

    Parameters
    ----------
    prepared : PreparedPosterior
        The teacher, from whose weights the student starts.
    draw_copies, draw_plain
        Give a batch of copies to learn from, and of plain spikes to hold on to.
    validation : CopyBatch
        Copies for early stopping.
    originals : Posteriors
        The teacher's of the spikes that are copied, by their rows.
    steps : int
        At most.
    learning_rate : float
        Of Adam at its start; it falls along half a cosine.
    anchor : float
        Weight of the divergence from the teacher on plain spikes.
    seed, device, progress_bar
        As elsewhere.

    Returns
    -------
    SetNetwork
        Best in validation, which may be the one it started from.
    dict
        ``steps``, ``best_step`` and ``validation_nll`` by step.
    """
    model = prepared.model
    rng = np.random.default_rng([seed, 3])
    targets = Targets(originals, validation, seed).places.to(device)
    stopping, history = EarlyStopping(PATIENCE), []
    with seeded(seed), one_thread():
        original = _torch_network(model.network, model.num_slots).to(device)
        student = _torch_network(model.network, model.num_slots).to(device)
        average = _torch_network(model.network, model.num_slots).to(device)
        _freeze_other_outputs(student)
        optimizer = torch.optim.Adam(student.parameters(), lr=learning_rate)

        def validate():
            with torch.no_grad():
                outputs = average(*_inputs(prepared, validation, device))
                found = _from_outputs(outputs, _scale(prepared, validation).to(device))
                history.append(-float(student_log_density(*found, targets).mean()))
            stopping.update(-history[-1], average)

        validate()
        for step in progress(range(steps), description="fine-tune localizer", show=progress_bar):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * cosine_factor(step, steps)
            copies, plain = draw_copies(rng), draw_plain(rng)
            target = _sample_places(originals.moved(copies), STEP_DRAWS, rng).to(device)
            loss = _loss(prepared, student, original, copies, target, device)
            loss = loss + anchor * _divergence(prepared, student, original, plain, device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), student.parameters(), strict=True):
                    slow.lerp_(fast, 1.0 - AVERAGE_DECAY)
            if (step + 1) % VALIDATE_EVERY == 0 or step + 1 == steps:
                validate()
                if stopping.exhausted:
                    break
        stopping.restore(average)
    weights = {name: value.detach().cpu().numpy().copy() for name, value in average.state_dict().items()}
    best = min(stopping.best_epoch * VALIDATE_EVERY, steps)
    return SetNetwork(weights), {"steps": step + 1, "best_step": best, "validation_nll": history}


def _scale(prepared, batch):
    return torch.as_tensor(prepared.scale, dtype=torch.float32)[batch.channels]


def _inputs(prepared, batch, device):
    offsets = prepared.geometry.plane_offsets[batch.channels]
    return tuple(torch.from_numpy(a).to(device) for a in (batch.coefficients, offsets, batch.observed))


def _loss(prepared, student, original, copies, target, device):
    """Negative log density of the sampled places; amplitude and outlier probability stay what they were."""
    inputs = _inputs(prepared, copies, device)
    outputs = student(*inputs)
    found = _from_outputs(outputs, _scale(prepared, copies).to(device))
    return -student_log_density(*found, target).mean() + _other_outputs(outputs, original, inputs)


def _divergence(prepared, student, original, plain, device):
    inputs = _inputs(prepared, plain, device)
    outputs = student(*inputs)
    scale = _scale(prepared, plain).to(device)
    with torch.no_grad():
        kept = _from_outputs(original(*inputs), scale)
    found = _from_outputs(outputs, scale)
    white = torch.linalg.solve_triangular(found.factor, kept.factor, upper=False)
    shift = torch.linalg.solve_triangular(found.factor, (kept.mean - found.mean)[..., None], upper=False)
    logs = [p.factor.diagonal(dim1=1, dim2=2).log().sum(1) for p in (found, kept)]
    squares = (white**2).sum((1, 2)) + (shift**2).sum((1, 2))
    tails = (found.dof.log() - kept.dof.log()) ** 2
    return (0.5 * (squares - 3.0) + logs[0] - logs[1] + tails).mean() + _other_outputs(outputs, original, inputs)


def _other_outputs(outputs, original, inputs):
    with torch.no_grad():
        kept = original(*inputs)[:, FIRST_OTHER_OUTPUT:]
    return 0.1 * ((outputs[:, FIRST_OTHER_OUTPUT:] - kept) ** 2).mean()


def _freeze_other_outputs(student):
    """No gradient reaches the rows of the last layer that say amplitude and outlier probability."""

    def without(gradient):
        gradient = gradient.clone()
        gradient[FIRST_OTHER_OUTPUT:] = 0.0
        return gradient

    student.output.weight.register_hook(without)
    student.output.bias.register_hook(without)

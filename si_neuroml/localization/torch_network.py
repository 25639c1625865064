"""The network of the neural posterior in torch, to train and to fine-tune it; spikes are localized in numpy."""

import math

import torch
from torch import nn

from .set_network import LENGTH_UM, NUM_OUTPUTS, POOL_SCALE, RADIAL_SCALES_UM

__all__ = ["PosteriorNetwork", "posterior_loss", "split_outputs", "student_log_density"]


def _position_features(offsets):
    """As :func:`~si_neuroml.localization.set_network.position_features`."""
    squared = (offsets**2).sum(-1, keepdim=True)
    bumps = [torch.exp(-0.5 * squared / scale**2) for scale in RADIAL_SCALES_UM]
    return torch.cat([offsets / LENGTH_UM, *bumps], dim=-1)


class PosteriorNetwork(nn.Module):
    """Sums over channels of (features of the place) x (features of the waveform), then dense layers; twice.

    The sum sees a set: any number of channels, in any order. Its first dense layer is what the first layer of an
    ordinary network on a fixed array would be, with weights that are smooth functions of the contact's place. The
    second round looks at every channel again, knowing what the first one made of all of them.
    """

    def __init__(self, basis_size=40, slots=24, channel=56, code=28, place=36, hidden=224, code2=20):
        super().__init__()
        self.slots = slots
        self.place = nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, place))
        self.channel1 = nn.Linear(basis_size, channel)
        self.channel2 = nn.Linear(channel, code)
        self.dense1 = nn.Linear(place * (code + 1) + 1, hidden)
        self.dense2 = nn.Linear(hidden, hidden)
        self.context = nn.Linear(hidden, channel)
        self.channel3 = nn.Linear(channel, channel, bias=False)
        self.place_in = nn.Linear(place, channel, bias=False)
        self.channel4 = nn.Linear(channel, code2)
        self.dense3 = nn.Linear(place * code2 + hidden, hidden)
        self.dense4 = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, NUM_OUTPUTS)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def forward(self, coefficients, offsets, observed):
        """Outputs for waveforms (n, slots, basis) in uV, offsets (n, slots, 3) in um and observed (n, slots)."""
        coefficients, offsets, observed = (x[:, : self.slots] for x in (coefficients, offsets, observed))
        scale = (coefficients**2).sum(-1).amax(1).clamp_min(1e-6).sqrt()
        inputs = coefficients / scale[:, None, None]
        place = self.place(_position_features(offsets)) * observed[..., None]
        first = torch.relu(self.channel1(inputs))
        code = torch.relu(self.channel2(first))
        code = torch.cat([code, torch.ones_like(code[..., :1])], dim=-1)
        pooled = torch.einsum("bck,bcj->bkj", place, code).flatten(1) / POOL_SCALE
        pooled = torch.cat([pooled, (scale[:, None].log() - 5.0)], dim=1)
        hidden = torch.relu(self.dense1(pooled))
        hidden = hidden + torch.relu(self.dense2(hidden))
        again = torch.relu(self.channel3(first) + self.place_in(place) + self.context(hidden)[:, None])
        code = torch.relu(self.channel4(again))
        pooled = torch.einsum("bck,bcj->bkj", place, code).flatten(1) / POOL_SCALE
        hidden = hidden + torch.relu(self.dense3(torch.cat([pooled, hidden], dim=1)))
        hidden = hidden + torch.relu(self.dense4(hidden))
        return self.output(hidden)


def split_outputs(outputs):
    """(mean um, lower Cholesky factor um, degrees of freedom, log amplitude, its log sd, outlier logit)."""
    mean = outputs[:, :3] * LENGTH_UM + outputs.new_tensor([0.0, 0.0, LENGTH_UM])
    diagonal = 10.0 * torch.exp(outputs[:, 3:6].clamp(-5, 5))
    factor = torch.diag_embed(diagonal)
    factor[:, 1, 0], factor[:, 2, 0], factor[:, 2, 1] = (10.0 * outputs[:, 6 + k] for k in range(3))
    dof = 2.5 + 10.0 * nn.functional.softplus(outputs[:, 9])
    return mean, factor, dof, 5.0 + outputs[:, 10], outputs[:, 11].clamp(-5, 3), outputs[:, 12]


def student_log_density(mean, factor, dof, places):
    """Log density per um^3 of Student t distributions, parameters (n, ...), at places (n, count, 3): (n, count)."""
    dims = 3
    white = torch.linalg.solve_triangular(factor, (places - mean[:, None]).transpose(1, 2), upper=False)
    constant = torch.lgamma((dof + dims) / 2) - torch.lgamma(dof / 2) - 0.5 * dims * torch.log(dof * math.pi)
    constant = constant - factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return constant[:, None] - 0.5 * (dof[:, None] + dims) * torch.log1p((white**2).sum(1) / dof[:, None])


def posterior_loss(outputs, place, log_amplitude, is_false, is_outlier):
    """(loss, negative log density of the place) of a batch; false peaks teach the outlier probability only."""
    mean, factor, dof, amplitude, amplitude_log_sd, logit = split_outputs(outputs)
    log_density = student_log_density(mean, factor, dof, place[:, None])[:, 0]
    real = (~is_false).float()
    total = real.sum().clamp_min(1)
    place_nll = -(log_density * real).sum() / total
    amplitude_nll = amplitude_log_sd + 0.5 * ((log_amplitude - amplitude) * torch.exp(-amplitude_log_sd)) ** 2
    outlier = nn.functional.binary_cross_entropy_with_logits(logit, is_outlier.float())
    return place_nll + 0.1 * (amplitude_nll * real).sum() / total + 0.3 * outlier, place_nll

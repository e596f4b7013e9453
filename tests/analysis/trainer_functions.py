"""Weight functions as public trainers write them, in our own words; what they compute is the trainers'."""

import math

import numpy as np
import torch
from torch import Tensor

BETAS = np.linspace(1e-4, 0.02, 1000)
SNR = np.cumprod(1 - BETAS) / (1 - np.cumprod(1 - BETAS))  # a table that some repositories build when they start


def snr_of(noise_scheduler, timesteps) -> Tensor:  # type: ignore[no-untyped-def]
    alpha = noise_scheduler.alphas_cumprod.sqrt()[timesteps]
    sigma = (1 - noise_scheduler.alphas_cumprod).sqrt()[timesteps]
    return (alpha / sigma) ** 2


# ---------------------------------------------------------------- diffusers' scripts


def min_snr_eps(timesteps, noise_scheduler, gamma=5.0):  # type: ignore[no-untyped-def]
    snr = snr_of(noise_scheduler, timesteps)
    return torch.stack([snr, gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0] / snr


def min_snr_v(noise_scheduler, timesteps, gamma=5.0):  # type: ignore[no-untyped-def]
    snr = snr_of(noise_scheduler, timesteps)
    return torch.stack([snr, gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0] / (snr + 1)


def min_snr_v_of_snr_plus_one(noise_scheduler, timesteps, gamma=5.0):  # type: ignore[no-untyped-def]
    snr = snr_of(noise_scheduler, timesteps) + 1
    return torch.stack([snr, gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0] / snr


def sd3_weighting(weighting_scheme, sigmas=None):  # type: ignore[no-untyped-def]
    if weighting_scheme == "sigma_sqrt":
        return (sigmas**-2.0).float()
    if weighting_scheme == "cosmap":
        return 2 / (math.pi * (1 - 2 * sigmas + 2 * sigmas**2))
    return torch.ones_like(sigmas)


def sd3_sigma_sqrt_by_lookup(timesteps, noise_scheduler):  # type: ignore[no-untyped-def]
    places = [(noise_scheduler.timesteps == t).nonzero().item() for t in timesteps]
    return (noise_scheduler.sigmas[places].flatten() ** -2.0).float()


# ---------------------------------------------------------------- sd-scripts


def apply_snr_weight(loss, timesteps, noise_scheduler, gamma, v_prediction=False):  # type: ignore[no-untyped-def]
    snr = torch.stack([noise_scheduler.all_snr[t] for t in timesteps])
    least = torch.minimum(snr, torch.full_like(snr, gamma))
    return loss * (least / (snr + 1) if v_prediction else least / snr).float()


def apply_debiased_estimation(loss, timesteps, noise_scheduler, v_prediction=False):  # type: ignore[no-untyped-def]
    snr = torch.stack([noise_scheduler.all_snr[t] for t in timesteps])
    snr = torch.minimum(snr, torch.ones_like(snr) * 1000)
    return loss * (1 / (snr + 1) if v_prediction else 1 / torch.sqrt(snr))


def scale_v_prediction_loss_like_noise_prediction(loss, timesteps, noise_scheduler):  # type: ignore[no-untyped-def]
    snr = torch.stack([noise_scheduler.all_snr[t] for t in timesteps])
    snr = torch.minimum(snr, torch.ones_like(snr) * 1000)
    return loss * (snr / (snr + 1))


def add_v_prediction_like_loss(loss, timesteps, noise_scheduler, v_pred_like_loss):  # type: ignore[no-untyped-def]
    snr = torch.stack([noise_scheduler.all_snr[t] for t in timesteps])
    snr = torch.minimum(snr, torch.ones_like(snr) * 1000)
    return loss + loss / (snr / (snr + 1)) * v_pred_like_loss


# ---------------------------------------------------------------- OneTrainer


def onetrainer_debiased(timesteps, noise_scheduler, v_pred=False):  # type: ignore[no-untyped-def]
    snr = torch.clip(snr_of(noise_scheduler, timesteps), max=1e3)
    return torch.rsqrt(snr + 1 if v_pred else snr)


def onetrainer_p2(timesteps, noise_scheduler, gamma, v_pred=False):  # type: ignore[no-untyped-def]
    snr = snr_of(noise_scheduler, timesteps)
    return (1 + (snr + 1 if v_pred else snr)) ** -gamma


# ---------------------------------------------------------------- papers' repositories


def p2_repository(t, p2_gamma=0.5, p2_k=1):  # type: ignore[no-untyped-def]
    return torch.from_numpy(1 / (p2_k + SNR) ** p2_gamma)[t].float()


def debias_repository(t):  # type: ignore[no-untyped-def]
    return torch.from_numpy(1 / np.sqrt(SNR))[t].float()


def k_diffusion_soft_min_snr(sigma, sigma_data=0.5):  # type: ignore[no-untyped-def]
    return (sigma * sigma_data) ** 2 / (sigma**2 + sigma_data**2) ** 2


def edm_lambda(sigma, sigma_data=0.5):  # type: ignore[no-untyped-def]
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def progressive_distillation_truncated(snr):  # type: ignore[no-untyped-def]
    return torch.maximum(snr, torch.ones_like(snr)) / (snr + 1)


def debiased_on_v(snr):  # type: ignore[no-untyped-def]
    return snr.sqrt() / (snr + 1)

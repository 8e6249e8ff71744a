"""Other people's ways to feed a training: each turns slices and masks into batches, as its documentation says."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from braintransfer.augment import Strength
from braintransfer.network import normalise_unit

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Slices:
    """What every contender is given: images and masks (n, H, W) uint8 in memory, and how the batches are to look.

    foreground: (n,) bool. crop in pixels. workers: processes that prepare batches; 0 prepares them in the training process.
    """

    images: np.ndarray
    masks: np.ndarray
    steps: int
    batch: int
    crop: int
    seed: int
    workers: int
    strength: Strength

    @property
    def draws(self) -> list[int]:
        """One row for each sample of the training, three quarters of them with foreground, as the study draws them."""
        from braintransfer.training import batch_order

        shown = np.asarray((self.masks > 0).any(axis=(1, 2)))
        return batch_order(shown, self.steps, self.batch, np.random.default_rng(self.seed)).ravel().tolist()


class _Pairs(Dataset[Any]):
    """Pictures and masks one by one, through a function of both: the usual Dataset."""

    def __init__(self, slices: Slices, transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.slices, self.transform = slices, transform

    def __len__(self) -> int:
        return len(self.slices.images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        image = torch.from_numpy(self.slices.images[row]).unsqueeze(0).float() / 255
        return self.transform(image, torch.from_numpy(self.slices.masks[row]).unsqueeze(0))


def _loaded(dataset: Dataset[Any], slices: Slices) -> DataLoader[Any]:
    return DataLoader(
        dataset, batch_size=slices.batch, sampler=slices.draws, num_workers=slices.workers,
        persistent_workers=slices.workers > 0,
    )  # fmt: skip


def _viewed(slices: Slices, views: Callable[..., Any]) -> Batches:
    """Batches of a plain Dataset and DataLoader through transforms of torchvision's v2."""
    from torchvision import tv_tensors

    def transform(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        turned = views(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return turned[0].as_subclass(Tensor), turned[1].as_subclass(Tensor)

    for images, masks in _loaded(_Pairs(slices, transform), slices):
        yield normalise_unit(images), masks.squeeze(1).long()


def torchvision_batches(slices: Slices) -> Batches:
    """A plain Dataset and DataLoader with torchvision's v2 transforms."""
    from torchvision.transforms import v2

    s = slices.strength
    views = v2.Compose(
        [
            v2.RandomCrop(slices.crop, pad_if_needed=True),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(s.rotation, scale=(1 / s.scale, s.scale)),
            v2.ElasticTransform(alpha=s.elastic * slices.crop * 10, sigma=slices.crop / 10),
            v2.ColorJitter(brightness=s.brightness, contrast=(1 / s.contrast, s.contrast)),
            v2.GaussianNoise(sigma=s.noise / 2),
        ]
    )

    return _viewed(slices, views)


def monai_batches(slices: Slices) -> Batches:
    """MONAI's CacheDataset and its dictionary transforms."""
    from monai import transforms
    from monai.data import CacheDataset

    s, both = slices.strength, ["image", "mask"]
    steps = transforms.Compose(
        [
            transforms.EnsureChannelFirstd(both, channel_dim="no_channel"),
            transforms.ScaleIntensityRanged("image", 0, 255, 0, 1),
            transforms.RandCropByPosNegLabeld(
                both, label_key="mask", spatial_size=(slices.crop,) * 2, pos=3, neg=1, allow_smaller=True
            ),
            transforms.ResizeWithPadOrCropd(both, (slices.crop,) * 2),
            transforms.RandFlipd(both, prob=0.5, spatial_axis=1),
            transforms.Rand2DElasticd(
                both, spacing=(slices.crop / 4,) * 2, magnitude_range=(0, s.elastic * slices.crop), prob=1,
                rotate_range=math.radians(s.rotation), scale_range=s.scale - 1, mode=("bilinear", "nearest"),
                padding_mode="reflection",
            ),
            transforms.RandAdjustContrastd("image", prob=1, gamma=(1 / s.gamma, s.gamma)),
            transforms.RandScaleIntensityd("image", factors=s.contrast - 1, prob=1),
            transforms.RandShiftIntensityd("image", offsets=s.brightness, prob=1),
            transforms.RandBiasFieldd("image", prob=1, coeff_range=(0, s.bias)),
            transforms.RandGaussianNoised("image", prob=1, std=s.noise),
        ]
    )  # fmt: skip
    items = [{"image": i, "mask": m} for i, m in zip(slices.images, slices.masks, strict=True)]
    cached = CacheDataset(items, steps, progress=False)

    def collate(items: list[Any]) -> tuple[Tensor, Tensor]:
        flat = [x for item in items for x in (item if isinstance(item, list) else [item])]
        return tuple(torch.stack([x[key].as_tensor() for x in flat]) for key in both)  # type: ignore[return-value]

    loader: DataLoader[Any] = DataLoader(
        cached, batch_size=slices.batch, sampler=slices.draws, num_workers=slices.workers, collate_fn=collate,
        persistent_workers=slices.workers > 0,
    )  # fmt: skip
    for images, masks in loader:
        yield normalise_unit(images), masks.squeeze(1).long()


def nnunet_batches(slices: Slices) -> Batches:
    """nnU-Net's own loader, transforms (batchgeneratorsv2) and augmenter for its 2-D configuration."""
    import os

    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, ".")  # it asks for them at import, and nothing is read from there
    from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
    from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    classes = list(range(1, int(slices.masks.max()) + 1))
    images = slices.images[:, None, None].astype(np.float32) / 255  # case, channel, slice, H, W
    segmentations = slices.masks[:, None, None].astype(np.int16)
    where = [{c: np.argwhere(s == c) for c in classes} for s in segmentations]

    class InMemory(nnUNetBaseDataset):  # type: ignore[misc]
        def load_case(self, identifier: str) -> tuple[Any, ...]:
            k = int(identifier)
            return images[k], segmentations[k], None, {"class_locations": where[k]}

        @staticmethod
        def save_case(*_: Any) -> None:
            """Asked for by the base class; reading alone never calls it."""

        @staticmethod
        def get_identifiers(folder: str) -> list[str]:
            return [str(k) for k in range(len(images))]

    class Labels:
        has_ignore_label = False
        all_labels = [0, *classes]  # noqa: RUF012  it adds a list to it

    patch, turn = (slices.crop,) * 2, (-math.pi, math.pi)
    transforms = nnUNetTrainer.get_training_transforms(patch, turn, None, (0, 1), False)
    first = get_patch_size(patch, turn, turn, turn, (0.85, 1.25))
    loader = nnUNetDataLoader(
        InMemory(""), slices.batch, first, patch, Labels(), oversample_foreground_percent=0.75, transforms=transforms
    )
    if slices.workers:
        feed = NonDetMultiThreadedAugmenter(
            loader, None, slices.workers, num_cached=6, pin_memory=False, wait_time=0.002
        )
    else:
        feed = SingleThreadedAugmenter(loader, None)
    for _ in range(slices.steps):
        made = next(feed)
        yield normalise_unit(made["data"]), made["target"].squeeze(1).clamp(min=0).long()
    if slices.workers:
        feed._finish()


def smp_batches(slices: Slices) -> Batches:
    """As in the multi-class example of segmentation-models-pytorch, albumentations in Dataset and DataLoader; no hue, as all is grey.

    https://github.com/qubvel-org/segmentation_models.pytorch/blob/main/examples/camvid_segmentation_multiclass.ipynb
    """
    import albumentations as alb

    views = alb.Compose(
        [
            alb.HorizontalFlip(p=0.5),
            alb.ShiftScaleRotate(scale_limit=0.5, rotate_limit=0, shift_limit=0.1, p=1, border_mode=0),
            alb.PadIfNeeded(slices.crop, slices.crop),
            alb.RandomCrop(slices.crop, slices.crop),
            alb.GaussNoise(p=0.2),
            alb.Perspective(p=0.5),
            alb.OneOf([alb.CLAHE(p=1), alb.RandomBrightnessContrast(p=1), alb.RandomGamma(p=1)], p=0.9),
            alb.OneOf([alb.Sharpen(p=1), alb.Blur(blur_limit=3, p=1), alb.MotionBlur(blur_limit=3, p=1)], p=0.9),
            alb.RandomBrightnessContrast(p=0.9),
        ]
    )

    def transform(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        turned = views(image=(image[0] * 255).byte().numpy(), mask=mask[0].numpy())
        return torch.from_numpy(turned["image"])[None].float() / 255, torch.from_numpy(turned["mask"])[None]

    for images, masks in _loaded(_Pairs(slices, transform), slices):
        yield normalise_unit(images), masks.squeeze(1).long()


def cropped_batches(slices: Slices) -> Batches:
    """A plain Dataset and DataLoader that only crops; the binary example of the same library changes no picture either."""
    from torchvision.transforms import v2

    return _viewed(slices, v2.RandomCrop(slices.crop, pad_if_needed=True))


def torchio_batches(slices: Slices) -> Batches:
    """TorchIO's subjects, transforms and queue of patches."""
    import torchio as tio

    s = slices.strength
    subjects = [
        tio.Subject(
            image=tio.ScalarImage(tensor=torch.from_numpy(i)[None, :, :, None].float() / 255),
            mask=tio.LabelMap(tensor=torch.from_numpy(m)[None, :, :, None]),
        )
        for i, m in zip(slices.images, slices.masks, strict=True)
    ]
    transform = tio.Compose(
        [
            tio.CropOrPad((max(slices.crop, slices.images.shape[1]), max(slices.crop, slices.images.shape[2]), 1)),
            tio.RandomFlip(axes=(1,), flip_probability=0.5),
            tio.RandomAffine(scales=(s.scale - 1, s.scale - 1, 0), degrees=(0, 0, s.rotation)),
            tio.RandomElasticDeformation(num_control_points=5, max_displacement=(s.elastic * slices.crop,) * 2 + (0,)),
            tio.RandomGamma(log_gamma=math.log(s.gamma)),
            tio.RandomBiasField(coefficients=s.bias, order=2),
            tio.RandomNoise(std=(0, s.noise)),
        ]
    )
    queue = tio.Queue(
        tio.SubjectsDataset([subjects[k] for k in slices.draws], transform=transform),
        max_length=4 * slices.batch, samples_per_volume=1,
        sampler=tio.LabelSampler((slices.crop, slices.crop, 1), "mask", {0: 1, **{k: 3 for k in range(1, 4)}}),
        num_workers=slices.workers,
    )  # fmt: skip
    for batch in tio.SubjectsLoader(queue, batch_size=slices.batch, num_workers=0):
        yield normalise_unit(batch["image"]["data"][..., 0]), batch["mask"]["data"][:, 0, ..., 0].long()


@dataclass(frozen=True)
class Loader:
    """One way to make batches: name, function, and the packages that it stands on (the first gives the version)."""

    name: str
    batches: Callable[[Slices], Batches]
    packages: tuple[str, ...]

    @property
    def version(self) -> str:
        """Version of the first package, or "" when one is not installed."""
        try:
            return [importlib.metadata.version(p) for p in self.packages][0]
        except importlib.metadata.PackageNotFoundError:
            return ""


LOADERS = {
    loader.name: loader
    for loader in (
        Loader("PyTorch + torchvision", torchvision_batches, ("torchvision",)),
        Loader("MONAI", monai_batches, ("monai",)),
        Loader("nnU-Net", nnunet_batches, ("nnunetv2", "batchgeneratorsv2")),
        Loader("segmentation-models-pytorch", smp_batches, ("segmentation-models-pytorch", "albumentations")),
        Loader("segmentation-models-pytorch, crop alone", cropped_batches, ("segmentation-models-pytorch",)),
        Loader("TorchIO", torchio_batches, ("torchio",)),
    )
}  # fmt: skip

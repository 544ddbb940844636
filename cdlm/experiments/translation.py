"""The trainings behind Table 4 and Figure 8, and their records.

Generated from book/src/84b_translating.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.utils import save_image

from cdlm.data.batches import normalize
from cdlm.data.domain import Domain, Split
from cdlm.domains.catalog import in_color, open_domain
from cdlm.domains.sketch import canny_edges, pencil_sketch, to_gray
from cdlm.evaluation.accuracy import accuracy
from cdlm.evaluation.readouts import in_batches
from cdlm.evaluation.translation import (
    detail_kept,
    gradient_features,
    quality,
    radial_power,
    variety,
)
from cdlm.experiments.record import EXPECTED, one_thread, short
from cdlm.files import RunError, need_folder, read_json, write_json
from cdlm.methods.anchors import AnchorConfig, Cycle, PairedUNet
from cdlm.methods.source import SourceConfig, SourceOnly
from cdlm.methods.translation import (
    Translation,
    TranslationConfig,
    Translator,
    as_channels,
    draw_beside,
)
from cdlm.provenance import provenance
from cdlm.runs.record import read_records
from cdlm.runs.run import data_checksums
from cdlm.settings import Images, flat
from cdlm.training.callbacks import CsvLog
from cdlm.training.checkpoints import read_checkpoint
from cdlm.training.loop import Loop, train

__all__ = [
    "Approach",
    "BOTH",
    "MAPPINGS",
    "PAPER_SHOES",
    "PAPER_TABLE4",
    "REACHED",
    "SHOWN",
    "SIZES_OF",
    "TRANSLATED",
    "Task",
    "TranslationJob",
    "WAYS",
    "anchors_of",
    "as_read",
    "carry_out_translation",
    "cell_of",
    "cut_short",
    "drawings_of",
    "feed_of",
    "held_out_sheet",
    "jobs_left",
    "make_records",
    "make_translator",
    "mapping_record",
    "mapping_rows",
    "measured",
    "read_share",
    "reader_of",
    "readings",
    "table4_cells",
    "translation_jobs",
    "varieties",
]


# 84b_translating: Ways, and what feeds them

@dataclass(frozen=True)
class Approach:
    """One way to learn a mapping: what a table calls it, the method, and its settings."""

    title: str
    method: type[Translator] | None     # None for the anchors that need no training
    settings: Mapping[str, object] = field(default_factory=dict)


# L_c with ten times the paper's weights, for the decoder and for the encoder
REACHED = {"consistency_phi": 1e-4, "beta1": 1.0, "beta2": 0.1, "optimizer_phi": "adam",
           "lr_phi": 1e-3}
BOTH = REACHED | {"contrast": True}
WAYS = {
    "anchors": Approach("no training", None),
    "printed": Approach("CDLM as printed, a vector", Translation, {"code": "vector"}),
    "printed-map": Approach("CDLM as printed, maps", Translation),
    "vector": Approach("+ L_c reaches phi, a vector", Translation,
                       REACHED | {"code": "vector"}),
    "map": Approach("+ L_c reaches phi, maps", Translation, REACHED),
    "improved": Approach("+ local contrast, maps", Translation, BOTH),
    "sharp": Approach("+ a judge of patches", Translation, BOTH | {"sharpness": 300.0}),
    "cycle": Approach("CycleGAN-style, unpaired", Cycle),
    "paired": Approach("U-Net, paired: the ceiling", PairedUNet),
}


def make_translator(way: Approach, width: int, size: int, drawn: int, read: int,
                    seed: int) -> Translator:
    """The networks of a way, initialized from a seed, for a source of ``drawn`` channels and a
    target of ``read``."""
    torch.manual_seed(seed)
    if way.method is Translation:
        config = TranslationConfig.of(**way.settings, width=width, drawn=drawn,
                                      side=size // 4)
        return Translation(config, Images(max(drawn, read), size, 1))
    config = AnchorConfig(width=width, drawn=drawn, read=read)
    channels = drawn + read if way.method is PairedUNet else max(drawn, read)
    return way.method(config, Images(channels, size, 1))


def feed_of(way: Approach, source: Domain, target: Domain,
            pair: Callable[[Tensor], Tensor]) -> tuple[Domain, Domain]:
    """What a way is trained with: both domains with equal channels, or for the paired one the
    source's images with their drawings behind them.

    ``pair`` draws a photograph, bytes (N, 3, H, W); which domain has photographs is told by
    its channels.
    """
    if way.method is PairedUNet:
        photos = (source if source.channels == 3 else target).train.images
        drawn = torch.cat([pair(part) for part in photos.split(512)])
        both = (photos, drawn) if source.channels == 3 else (drawn, photos)
        told = Split(torch.cat(both, 1), torch.full((len(photos),), -1))
        return replace(source, train=told), replace(target, train=told)
    if source.channels == target.channels:
        return source, target
    return tuple(domain if domain.channels == 3 else replace(domain, train=in_color(
        domain.train)) for domain in (source, target))


@torch.no_grad()
def drawings_of(method: Translator, images: Tensor, samples: int = 0,
                seed: int = 0) -> Tensor:
    """Drawings of byte images (N, C, H, W) without noise, or (samples, N, ...) with it."""
    x, generator = normalize(images), torch.Generator().manual_seed(seed)
    if not samples:
        return in_batches(method.translate, x, 100)
    shape = (samples, len(x), method.noise[1])
    return torch.stack([method.draw(x, eps)
                        for eps in torch.randn(shape, generator=generator)])


# 84b_translating: Runs that can be cut off

@dataclass(frozen=True)
class Task:
    """From images of the domain ``target`` to images of the domain ``source``, in whose style
    is drawn; ``pair`` draws a photograph."""

    title: str
    source: str
    target: str
    pair: Callable[[Tensor], Tensor]


MAPPINGS = {
    "sketch-face": Task("sketch to face", "faces", "sketches", pencil_sketch),
    "face-sketch": Task("face to sketch", "sketches", "faces", pencil_sketch),
    "shoe-edge": Task("shoe to edge", "edges", "shoes", canny_edges),
    "edge-shoe": Task("edge to shoe", "shoes", "edges", canny_edges),
}
TRANSLATED = {"table4": {"sketch-face": tuple(WAYS), "shoe-edge": tuple(WAYS)},
              "fig8": dict.fromkeys(MAPPINGS, ("improved",))}
PAPER_TABLE4 = {"ssim": 0.7961, "mse": 0.0140, "psnr": 19.89}
PAPER_SHOES = 0.953
SIZES_OF = {"smoke": {"steps": 3, "width": 4, "classifier": 3, "tested": 8},
            "full": {"steps": 800, "width": 16, "classifier": 300, "tested": 10**9}}


class TranslationJob(NamedTuple):
    """One training: which mapping, in which way, from which seed, how much of it."""

    mapping: str
    way: str
    seed: int
    profile: str = "full"

    @property
    def name(self) -> str:
        """The name of its record."""
        return f"{self.mapping}_{self.way}_s{self.seed}"

    @property
    def asked(self) -> dict[str, object]:
        """All that the run follows from but data and code, as its record has it."""
        way, how = WAYS[self.way], SIZES_OF[self.profile]
        return {"mapping": self.mapping, "way": self.way, "seed": self.seed, "batch_size": 8,
                "settings": dict(way.settings), **how}


def translation_jobs(what: str, seeds: Iterable[int],
                     profile: str = "full") -> list[TranslationJob]:
    """The trainings behind Table 4 or Figure 8, seed by seed.

    Raises RunError for other words, and for a profile there is not.
    """
    if what not in TRANSLATED:
        raise RunError(f"{what!r} is no translation; there are {', '.join(TRANSLATED)}")
    if profile not in SIZES_OF:
        raise RunError(
            f"translations have the profiles {', '.join(SIZES_OF)}; not {profile!r}")
    return [TranslationJob(mapping, way, seed, profile) for seed in seeds
            for mapping, ways in TRANSLATED[what].items() for way in ways]


def reader_of(domain: Domain, steps: int, seed: int) -> SourceOnly:
    """A small classifier of a domain's own images, trained on its labels."""
    torch.manual_seed(seed)
    images = Images(domain.channels, domain.train.images.shape[-1], len(domain.classes))
    reader = SourceOnly(SourceConfig(), images)
    train(reader, domain, domain, Loop(steps, seed))
    return reader


def read_share(reader: SourceOnly, images: Tensor, labels: Tensor) -> float:
    """Share of images in [-1, 1] that a classifier reads right."""
    with torch.no_grad():
        return accuracy(in_batches(lambda x: reader.logits(x).argmax(1), images), labels)


def as_read(images: Tensor, channels: int) -> Tensor:
    """Byte images in [-1, 1] with the ``channels`` that a classifier of the other domain
    reads: gray by luminance, or three equal ones."""
    gray_or_not = to_gray(images) * 2 - 1 if channels == 1 else normalize(images)
    return as_channels(gray_or_not, channels)


def readings(source: Domain, target: Domain, drawn: Tensor | None, steps: int,
             seed: int) -> dict[str, float]:
    """What a classifier of the source reads in drawings, or without them what it reads in the
    target's images and in the truth, and what one of the target reads there."""
    labels, reader = target.test.labels, reader_of(source, steps, seed)
    if drawn is not None:
        return {"translated_accuracy": read_share(reader, drawn, labels)}
    x = target.test.images
    return {"untranslated_accuracy": read_share(reader, as_read(x, source.channels), labels),
            "truth_accuracy": read_share(reader, normalize(source.test.images), labels),
            "direct_accuracy": read_share(reader_of(target, steps, seed), normalize(x),
                                          labels)}


def anchors_of(source: Domain, target: Domain) -> dict[str, dict[str, float]]:
    """Quality of the input itself, taken for the answer, and of the source's mean training
    image."""
    truth = normalize(source.test.images)
    mean = normalize(source.train.images).mean(0, keepdim=True).expand_as(truth)
    return {"input": quality(as_read(target.test.images, source.channels), truth),
            "mean": quality(mean, truth)}


def varieties(method: Translation, source: Domain, target: Domain, count: int = 100,
              samples: int = 8) -> dict[str, dict[str, float]]:
    """Variety of drawings of ``count`` test images: by noise alone, and beside random images
    of the source; in pixels, and in gradients."""
    truth, images = (normalize(d.test.images[:count]) for d in (source, target))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        chosen = torch.randint(len(source.train), (samples, len(images)), generator=generator)
        beside = torch.stack([draw_beside(
            method, images, normalize(source.train.images[rows]),
            torch.zeros(len(images), method.noise[1])) for rows in chosen])
    by_noise = drawings_of(method, target.test.images[:count], samples)
    return {name: variety(drawn, truth, look)._asdict()
            for name, drawn, look in (("noise", by_noise, None), ("beside", beside, None),
                                      ("noise, gradients", by_noise, gradient_features),
                                      ("beside, gradients", beside, gradient_features))}


def measured(method: Translator, source: Domain, target: Domain, steps: int,
             seed: int) -> dict:
    """All that is measured of a trained translator on held-out pairs."""
    truth, drawn = normalize(source.test.images), drawings_of(method, target.test.images)
    found = {"quality": quality(drawn, truth), "detail": detail_kept(drawn, truth),
             "power": radial_power(drawn).tolist(),
             "power_of_truth": radial_power(truth).tolist()}
    if method.varies:
        found["variety"] = varieties(method, source, target)
    if source.classes:
        found |= readings(source, target, drawn, steps, seed)
    return found


SHOWN = 24      # random test images on a contact sheet


def held_out_sheet(method: Translator, source: Domain, target: Domain, path: Path) -> None:
    """Write random held-out images, what is drawn from them, and the truth, three rows of
    them, as a PNG."""
    chosen = torch.randperm(len(target.test),
                            generator=torch.Generator().manual_seed(0))[:SHOWN]
    x, truth = (as_channels(normalize(d.test.images[chosen]), 3) for d in (target, source))
    drawn = as_channels(drawings_of(method, target.test.images[chosen]), 3)
    save_image(torch.cat([x, drawn, truth]), path, nrow=len(chosen), normalize=True,
               value_range=(-1, 1))


def carry_out_translation(job: TranslationJob, results: Path, folders: Path) -> str:
    """Train and measure what is not on record yet, going on from a checkpoint; "" or what went
    wrong, in a line."""
    record, asked = results / f"{job.name}.json", job.asked
    if record.exists() and read_json(record).get("asked") == asked:
        return ""
    try:
        with one_thread():
            write_json(record, mapping_record(job, need_folder(folders / job.name)))
    except EXPECTED as error:
        return f"{job.name}: {'; '.join(str(error).splitlines())}"
    return ""


def mapping_record(job: TranslationJob, folder: Path) -> dict:
    """The record of a job, trained in a folder, where checkpoint and contact sheet stay."""
    task, way, how = MAPPINGS[job.mapping], WAYS[job.way], SIZES_OF[job.profile]
    source, target = (cut_short(open_domain(name), how["tested"])
                      for name in (task.source, task.target))
    log, seconds, config = [], 0.0, {}
    if way.method is None:
        found = {"quality": anchors_of(source, target)} | (readings(
            source, target, None, how["classifier"], job.seed) if source.classes else {})
    else:
        size, channels = source.test.images.shape[-1], (source.channels, target.channels)
        method = make_translator(way, how["width"], size, *channels, job.seed)
        kept, every = folder / "checkpoint.pt", max(1, how["steps"] // 20)
        loop = Loop(how["steps"], job.seed, job.asked["batch_size"], every,
                    channels_last=True, checkpoint=kept, checkpoint_every=every)
        log = train(method, *feed_of(way, source, target, task.pair), loop,
                    [CsvLog(folder / "log.csv")])
        seconds, config = read_checkpoint(kept).seconds, flat(method.config)
        method.to(memory_format=torch.contiguous_format)
        held_out_sheet(method, source, target, folder / "sheet.png")
        found = measured(method, source, target, how["classifier"], job.seed)
    return {"measured": "translation", "asked": job.asked, "config": config, **short(found),
            "log": short(log),
            "images": [len(source.train), len(target.train), len(target.test)],
            "seconds": round(seconds, 1), "selection": "last iteration",
            "data": data_checksums(source, target), "provenance": provenance("cpu")}


def cut_short(domain: Domain, count: int) -> Domain:
    """A domain with at most ``count`` images to test."""
    return replace(domain, test=Split(domain.test.images[:count], domain.test.labels[:count]))


def jobs_left(todo: Iterable[TranslationJob], results: Path) -> list[TranslationJob]:
    """Those without a record of what they ask. Raises RunError for a damaged record."""
    def done(path: Path, job: TranslationJob) -> bool:
        return path.exists() and read_json(path).get("asked") == job.asked
    return [job for job in todo if not done(results / f"{job.name}.json", job)]


def make_records(todo: Iterable[TranslationJob], results: Path, folders: Path) -> list[str]:
    """Make the records that are not there yet, one after the other; a line for each that
    failed. What was cut off goes on from its checkpoint."""
    results, folders = need_folder(results), need_folder(folders)
    return [wrong for job in jobs_left(todo, results)
            if (wrong := carry_out_translation(job, results, folders))]


# 84b_translating: On faces and shoes

def mapping_rows(results: Path) -> list[dict]:
    """What is on record of each mapping and way: seeds, and means over them of each number;
    None where there is no record. Of anchors without training, a row for each."""
    rows = []
    for mapping in MAPPINGS:
        for name, way in WAYS.items():
            runs = list(read_records(results, f"{mapping}_{name}_s*.json").values())
            parts = {"input": "the input itself", "mean": "the mean image"} if (
                way.method is None) else {"": way.title}
            for part, title in parts.items():
                found = [run["quality"][part] if part else run["quality"] for run in runs]
                rows.append({"mapping": mapping, "way": name, "title": title, "runs": runs,
                             "seeds": sorted(run["asked"]["seed"] for run in runs)}
                            | {metric: (sum(q[metric] for q in found) / len(found)
                                        if found else None)
                               for metric in ("ssim", "mse", "psnr", "psnr_of_mean")})
    return rows


def cell_of(mapping: str, metric: str, row: dict, values: Sequence[float],
            paper: float | None) -> dict:
    """A row of ``cdlm results``: one number of one way, the paper's beside ours."""
    ours = torch.tensor(values, dtype=torch.float64)
    return {"table": "table4", "task": f"{mapping} {metric}", "method": row["title"],
            "recipe": row["way"], "paper": paper,
            "mean": ours.mean().item() if values else None,
            "std": ours.std().item() if len(values) > 1 else None, "seeds": row["seeds"],
            "selection": "last"}


def table4_cells(results: Path) -> list[dict]:
    """Table 4 and the shoes as rows of ``cdlm results``: the paper's numbers stand beside CDLM
    as printed, with maps, and improved."""
    cells, ours = [], ("printed", "printed-map", "improved")
    for row in mapping_rows(results):
        whole = "translated_accuracy"
        if row["mapping"] == "sketch-face" and row["way"] != "anchors":
            cells += [cell_of("sketch-face", metric, row,
                              [run["quality"][metric] for run in row["runs"]],
                              paper if row["way"] in ours else None)
                      for metric, paper in PAPER_TABLE4.items()]
        if row["mapping"] == "shoe-edge" and row["way"] != "anchors":
            cells.append(cell_of("shoe-edge", "read", row, [run[whole] for run in row["runs"]],
                                 PAPER_SHOES if row["way"] in ours else None))
    return cells

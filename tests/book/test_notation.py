"""The page of symbols against the package: names, shapes, ranges, defaults, and the chapters that introduce them."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, is_dataclass
from functools import cache

import pytest
import torch
from conftest import ROOT
from dotted import arguments, resolve

from cdlm.data.batches import DomainBatch, normalize
from cdlm.domains.samples import load_domain
from cdlm.methods.cdlm import CDLM, CDLMConfig, cdlm_losses
from cdlm.model.codes import cross_codes, generate, noise_like
from cdlm.model.losses import elbo
from cdlm.model.modulation import reparameterize
from cdlm.settings import Settings, flat

PAGE = ROOT / "book/notation.md"
COLUMNS = ["symbol", "meaning", "shape", "range", "name in code", "introduced in"]
TABLE_1 = r"X_s y_s X_t y_t E_\phi D_\theta h_s h_t \ddotz_s \ddotz_t \ddotz_st \ddotz_ts \Xi W_\mu b_\mu W_\sigma b_\sigma W_h b_h"
SETTINGS = {"gamma1": 1.0, "gamma2": 0.1, "lambda1": 1e-4, "lambda2": 1e-4, "beta1": 0.1, "beta2": 0.01, "batch_size": 64}
BATCH, CONFIG = 7, CDLMConfig.of(latent=24, width=32)
RANGES = {
    r"$\mathbb{R}$": lambda v: v.isfinite(), r"$> 0$": lambda v: v > 0, r"$\ge 0$": lambda v: v >= 0,
    r"$(0, 1)$": lambda v: (v > 0) & (v < 1), r"$[0, 1]$": lambda v: (v >= 0) & (v <= 1),
    r"$[-1, 1]$": lambda v: (v >= -1) & (v <= 1),
    r"$\{0, \dots, 9\}$": lambda v: (v >= 0) & (v <= 9) & (v == v.long()),
    r"$\{0, \dots, 255\}$": lambda v: (v >= 0) & (v <= 255) & (v == v.long()),
}  # fmt: skip


# What stands on the page


@dataclass
class Row:
    symbols: list[str]                # as typed, without dollar signs
    meaning: str
    shape: str
    range: str
    names: list[tuple[str, str]]      # (name, dotted place), the name "" where the place itself is meant
    chapter: str                      # file name, or ""


def parse(text: str) -> list[Row]:
    """Rows of all tables with the page's six columns. Raises ValueError for a row that does not fit."""
    rows, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if cells == COLUMNS:
            inside = True
        elif not cells:
            inside = False
        elif inside and not set(line) <= set("|- "):
            if len(cells) != len(COLUMNS):
                raise ValueError(f"{len(cells)} cells instead of {len(COLUMNS)}: {line}")
            rows.append(row(*cells))
    return rows


def row(symbol: str, meaning: str, shape: str, values: str, code: str, chapter: str) -> Row:
    symbols = re.findall(r"\$([^$]+)\$", symbol) or [symbol]
    place = re.search(r"\{py:obj\}`~([\w.]+)`", code)
    names = [(name, place[1]) for name in re.findall(r"(?<!\})`([\w.]+)`", code) or [""]] if place else []
    if not place and code != "–":
        raise ValueError(f"no place in the package: {code}")
    link = re.search(r"\]\((\w+)\.ipynb\)", chapter)
    if not link and chapter != "–":
        raise ValueError(f"no chapter: {chapter}")
    return Row(symbols, meaning, shape, values, names, link[1] if link else "")


def normal(latex: str) -> str:
    """A formula without what may be written in several ways."""
    latex = latex.replace(r"\zst", r"\ddot{z}_{st}").replace(r"\zts", r"\ddot{z}_{ts}").replace(r"\KL", r"D_{\mathrm{KL}}")
    return re.sub(r"\\(?:mathbf|boldsymbol|bm|left|right|[,;!])|[{}\s]", "", latex).replace(r"\|", r"\Vert")


# What the package computes


@cache
def values() -> dict[str, torch.Tensor]:
    """A tensor for each symbol that has one: one step of a fresh model, with sizes that cannot be confused."""
    torch.manual_seed(0)
    source, target = load_domain("mnist").test, load_domain("optdigits").test
    x_s, x_t = normalize(source.images[:BATCH]), normalize(target.images[:BATCH])
    model, generator = CDLM(CONFIG), torch.Generator().manual_seed(0)
    encoder = model.encoder
    s, t = encoder(x_s), encoder(x_t)
    codes, eps = cross_codes(s, t, generator), noise_like(s.mu, generator)
    images = generate(model.decoder, codes)
    batch = DomainBatch(x_s, source.labels[:BATCH], x_t)
    loss = cdlm_losses(model, batch, s, t, images, 1.0)
    z = reparameterize(s.mu, s.sigma, eps)
    found = {
        "X_s": source.images, "X_t": target.images, "x_s": x_s, "x_t": x_t, "y_s": batch.y_s, "y_t": target.labels,
        r"\Xi": model.discriminator(s.h), "h'": encoder.trunk(x_s),
        r"W_\mu": encoder.mu.weight, r"b_\mu": encoder.mu.bias, "W_h": encoder.h.weight, "b_h": encoder.h.bias,
        r"W_\sigma": encoder.log_sigma.weight, r"b_\sigma": encoder.log_sigma.bias,
        r"\mu_s": s.mu, r"\mu_t": t.mu, r"\sigma_s": s.sigma, r"\sigma_t": t.sigma, "h_s": s.h, "h_t": t.h,
        r"\varepsilon": eps, "z": z, r"\hat y": model.logits(x_t),
        r"\ddot z_{st}": codes.z_st, r"\ddot z_{ts}": codes.z_ts, "u_s": codes.u_s, "u_t": codes.u_t,
        r"\hat x_{st}": images.x_hat_st, r"\hat x_{ts}": images.x_hat_ts,
        r"\tilde x_s": images.x_tilde_s, r"\tilde x_t": images.x_tilde_t,
        "L_{Rec}": loss["rec"], "L_{KL}": loss["kl"], "L_{adv}": loss["adv"], "L_c": loss["consistency"],
        "L_{task}": loss["task"], r"\mathcal{L}": elbo(model.decoder(z), x_s, s.mu, s.sigma),
        r"\varepsilon_d(f)": (model.logits(x_t).argmax(1) != target.labels[:BATCH]).double().mean(),
    }  # fmt: skip
    return {normal(symbol): value.detach() for symbol, value in found.items()}


def has(thing: object, name: str) -> bool:
    """Whether a name is a parameter, a field, an attribute of an instance, or a key of the losses."""
    if thing is cdlm_losses:
        model, generator = CDLM(CONFIG), torch.Generator()
        x, y = torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64)
        s, t = model.encoder(x), model.encoder(x)
        losses = cdlm_losses(model, DomainBatch(x, y, x), s, t, generate(model.decoder, cross_codes(s, t, generator)), 1.0)
        return name in losses
    if inspect.isclass(thing) and issubclass(thing, Settings):
        return name in flat(thing())
    if inspect.isfunction(thing) or is_dataclass(thing):
        return name in arguments(thing)
    if inspect.isclass(thing) and issubclass(thing, torch.nn.Module):
        thing = thing()
    for part in name.split("."):
        if not hasattr(thing, part):
            return False
        thing = getattr(thing, part)
    return True


def default(place: str, name: str) -> object:
    thing = resolve(place)
    if inspect.isclass(thing) and issubclass(thing, Settings):
        return flat(thing())[name]
    known = inspect.signature(thing).parameters
    return known[name].default if name in known else getattr(thing(), name)


def problems(row: Row) -> list[str]:
    """What a row says that is not so."""
    found = []
    for name, place in row.names:
        try:
            thing = resolve(place)
        except (ImportError, AttributeError):
            found.append(f"{place} does not exist")
            continue
        if name and not has(thing, name):
            found.append(f"{place} has no {name}")
    if not found and (stated := re.search(r"default: ([\d.e-]*\d)", row.meaning)):
        actual = default(row.names[0][1], row.names[0][0])
        if float(stated[1]) != actual:
            found.append(f"default {stated[1]}, but {actual}")
        if "Paper and default" in row.meaning and SETTINGS.get(row.names[0][0]) != actual:
            found.append(f"default {actual} is not the paper's")
    if row.range not in (*RANGES, "–"):
        found.append(f"unknown range {row.range}")
    for symbol in row.symbols:
        value = values().get(normal(symbol))
        if value is None:
            if row.shape.startswith("("):
                found.append(f"nothing to check the shape of {symbol} on")
            continue
        if row.shape != "–" and not fits(row.shape, value):
            found.append(f"{symbol} is {tuple(value.shape)}, not {row.shape}")
        if row.range in RANGES and not RANGES[row.range](value).all():
            found.append(f"{symbol} is not in {row.range}")
    if row.chapter and (text := chapter(row.chapter)) is not None:
        found += [f"{symbol} is not to be found in {row.chapter}" for symbol in row.symbols if not occurs(symbol, text)]
    return found


def occurs(symbol: str, text: str) -> bool:
    """Whether a normal text has the symbol, and not only as a part of a longer word."""
    wanted = normal(symbol)
    before, after = (r"(?<![A-Za-z\\])" if wanted[0].isalpha() else ""), (r"(?![A-Za-z])" if wanted.isalpha() else "")
    return re.search(before + re.escape(wanted) + after, text) is not None


def shape(stated: str) -> tuple[int, ...]:
    """Numbers for a stated shape; -1 where any number will do."""
    c = CONFIG.networks
    sizes = {"batch": BATCH, "latent": c.latent, "8 width": 8 * c.width, "channels": 1, "classes": 10, "images": -1}
    parts = [] if stated == "scalar" else [part.strip() for part in stated.strip("()").split(",") if part.strip()]
    return tuple(sizes[part] if part in sizes else int(part) for part in parts)


def fits(stated: str, value: torch.Tensor) -> bool:
    wanted = shape(stated)
    return len(wanted) == value.dim() and all(w in (-1, size) for w, size in zip(wanted, value.shape))


@cache
def chapter(stem: str) -> str | None:
    """All formulas of a chapter and its words in code, in normal form; None if there is no such chapter."""
    path = ROOT / f"book/src/{stem}.md"
    if not path.exists():
        return None
    spans = re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$|`[^`\n]+`|^ +\w+: \w+.*$", path.read_text(encoding="utf-8"), flags=re.S | re.M)
    return "|".join(normal(span) for span in spans)


# The page


ROWS = parse(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row.symbols))
def test_a_symbol_is_what_the_page_says(row: Row) -> None:
    assert problems(row) == []


def test_chapters_exist() -> None:
    assert [row.chapter for row in ROWS if row.chapter and chapter(row.chapter) is None] == []


def test_all_entries_of_the_papers_table_are_there() -> None:
    listed = {normal(symbol) for row in ROWS for symbol in row.symbols}
    assert [entry for entry in TABLE_1.split() if entry not in listed] == []


def test_every_setting_of_the_paper_is_there() -> None:
    stated = {row.names[0][0] for row in ROWS if "Paper and default" in row.meaning}
    assert stated == set(SETTINGS)


def test_no_symbol_has_two_meanings() -> None:
    symbols = [normal(symbol) for row in ROWS for symbol in row.symbols]
    assert sorted(symbols) == sorted(set(symbols))


def test_every_tensor_that_a_chapter_names_is_checked() -> None:
    listed = {normal(symbol) for row in ROWS for symbol in row.symbols}
    assert set(values()) <= listed


# The test of the test

GOOD = (r"| $h_s$, $h_t$ | Features. | (batch, latent) | $(0, 1)$ | `h` of {py:obj}`~cdlm.model.networks.Encoded` "
        r"| [t](30_transfer_latent_space.ipynb) |")
GAMMA = (r"| $\gamma_1$ | Weight. Paper and default: 1.0. | scalar | $\ge 0$ "
         r"| `gamma1` of {py:obj}`~cdlm.methods.cdlm.CDLMConfig` | – |")
HEAD = "| " + " | ".join(COLUMNS) + " |\n|---|---|---|---|---|---|\n"


@pytest.mark.parametrize("good", [GOOD, GAMMA], ids=["tensor", "setting"])
def test_a_right_row_passes(good: str) -> None:
    assert [problems(row) for row in parse(HEAD + good)] == [[]]


@pytest.mark.parametrize("good, right, wrong, said", [
    (GOOD, "`h` of", "`k` of", "has no k"),
    (GOOD, "networks.Encoded", "networks.Decoded", "does not exist"),
    (GOOD, "(batch, latent)", "(batch, classes)", "not (batch, classes)"),
    (GOOD, "(batch, latent)", "(latent,)", "not (latent,)"),
    (GOOD, "$(0, 1)$", r"$\{0, \dots, 9\}$", "is not in"),
    (GOOD, "$(0, 1)$", "$(0, 2)$", "unknown range"),
    (GOOD, "$h_t$", r"$\mu_{h_q}$", "nothing to check"),
    (GOOD, "30_transfer_latent_space", "10_domain_shift", "is not to be found in 10_domain_shift"),
    (GAMMA, "1.0", "2.0", "default 2.0, but 1.0"),
    (GAMMA, "`gamma1`", "`reversal`", "default 1.0, but 0.15"),
    (GAMMA.replace("1.0", "0.05"), "`gamma1`", "`lr_phi`", "not the paper's"),
    (GAMMA, "CDLMConfig`", "NoConfig`", "does not exist"),
])  # fmt: skip
def test_a_wrong_row_is_found(good: str, right: str, wrong: str, said: str) -> None:
    assert right in good
    found = problems(*parse(HEAD + good.replace(right, wrong)))
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize("bad", [
    GOOD.replace("{py:obj}`~cdlm.model.networks.Encoded`", "somewhere"),
    GOOD.replace("[t](30_transfer_latent_space.ipynb)", "soon"),
    GOOD.replace(" Features. |", ""),
], ids=["place", "chapter", "cells"])  # fmt: skip
def test_a_row_without_form_is_refused(bad: str) -> None:
    with pytest.raises(ValueError):
        parse(HEAD + bad)


def test_other_tables_are_not_read() -> None:
    assert parse("| the paper | the book |\n|---|---|\n| a | b |\n") == []

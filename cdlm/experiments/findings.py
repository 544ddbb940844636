"""What came out, in sentences that the records bear, or else there is an error.

Generated from book/src/40_cdlm.md, book/src/81_digits.md, book/src/82_fashion.md,
book/src/83_ablations.md, book/src/84_inside.md, book/src/84c_renders.md,
book/src/85_verdicts.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

from scipy.stats import binomtest, combine_pvalues, ttest_ind

from cdlm.experiments.paper import LINEMOD, PAPER
from cdlm.experiments.plan import FIGURE_TASKS, TABLE_TASKS
from cdlm.experiments.results import paper_value
from cdlm.experiments.tables import (
    BARE,
    FEW,
    TASK_NAMES,
    Comparison,
    accuracy_by_seed,
    accuracy_curves,
    compare_rows,
    equal_within,
    last_gain,
    least_seconds,
    linemod_accuracies,
    linemod_runs,
    mean_of,
    path_accuracies,
    read_table,
    row_accuracies,
    told,
)
from cdlm.runs.record import metric_values, read_record, read_records

__all__ = [
    "FASHION_TASKS",
    "Said",
    "against_the_control",
    "as_stated",
    "at_equal_seconds",
    "beside",
    "between",
    "both_directions",
    "changed_images",
    "clothes_and_bounds",
    "compared",
    "control_of_the_paper",
    "control_unbeaten",
    "convergence",
    "depth_of_features",
    "failed_translations",
    "faithful_learns_nothing",
    "improved_beside_dann",
    "ingredients_and_seeds",
    "learned_so_far",
    "linemod_column",
    "listed",
    "mixed_and_right",
    "negative_transfer",
    "no_nearer_than_dann",
    "noise_in_the_test_code",
    "paper_missed",
    "partial_modulations",
    "poses_of_drawings",
    "say",
    "slowdown",
    "stands",
    "still_rising",
    "time_on_record",
    "told_with",
    "weights_matter",
    "what_drawing_costs",
    "without_consistency",
]


# 40_cdlm: Three seeds, both directions

def both_directions(results: Path) -> str:
    """CDLM on the sample digits, forth and back, beside source-only training and DANN."""
    forth, back = ({stem: metric_values(read_record(f"{pair}_{stem}", results))
                    for stem in ("source", "dann", "cdlm")}
                   for pair in ("mnist-optdigits", "optdigits-mnist"))
    ahead = [(seen["cdlm"].mean() - seen["dann"].mean()).item() for seen in (forth, back)]
    return stands(
        f"CDLM is above source-only training with each seed in both directions: "
        f"{forth['cdlm'].mean():.3f} against {forth['source'].mean():.3f} from MNIST to the "
        f"optical digits, {back['cdlm'].mean():.3f} against {back['source'].mean():.3f} back. "
        f"It is ahead of DANN by {100 * ahead[0]:.1f} and {100 * ahead[1]:.1f} points, with "
        "seeds that overlap.",
        *(bool(seen["cdlm"].min() > seen["source"].max()) for seen in (forth, back)),
        *(0 < gap for gap in ahead),
        *(bool(seen["cdlm"].min() < seen["dann"].max()) for seen in (forth, back)))


def negative_transfer(results: Path) -> str:
    """DANN with Adam on the sample digits: adaptation that does harm."""
    found = {stem: [metric_values(read_record(f"{pair}_{stem}", results)).mean().item()
                    for pair in ("mnist-optdigits", "optdigits-mnist")]
             for stem in ("source", "dann-adam")}
    harm = [100 * (plain - mine) for plain, mine in zip(*found.values())]
    return stands(f"DANN with Adam ends below source-only training in both directions, by "
                  f"{harm[0]:.1f} and {harm[1]:.1f} points in the mean.",
                  *(points > 0 for points in harm))


# 81_digits: What is found, said so that it can fail

def stands(sentence: str, *claims: bool) -> str:
    """A sentence whose claims all hold. Raises AssertionError with it where one does not."""
    if not all(claims):
        raise AssertionError(f"the records do not say: {sentence}")
    return sentence


class Said(tuple[str, ...]):
    """Sentences as a page shows them, a line each, and as text elsewhere."""

    def __repr__(self) -> str:
        return "\n".join(fill(f"- {line}", 95, subsequent_indent="  ") for line in self)

    def _repr_markdown_(self) -> str:
        return "\n".join(f"- {line}" for line in self)


def say(*sentences: str) -> Said:
    """Findings, to stand under a figure or a table."""
    return Said(sentences)


def listed(tasks: Sequence[str]) -> str:
    """Names of tasks in a sentence."""
    names = [TASK_NAMES[task] for task in tasks]
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])


# 81_digits: Table 2, the digits

def compared(results: Path, row: str, other: str) -> dict[str, Comparison]:
    """Two rows of Table 2, task by task."""
    ours = row_accuracies("table2", results)
    return {task: compare_rows(ours[row][task], ours[other][task]) for task in TASK_NAMES}


def told_with(found: Mapping[str, Comparison], word: str) -> list[str]:
    """The tasks on which a word was said."""
    return [task for task, judged in found.items() if judged.word == word]


def as_stated(results: Path) -> str:
    """CDLM as the paper states it, beside source-only training and DANN."""
    source = compared(results, "CDLM faithful", f"source only{BARE}")
    dann = compared(results, "CDLM faithful", f"DANN{BARE}")
    gain = source["usps-mnist"]
    return stands(
        "As the paper states it, CDLM is above source-only training on one of six tasks "
        f"({listed(['usps-mnist'])}, {100 * gain.mean:+.1f} points, "
        f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}), and above DANN on none.",
        told_with(source, "above") == ["usps-mnist"], not told_with(dann, "above"))


def improved_beside_dann(results: Path) -> str:
    """Improved CDLM beside DANN, trained with the same augmentation."""
    found = compared(results, "CDLM improved", "DANN")
    ahead = ["mnist-usps", "usps-mnist"]
    rest = [-100 * judged.mean for task, judged in found.items() if task not in ahead]
    return stands(
        f"Improved, CDLM is above DANN on two of six tasks, {listed(ahead)} "
        f"({' and '.join(f'{100 * found[task].mean:+.1f}' for task in ahead)} points). On the "
        f"other four its mean is lower, by {min(rest):.1f} to {max(rest):.1f} points, which "
        "these seeds do not tell from chance task by task.",
        told_with(found, "above") == ahead, not told_with(found, "below"),
        all(gap > 0 for gap in rest))


# 81_digits: Differences

def paper_missed(results: Path) -> str:
    """The paper's numbers for CDLM, beside the improved row."""
    ours = row_accuracies("table2", results)["CDLM improved"]
    found = {task: compare_rows(ours[task], PAPER["table2"]["CDLM"][task])
             for task in TASK_NAMES}
    reached, missed = ["mnist-usps", "mnistm-mnist"], ["mnist-mnistm", "fashion-fashionm"]
    return stands(
        f"The paper's number for CDLM is passed on {listed(reached)} and missed on the other "
        f"four, on those with photographs behind the target by "
        f"{' and '.join(f'{-100 * found[task].mean:.1f}' for task in missed)} points "
        f"({listed(missed)}).",
        told_with(found, "above") == reached, len(told_with(found, "below")) == 4,
        all(found[task].mean < -0.15 for task in missed))


# 81_digits: Is it the drawing?

def against_the_control(results: Path) -> tuple[float, float]:
    """Two-sided probabilities that six tasks go against the drawing as they do, if it made no
    difference: by signs, and by Fisher's combination of Welch's tests."""
    ours = row_accuracies("table2", results)
    rows = [(list(ours["CDLM improved"][task].values()),
             list(ours["no decoder"][task].values())) for task in TASK_NAMES]
    lower = sum(sum(a) / len(a) < sum(b) / len(b) for a, b in rows)
    one_sided = [ttest_ind(a, b, equal_var=False, alternative="less").pvalue for a, b in rows]
    return (float(binomtest(lower, len(rows)).pvalue),
            2 * float(combine_pvalues(one_sided).pvalue))


def slowdown(results: Path) -> list[float]:
    """Seconds of improved CDLM over those of the control, fastest runs, task by task."""
    runs = read_table("table2", results)
    whole, control = runs["CDLM improved"], runs["no decoder"]
    return [least_seconds(whole[task]) / least_seconds(control[task]) for task in TASK_NAMES]


def control_unbeaten(results: Path) -> str:
    """The control without a decoder beside the whole improved model."""
    found = compared(results, "CDLM improved", "no decoder")
    signs, combined = against_the_control(results)
    gaps, times = [-100 * judged.mean for judged in found.values()], slowdown(results)
    return stands(
        "The control without a decoder is never beaten: its mean is the higher one on all six "
        f"tasks, by {min(gaps):.1f} to {max(gaps):.1f} points, on "
        f"{len(told_with(found, 'below'))} of them by more than chance (all together: "
        f"p = {signs:.2f} by signs, p = {combined:.0e} by Welch and Fisher), and it takes a "
        f"sixth of the time or less (the drawing costs {min(times):.1f} to {max(times):.1f} "
        "times the seconds).",
        not told_with(found, "above"), all(gap > 0 for gap in gaps), signs < 0.05,
        combined < 0.001, min(times) >= 6)


# 81_digits: The course of training

def still_rising(results: Path) -> str:
    """What the last fifth of the trainings still gave, over Table 2."""
    runs = read_table("table2", results)
    found = {(row, task): 100 * last_gain(seen).mean().item()
             for row, by_task in runs.items() for task, seen in by_task.items()}
    row, task = max(found, key=found.get)
    mine = {task: found["CDLM improved", task] for task in TASK_NAMES}
    return stands(
        "Few rows are still rising when training ends: over the last fifth, improved CDLM "
        f"gains {min(mine.values()):+.1f} to {max(mine.values()):+.1f} points, and the "
        "largest "
        f"gain of any row is {found[row, task]:+.1f} ({row}, {TASK_NAMES[task]}).",
        max(mine.values()) < 2, min(mine.values()) > -1)


# 82_fashion: Two directions

FASHION_TASKS = ("fashion-fashionm", "fashionm-fashion")


# 82_fashion: Table 2, the clothes

def clothes_and_bounds(results: Path) -> str:
    """The clothes of Table 2 beside the bound of our network."""
    ours = row_accuracies("table2", results)
    bound = [mean_of(ours["target only"][task]) for task in FASHION_TASKS]
    theirs = [PAPER["table2"]["CDLM"][task] for task in FASHION_TASKS]
    stated = [mean_of(ours["CDLM faithful"][task]) - mean_of(ours[f"source only{BARE}"][task])
              for task in FASHION_TASKS]
    return stands(
        "On clothes, even our network that is trained on the target's own labels "
        f"({' and '.join(f'{a:.3f}' for a in bound)}) stays below the paper's CDLM without "
        f"them ({' and '.join(f'{a:.3f}' for a in theirs)}). As the paper states it, CDLM is "
        "in the mean below source-only training in both directions, by "
        f"{' and '.join(f'{-100 * gap:.1f}' for gap in stated)} points, within what seeds do.",
        all(a < b for a, b in zip(bound, theirs)), all(gap < 0 for gap in stated),
        all(judged.word == "not distinguishable" for task, judged in compared(
            results, "CDLM faithful", f"source only{BARE}").items() if task in FASHION_TASKS))


# 82_fashion: Against our own rows

def changed_images(results: Path) -> str:
    """What changed images alone do on Fashion to Fashion-M, beside the best adaptation."""
    ours, task = row_accuracies("table2", results), "fashion-fashionm"
    gain = compare_rows(ours["source only"][task], ours[f"source only{BARE}"][task])
    best = max(("DANN", "no decoder", "CDLM improved"),
               key=lambda row: mean_of(ours[row][task]))
    more = compare_rows(ours[best][task], ours["source only"][task])
    return stands(
        f"From Fashion to Fashion-M, changed and standardized images alone raise source-only "
        f"training by {100 * gain.mean:.1f} points; the best adaptation of Table 2 ({best}) "
        f"adds {100 * more.mean:.1f} to that.",
        gain.word == "above", more.word == "above", gain.low > more.high)


# 82_fashion: How training went

def faithful_learns_nothing(results: Path) -> str:
    """The course of faithful CDLM from Fashion to Fashion-M."""
    runs = read_table("table2", results)
    end, gain = {}, {}
    for row in ("CDLM faithful", "CDLM improved"):
        steps, seen = accuracy_curves(runs[row]["fashion-fashionm"])
        end[row] = seen[:, -1].mean().item()
        gain[row] = end[row] - seen[:, 0].mean().item()
    return stands(
        f"From Fashion to Fashion-M, faithful CDLM ends at {end['CDLM faithful']:.3f}, "
        f"{100 * gain['CDLM faithful']:.1f} points above where it was at step {steps[0]}; "
        f"improved CDLM gains {100 * gain['CDLM improved']:.1f} points in the same time and "
        f"ends at {end['CDLM improved']:.3f}.",
        abs(gain["CDLM faithful"]) < 0.1, gain["CDLM improved"] > 0.1)


# 83_ablations: Table 3: the consistency losses

def between(table: str, above: str, below: str, results: Path) -> dict[str, Comparison]:
    """Two rows of a table, task by task."""
    ours = row_accuracies(table, results)
    return {task: compare_rows(ours[above][task], ours[below][task])
            for task in TABLE_TASKS[table]}


def without_consistency(results: Path) -> str:
    """Table 3: what falls without both consistency losses."""
    found = between("table3", "without L_c", "both", results)
    theirs = {task: paper_value("table3", "both", task)
              - paper_value("table3", "without L_c", task) for task in found}
    ours = [100 * judged.mean for judged in found.values()]
    return stands(
        "Without both consistency losses nothing falls in our recipe that its seeds could "
        f"show: {min(ours):+.1f} to {max(ours):+.1f} points on four tasks, where the paper "
        "has "
        f"drops of {100 * min(theirs.values()):.1f} to {100 * max(theirs.values()):.1f}. A "
        "drop of that size is excluded on all four, in a recipe in which other losses train "
        "the path that is read.",
        all(judged.word == "not distinguishable" for judged in found.values()),
        all(-theirs[task] < judged.low for task, judged in found.items()))


# 83_ablations: Table 5: how deep the features

def depth_of_features(results: Path) -> str:
    """Table 5: the deepest tap beside the shallowest."""
    found = between("table5", "Convlast", "Conv4", results)
    digits, clothes = found["mnist-usps"], found["fashion-fashionm"]
    theirs = (paper_value("table5", "Convlast", "mnist-usps")
              - paper_value("table5", "Conv4", "mnist-usps"))
    return stands(
        f"The deepest features are ahead of the shallowest by {100 * digits.mean:.1f} points "
        f"from MNIST to USPS ({100 * digits.low:+.1f} to {100 * digits.high:+.1f}; the paper: "
        f"{100 * theirs:.1f}), and not to be told from them on clothes "
        f"({100 * clothes.mean:+.1f} points).",
        digits.word == "above", clothes.word == "not distinguishable")


# 83_ablations: Table 6: the weights of the modulation

def noise_in_the_test_code(results: Path) -> str:
    """Table 6 at (0.5, 0.5): which path breaks."""
    by_task = read_table("table6", results)["(0.5, 0.5)"]
    seen = {task: {path: mean_of(values) for path, values in path_accuracies(runs).items()}
            for task, runs in by_task.items()}
    whole = read_table("table6", results)["(1.0, 0.1)"]
    kept = {task: mean_of(path_accuracies(runs)["x_hat_ts"]) for task, runs in whole.items()}
    def both(path: str) -> str:
        return " and ".join(f"{seen[task][path]:.3f}" for task in seen)
    return stands(
        f"At (0.5, 0.5) the drawing from features falls (to {both('x_tilde_t')} on "
        f"{listed(list(seen))}) and the drawing from modulated codes does not "
        f"({both('x_hat_ts')}); nor does the probe of h ({both('h')}). What breaks is the "
        "noisy code of the test mode, and not the alignment.",
        all(paths["x_tilde_t"] < paths["x_hat_ts"] - 0.15 for paths in seen.values()),
        all(abs(seen[task]["x_hat_ts"] - kept[task]) < 0.02 for task in seen),
        all(paths["x_tilde_t"] < paths["h"] - 0.15 for paths in seen.values()))


# 83_ablations: Table 7: partial modulations

def partial_modulations(results: Path) -> str:
    """Table 7: partial modulations beside the full one."""
    ours = row_accuracies("table7", results)
    equal = [row for row in ("PM1", "PM2")
             if equal_within(ours["full"]["mnist-usps"], ours[row]["mnist-usps"])]
    words = {judged.word for row in ("PM1", "PM2")
             for judged in between("table7", "full", row, results).values()}
    return stands(
        "Full modulation is above neither partial one on either task. From MNIST to USPS all "
        "three are shown to be equal to within a point; to MNIST-M the seeds of PM2 are too "
        "far "
        "apart to say.",
        equal == ["PM1", "PM2"], words == {"not distinguishable"},
        not equal_within(ours["full"]["mnist-mnistm"], ours["PM2"]["mnist-mnistm"]))


# 83_ablations: The table that the paper lacks

def ingredients_and_seeds(results: Path) -> str:
    """What the table of ingredients can say, and how much of it rests on few seeds."""
    ours = row_accuracies("ingredients", results)
    counts = [len(values) for by_task in ours.values() for values in by_task.values()]
    statistics = compare_rows(ours["without statistics by domain"]["mnist-usps"],
                              ours["all"]["mnist-usps"])
    control = {task: compare_rows(ours["without a decoder"][task], ours["all"][task])
               for task in TABLE_TASKS["ingredients"]}
    few = sum(count < FEW for count in counts)
    return stands(
        "Taken away alone, what costs most from MNIST to USPS is the statistics by domain "
        f"({100 * statistics.mean:+.1f} points, {min(statistics.seeds)} seeds), and what "
        "gains "
        f"most on clothes is to leave out the decoder "
        f"({100 * control['fashion-fashionm'].mean:+.1f}). {few} of the {len(counts)} cells "
        "have one or two seeds; from a row of one seed nothing is concluded.",
        statistics.word == "below", control["fashion-fashionm"].word == "above", few > 0,
        all(mean_of(by_task["mnist-usps"]) > mean_of(
            ours["without statistics by domain"]["mnist-usps"])
            for row, by_task in ours.items()
            if row not in ("none", "without statistics by domain")))


# 83_ablations: Does the generation earn its cost?

def at_equal_seconds(results: Path) -> str:
    """Improved CDLM when the control has ended, on the clock."""
    runs, gaps = read_table("table2", results), []
    for task in TASK_NAMES:
        control = runs["no decoder"][task]
        end = least_seconds(control)
        early = {seed: max((snapshot["target_accuracy"] for snapshot in run["snapshots"]
                            if snapshot["seconds"] <= end), default=0.0)
                 for seed, run in runs["CDLM improved"][task].items()}
        gaps.append(100 * (mean_of(accuracy_by_seed(control)) - mean_of(early)))
    return stands(
        "When the control has ended, improved CDLM, whose steps are slower and whose schedule "
        f"is longer, has not come nearer than {min(gaps):.1f} points to it on any task, even "
        "at the best snapshot it has had by then.", min(gaps) > 0)


def time_on_record(results: Path) -> str:
    """How many records there are, and how long they took."""
    seconds = [record["seconds"] for record in read_records(results, "*.json").values()]
    return stands(f"The {len(seconds)} runs on record took {sum(seconds) / 3600:.1f} hours "
                  "together, each on one thread.", len(seconds) > 0)


# 84_inside: Translations, with their failures

def failed_translations(measurements: Path) -> str:
    """How many of the translations that may be shown are read wrong, and how surely."""
    shares, sure = {}, []
    for task in TASK_NAMES:
        for record in read_records(measurements, f"translations_{task}.json").values():
            one = record["runs"][0]
            shares[task] = one["failures"] / one["checked"]
            sure += [column["probability"] for column in one["columns"]
                     if column["class"] != column["prediction"]]
    most, least = max(shares, key=shares.get), min(shares, key=shares.get)
    return stands(
        f"Of 1,000 drawings of improved CDLM {1000 * shares[least]:.0f} ({listed([least])}) "
        "to "
        f"{1000 * shares[most]:.0f} ({listed([most])}) are read as another class. In the "
        f"failures shown, the classifier gives the wrong class {sum(sure) / len(sure):.2f} of "
        "its belief on average.",
        least == "mnistm-mnist", most == "fashion-fashionm", sum(sure) / len(sure) > 0.5)


# 84_inside: A map, and the numbers it needs

def mixed_and_right(measurements: Path) -> str:
    """Two numbers beside the maps of features: how mixed, and how right."""
    found = {}
    for task in TASK_NAMES:
        for record in read_records(measurements, f"maps_{task}.json").values():
            numbers = [one["numbers"]["h"] for one in record["runs"]]
            found[task] = tuple(sum(n[name] for n in numbers) / len(numbers)
                                for name in ("mixing", "nearest_agreement"))
    mixed, other = found["mnist-mnistm"], found["usps-mnist"]
    return stands(
        "How mixed the domains are does not say how right a model is: "
        f"{listed(['mnist-mnistm'])}"
        f" has the more mixed features of two tasks ({mixed[0]:.2f} of the neighbors are of "
        "the "
        f"other domain, against {other[0]:.2f} for {listed(['usps-mnist'])}), and fewer of "
        "its "
        f"nearest neighbors have the right class ({mixed[1]:.2f} against {other[1]:.2f}).",
        mixed[0] > other[0], mixed[1] < other[1] - 0.05)


# 84_inside: Distances between domains

def no_nearer_than_dann(results: Path) -> str:
    """The claim of the paper's Fig. 9, on features that both methods have."""
    runs, found, pixels = read_table("table2", results), {}, []
    far = {row: {task: {seed: run["a_distance"] for seed, run in runs[row][task].items()}
                 for task in FIGURE_TASKS["fig9"]}
           for row in ("CDLM improved", "CDLM faithful", "DANN", f"DANN{BARE}")}
    def of(row: str, task: str, view: str) -> dict[int, float]:
        return {seed: seen[view] for seed, seen in far[row][task].items()}
    for task in FIGURE_TASKS["fig9"]:
        for row, rival in (("CDLM faithful", f"DANN{BARE}"), ("CDLM improved", "DANN")):
            found[row, task] = compare_rows(of(row, task, "h"), of(rival, task, "h"))
        pixels += [compare_rows(of(row, task, "h"), of(row, task, "pixels")) for row in far]
    farther = [task for row, task in found if found[row, task].word == "above"
               and row == "CDLM improved"]
    nearer = [task for row, task in found if found[row, task].word == "below"]
    return stands(
        "Both methods bring features of the two domains nearer than pixels, in each of their "
        "rows and on each of the four tasks. That CDLM is nearer than its DANN holds for the "
        f"improved recipe on one task ({listed(nearer)}); on {listed(farther)} it is farther, "
        "and faithful CDLM is nearer on none.",
        all(judged.word == "below" for judged in pixels), nearer == ["usps-mnist"],
        farther == ["mnistm-mnist"], found["CDLM improved", "usps-mnist"].word == "below")


# 84_inside: Convergence

def convergence(results: Path) -> str:
    """The claim of the paper's Fig. 10, by steps and by seconds."""
    runs = {row: by_task["mnist-usps"] for row, by_task in
            read_table("table2", results).items()}
    steps, ours = accuracy_curves(runs["CDLM improved"])
    ahead = ours.mean(0) > accuracy_curves(runs["DANN"])[1].mean(0)
    end = compare_rows(accuracy_by_seed(runs["CDLM improved"]),
                       accuracy_by_seed(runs["no decoder"]))
    times = [least_seconds(runs["CDLM improved"]) / least_seconds(runs[row])
             for row in ("DANN", "no decoder")]
    return stands(
        "By steps, the improved CDLM is ahead of DANN from MNIST to USPS at each of the "
        f"{len(steps)} snapshots. A step of it costs {times[0]:.0f} times as much, though, "
        "and "
        "the control without a decoder, which is not to be told from it at the end "
        f"({100 * end.mean:+.1f} points), ends {times[1]:.0f} times sooner.",
        bool(ahead.all()), end.word == "not distinguishable", times[0] > 5, times[1] > 5)


# 84c_renders: The column of LineMod

def beside(row: str, other: str, ours: Mapping[str, Mapping[int, float]],
           wanted: float = 0.0) -> str:
    """In words, how far the mean of a row is above another one's, whether that is more than
    chance, and whether it is ``wanted``."""
    judged = compare_rows(ours[row], ours[other])
    if not min(judged.seeds):
        return f"{row} beside {other}: no runs on record yet."
    goal = "reached" if judged.mean > wanted else (
        f"missed by {100 * (wanted - judged.mean):.1f}")
    way = "above" if judged.mean > 0 else "below"
    above = f"more than {100 * wanted:.0f} points above" if wanted else "above it"
    return (f"{row} is {100 * abs(judged.mean):.1f} points {way} {other} ({judged.word}); the "
            f"goal, {above}, is {goal}.")


def linemod_column(results: Path) -> tuple[str, ...]:
    """What came out on LineMod, renders to photographs, beside the goals that were set before:
    20 points above source only, and above DANN."""
    ours = {row: by_task[LINEMOD] for row, by_task in linemod_accuracies(results).items()}
    seen = [row for row in ours if ours[row] and row != "target only"]
    if not seen:
        return ("LineMod, renders to photographs: no runs on record yet.",)
    best = max(seen, key=lambda row: mean_of(ours[row]))
    return (f"LineMod, renders to photographs (one scene of 200 frames, eight objects, "
            f"a small network and a short training): the highest row is {best}, "
            f"{told(ours[best])}; the bound, target only, is {told(ours['target only'])}.",
            beside("CDLM improved", "source only", ours, 0.2),
            beside("CDLM improved", "DANN", ours),
            beside("CDLM faithful", f"source only{BARE}", ours, 0.2),
            beside("CDLM faithful", f"DANN{BARE}", ours),
            beside("CDLM improved", "no decoder", ours),
            what_drawing_costs(results), learned_so_far(results))


def learned_so_far(results: Path) -> str:
    """How well the rows know renders, their own domain, at the end of their training."""
    known = {row: mean_of({seed: run["source_accuracy"] for seed, run in runs.items()})
             for row, runs in linemod_runs(results).items() if runs and row != "target only"}
    low, high = min(known, key=known.get), max(known, key=known.get)
    caution = ("; at this length a difference on photographs is one in the speed of learning "
               "before it is one in adaptation" if known[low] < 0.9 else "")
    return stands(
        f"Of held-out renders the rows read {known[low]:.3f} ({low}) to {known[high]:.3f} "
        f"({high}) right{caution}.", known[low] < known[high])


def what_drawing_costs(results: Path) -> str:
    """Improved CDLM's classifier on the photographs, beside its drawings of them."""
    paths = path_accuracies(linemod_runs(results)["CDLM improved"])
    judged = compare_rows(paths["x_t"], paths["x_tilde_t"])
    return stands(
        f"The classifier of CDLM improved reads {told(paths['x_t'])} of the photographs "
        f"themselves right, and only {told(paths['x_tilde_t'])} of what the model draws from "
        f"them (difference: {judged.word}).", judged.mean > 0)


# 84c_renders: The same on LineMod

def poses_of_drawings(measurements: Path) -> tuple[str, ...]:
    """Whether drawings of one photograph differ in pose by more than those of one render do,
    read from pixels, for each row and kind of drawing."""
    said = []
    for name in ("faithful", "improved"):
        for record in read_records(measurements, f"poses_linemod_{name}.json").values():
            for path in ("x_hat", "x_tilde"):
                seen = {what: {run["seed"]: run["paths"][path]["views"]["pixels"][what]
                               for run in record["runs"]}
                        for what in ("trials", "same", "redrawn")}
                chance = record["runs"][0]["chance"]["render"]
                judged = compare_rows(seen["trials"], seen["same"])
                said.append(
                    f"CDLM {name}, {path}: two drawings of one photograph are read "
                    f"{mean_of(seen['trials']):.0f} degrees apart, two of one render "
                    f"{mean_of(seen['same']):.0f} ({judged.word}); a redrawn render is read "
                    f"{mean_of(seen['redrawn']):.0f} degrees off, chance is {chance:.0f}.")
    return tuple(said or ["Poses of drawings: no run on LineMod is measured yet."])


# 85_verdicts: All in one picture

def control_of_the_paper(results: Path) -> str:
    """The paper's source-only accuracies beside ours without augmentation."""
    ours = row_accuracies("table2", results)[f"source only{BARE}"]
    theirs = PAPER["table2"]["source only"]
    lower = [task for task in TASK_NAMES if mean_of(ours[task]) < theirs[task]]
    return stands(
        "Without augmentation our source-only accuracies are below the paper's on two of six "
        f"tasks ({listed(lower)}) and above on four; they range from "
        f"{min(map(mean_of, ours.values())):.3f} to {max(map(mean_of, ours.values())):.3f}, "
        f"where the paper's range from {min(theirs.values()):.3f} to "
        f"{max(theirs.values()):.3f}.", lower == ["usps-mnist", "fashion-fashionm"])


def weights_matter(results: Path) -> str:
    """Table 6, the claim that reproduces."""
    steps = [judged for pair in (("(0.5, 0.5)", "(0.1, 1.0)"), ("(0.9, 0.1)", "(0.5, 0.5)"))
             for judged in between("table6", *pair, results).values()]
    return stands(
        "What reproduces best is Table 6: more signal and less noise is better in every step "
        "from (0.1, 1.0) to (0.9, 0.1), on both tasks, by "
        f"{100 * min(s.mean for s in steps):.0f} "
        f"to {100 * max(s.mean for s in steps):.0f} points.",
        all(step.word == "above" for step in steps))

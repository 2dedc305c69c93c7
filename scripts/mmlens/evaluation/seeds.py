"""Several training seeds: mean and standard deviation of every metric over them."""

import pandas as pd

COLUMNS = ("model", "subset", "metric", "seeds", "mean", "sd", "low", "high", "n")


def summarise_seeds(comparison):
    """A row per model, subset and metric of models that were trained with several seeds.

    comparison : the table of that name, with a row per seed and, from 3 seeds up, one of their mean

    Returns
    -------
    DataFrame: COLUMNS; seeds is their number, sd the standard deviation (n - 1) of the seeds alone;
    low and high, from 3 seeds up, resample seeds and clusters (`statistics.hierarchical_weights`)
    """
    metrics = [name.removesuffix("_low") for name in comparison if name.endswith("_low")]
    single = ~comparison["seeds"].str.contains(" ")
    means = comparison[~single].set_index(["model", "subset"])
    rows = []
    for (model, subset), runs in comparison[single].groupby(["model", "subset"], sort=False):
        if len(runs) < 2:
            continue
        for metric in metrics:
            row = {"model": model, "subset": subset, "metric": metric, "seeds": len(runs)}
            row |= {"mean": runs[metric].mean(), "sd": runs[metric].std(), "n": runs["n"].iat[0]}
            if (model, subset) in means.index:
                found = means.loc[(model, subset)]
                row |= {"low": found[f"{metric}_low"], "high": found[f"{metric}_high"]}
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))

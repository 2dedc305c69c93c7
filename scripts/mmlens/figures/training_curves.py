"""Training curves: loss and the validation metric per epoch."""

from .style import label, legend_below, panels, wrapped

# Of each kind of training, by its column of the history.
METRICS = {
    "val_auroc": ("validation AUROC", (0.45, 1.02)),
    "val_recall": ("validation recall at 1", (-0.02, 1.02)),
    "val_accuracy": ("validation accuracy", (-0.02, 1.02)),
}


def training_curves(histories):
    """One panel per model: the validation metric (left axis) and training loss (right axis).

    Epochs are marked, so that one alone is seen.

    histories : {(model, seed): DataFrame with epoch, train_loss and one of METRICS, of which the
        first one is shown}
    """
    models = list(dict.fromkeys(model for model, _ in histories))
    figure, axes = panels(len(models))
    for axis, model in zip(axes, models, strict=True):
        right = axis.twinx()
        right.grid(False)
        runs = {seed: history for (name, seed), history in histories.items() if name == model}
        for position, (seed, history) in enumerate(runs.items()):
            style = ("-", "--", ":", "-.")[position % 4]
            metric = next(name for name in METRICS if name in history)
            drawn = {"linestyle": style, "marker": "."}
            axis.plot(history["epoch"], history[metric], color="C0", label=f"seed {seed}", **drawn)
            right.plot(history["epoch"], history["train_loss"], color="C3", alpha=0.6, **drawn)
        shown, limits = METRICS[metric]
        last = max(history["epoch"].max() for history in runs.values())
        axis.set(title=wrapped(label(model)), xlabel="epoch", xlim=(0.5, last + 0.5), ylim=limits)
        axis.set_ylabel(shown, color="C0")
        right.set_ylabel("training loss", color="C3")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    # Below the panels: inside, it would hide a curve.
    handles, labels = axes[0].get_legend_handles_labels()
    legend_below(figure, handles, labels)
    return figure

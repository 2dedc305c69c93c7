"""Training curves: loss and validation AUROC per epoch."""

from .style import label, panels


def training_curves(histories):
    """One panel per model: validation AUROC (left axis) and training loss (right axis).

    histories : {(model, seed): DataFrame with epoch, train_loss, val_auroc}
    """
    models = list(dict.fromkeys(model for model, _ in histories))
    figure, axes = panels(len(models))
    for axis, model in zip(axes, models, strict=True):
        right = axis.twinx()
        right.grid(False)
        runs = {seed: history for (name, seed), history in histories.items() if name == model}
        for position, (seed, history) in enumerate(runs.items()):
            style = ("-", "--", ":", "-.")[position % 4]
            axis.plot(
                history["epoch"], history["val_auroc"], style, color="C0", label=f"seed {seed}"
            )
            right.plot(history["epoch"], history["train_loss"], style, color="C3", alpha=0.6)
        axis.set(title=label(model), xlabel="epoch", ylim=(0.45, 1.02))
        axis.set_ylabel("validation AUROC", color="C0")
        right.set_ylabel("training loss", color="C3")
        axis.xaxis.get_major_locator().set_params(integer=True)
    # Below the panels: inside, it would hide a curve.
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    return figure

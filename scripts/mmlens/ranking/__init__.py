"""Zero-shot classification and retrieval: how well a model ranks texts for images, and back."""

# Controls of every table.
RANDOM, SHUFFLED = "random_weights", "shuffled_labels"

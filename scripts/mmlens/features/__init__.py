"""Visual features: here the shared convolutional stem and its pretraining."""

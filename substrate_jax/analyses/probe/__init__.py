"""Few labels per class: which features and which heads tell classes apart."""

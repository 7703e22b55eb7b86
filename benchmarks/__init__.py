"""Figures of docs/results; a package of its own name, since Opacus installs one that is named so too."""

"""One scan tried at a hospital, in a browser on the machine that has its network and its memories."""

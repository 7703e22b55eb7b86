"""Words for what the run store names: methods, phases, what is kept, scores, groups of scans."""

METHODS = {
    "braincl": "BrainCL: hospitals keep coded memories, no scans",
    "joint": "Joint: all raw scans are kept; the upper bound to compare with",
    "finetune": "Finetune: nothing is kept; the lower bound to compare with",
    "ewc": "EWC: nothing but importances of weights is kept",
    "replay": "Replay: some raw scans are kept",
    "replay-webp": "Replay-WebP: scans are kept as lossy WebP",
    "icarl": "iCaRL: some scans are kept, answers follow the nearest mean",
    "der": "DER: some scans are kept, and a network of every task",
    "mygo": "MyGO: generators of dreams are kept, no scans",
    "mesu": "MESU: nothing but deviations of weights is kept",
}
ITEMS = {
    "cues": "coded scans (cues)",
    "completion": "networks that recall them",
    "tables": "tables of the coder",
    "index": "index and labels",
    "exemplars": "raw scans",
    "webp": "scans as lossy WebP",
    "fisher": "importances of weights",
    "generator": "generators of dreams",
    "deviations": "deviations of weights",
    "backbones": "backbones of former tasks",
}
PHASES = {
    "encode": "encode: fit the memory, code the scans",
    "release": "release: code the scans, tell one noisy sum",
    "wake": "wake: learn the new diagnoses",
    "select": "select: choose what to keep",
    "sleep": "sleep: train on all memories",
    "train": "train: on raw scans",
    "calibrate": "calibrate: take statistics anew",
    "discriminate": "discriminate: solve the classifier",
    "remember": "remember: keep something of the task",
    "rebalance": "rebalance: train the classifier evenly",
    "prototypes": "prototypes: pool class means",
    "dream": "dream: train a generator",
    "head": "head: learn the new diagnoses",
    "consolidate": "consolidate: train on dreams",
    "evaluate": "evaluate: test scans are counted",
    "examine": "examine: calibration, unknown and poor scans are counted",
}
SCORES = {
    "familiarity": "likeness to the classes learnt (Mahalanobis distance)",
    "energy": "energy (log-sum-exp)",
    "max-softmax": "highest probability (softmax)",
    "certainty": "agreement of the network's draws (MESU)",
    "combined": "probability and likeness together",
    "relative-mahalanobis": "likeness beyond that to any scan (relative Mahalanobis)",
    "neighbours": "likeness to the nearest scans",
    "virtual-logit": "energy and what no class explains (ViM)",
}
GROUPS = {
    "known-correct": "right answers",
    "known-wrong": "mistakes",
    "unknown-near": "unknown scans of a known kind",
    "unknown-far": "other examinations altogether",
    "artefact-text": "burnt-in text",
    "artefact-ruler": "a ruler in the picture",
    "artefact-corner": "a black corner",
}

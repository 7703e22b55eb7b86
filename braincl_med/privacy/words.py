"""An audit's report in words: what was found, what a thief could do, what to change."""

from collections.abc import Iterator
from typing import Any

Found = dict[str, Any]

GLOSSARY = {
    "Cue": "the few small numbers that a hospital keeps of a scan instead of the scan.",
    "Completion network": "the file by which cues become images again, so it must be guarded like a key.",
    "Recall": "the image that a cue becomes. It resembles the scan and is not equal to it.",
    "Shared network": "the classifier that all hospitals train together. Every hospital and the server have it.",
    "PSNR": "likeness of two images in decibels. Below 15 little is alike; above 30 the eye sees no difference.",
    "Matched": "the image is nearer to its own scan than to any other scan of the task.",
    "Membership": "whether somebody who has a scan can tell that it was learned, which may itself be a secret.",
    "AUC": "how often an attack ranks a learned scan above one that was not: 0.5 is guessing, 1 is always.",
    "Found at 1 % false": "the share of learned scans that an attack names while it wrongly names 1 % of the others.",
    "Update": "what a hospital sends after training. Unmasked, the server can read each hospital's own.",
    "95 % interval": "where the true figure lies, as far as this many scans can tell.",
}

SHARED = "the shared network"
LIMITS = (
    "An attack that fails here is no proof that another one fails. One that works is proof.",
    "Known pairs, networks of other hospitals and public scans are those that this audit had. A thief may have more.",
    "Membership in the shared network is tried with smaller networks than it; who trains its like may do better.",
    "A passed check says that nothing but memories was found. It does not say that memories are anonymous.",
    "Only the given folders were read: no backups, no other disks, no traffic.",
)

PAIRS = "known pairs"
READABLE, KEPT_APART, SURE, UNSURE = 0.5, 0.05, 0.9, 0.55


def opening(report: Found) -> str:
    """The whole report in one paragraph for somebody who decides and does not program."""
    return " ".join([_outcome(report["vaults"]), *_dangers(report["vaults"]), *_advice(report["vaults"])])


def _outcome(vaults: list[Found]) -> str:
    bad = [vault["vault"] for vault in vaults if not vault["passed"]]
    if bad:
        failed = sorted({c["check"] for v in vaults for c in v["checks"] if not c["passed"]})
        return (
            f"Something is wrong with {_listed(bad)}: these checks failed: {'; '.join(failed)}. Their "
            "lines name each file; have them looked at before the vaults are used or copied."
        )
    return (
        f"In {_listed([vault['vault'] for vault in vaults])} nothing was found but coded memories, intact and where "
        "they belong. That does not make them anonymous."
    )


def _dangers(vaults: list[Found]) -> Iterator[str]:
    """What an attacker could do, from the figures."""
    attacks = [one for vault in vaults for one in vault["attacks"]]
    if not attacks:
        yield (
            "What a thief could do was not measured, because no raw scans were given or no time. Whoever has cues "
            "and their completion network sees images that resemble the scans."
        )
    for one in attacks:
        yield from _stolen(one["thief"])
        yield from _told(one["membership"])
        if _readable(one):
            yield (
                "If a hospital trains on a single scan and sends its update unmasked, the server reads off it the "
                "diagnosis and all that the network saw in the scan."
            )


def _stolen(thief: list[Found]) -> Iterator[str]:
    """What stolen cues are worth, with and without their network."""
    if not thief:
        return
    own, others = thief[0], thief[1:]
    yield (
        f"What a thief could do: whoever has the whole vault sees {_of_scans(own)} clearly enough to tell it from "
        f"all others (likeness {own['psnr']:.0f} dB)."
    )
    ways = [[row for row in others if (PAIRS in row["how"]) == known] for known in (False, True)]
    best = [max(rows, key=lambda row: float(row["interval"][0])) for rows in ways if rows]
    matched = [f"{_of_scans(row)} with {_plainly(row)}" for row in best if row["interval"][0] > KEPT_APART]
    if matched:
        yield f"Keeping cues and networks apart does not protect them: a thief of cues matched {_listed(matched)}."
    elif best:
        highest = max(best, key=lambda row: float(row["interval"][0]))
        yield f"Cues without their network told little: at best {_of_scans(highest)} with {_plainly(highest)}."


def _plainly(row: Found) -> str:
    """With what cues were decoded, without how it was fitted to them."""
    return str(row["how"]).removesuffix(", signs guessed")


def _told(membership: list[Found]) -> Iterator[str]:
    """Who can tell that a scan was learned."""
    sure = [row for row in membership if row["interval"][0] > SURE]
    some = [row for row in membership if row not in sure and row["interval"][0] > UNSURE]
    none = [row for row in membership if row not in sure and row not in some]
    if sure:
        yield (
            f"Whoever has a patient's scan can tell nearly always from {_listed([r['of'] for r in sure])} that it "
            "was learned."
        )
    if some:
        figures = ", ".join(f"AUC {row['auc']:.2f}" for row in some)
        yield f"From {_listed([r['of'] for r in some])} this can be told better than by guessing ({figures})."
    if none:
        yield f"From {_listed([r['of'] for r in none])} this attack told little more than a guess; a better may."


def _advice(vaults: list[Found]) -> Iterator[str]:
    """What to change."""
    yield "What to do: guard vaults, their backups and their keys as you guard the scans;"
    plain = any(file["stored"] == "plain" for vault in vaults for file in vault["files"])
    if plain:
        yield "seal them (vault-key), for at least one lies open on the disk;"
    attacks = [one for vault in vaults for one in vault["attacks"]]
    if any(map(_readable, attacks)):
        yield "let no hospital's update be seen by itself;"
    told = [row for one in attacks for row in one["membership"]]
    if any(row["of"] == SHARED and row["interval"][0] > UNSURE for row in told):
        yield "give the shared network to nobody who must not know whose scans were learned;"
    yield "and have the audit repeated whenever a task is added."


def _readable(attacks: Found) -> bool:
    """Whether an update of a single scan told all of it."""
    return any(row["batch"] == 1 and row["exact"] > READABLE for row in attacks["update"])


def _of_scans(row: Found) -> str:
    low, high = (100 * end for end in row["interval"])
    return f"{100 * row['matched']:.0f} in 100 scans (between {low:.0f} and {high:.0f})"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "no vault"
